"""The map of best schemes as a printed table and as a figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..analysis import printing
from ..analysis.style import GREY, INK, sheet
from ..util.formats import ratio, size
from .search_space import OWN
from .survey import Cell, Grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from rich.console import Console

# Okabe and Ito's colours, two tints and two of Tol's; cells also show the schemes' names.
COLOURS = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999", "#332288",
    "#882255",
)  # fmt: skip
DARK = ("#0072B2", "#009E73", "#D55E00", "#332288", "#882255")  # cells with white text
PALE = 1.1  # lead below which a cell is drawn pale
NOBODY = "nobody"
LABELS = {OWN: f"{OWN}: the job file's\nown scheme and code"}
ORACLE = "oracle ×: the first's time over the oracle's"


def colours(names: Sequence[str]) -> dict[str, str]:
    """Choose a colour for each scheme, independent of their order."""
    return dict(zip(sorted(names), COLOURS * (1 + len(names) // len(COLOURS)), strict=False))


def lead(cell: Cell) -> str:
    """Format the factor by which the first scheme is ahead of the second."""
    if not cell.best:
        return ""
    return "alone" if math.isinf(cell.factor) else ratio(cell.factor)


def oracle(cell: Cell) -> str:
    """Format the first scheme's time as a multiple of the oracle's; empty if unknown."""
    return f"oracle ×{ratio(cell.oracle).removesuffix('×')}" if math.isfinite(cell.oracle) else ""


def show(cells: Sequence[Cell], grid: Grid, title: str, axis: str, console: Console | None = None) -> None:
    """Print the map, with a row per severity and a column per bandwidth."""
    columns = "", *(f"{size(bandwidth)}/s" for bandwidth in grid.bandwidths)
    table = printing.make_table(*columns, left=columns)
    at = {(cell.bandwidth, cell.severity): cell for cell in cells}
    for severity in sorted(grid.severities, reverse=True):
        row = (at[bandwidth, severity] for bandwidth in grid.bandwidths)
        table.add_row(
            f"{severity:g}", *("\n".join([cell.best or NOBODY, lead(cell), oracle(cell)]) for cell in row)
        )
    legend = (
        f"Rows: {axis}. Columns: bandwidth of rank 0's link, each way. Factors: time of the second over "
        f"the first's. {ORACLE}, which knows all delays and balances the same tasks perfectly. Step sizes "
        "are tuned in the middle cell."
    )
    printing.show([(title, [table]), ("", [printing.note(legend)])], console)


def draw_map(cells: Sequence[Cell], grid: Grid, names: Sequence[str], title: str, axis: str) -> Figure:
    """Draw the map."""
    from matplotlib.patches import Patch

    columns, rows, palette = sorted(grid.bandwidths), sorted(grid.severities), colours(names)
    best = sorted({cell.best for cell in cells} - {""})
    patches = [Patch(facecolor=palette[name], label=LABELS.get(name, name)) for name in best]
    patches.append(Patch(facecolor="white", edgecolor=GREY, label=f"pale: by less than {PALE:g}×"))
    text = ORACLE.replace(": ", ":\n").replace(" over", "\nover")
    patches.append(Patch(facecolor="none", edgecolor="none", label=text))
    with sheet(max(6.8, 3.2 + 1.7 * len(columns)), 2.2 + 0.85 * len(rows)) as figure:
        axes = figure.subplots()
        for cell in cells:
            _cell(axes, cell, columns.index(cell.bandwidth), rows.index(cell.severity), palette)
        axes.grid(False)
        axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(-0.5, len(rows) - 0.5))
        axes.set_xticks(range(len(columns)), [f"{size(value)}/s" for value in columns])
        axes.set_yticks(range(len(rows)), [f"{value:g}" for value in rows])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set(xlabel="bandwidth of rank 0's link, each way", ylabel=axis)
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")  # also spans the legend
        axes.legend(handles=patches, loc="upper left", bbox_to_anchor=(1, 1), frameon=False, title="first")
    return figure


def _cell(axes: Axes, cell: Cell, x: int, y: int, palette: dict[str, str]) -> None:
    """Draw a cell in the colour of its best scheme, with name, lead and multiple of the oracle's time."""
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Rectangle

    pale = not cell.factor >= PALE
    whiter = 0.55 if pale else 0.0
    colour = [part + whiter * (1 - part) for part in to_rgb(palette.get(cell.best, "#FFFFFF"))]
    axes.add_patch(Rectangle((x - 0.48, y - 0.48), 0.96, 0.96, facecolor=colour, edgecolor="none"))
    ink = "white" if palette.get(cell.best) in DARK and not pale else INK
    centred: dict[str, Any] = {"ha": "center", "va": "center", "color": ink}
    axes.text(x, y + 0.24, cell.best or NOBODY, fontsize=11, **centred)
    axes.text(x, y - 0.04, lead(cell), fontsize=13, weight="bold", **centred)
    axes.text(x, y - 0.31, oracle(cell), fontsize=9, **centred)
