"""Colours and fonts of figures, and their files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..util.errors import InputError, reason
from ..util.output import ensure_writable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ".png", ".svg", ".pdf"

# Okabe and Ito's colours, distinct for colour-blind readers too; light variants for injected delays
BLUE, LIGHT_BLUE = "#0072B2", "#B5D5EA"
ORANGE, LIGHT_ORANGE = "#D55E00", "#F7CFAE"
GREEN, INK, GREY = "#009E73", "#222222", "#777777"
STYLE: Any = {
    "font.size": 12,
    "axes.titlesize": 13,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "figure.constrained_layout.w_pad": 0.08,
    "figure.constrained_layout.h_pad": 0.08,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.8,
}
"""For `matplotlib.rc_context`."""


def ensure_figure_can_be_drawn(path: str) -> None:
    """Refuse a path to which no figure can be written, before work begins."""
    if Path(path).suffix.lower() not in FORMATS:
        raise InputError(f"--figure {path}: expected a file that ends in {', '.join(FORMATS)}")
    ensure_writable(Path(path), f"--figure {path}")


@contextmanager
def canvas(path: str | os.PathLike[str], width: float, height: float) -> Iterator[Figure]:
    """Yield a figure to draw on, `width` × `height` inches at 200 dpi, and write it to a file.

    The file's extension determines the format. Folders are created.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        drawing = Figure(figsize=(width, height), layout="constrained")
        yield drawing
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            drawing.savefig(path, dpi=200)
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot write the figure: {reason(error)}") from error
