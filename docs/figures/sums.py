"""Draw sums.png, the figure of docs/results/sums.md: `python docs/figures/sums.py`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import matplotlib
import numpy as np

matplotlib.use("agg")
import matplotlib.pyplot as plt

from experiments import quasigroup

BLUE, ORANGE, GREY, INK = "#0072b2", "#d55e00", "#666666", "#222222"

plt.rcParams.update({"font.family": "DejaVu Sans", "font.size": 10})
figure, (left, right) = plt.subplots(1, 2, figsize=(11.5, 4.2), width_ratios=(1.15, 1))

deltas = np.linspace(0.01, 0.5, 50)
families = {
    "quasi group codes": (quasigroup.quasi_group_pairs(4), BLUE, "-"),
    "group codes": (quasigroup.group_pairs(4), ORANGE, "--"),
    "unstructured codes": (quasigroup.unstructured_pairs(4), GREY, ":"),
}
for name, (pairs, colour, style) in families.items():
    noises = ([0.1 * delta, 0.9 * delta, 0.1 * (1 - delta), 0.9 * (1 - delta)] for delta in deltas)
    bits = [quasigroup.computation_rate(np.array(noise), 2, pairs).bits for noise in noises]
    left.plot(deltas, bits, style, color=colour, label=name, linewidth=2)
left.set(xlabel="δ of the noise (.1δ, .9δ, .1(1-δ), .9(1-δ))", ylabel="bits a sender and symbol", ylim=0)
left.set_title("Sums modulo 4 over a channel", loc="left", fontweight="bold", fontsize=10.5)
left.legend(frameon=False)

counts, law = 2 ** np.arange(11), quasigroup.discrete_gaussian(1.0)
first = quasigroup.sum_bits(law, 1)
needed = [quasigroup.sum_bits(law, count) for count in counts.tolist()]
right.semilogx(counts, needed, "o-", color=BLUE, base=2, label="modulo 2^r: only the sum must fit")
right.semilogx(
    counts, first + np.log2(counts), "--", color=ORANGE, base=2, label="integers that never overflow"
)
right.semilogx(counts, first * counts, ":", color=GREY, base=2, label="a star: a payload of each worker")
right.set(xlabel="workers", ylabel="bits of an element into the root", ylim=(0, 30))
right.set_title(
    "Sums of integers of deviation 1, P(wrap) < 1e-9", loc="left", fontweight="bold", fontsize=10.5
)
right.legend(frameon=False)
for axes in (left, right):
    axes.spines[["top", "right"]].set_visible(False)
figure.tight_layout()
figure.savefig(Path(__file__).with_name("sums.png"), dpi=130)
