"""Kind "sparse-coding": a dictionary of features, whose codes are inferred for each mini-batch.

The energy ½|s - Φa|² + λ|a|₁ of a row s is a loss whose inputs are latent: the codes a, which are inferred at
the dictionary Φ of each gradient, by FISTA (Beck and Teboulle 2009) or the Locally Competitive Algorithm
(Rozell et al. 2008). At the codes of least energy its gradient by Φ is -(s - Φa) aᵀ, errors ⊗ inputs as of
any layer: a Hebbian rule.
"""

from collections.abc import Callable
from math import isqrt, sqrt
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from ..config import NonNegative, Positive, Real
from ..config.problems import PHOTOGRAPHS
from ..config.requirements import KeyNeeds, Need, having, one_of
from ..kernels import blas, lca, passes
from ..util.errors import InputError
from .counts import POINTWISE
from .losses import Evaluator, Regression
from .matrix import Array

CHECKS = 10  # iterations from one computation of the duality gap to the next
SQUARINGS = 4  # of the Gram matrix whose largest eigenvalue is bounded
NOT_LATENT = having("latent", "a kind that predicts targets", value=False)


class Grid(NamedTuple):
    """Places of features in an image, which is the sum of its patches."""

    height: int  # of the image [pixels]
    width: int
    rows: int  # of a feature [pixels]
    columns: int
    stride: int = 1  # from a place to the next, in both directions [pixels]

    @property
    def overlap(self) -> int:
        """Largest number of places that share a pixel."""
        return -(-self.rows // self.stride) * -(-self.columns // self.stride) if self.places > 1 else 1

    @property
    def places(self) -> int:
        """Number of places of an image."""
        down, across = self.height - self.rows, self.width - self.columns
        return (down // self.stride + 1) * (across // self.stride + 1)

    def leave(self, images: Array, patches: Array, scale: float = 1.0, rest: Array | None = None) -> float:
        """Compute ½‖rest‖², rest = images - sums of patches, and patches = scale · patches of the rest.

        `images` are (B, height·width), `patches` (B·places, rows·columns), and `rest` a buffer of one image.
        """
        rest = np.empty(images.shape[1], images.dtype) if rest is None else rest
        return lca.leave(images, patches, rest, self.height, self.rows, self.stride, scale)


class SparseCoding(Regression, tag="sparse-coding"):
    """Sparse coding of rows s: ½|s - Φa|² + λ|a|₁ at codes a by FISTA, ISTA or LCA.

    The columns of Φ are features of unit norm. They are as large as a row, or with `patch` smaller, and have
    a code at each of their places. With ``shrinkage = "hard"`` the energy is ½|s - Φa|² + ½λ²|a|₀. The
    accuracy is R², the explained share of the rows' variance.
    """

    latent: ClassVar[bool] = True
    requires: ClassVar[KeyNeeds] = {
        **Regression.requires,
        "kind": {
            "optimizer.proximal": Need(
                lambda kind, config: getattr(kind, "kind", None) == "unit-norm",
                "optimizer.proximal = {kind = 'unit-norm'}",
                "has features that would grow, for smaller codes",
                only={"kind": "unit-norm"},
            )
        },
        "shrinkage": {"problem.algorithm": one_of("lca", why="soft thresholds are taken by the others")},
    }
    legacy_values: ClassVar[dict[str, Any]] = {**Regression.legacy_values, "algorithm": "lca"}
    effective: ClassVar[KeyNeeds] = {
        **Regression.effective,
        "thumbnail": {"problem.data": one_of(*PHOTOGRAPHS)},
        "stride": {"problem.patch": Need(lambda value, config: value is not None, "a number")},
        "speed": {"problem.algorithm": one_of("lca")},
        "gap": {"problem.shrinkage": one_of("soft")},
        ("standardise", "labels", "targets", "missing"): {"problem.kind": NOT_LATENT},
    }

    atoms: Positive = 128  #: number of features of the dictionary
    sparsity: Real = 1.0  #: λ: with soft thresholds the factor of Σ|a|
    #: threshold of the codes: soft takes λ from a magnitude, hard only removes magnitudes of at most λ
    shrinkage: Literal["soft", "hard"] = "soft"
    nonnegative: bool = False  #: whether codes are at least 0
    #: inference of the codes: FISTA; ISTA, which is FISTA without momentum; or LCA, the Locally Competitive
    #: Algorithm
    algorithm: Literal["fista", "ista", "lca"] = "fista"
    iterations: Positive = 60  #: most iterations of the inference
    #: relative duality gap of a mini-batch at which its inference ends before, computed every ten
    #: iterations; 0: never
    gap: NonNegative = 0.0
    #: length of an iteration of LCA, in time constants; where it is more than 2 over the largest eigenvalue
    #: of the Gram matrix of overlapping active features, codes diverge
    speed: Real = 0.1
    #: rows and columns of a feature [pixels] in images, which must be square; none: features are whole rows
    patch: Positive | None = None
    stride: Positive = 1  #: pixels between neighbouring places of features
    thumbnail: Positive = 8  #: rows and columns of the images that are cut from photographs [pixels]
    #: take each row's mean from it, and divide all rows by the standard deviation of the training rows
    centre: bool = True

    @property
    def sized_by(self) -> str:
        return "atoms"

    def grid(self, pixels: int) -> Grid:
        """Return the places of features in a row of so many pixels."""
        if self.patch is None:
            return Grid(1, pixels, 1, pixels)
        side = isqrt(pixels)
        if side * side != pixels or self.patch > side or (side - self.patch) % self.stride:
            raise InputError(
                f"problem.patch: features of {self.patch} × {self.patch} pixels, {self.stride} apart, do not "
                f"fill rows of {pixels} pixels, which would have to be images of (patch + a multiple of "
                "stride)² pixels"
            )
        return Grid(side, side, self.patch, self.patch, self.stride)

    def inputs_for(self, features: int) -> int:
        return self.atoms

    def outputs_for(self, targets: int, classes: int | None) -> int:
        grid = self.grid(targets)
        return grid.rows * grid.columns

    def samples_for(self, targets: int) -> int:
        return self.grid(targets).places

    def prepare(self, rows: Array, train: Array) -> Array:
        if not self.centre:
            return rows
        rows = rows - rows.mean(axis=1, keepdims=True, dtype=np.float64)
        deviation = float(rows[train].std())
        if not deviation > 0:
            raise InputError(f"problem.data: each row of {self.data!r} is constant")
        return rows / deviation

    def inference(self, targets: Array, weights: Array, inputs: Array) -> passes.Operation:
        grid = self.grid(targets.shape[1])
        return passes.Call(inference(self, targets, weights[:-1], inputs[:, :-1], grid))

    def prior(self, inputs: Array) -> float:
        if self.shrinkage == "hard":
            return 0.5 * self.sparsity**2 * np.count_nonzero(inputs)
        return self.sparsity * float(np.abs(inputs).sum(dtype=np.float64))

    def inference_flops(self, inputs: int, outputs: int) -> float:
        return self.iterations * (4.0 * inputs * outputs + 6 * POINTWISE * inputs + 2 * POINTWISE * outputs)

    def evaluator(self, dtype: np.dtype) -> Evaluator:
        def misfit(outputs: Array, targets: Array, out: Array, factor: float) -> float:
            if out is not outputs:
                out[...] = outputs
            return self.grid(targets.shape[1]).leave(targets, out, -factor / len(targets)) / len(targets)

        return misfit

    def accuracy(self, outputs: Array, targets: Array) -> float:
        variation = float(np.square(targets - targets.mean(axis=0, dtype=np.float64)).sum())
        rest = 2 * self.grid(targets.shape[1]).leave(targets, outputs)
        return 1 - rest / variation if variation else float(rest == 0)


def inference(
    table: SparseCoding, images: Array, features: Array, codes: Array, grid: Grid
) -> Callable[[], int]:
    """Return the function that infers the codes (B·places, M) of images (B, d) by features (M, P).

    It returns the number of iterations.
    """
    dtype, lca_steps = images.dtype, table.algorithm == "lca"
    patches = np.empty((len(codes), features.shape[1]), dtype)
    drive, points = np.empty(codes.shape, dtype), np.empty(codes.shape, dtype)
    thresholds, rest = np.full(len(features), table.sparsity, dtype), np.empty(images.shape[1], dtype)

    at = codes if lca_steps else points
    correlate = passes.Pass([
        blas.Product(at, features, patches),
        passes.Call(grid.leave, images, patches, 1.0, rest),
        blas.Product(patches, features.T, drive),
    ])  # fmt: skip
    synthesis, analysis = blas.Product(codes, features, patches), blas.Product(patches, features.T, drive)
    apart = patches.reshape(len(images), grid.places, -1)

    def gap() -> float:
        synthesis()
        energies = [grid.leave(images[i : i + 1], each, 1.0, rest) for i, each in enumerate(apart)]
        analysis()
        return relative_gap(np.array(energies), codes, drive, table.sparsity, table.nonnegative)

    def ended(number: int) -> bool:
        return bool(table.gap) and number > 0 and number % CHECKS == 0 and gap() <= table.gap

    def run() -> int:
        step = table.speed if lca_steps else 1 / largest_eigenvalue(features, grid)
        codes.fill(0)
        return iterate(table, correlate, Buffers(codes, points, drive), thresholds, step, ended)

    return run


class Buffers(NamedTuple):
    """Arrays of an inference, each of shape (N, M)."""

    codes: Array
    points: Array  # the points of FISTA's steps, or LCA's potentials
    drive: Array  # correlations of the features with what is left


def iterate(
    table: SparseCoding,
    correlate: Callable[[], object],
    buffers: Buffers,
    thresholds: Array,
    step: float,
    ended: Callable[[int], bool] = lambda number: False,
) -> int:
    """Infer codes of least ½|s - Aa|² + Σ thresholds |a| by the algorithm of a table, for any operator A.

    It begins at the codes that are there. `correlate` sets ``buffers.drive`` to Aᵀ(s - Aa), a being `codes`
    for LCA, else `points`. A `step` of at most one over the largest eigenvalue of AᵀA is stable. `ended` is
    asked before each iteration. Returns the number of iterations.
    """
    codes, points, drive = buffers
    points[:] = codes
    inertia = 1.0
    for number in range(table.iterations):
        if ended(number):
            return number
        correlate()
        if table.algorithm == "lca":
            hard = table.shrinkage == "hard"
            lca.compete(drive, points, codes, thresholds, step, hard, table.nonnegative)
        else:
            before, inertia = inertia, 0.5 + sqrt(0.25 + inertia * inertia)
            momentum = (before - 1) / inertia if table.algorithm == "fista" else 0.0
            lca.descend(drive, points, codes, thresholds, step, momentum, table.nonnegative)
    return table.iterations


def largest_eigenvalue(features: Array, grid: Grid) -> float:
    """Return an upper bound on the largest eigenvalue of the Gram matrix of features at all places.

    It is that of features at one place, times the number of places that overlap. A power 2^q of the
    Gram matrix has a Frobenius norm of at most the rank's root times the power of its eigenvalue.
    """
    few = features if len(features) < features.shape[1] else features.T
    power, bound = few.astype(np.float64) @ few.T, 1.0
    for number in range(SQUARINGS + 1):
        norm = float(np.linalg.norm(power)) or 1.0
        bound *= norm**0.5**number
        power = (power / norm) @ (power / norm)
    return grid.overlap * bound


def relative_gap(
    energies: Array, codes: Array, drive: Array, sparsity: float, nonnegative: bool = False
) -> float:
    """Compute the duality gap of ½|s - Φa|² + λ|a|₁ at codes of some rows, as a share of their energy.

    The rest r = s - Φa of each row, scaled by the best c for which Φᵀ(cr) ≤ λ (for signed codes, with
    magnitudes of Φᵀ), has the dual value c⟨s, r⟩ - ½c²|r|² ≤ the least energy.

    Parameters
    ----------
    energies : ndarray, shape (B,)
        ½|r|².
    codes, drive : ndarray, shape (B, …)
        a, and Φᵀr.
    sparsity : float
        λ.
    nonnegative : bool
        Whether codes are at least 0.

    Returns
    -------
    float
        From 0 to about 1; 0 if all energies are.
    """
    a, slopes = (each.reshape(len(energies), -1).astype(np.float64) for each in (codes, drive))
    squares, inner = 2 * energies, 2 * energies + (a * slopes).sum(axis=1)  # |r|², ⟨s, r⟩
    peak = np.max(slopes if nonnegative else np.abs(slopes), axis=1, initial=0.0)
    tiny = np.finfo(np.float64).tiny
    scale = np.clip(inner / np.maximum(squares, tiny), 0, sparsity / np.maximum(peak, tiny))
    primal = energies + sparsity * np.abs(a).sum(axis=1)
    dual = scale * inner - 0.5 * scale**2 * squares
    return float((primal - dual).sum() / max(primal.sum(), tiny))


def infer(table: SparseCoding, images: Array, features: Array, grid: Grid | None = None) -> Array:
    """Infer codes by the algorithm of a table.

    Parameters
    ----------
    table : SparseCoding
        Algorithm, threshold, iterations.
    images : ndarray, shape (B, d)
    features : ndarray, shape (M, P)
        Features of unit norm, of the type of `images`.
    grid : Grid, optional
        Places of the features; by default each is as large as an image.

    Returns
    -------
    ndarray, shape (B·places, M)
    """
    grid = table.grid(images.shape[1]) if grid is None else grid
    codes = np.empty((len(images) * grid.places, len(features)), images.dtype)
    inference(table, images, features, codes, grid)()
    return codes
