"""Draw recursion.png, the figure of docs/results/recursion.md; with OMP_NUM_THREADS=1."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "experiments"))

import matplotlib.pyplot as plt
import recursion

plt.switch_backend("agg")
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#666666"
STYLES = ((1, BLUE, "o"), (4, ORANGE, "s"), (8, GREY, "^"))

plt.rcParams.update({"font.family": "DejaVu Sans", "font.size": 10})
figure, (left, right) = plt.subplots(1, 2, figsize=(11.5, 4.2))
depths = [1, 2, 3, 4]
for weight, colour, marker in STYLES:
    tasks = [recursion.task(d, weight, 60, 512) for d in depths]
    counted, timed = ([two[i] / one[i] for one, two in tasks] for i in (0, 1))
    left.plot(depths, timed, marker + "-", color=colour, label=f"weight {weight}: time")
    left.plot(depths, counted, marker + ":", color=colour, label=f"weight {weight}: flops", mfc="white")
    errors = recursion.error(4, weight, 400)[:3]
    right.semilogy([3, 2, 1], errors, marker, color=colour, label=f"weight {weight}")
    law = [(recursion.K / weight) ** above - 1 for above in (1, 2, 3)]
    right.semilogy([1, 2, 3], law, ":", color=colour)
left.axhline(1, color="#222222", linewidth=0.8)
left.set(xlabel="hidden layers of 512 units", ylabel="recursive / errors of all units", ylim=0, xticks=depths)
left.set_title("A task with 16 blocks a layer", loc="left", fontweight="bold", fontsize=10.5)
left.legend(frameon=False, ncols=2, fontsize=9)
right.set(xlabel="coded layers above", ylabel="E‖Ĝ - G‖² / ‖G‖²", xticks=[1, 2, 3])
right.set_title(
    "Error of a layer's estimate (dots: (k/w)^layers - 1)", loc="left", fontweight="bold", fontsize=10.5
)
right.legend(frameon=False)
for axes in (left, right):
    axes.spines[["top", "right"]].set_visible(False)
figure.tight_layout()
figure.savefig(Path(__file__).with_name("recursion.png"), dpi=130)
