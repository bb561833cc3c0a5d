"""Draw round.png, the figure of docs/concepts.md: `python docs/figures/round.py`."""

from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, Rectangle

BLUE, ORANGE, GREY, LIGHT = "#0072b2", "#d55e00", "#666666", "#b5d4ea"
SHADES = plt.get_cmap("Blues")
CODEWORD = (0.5, 0.0, -0.5, 0.0, 0.0, 0.5, 0.5, 0.0)
HEIGHT = 0.7

plt.rcParams.update({"font.family": "DejaVu Sans", "font.size": 10})
figure, (left, right) = plt.subplots(1, 2, figsize=(11.5, 4.6), width_ratios=(1, 1.15))


def block(axes, x, y, text, colour, ink="black"):
    axes.add_patch(Rectangle((x, y), 1.6, HEIGHT, facecolor=colour, edgecolor="white"))
    axes.text(x + 0.8, y + HEIGHT / 2, text, ha="center", va="center", color=ink)


def arrow(axes, start, end, colour=GREY, **options):
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=11, color=colour, **options))


left.set_title(
    "A payload: k = 8 blocks, one codeword of weight w = 4", loc="left", fontweight="bold", fontsize=10.5
)
for j, coefficient in enumerate(CODEWORD):
    y = 7.2 - j * 0.95
    used = coefficient != 0
    block(left, 0, y, f"$d_{j}$", SHADES(0.55 if used else 0.18), "white" if used else GREY)
    left.text(2.55, y + HEIGHT / 2, f"{coefficient:+.1f}" if used else "0", ha="center", va="center",
              color="black" if used else "#aaaaaa")  # fmt: skip
    if used:
        arrow(left, (3.1, y + HEIGHT / 2), (4.75, 5.75), connectionstyle="arc3,rad=0.0")
left.text(0.8, 8.25, "gradient", ha="center", color=GREY)
left.text(2.55, 8.25, "codeword $g_i$", ha="center", color=GREY)
block(left, 4.8, 5.4, "$y_i$", BLUE, "white")
left.text(6.6, 5.75, r"$=\ \sum_j\; g_{ij}\,d_j$", va="center")
left.text(4.8, 4.75, "the payload: 1/8 of the bytes", va="center")
left.text(
    4.8,
    3.3,
    "the residual stays in the\nworker's memory, and is added\nto its next gradient",
    va="center",
    color=GREY,
)
left.text(
    4.8,
    1.2,
    "at rank 0:\n" r"$\hat g\; \leftarrow\; \hat g + c\; g_i \otimes y_i$" "\nthen a step, and the next task",
    va="center",
)
left.set(xlim=(-0.2, 8.6), ylim=(0, 8.9))

right.set_title("Time: asynchronous, worker 2 is slow", loc="left", fontweight="bold", fontsize=10.5)
rows = {"rank 0": 3.0, "worker 0": 2.0, "worker 1": 1.0, "worker 2": 0.0}
for name, y in rows.items():
    right.text(-0.25, y, name, ha="right", va="center", color=ORANGE if name == "worker 2" else "black")
    right.plot([0, 10.1], [y, y], color="#dddddd", linewidth=1, zorder=0)
tasks = {"worker 0": [2.0, 2.4, 1.8], "worker 1": [2.7, 2.1, 2.5], "worker 2": [7.15]}
steps = []
for name, durations in tasks.items():
    now, y, slow = 0.15, rows[name], name == "worker 2"
    for duration in durations:
        start, end = now + 0.15, now + 0.15 + duration
        arrow(right, (now, 2.98), (start, y + 0.16), linewidth=0.8)
        right.add_patch(Rectangle((start, y - 0.14), 0.7, 0.28, facecolor=BLUE if not slow else ORANGE))
        right.add_patch(Rectangle((start + 0.7, y - 0.14), duration - 0.7, 0.28,
                                  facecolor=LIGHT if not slow else "#f6cdb0"))  # fmt: skip
        arrow(right, (end, y + 0.16), (end + 0.15, 2.98), ORANGE if slow else BLUE, linewidth=1.4)
        now = end + 0.15
        steps.append(now)
    arrow(right, (now, 2.98), (now + 0.15, y + 0.16), linewidth=0.8)  # a task that is not over yet
    right.add_patch(
        Rectangle((now + 0.15, y - 0.14), min(0.7, 9.95 - now), 0.28, facecolor=ORANGE if slow else BLUE)
    )
    right.add_patch(
        Rectangle((now + 0.85, y - 0.14), max(0.0, 9.25 - now), 0.28, facecolor="#f6cdb0" if slow else LIGHT)
    )
for number, step in enumerate(sorted(steps), 1):
    right.plot([step], [3.0], "o", color="black", markersize=5, zorder=3)
    right.text(step, 3.17, rf"$\theta_{{{number}}}$", ha="center")
right.text(0.1, 3.17, r"$\theta_0$", ha="center")
right.add_patch(Rectangle((0.2, -0.92), 0.35, 0.2, facecolor=BLUE))
right.text(0.65, -0.82, "compute", va="center")
right.add_patch(Rectangle((2.4, -0.92), 0.35, 0.2, facecolor=LIGHT))
right.text(2.85, -0.82, "delay", va="center")
right.plot([4.3], [-0.82], "o", color="black", markersize=5)
right.text(4.5, -0.82, "an arrival: decode, step, next task at once", va="center")
right.set(xlim=(-1.6, 10.2), ylim=(-1.1, 3.6))
for axes in (left, right):
    axes.axis("off")
figure.tight_layout()
figure.savefig(Path(__file__).with_suffix(".png"), dpi=130)
