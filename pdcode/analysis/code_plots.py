"""The figure of a code: its supports, its Gram matrix, and captured energy against arrivals."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..codes.code import Code
from ..codes.quality.captured import captured_energy
from ..codes.quality.summary import Quality
from .style import BLUE, GREY, INK, LIGHT_BLUE, ORANGE, STYLE, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN, STRETCH = 256, 32  # rows that are drawn of larger codes, in stretches of so many
CELLS = 256  # columns of the drawn supports; more blocks share a column


def figure(codes: Sequence[tuple[Code, Quality]], path: str | os.PathLike[str]) -> None:
    """Draw codes into a file, a line of three panels for each.

    Parameters
    ----------
    codes : sequence of (Code, Quality)
    path : str or Path
        Where to; the ending tells the format: png (3000 pixels wide), svg or pdf.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        drawing = Figure(figsize=(15, 5.6 * len(codes)), layout="constrained")
        lines = drawing.subfigures(len(codes), 1, squeeze=False)[:, 0]
        for line, (code, quality) in zip(lines, codes, strict=True):
            _draw(code, quality, line)
        save(drawing, path)


def _draw(code: Code, quality: Quality, drawing: Any) -> None:
    low, high = quality.frame_bounds
    frame = f"tight, n/k = {high:.4g}" if quality.tightness > 1 - 1e-9 else f"frame {low:.3g} … {high:.3g}"
    size = f"{len(code):,} rows over {code.blocks:,} blocks, weight {code.weight}"
    title = "   ·   ".join((code.family, size, frame, f"spark {_spark(quality)}"))
    drawing.suptitle(title, x=0.01, ha="left", fontsize=12, color=GREY)
    left, middle, right = drawing.subplots(1, 3, width_ratios=(1, 1.12, 1.25))
    rows = drawn_rows(len(code))
    _supports(code, rows, left)
    _gram(code, quality, rows, middle, drawing)
    _captured(code, quality, right)


def _spark(quality: Quality) -> str:
    found = quality.spark
    if not len(found.rows):
        return "none: independent rows"
    return str(found.upper) if found.exact else f"{found.lower} to {found.upper}"


def drawn_rows(n: int) -> np.ndarray:
    """Rows that are drawn: all, or of many some stretches at even distances."""
    if n <= SHOWN:
        return np.arange(n)
    starts = np.linspace(0, n - STRETCH, SHOWN // STRETCH).astype(int)
    return (starts[:, None] + np.arange(STRETCH)).ravel()


def _rows_axis(axis: Any, rows: np.ndarray, n: int) -> None:
    """Label drawn rows with their true numbers."""
    if len(rows) < n:
        places = np.arange(0, len(rows), STRETCH)
        axis.set_ticks(places, [f"{row:,}" for row in rows[places]])
    else:
        axis.set_major_locator(_whole_numbers())


def _whole_numbers() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(6, integer=True)


def _pooled(matrix: np.ndarray) -> np.ndarray:
    """Columns merged to at most `CELLS`: the entry of largest magnitude of each group."""
    rows, blocks = matrix.shape
    group = -(-blocks // CELLS)
    if group == 1:
        return matrix
    padded = np.zeros((rows, -(-blocks // group) * group))
    padded[:, :blocks] = matrix
    parts = padded.reshape(rows, -1, group)
    return np.take_along_axis(parts, np.abs(parts).argmax(axis=2)[:, :, None], axis=2)[:, :, 0]


def _supports(code: Code, rows: np.ndarray, axes: Axes) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("signs", [ORANGE, "white", BLUE])
    most = float(np.abs(code.values).max())
    extent = (-0.5, code.blocks - 0.5, len(rows) - 0.5, -0.5)
    image = _pooled(code.matrix[rows])
    axes.imshow(image, colours, aspect="auto", interpolation="nearest", vmin=-most, vmax=most, extent=extent)
    axes.set_title("Codewords: blue +, orange –")
    axes.set_xlabel("block")
    axes.set_ylabel("row" if len(rows) == len(code) else f"row ({len(rows)} of {len(code):,})")
    axes.xaxis.set_major_locator(_whole_numbers())
    _rows_axis(axes.yaxis, rows, len(code))
    _stretches(axes, rows, len(code), across=False)


def _gram(code: Code, quality: Quality, rows: np.ndarray, axes: Axes, drawing: Any) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    gram = np.abs(code.matrix[rows] @ code.matrix[rows].T)
    np.fill_diagonal(gram, np.nan)
    ramp = LinearSegmentedColormap.from_list("products", ["white", LIGHT_BLUE, BLUE])
    colours = ramp.with_extremes(bad="#E4E4E4")  # the diagonal
    most = max(quality.coherence, 1e-3)
    image = axes.imshow(gram, cmap=colours, vmin=0, vmax=most, aspect="auto", interpolation="nearest")
    bar = drawing.colorbar(image, ax=axes, pad=0.02, fraction=0.05)
    bar.outline.set_visible(False)
    axes.set_title(f"|Inner products|, at most {quality.coherence:.4g}")
    axes.set_xlabel("row")
    for axis in axes.xaxis, axes.yaxis:
        _rows_axis(axis, rows, len(code))
    if len(rows) < len(code):
        axes.tick_params(axis="x", rotation=45)
    _stretches(axes, rows, len(code), across=True)


def _stretches(axes: Axes, rows: np.ndarray, n: int, across: bool) -> None:
    """Thin lines between the stretches of rows."""
    axes.grid(False)
    if len(rows) < n:
        for place in range(STRETCH, len(rows), STRETCH):
            axes.axhline(place - 0.5, color=GREY, linewidth=0.5)
            if across:
                axes.axvline(place - 0.5, color=GREY, linewidth=0.5)


def _captured(code: Code, quality: Quality, axes: Axes) -> None:
    mean, error = quality.least_squares
    n, k = len(code), code.blocks
    q = np.arange(len(mean)) / k
    axes.plot(q, np.minimum(q, 1), color=INK, linewidth=1, linestyle=(0, (1, 2)), label="any code, at most")
    axes.fill_between(q, mean - 2 * error, mean + 2 * error, color=LIGHT_BLUE, linewidth=0)
    axes.plot(q, mean, color=BLUE, linewidth=2.5, label="least squares")
    axes.plot(q, quality.adjoint.mean, color=ORANGE, linewidth=2, label="adjoint")
    if n % k == 0 and n > k and code.weight > 1:
        repeated = captured_energy(np.eye(k)[np.arange(n) % k], len(mean) - 1).mean
        axes.plot(q, repeated, color=GREY, linewidth=1.5, linestyle="--", label="repetition, as many rows")
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.set_ylim(0, 1.12)
    axes.set_xlim(0, max(q[-1], 1 / k))
    axes.set_xlabel("arrivals / k, in random order")
    axes.legend(loc="lower right", frameon=False)
    axes.set_title("Captured energy")
    ninety, _, everything = (needed / k for needed, _ in quality.needed)
    if ninety <= q[-1]:
        _mark(axes, ninety, 0.9, "90 %", (-9, -3), "right")
    if everything <= q[-1]:
        _mark(axes, everything, 1.0, "all", (0, 7), "center" if everything < 0.85 * q[-1] else "right")


def _mark(axes: Axes, x: float, y: float, name: str, place: tuple[int, int], align: str) -> None:
    axes.plot(x, y, "o", color=BLUE, markersize=7)
    text = f"{name} at {x:.2f} k"
    axes.annotate(text, (x, y), place, textcoords="offset points", ha=align, color=BLUE)
