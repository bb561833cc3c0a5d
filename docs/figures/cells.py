"""Draw results/cells.png, the figure of docs/results.md: `python docs/figures/cells.py`.

Each row is a cell of the table in docs/results/rivals.md#tuned: a network, a link and a kind of delays. Dots
are the time of `lwpd:auto` over that of the best rivals, with 95 % intervals; arrows are bounds.
"""

import re
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parents[2]
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#666666"
RATIO = re.compile(r"(<?) ?([\d.]+)(?: \(([\d.]+) – ([\d.]+)\))?")


def read(section):
    """Return network, link and delays of each cell, and the ratios to its best plain and armed rivals."""
    cells, plain, armed = [], [], []
    for line in section.splitlines():
        row = [cell.strip(" *") for cell in line.split("|")[1:-1]]
        found = [RATIO.fullmatch(row[place]) for place in (5, 7)] if len(row) == 8 else []
        if all(found) and found:
            before = cells[-1] if cells else row[:3]
            cells.append([name or above for name, above in zip(row[:3], before, strict=True)])
            plain.append(found[0].groups())
            armed.append(found[1].groups())
    return cells, plain, armed


def draw(axes, ratios, colour, shift, label):
    """Draw a dot with its interval, or an arrow, in each row."""
    for row, (bound, *numbers) in enumerate(ratios):
        at, low, high = (float(each) if each else None for each in numbers)
        if bound:
            tip = {"arrowstyle": "->", "color": colour, "lw": 1.6}
            axes.annotate("", (0.85 * at, row + shift), (at, row + shift), arrowprops=tip)
        else:
            axes.plot([low, high], [row + shift] * 2, color=colour, lw=1.6)
        axes.plot(at, row + shift, "|" if bound else "o", color=colour, ms=6, label=None if row else label)


text = (ROOT / "docs" / "results" / "rivals.md").read_text(encoding="utf-8")
cells, plain, armed = read(re.search(r"^\(tuned\)=\n(.*?)(?=^\()", text, re.MULTILINE | re.DOTALL)[1])

plt.rcParams.update({"font.family": "DejaVu Sans", "font.size": 9})
figure, axes = plt.subplots(figsize=(8, 0.8 + 0.29 * len(cells)), layout="constrained")
for edge in range(1, len(cells)):
    if cells[edge][0] != cells[edge - 1][0]:
        axes.axhline(edge - 0.5, color="#dddddd", lw=0.8)
axes.axvline(1, color=GREY, lw=1)
draw(axes, plain, BLUE, -0.16, "the best plain rival")
draw(axes, armed, ORANGE, 0.16, "the best rival with our whitening")
axes.set_xscale("log")
ticks = (0.4, 0.5, 0.6, 0.8, 1, 1.2)
axes.set_xticks(ticks, [f"{tick:g}×" for tick in ticks])
axes.minorticks_off()
axes.set_yticks(range(len(cells)), [", ".join(cell).replace("none", "no delays") for cell in cells])
axes.set_xlim(0.31, 1.6)
axes.set_ylim(len(cells) - 0.5, -0.5)
axes.tick_params(which="both", length=0)
axes.spines[:].set_visible(False)
axes.set_title("Time of lwpd:auto over that of", fontsize=10, fontweight="bold", loc="left")
figure.legend(loc="outside upper right", ncols=2, frameon=False)
figure.savefig(ROOT / "results" / "cells.png", dpi=140)
