"""Colours, fonts and axes of figures; writing of their files."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..util.errors import InputError, did_you_mean, reason
from ..util.output import ensure_replaceable, ensure_writable
from ..util.version import __version__

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ".png", ".svg", ".pdf"
DPI = 200
DIVERGED = 30  # multiple of the first loss above which curves are cut off
MARKS = {  # metadata that identifies a figure of pdcode: key, and bytes in the file
    ".png": ("Software", b"Software\0pdcode "),
    ".svg": ("Creator", b"<dc:title>pdcode "),
    ".pdf": ("Creator", b"/Creator (pdcode "),
}

# Okabe and Ito's colours, distinct for colour-blind readers too; light variants for injected delays
BLUE, LIGHT_BLUE = "#0072B2", "#B5D5EA"
ORANGE, LIGHT_ORANGE = "#D55E00", "#F7CFAE"
GREEN, INK, GREY = "#009E73", "#222222", "#777777"
LINES = (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9", INK)
"""Colours of the curves of several runs."""
DASHES = "-", "--", "-.", ":"
"""Line styles: the next one when all colours are used."""
FONT = "DejaVu Sans"  # comes with matplotlib
OTHER_FONTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Source Han Sans", "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei", "IPAGothic", "Droid Sans Fallback", "Noto Sans", "Noto Emoji", "Arial Unicode MS",
)  # fmt: skip
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


def ensure_figure_can_be_drawn(path: str, option: str = "--figure") -> None:
    """Refuse a path to which no figure can be written, or of another file, before work begins."""
    if Path(path).suffix.lower() not in FORMATS:
        meant = did_you_mean(Path(path).suffix, FORMATS)
        raise InputError(f"{option} {path}: expected a file that ends in {', '.join(FORMATS)}{meant}")
    ensure_writable(Path(path), f"{option} {path}")
    ensure_replaceable(Path(path), f"{option} {path}", "a figure", is_figure)


def is_figure(path: Path) -> bool:
    """Return whether a file is a figure of pdcode."""
    return MARKS[path.suffix.lower()][1] in path.read_bytes()


@contextmanager
def sheet(width: float, height: float) -> Iterator[Figure]:
    """Yield a figure to draw on, `width` × `height` inches."""
    with _in_style():
        drawing = _figure_class()(figsize=(width, height), dpi=DPI, layout="constrained")
        yield drawing
        _make_drawable(drawing)
        drawing.draw_without_rendering()  # computes the layout


def _in_style() -> AbstractContextManager[None]:
    """Return a context in which matplotlib draws in this style."""
    import matplotlib

    return matplotlib.rc_context(STYLE | {"font.family": _fonts()})


@cache
def _fonts() -> list[str]:
    """Return the font of figures, and the installed ones for characters that it has not."""
    from matplotlib import font_manager

    installed = {*font_manager.get_font_names()}
    return [FONT, *(name for name in OTHER_FONTS if name in installed)]


@cache
def _characters() -> set[str]:
    """Return the characters that figures can show."""
    from matplotlib import font_manager

    fonts = [font_manager.get_font(font_manager.findfont(name)) for name in _fonts()]
    return {"\n"}.union(*(map(chr, font.get_charmap()) for font in fonts))


def _make_drawable(drawing: Figure) -> None:
    """Show names as they are: without mathematics, and with escapes of characters that no font has."""
    from matplotlib.text import Text

    known = _characters()
    for text in drawing.findobj(Text):
        assert isinstance(text, Text)
        if shown := text.get_text():
            text.set_parse_math(False)
            escaped = (c if c in known else ascii(c)[1:-1] for c in shown)
            text.set_text("".join(escaped))


@cache
def _figure_class() -> type[Figure]:
    from matplotlib.figure import Figure

    class ShownFigure(Figure):
        """A figure that notebooks display without pyplot, in this style, by which ticks are chosen."""

        def draw(self, renderer: Any) -> None:
            with _in_style():
                super().draw(renderer)

        def _repr_png_(self) -> bytes:
            content = io.BytesIO()
            self.savefig(content, dpi=DPI / 2)
            return content.getvalue()

    return ShownFigure


def save(drawing: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure to a file: png of 200 dpi, svg or pdf, by its extension. Folders are created."""
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        mark, _ = MARKS.get(Path(path).suffix.lower(), (None, b""))
        drawing.set_layout_engine("none")  # `sheet` has computed the layout
        drawing.savefig(path, metadata={mark: f"pdcode {__version__}"} if mark else None)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot write the figure: {reason(error)}") from error


def mark_target(axes: Axes, level: float, above: bool = False) -> None:
    """Draw a dashed line at a target, with its name on the side that runs reach last."""
    axes.axhline(level, color=GREY, linestyle="--", linewidth=1)
    place, side = (4, 3 if above else -3), "bottom" if above else "top"
    name, across = f"target {level:g}", axes.get_yaxis_transform()
    axes.annotate(name, (0, level), place, across, "offset points", va=side, color=GREY, fontsize=11)


def loss_axis(axes: Axes, values: Sequence[np.ndarray], target: float | None) -> None:
    """Scale the axis of training losses, logarithmically if they span a factor of 5; include the target.

    Losses above `DIVERGED` times the first one are cut off.
    """
    import numpy as np
    from matplotlib.ticker import LogLocator, NullLocator

    finite = np.concatenate([loss[np.isfinite(loss)] for loss in values] or [np.zeros(0)])
    axes.set_ylabel("loss")
    if len(finite) and finite.min() > 0 and finite.max() > 5 * finite.min():
        first = max(float(loss[0]) for loss in values if len(loss))
        least, most = min(finite.min(), target or np.inf), finite.max()
        if first > 0:
            most = min(most, DIVERGED * first)
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if most < 1e3 * least else (1,)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_ylim(least / (most / least) ** 0.1, most * (most / least) ** 0.05)


PAGE = "#2b8cce", "#d5690a", "#0e9d78", "#c46a9d", "#a8862b", "#8678cf", "#84898f"
"""Colours of reports' charts, with a contrast of 3 to 1 on white and on a dark page; the last is grey."""
PAPER = (*LINES[:6], GREY)
"""Colours of the same charts in figures."""
FAINT = 0.35
"""Opacity of faint bars."""


def coloured(colours: Sequence[str], number: int) -> str:
    """Return the colour of this number, which may be larger than that of the colours; grey is -1."""
    return colours[number % (len(colours) - 1) if number >= 0 else -1]


def ramp(colour: int) -> list[str]:
    """Return 64 colours from a faint grey to a colour of `PAGE`, which show the paper through them."""
    return [f"{PAGE[colour]}{round(18 + 237 * step / 63):02x}" for step in range(64)]
