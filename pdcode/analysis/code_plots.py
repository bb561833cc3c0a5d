"""The figure of a code: supports, Gram matrix, and captured energy against arrivals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..codes.code import Code
from ..codes.quality.captured import captured_energy
from ..codes.summary import Quality
from .style import BLUE, GREY, INK, LIGHT_BLUE, ORANGE, sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_ROWS = 256  # drawn rows
MAX_COLUMNS = 256  # drawn columns; more blocks share columns
ZERO = 1e-9  # coherence that is due to rounding


def draw(codes: Sequence[tuple[Code, Quality]]) -> Figure:
    """Draw codes, each in a row of three panels."""
    with sheet(15, 5.6 * len(codes)) as drawing:
        lines = drawing.subfigures(len(codes), 1, squeeze=False)[:, 0]
        for line, (code, quality) in zip(lines, codes, strict=True):
            _draw(code, quality, line)
    return drawing


def _draw(code: Code, quality: Quality, drawing: Any) -> None:
    low, high = quality.frame_bounds
    frame = f"tight, n/k = {high:.4g}" if quality.tightness > 1 - 1e-9 else f"frame {low:.3g} … {high:.3g}"
    size = f"{len(code):,} rows over {code.blocks:,} blocks, weight {code.weight}"
    title = "   ·   ".join((code.family, size, frame, f"spark {_spark(quality)}"))
    drawing.suptitle(title, x=0.01, ha="left", fontsize=12, color=GREY)
    left, middle, right = drawing.subplots(1, 3, width_ratios=(1, 1.12, 1.25))
    _supports(code, left)
    _gram(code, quality, middle, drawing)
    _captured(code, quality, right)


def _spark(quality: Quality) -> str:
    spark = quality.spark
    if not len(spark.rows):
        return "none: independent rows"
    return str(spark.upper) if spark.exact else f"{spark.lower} to {spark.upper}"


def _label(axis: Any, name: str, count: int = 0) -> None:
    """Label an axis of rows or blocks; say so if only the first of `count` are drawn."""
    from matplotlib.ticker import MaxNLocator

    axis.set_label_text(f"{name} (the first {MAX_ROWS} of {count:,})" if count > MAX_ROWS else name)
    axis.set_major_locator(MaxNLocator(6, integer=True))


def _pooled(matrix: np.ndarray) -> np.ndarray:
    """Merge columns to at most `MAX_COLUMNS`, by the entry of largest magnitude in each group."""
    rows, blocks = matrix.shape
    group = -(-blocks // MAX_COLUMNS)
    if group == 1:
        return matrix
    padded = np.zeros((rows, -(-blocks // group) * group))
    padded[:, :blocks] = matrix
    groups = padded.reshape(rows, -1, group)
    return np.take_along_axis(groups, np.abs(groups).argmax(axis=2)[:, :, None], axis=2)[:, :, 0]


def _supports(code: Code, axes: Axes) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("signs", [ORANGE, "white", BLUE])
    most = float(np.abs(code.values).max())
    image = _pooled(code.matrix[:MAX_ROWS])
    extent = (-0.5, code.blocks - 0.5, len(image) - 0.5, -0.5)
    axes.imshow(image, colours, aspect="auto", interpolation="nearest", vmin=-most, vmax=most, extent=extent)
    axes.set_title("Codewords: blue +, orange –")
    axes.grid(False)
    _label(axes.xaxis, "block")
    _label(axes.yaxis, "row", len(code))


def gram(matrix: np.ndarray) -> np.ndarray:
    """Return the magnitudes of the inner products of rows, nan on the diagonal."""
    products = np.abs(matrix @ matrix.T)
    np.fill_diagonal(products, np.nan)
    return products


def _gram(code: Code, quality: Quality, axes: Axes, drawing: Any) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    ramp = LinearSegmentedColormap.from_list("products", ["white", LIGHT_BLUE, BLUE])
    colours = ramp.with_extremes(bad="#E4E4E4")  # the diagonal
    zero = quality.coherence < ZERO
    most = 1.0 if zero else quality.coherence
    image = axes.imshow(
        gram(code.matrix[:MAX_ROWS]), cmap=colours, vmin=0, vmax=most, aspect="auto", interpolation="nearest"
    )
    if zero:
        axes.set_title("Inner products: all are 0")
    else:
        bar = drawing.colorbar(image, ax=axes, pad=0.02, fraction=0.05)
        bar.outline.set_visible(False)
        axes.set_title(f"|Inner products|, at most {quality.coherence:.4g}")
    axes.grid(False)
    for axis in axes.xaxis, axes.yaxis:
        _label(axis, "row", len(code))


def _captured(code: Code, quality: Quality, axes: Axes) -> None:
    mean, error = quality.least_squares
    n, k = len(code), code.blocks
    q = np.arange(len(mean)) / k
    axes.plot(
        q, np.minimum(q, 1), color=INK, linewidth=1, linestyle=(0, (1, 2)), label="upper bound of any code"
    )
    axes.fill_between(q, mean - 2 * error, mean + 2 * error, color=LIGHT_BLUE, linewidth=0)
    axes.plot(q, mean, color=BLUE, linewidth=3, label="least squares")  # thick, as the adjoint may coincide
    axes.plot(q, quality.adjoint.mean, color=ORANGE, linewidth=1.5, label="adjoint")
    if n % k == 0 and n > k and code.weight > 1:
        repeated = captured_energy(np.eye(k)[np.arange(n) % k], len(mean) - 1).mean
        axes.plot(
            q, repeated, color=GREY, linewidth=1.5, linestyle="--", label="repetition, same number of rows"
        )
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.set_ylim(0, 1.12)
    axes.set_xlim(0, max(q[-1], 1 / k))
    axes.set_xlabel("arrivals / k, in random order")
    axes.set_title("Captured energy")
    ninety, _, everything = (needed / k for needed, _ in quality.needed)
    marks = {ninety: (0.9, f"90 % at {ninety:.2f} k"), everything: (1.0, f"all at {everything:.2f} k")}
    inside = {x: mark for x, mark in marks.items() if x <= q[-1]}
    if inside:
        heights, names = zip(*inside.values(), strict=True)
        axes.plot(list(inside), heights, "o", color=BLUE, markersize=8, label=", ".join(names), clip_on=False)
    axes.legend(loc="lower right", frameon=False)
