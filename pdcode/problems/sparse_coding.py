"""Kind "sparse-coding": a dictionary of features, whose codes are inferred for each mini-batch.

The energy ½|s - Φa|² + λ|a|₁ of a row s is a loss whose inputs are latent: the codes a, which the Locally
Competitive Algorithm infers at the dictionary Φ of each gradient (Rozell et al. 2008). At the codes of least
energy its gradient by Φ is -(s - Φa) aᵀ, errors ⊗ inputs as of any layer: a Hebbian rule.
"""

from math import isqrt
from typing import ClassVar, Literal, NamedTuple

import numpy as np

from ..config import Positive, Real
from ..config.problems import PHOTOGRAPHS
from ..config.requirements import KeyNeeds, Need, having, one_of
from ..kernels import blas, lca, passes
from ..util.errors import InputError
from .counts import POINTWISE
from .losses import Evaluator, Regression
from .matrix import Array

NOT_LATENT = having("latent", "a kind that predicts targets", value=False)


class Grid(NamedTuple):
    """Places of features in an image, which is the sum of its patches."""

    height: int  # of the image [pixels]
    width: int
    rows: int  # of a feature [pixels]
    columns: int
    stride: int = 1  # from a place to the next, in both directions [pixels]

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
    """Sparse coding of rows s: ½|s - Φa|² + λ|a|₁ at codes a by the Locally Competitive Algorithm.

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
    }
    effective: ClassVar[KeyNeeds] = {
        **Regression.effective,
        "thumbnail": {"problem.data": one_of(*PHOTOGRAPHS)},
        "stride": {"problem.patch": Need(lambda value, config: value is not None, "a number")},
        ("standardise", "labels", "targets", "missing"): {"problem.kind": NOT_LATENT},
    }

    atoms: Positive = 128  #: number of features of the dictionary
    sparsity: Real = 1.0  #: λ: with soft thresholds the factor of Σ|a|
    #: threshold of the codes: soft takes λ from a magnitude, hard only removes magnitudes of at most λ
    shrinkage: Literal["soft", "hard"] = "soft"
    nonnegative: bool = False  #: whether codes are at least 0
    iterations: Positive = 60  #: iterations of the inference
    #: length of an iteration, in time constants; where it is more than 2 over the largest eigenvalue of the
    #: Gram matrix of overlapping active features, codes diverge
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
        return passes.Pass(
            operations(self, targets, weights[:-1], inputs[:, :-1], self.grid(targets.shape[1]))
        )

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


def operations(
    table: SparseCoding, images: Array, features: Array, codes: Array, grid: Grid
) -> list[passes.Operation]:
    """Return the operations that infer the codes (B·places, M) of images (B, d) by features (M, P)."""
    dtype, count = images.dtype, (len(codes), features.shape[1])
    patches, drive, potential = (
        np.empty(count, dtype),
        np.empty(codes.shape, dtype),
        np.empty(codes.shape, dtype),
    )
    thresholds, rest = np.full(len(features), table.sparsity, dtype), np.empty(images.shape[1], dtype)
    how = table.speed, table.shrinkage == "hard", table.nonnegative
    once = [
        blas.Product(codes, features, patches),
        passes.Call(grid.leave, images, patches, 1.0, rest),
        blas.Product(patches, features.T, drive),
        passes.Call(lca.compete, drive, potential, codes, thresholds, *how),
    ]
    return [passes.Call(codes.fill, 0), passes.Call(potential.fill, 0), *once * table.iterations]


def infer(table: SparseCoding, images: Array, features: Array, grid: Grid | None = None) -> Array:
    """Infer codes by the Locally Competitive Algorithm.

    Parameters
    ----------
    table : SparseCoding
        Threshold, speed and iterations.
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
    passes.Pass(operations(table, images, features, codes, grid))()
    return codes
