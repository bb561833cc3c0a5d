"""Draw pixels.png, the figure of docs/results/sparse-coding.md, and print its table: `pixels.py TRACE`.

Means of five held-out photographs, three seeds, with the range of the seeds' means.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import pdcode
from pdcode.events import sensors
from pdcode.problems import photographs

plt.switch_backend("agg")
SHARES = 0.1, 0.25, 0.5, 0.75, 1.0
KINDS = {"retina": None, "camera, 20 random events a pixel and second": 20.0, "camera without them": 0.0}
STYLES = {1: ("#666666", "^"), 2: ("#0072b2", "o"), 3: ("#d55e00", "s")}  # by column

dictionary = pdcode.Trace(sys.argv[1]).dictionary()
plt.rcParams.update({"font.family": "DejaVu Sans", "font.size": 10})
figure, panels = plt.subplots(1, len(KINDS), figsize=(12, 4), sharey=True)
for axes, (name, noise_hz) in zip(panels, KINDS.items(), strict=True):
    found = np.empty((len(SHARES), 3, len(sensors.COLUMNS)))  # PSNR [dB]
    for row, share in enumerate(SHARES):
        for seed in range(3):
            random = np.random.default_rng(seed + 1)
            sensor = sensors.Retina(32, random, share)
            if noise_hz is not None:
                sensor = sensors.Camera(32, random, noise_hz, share)
            made = sensors.simulated(photographs.held_out(), dictionary, sensor, 96)
            found[row, seed] = np.mean([each.scores for _, each in made], axis=0)[:, 0]
        cells = (f"{v.mean():.2f} ({v.min():.2f} – {v.max():.2f})" for v in found[row].T)
        print(name, share, *cells, sep=" | ", flush=True)
    for column, (colour, marker) in STYLES.items():
        means = found[:, :, column].mean(axis=1)
        axes.plot(SHARES, means, marker + "-", color=colour, label=sensors.COLUMNS[column])
    axes.set(xlabel="share of pixels that send events", xlim=(0, 1.03))
    axes.set_title(name, loc="left", fontweight="bold", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
panels[0].set_ylabel("PSNR [dB]")
panels[0].legend(frameon=False, loc="upper left")
figure.tight_layout()
figure.savefig(Path(__file__).with_name("pixels.png"), dpi=130)
