"""Images from the counts of events: linear estimates, and sparse coding of what these leave.

Counts, in units of the signal, are z = M (D s + noise): D is the receptive field of a retina, or the identity
of a camera, and M takes the pixels that are sent. The linear estimate of least mean square error (MMSE) knows
the spectrum of training signals. What is left of z by its low frequencies is coded by a dictionary, as
convolution: M D Φ a, with thresholds chosen on training signals.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.fft import dctn
from scipy.sparse.linalg import LinearOperator, cg

from ..config import NetworkTable, legacy
from ..problems.compiled import build_network
from ..problems.sparse_coding import Buffers, Grid, SparseCoding, iterate
from ..trace.reader import TraceReader
from ..util.errors import InputError
from .retina import filtered, frequencies, gaussian

LOW = 1.5  # standard deviation of the filter of low frequencies [pixels]
BINS = np.geomspace(0.02, 4.5, 13)  # of angular frequencies [1/pixel]
THRESHOLDS = 0.25, 0.5, 1.0, 2.0, 4.0  # in standard deviations of the noise
SOLVED, SOLVES = 1e-3, 200  # relative residual and most iterations of a linear estimate without all pixels
POWERS, STEP = 8, 0.9  # iterations that estimate the largest eigenvalue, and the step in units of its inverse


class Sensing(NamedTuple):
    """Linear map of a signal to its counts: a receptive field, and the pixels that are sent."""

    field: np.ndarray  # factors of cosine coefficients
    mask: np.ndarray | None = None  # 1 for a pixel that is sent, else 0; None: all are

    def sent(self, image: np.ndarray) -> np.ndarray:
        """Return an image of the pixels that are sent, 0 elsewhere."""
        return image if self.mask is None else self.mask * image

    def sensed(self, signal: np.ndarray) -> np.ndarray:
        """Return the counts of a signal."""
        return self.sent(filtered(signal, self.field))

    def returned(self, counts: np.ndarray) -> np.ndarray:
        """Apply the transposed map."""
        return filtered(self.sent(counts), self.field)


class Estimates(NamedTuple):
    """Estimates of a signal, each of its shape."""

    counts: np.ndarray  # z
    linear: np.ndarray  # MMSE
    sparse: np.ndarray  # low frequencies of it, and sparse coding


@dataclass(frozen=True, eq=False)
class Signal:
    """Statistics of training signals and of their counts."""

    spectrum: np.ndarray  # log mean square of cosine coefficients at the logarithms of `BINS`
    variance: float  # of the noise

    @classmethod
    def of(cls, signals: Sequence[np.ndarray], variance: float) -> "Signal":
        """Return the statistics of signals, all of one scale, with noise of this variance."""
        squares = np.concatenate([np.square(dctn(each, norm="ortho")).ravel() for each in signals])
        length = np.sqrt(np.concatenate([frequencies(each.shape).ravel() for each in signals]))
        logs = np.log(np.maximum(length, BINS[0]))
        bins = np.digitize(logs, np.log(BINS))
        means = [np.log(max(squares[bins == each].mean(), 1e-12)) for each in np.unique(bins)]
        places = [logs[bins == each].mean() for each in np.unique(bins)]
        return cls(np.interp(np.log(BINS), places, means), variance)

    def power(self, shape: tuple[int, int]) -> np.ndarray:
        """Return the mean square of each cosine coefficient of a signal of this shape."""
        logs = np.log(np.maximum(np.sqrt(frequencies(shape)), BINS[0]))
        return np.exp(np.interp(logs, np.log(BINS), self.spectrum))

    def linear(self, counts: np.ndarray, sensing: Sensing) -> np.ndarray:
        """Return the linear estimate of least mean square error."""
        power, field = self.power(counts.shape), sensing.field
        if sensing.mask is None:
            return filtered(counts, field * power / (field**2 * power + self.variance))

        def covariance(flat: np.ndarray) -> np.ndarray:
            image = sensing.sensed(filtered(sensing.returned(flat.reshape(counts.shape)), power))
            return image.ravel() + self.variance * flat

        operator = LinearOperator((counts.size, counts.size), covariance, dtype=np.float64)
        weights, _ = cg(operator, (sensing.mask * counts).ravel(), rtol=SOLVED, maxiter=SOLVES)
        return filtered(sensing.returned(weights.reshape(counts.shape)), power)


@dataclass(frozen=True, eq=False)
class Dictionary:
    """Square features of a trained dictionary, and a constant one that has no threshold."""

    features: np.ndarray  # float32, (M + 1, P²)
    stride: int = 2
    iterations: int = 60

    @classmethod
    def of(cls, features: np.ndarray) -> "Dictionary":
        """Return the dictionary of features (M, P²)."""
        pixels = features.shape[1]
        return cls(np.vstack([features, np.full((1, pixels), pixels**-0.5)]).astype(np.float32))

    @property
    def side(self) -> int:
        """Rows of a feature [pixels]."""
        return round(self.features.shape[1] ** 0.5)

    def cropped(self, image: np.ndarray, margin: int = 0) -> np.ndarray:
        """Return the largest part of an image that features fill, with a margin around it."""
        sides = [(size - 2 * margin - self.side) // self.stride * self.stride for size in image.shape]
        return image[: sides[0] + self.side + 2 * margin, : sides[1] + self.side + 2 * margin]

    def filled(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Return the smallest shape that features fill and that contains this one."""
        height, width = (self.side - (self.side - size) // self.stride * self.stride for size in shape)
        return height, width

    def estimates(self, counts: np.ndarray, sensing: Sensing, signal: Signal, threshold: float) -> Estimates:
        """Return the estimates of a signal; the threshold is in standard deviations of the noise."""
        counts = sensing.sent(counts)
        linear = signal.linear(counts, sensing)
        low = filtered(linear, gaussian(counts.shape, LOW))
        rest = counts - sensing.sensed(low)
        inference = self.inference(rest, sensing, threshold * signal.variance**0.5)
        inference.run()
        return Estimates(counts, linear, low + inference.image())

    def inference(self, counts: np.ndarray, sensing: Sensing, threshold: float) -> "Inference":
        """Return the inference of codes from counts, by FISTA from codes of 0."""
        height, width = counts.shape
        grid = Grid(height, width, self.side, self.side, self.stride)
        features, image = self.features, np.empty(counts.size, np.float32)
        patches = np.empty((grid.places, features.shape[1]), np.float32)
        buffers = Buffers(*np.zeros((3, grid.places, len(features)), np.float32))
        thresholds = np.full(len(features), threshold, np.float32)
        thresholds[-1] = 0

        def synthesis(codes: np.ndarray) -> np.ndarray:
            np.matmul(codes, features, out=patches)
            grid.leave(np.zeros((1, counts.size), np.float32), patches, 1.0, image)
            return -image.reshape(counts.shape).astype(np.float64)

        def analysis(error: np.ndarray) -> None:
            patches[:] = 0
            grid.leave(sensing.returned(error).astype(np.float32).reshape(1, -1), patches, 1.0, image)
            np.matmul(patches, features.T, out=buffers.drive)

        buffers.codes[:] = np.random.default_rng(0).standard_normal(buffers.codes.shape)
        largest = 1.0
        for _ in range(POWERS):
            buffers.codes[:] /= np.linalg.norm(buffers.codes)
            analysis(sensing.sensed(synthesis(buffers.codes)))
            largest = max(largest, float(np.vdot(buffers.codes, buffers.drive)))
            buffers.codes[:] = buffers.drive
        buffers.codes[:] = 0
        table = SparseCoding(iterations=self.iterations)

        def run(ended: Callable[[int], bool] = lambda number: False) -> int:
            return iterate(table, correlate, buffers, thresholds, STEP / largest, ended)

        def correlate() -> None:
            analysis(counts - sensing.sensed(synthesis(buffers.points)))

        return Inference(buffers.codes, run, lambda: synthesis(buffers.codes))


class Inference(NamedTuple):
    """Inference of codes by a dictionary."""

    codes: np.ndarray  # float32, (places, M + 1); it begins at these
    run: Callable[..., int]  # returns the number of iterations, after which `ended` of their number was true
    image: Callable[[], np.ndarray]  # of the codes


def trained_dictionary(trace: TraceReader) -> Dictionary:
    """Return the features that a run of kind ``sparse-coding`` has learnt; see `Trace.dictionary`."""
    if trace.theta is None:
        raise InputError("has no final theta, as the run has not ended or computed none")
    config = legacy.read(trace.config, trace.plugin_digests)
    table = config.problem
    if not isinstance(table, NetworkTable) or not table.latent:
        raise InputError(f"problem.kind: '{table.kind}' has no dictionary; 'sparse-coding' has one")
    layer = build_network(table, 0, trace.data["outputs"], None, config.code.blocks).layers[0]
    if math.isqrt(layer.outputs) ** 2 != layer.outputs:
        raise InputError(f"features of {layer.outputs} elements are no square images")
    return Dictionary.of(layer.unbiased(trace.theta).T)
