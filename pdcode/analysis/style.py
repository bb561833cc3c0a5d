"""Colours and type of the figures."""

from __future__ import annotations

from typing import Any

# Okabe and Ito's colours, which colour-blind readers tell apart too; light: the same for injected delays
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
