"""Draw results/cells.png, the figure of docs/results.md: `python docs/figures/cells.py`.

A square is a cell of the tables in docs/results/rivals.md: a network, a link and a kind of delays. Its
number is the time of `lwpd:auto` over the time of the best plain or armed rival.
"""

import re
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm

ROOT = Path(__file__).resolve().parents[2]
NETS = {"mnist": "784-256-10", "digits": "digits", "deep": "784-128-128-128-10"}  # by section
LINKS = "100 Gbit/s", "1 Gbit/s", "100 Mbit/s", "10 Mbit/s"
DELAYS = {  # the table's, and the figure's words
    "none": "no\ndelays",
    "exponential": "expo-\nnential",
    "slow spells": "slow\nspells",
    "one 10× slower": "one\nslow",
    "one dead": "one\ndead",
}
KINDS = {4: "the best plain rival", 6: "the best rival with our whitening"}  # by column of the table
RATIO = re.compile(r"(<?) ?([\d.]+)")
COLOURS = LinearSegmentedColormap.from_list("lead", ["#0072b2", "#f7f7f7", "#d55e00"])


def read(text):
    """Return whether it is a bound, and the ratio, by section, link, delays and column."""
    found = {}
    for section in NETS:
        link, body = "", re.search(rf"^\({section}\)=\n(.*?)(?=^\(|\Z)", text, re.MULTILINE | re.DOTALL)[1]
        for line in body.splitlines():
            row = [cell.strip(" *") for cell in line.split("|")[1:-1]]
            if len(row) == 7 and RATIO.match(row[4]):
                link = row[0] or link
                found |= {
                    (section, link, row[1], column): RATIO.match(row[column]).groups() for column in KINDS
                }
    return found


found = read((ROOT / "docs" / "results" / "rivals.md").read_text(encoding="utf-8"))
plt.rcParams.update({"font.family": "DejaVu Sans", "font.size": 9})
figure = plt.figure(figsize=(9, 5.2), layout="constrained")
norm = TwoSlopeNorm(1, 0.3, 1.4)
for part, (column, rivals) in zip(figure.subfigures(2, height_ratios=(1, 1.12)), KINDS.items(), strict=True):
    part.suptitle(f"Time of lwpd:auto over that of {rivals}", fontweight="bold", x=0.01, ha="left")
    for ax, (section, net) in zip(part.subplots(1, 3, sharey=True), NETS.items(), strict=True):
        for row, link in enumerate(LINKS):
            for place, delays in enumerate(DELAYS):
                if (section, link, delays, column) not in found:
                    continue
                bound, ratio = found[section, link, delays, column]
                shade = float(norm(float(ratio)))
                square = plt.Rectangle(
                    (place - 0.5, row - 0.5), 1, 1, facecolor=COLOURS(shade), edgecolor="w"
                )
                ax.add_patch(square)
                text = f"< {ratio}" if bound else ratio
                colour = "white" if abs(shade - 0.5) > 0.3 else "black"
                ax.text(place, row, text, ha="center", va="center", color=colour)
        ax.set_title(net, fontsize=9)
        ax.set_xticks(range(len(DELAYS)), DELAYS.values(), fontsize=8)
        ax.set_yticks(range(len(LINKS)), LINKS)
        ax.tick_params(axis="x", labelbottom=column == max(KINDS))
        ax.set_xlim(-0.5, len(DELAYS) - 0.5)
        ax.set_ylim(len(LINKS) - 0.5, -0.5)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
figure.savefig(ROOT / "results" / "cells.png", dpi=140)
