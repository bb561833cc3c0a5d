"""Draw results/cells.png, the figure of docs/results.md: `python docs/figures/cells.py`.

Each cell is a link and a kind of delays. Its colour is the time of the best rival as a multiple of our
preset's: the bold numbers of the tables of docs/results/rivals.md.
"""

import re
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
from matplotlib.colors import CenteredNorm

ROOT = Path(__file__).resolve().parents[2]
NETWORKS = {
    "digits": "Digits, 64-128-64-10",
    "mnist": "MNIST, 784-256-10",
    "deep": "MNIST, 784-128-128-128-10",
}
LINKS = ("100 Gbit/s", "1 Gbit/s", "100 Mbit/s", "10 Mbit/s")
DELAYS = ("none", "exponential", "slow spells", "one 10× slower", "one dead")


def read(section):
    """Return the best rival and its multiple, by link and delays, of a section's tables."""
    best, link, delays = {}, "", []
    for line in section.splitlines():
        first, *cells = (cell.strip() for cell in line.strip("| ").split("|"))
        if line.startswith("|") and first in LINKS:
            link, delays = first, cells
        for name, cell in zip(delays, cells, strict=False):
            if found := re.fullmatch(r"\*\*([\d.]+)\*\*", cell):
                best[link, name] = first, float(found[1])
    return best


text = (ROOT / "docs" / "results" / "rivals.md").read_text(encoding="utf-8")
sections = dict(re.findall(r"^\((\w+)\)=\n(.*?)(?=^\(|\Z)", text, re.MULTILINE | re.DOTALL))

plt.rcParams.update({"font.family": "DejaVu Sans", "font.size": 9})
figure, panels = plt.subplots(3, 1, figsize=(8, 7), sharex=True, layout="constrained")
for axes, (key, title) in zip(panels, NETWORKS.items(), strict=True):
    best = read(sections[key])
    multiples = [[best[link, name][1] for name in DELAYS] for link in LINKS]
    image = axes.imshow(multiples, cmap="RdBu", norm=CenteredNorm(vcenter=1.0, halfrange=1.5), aspect="auto")
    for row, link in enumerate(LINKS):
        for column, name in enumerate(DELAYS):
            rival, multiple = best[link, name]
            ink = "white" if multiple > 1.9 else "black"
            label = f"{multiple:.2f}×\n{rival.replace('asynchronous', 'async.')}"
            axes.text(column, row, label, ha="center", va="center", color=ink, fontsize=8)
    axes.set_title(title, fontsize=10, fontweight="bold", loc="left")
    axes.set_xticks(range(len(DELAYS)), DELAYS)
    axes.set_yticks(range(len(LINKS)), LINKS)
    axes.set_xticks([edge + 0.5 for edge in range(len(DELAYS) - 1)], minor=True)
    axes.set_yticks([edge + 0.5 for edge in range(len(LINKS) - 1)], minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
bar = figure.colorbar(image, ax=panels, ticks=[0.5, 1.0, 1.5, 2.0], pad=0.015, fraction=0.03, aspect=40)
bar.ax.set_ylim(0.5, 2.3)
bar.ax.set_yticklabels(["0.5×", "level", "1.5×", "2×"])
bar.outline.set_visible(False)
figure.savefig(ROOT / "results" / "cells.png", dpi=140)
