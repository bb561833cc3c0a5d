"""The map as a figure and as a printed table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..analysis.formats import size
from ..analysis.style import GREY, INK, STYLE, save
from .phase import Cell, Grid
from .table import times

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from rich.console import Console

# Okabe and Ito's colours, and two tints of theirs; the names stand in the cells besides.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
DARK = ("#0072B2", "#009E73", "#D55E00")  # white letters
PALE = 1.1  # factors below this are hardly a lead
NOBODY = "nobody"
GENIE = "genie ×: the first's time over the genie's"


def colours(names: Sequence[str]) -> dict[str, str]:
    """A colour for each scheme, whatever their order."""
    return dict(zip(sorted(names), COLOURS * (1 + len(names) // len(COLOURS)), strict=False))


def lead(cell: Cell) -> str:
    """By what factor the first is ahead of the second."""
    if not cell.winner:
        return ""
    if math.isinf(cell.factor):
        return "alone"
    return f"{cell.factor:.2f}×" if cell.factor < 9.995 else f"{cell.factor:.0f}×"


def genie(cell: Cell) -> str:
    """The first's time as a multiple of the genie's; empty if there is none."""
    return f"genie ×{times(cell.genie).removesuffix('×')}" if math.isfinite(cell.genie) else ""


def show(cells: Sequence[Cell], grid: Grid, title: str, axis: str, console: Console | None = None) -> None:
    """Print the map: a row for each severity, a column for each bandwidth."""
    from rich.console import Console
    from rich.table import Table

    console = console or Console(highlight=False, markup=False, emoji=False)
    console.width = max(console.width, 80)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("", justify="right")
    for bandwidth in grid.bandwidths:
        table.add_column(f"{size(bandwidth)}/s")
    at = {(cell.bandwidth, cell.severity): cell for cell in cells}
    for severity in sorted(grid.severities, reverse=True):
        row = [at[bandwidth, severity] for bandwidth in grid.bandwidths]
        table.add_row(
            f"{severity:g}",
            *("\n".join([*(cell.winner or NOBODY).split(" "), lead(cell), genie(cell)]) for cell in row),
        )
    with console.capture() as capture:
        console.print(title, style="bold")
        console.print(
            f"Rows: {axis}. Columns: bandwidth of rank 0's link, each way. Factors are to the second; {GENIE}"
            ", who knows all delays and balances as many tasks perfectly. Step sizes are tuned in the middle "
            "cell.\n",
            style="dim",
        )
        console.print(table)
    for line in capture.get().splitlines():
        console.file.write(line.rstrip() + "\n")  # rich fills lines up with blanks


def draw(
    cells: Sequence[Cell], grid: Grid, names: Sequence[str], title: str, axis: str, path: str | Path
) -> None:
    """Draw the map into a file; the ending tells the format.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        width, height = max(6.8, 3.2 + 1.7 * len(grid.bandwidths)), 2.2 + 0.85 * len(grid.severities)
        figure = Figure(figsize=(width, height), layout="constrained")
        _draw(figure, cells, grid, names, title, axis)
        save(figure, path)


def _draw(
    figure: Figure, cells: Sequence[Cell], grid: Grid, names: Sequence[str], title: str, axis: str
) -> None:
    from matplotlib.patches import Patch

    axes, palette = figure.subplots(), colours(names)
    columns, rows = sorted(grid.bandwidths), sorted(grid.severities)
    for cell in cells:
        _cell(axes, cell, columns.index(cell.bandwidth), rows.index(cell.severity), palette)
    axes.grid(False)
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(-0.5, len(rows) - 0.5)
    axes.set_xticks(range(len(columns)), [f"{size(value)}/s" for value in columns])
    axes.set_yticks(range(len(rows)), [f"{value:g}" for value in rows])
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_xlabel("bandwidth of rank 0's link, each way")
    axes.set_ylabel(axis.replace(", ", ",\n"))
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")  # over the legend too
    won = [name for name in sorted(palette) if any(cell.winner == name for cell in cells)]
    patches = [Patch(facecolor=palette[name], label=name) for name in won]
    pale = Patch(facecolor="white", edgecolor=GREY, label=f"pale: less than {PALE:g}×")
    oracle = Patch(
        facecolor="none", edgecolor="none", label=GENIE.replace(": ", ":\n").replace(" over", "\nover")
    )
    axes.legend(
        handles=[*patches, pale, oracle],
        loc="upper left",
        bbox_to_anchor=(1, 1),
        frameon=False,
        title="first",
    )


def _cell(axes: Axes, cell: Cell, x: int, y: int, palette: dict[str, str]) -> None:
    """A field in the winner's colour, with its name, its lead over the second, and what the genie says."""
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Rectangle

    pale = not cell.factor >= PALE
    whiter = 0.55 if pale else 0.0
    colour = [part + whiter * (1 - part) for part in to_rgb(palette.get(cell.winner, "#FFFFFF"))]
    axes.add_patch(Rectangle((x - 0.48, y - 0.48), 0.96, 0.96, facecolor=colour, edgecolor="none"))
    ink = "white" if palette.get(cell.winner) in DARK and not pale else INK
    centred: dict[str, Any] = {"ha": "center", "va": "center", "color": ink}
    axes.text(x, y + 0.24, cell.winner or NOBODY, fontsize=11, **centred)
    axes.text(x, y - 0.04, lead(cell), fontsize=13, weight="bold", **centred)
    axes.text(x, y - 0.31, genie(cell), fontsize=9, **centred)
