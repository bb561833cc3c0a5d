"""Does the noise of coded gradients help? Test accuracy and generalisation gap beside full gradients.

Digits by few rows, with wrong labels, and by a wide network; 8 workers, `update.mode = "all"`, plain steps at
one rate for all. Codewords are beside full gradients and beside mini-batches whose noise in the first
gradient has the same size. Runs of a seed share rows, θ and the wrong labels; differences are paired.
`--figure FILE.png` draws them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from pdcode.util import threads

if __name__ == "__main__":
    threads.limit(os.environ)  # before numpy is imported

import numpy as np
from descents import Tables, merged, parallel_map
from scipy import stats
from sklearn.datasets import load_digits

import pdcode
from pdcode.config import load
from pdcode.problems.split import split

K, WORKERS, SEEDS = 16, 8, range(1, 11)
LONGER = 4  # times the updates, in which a descent may take to a training loss


class Setting(NamedTuple):
    """A problem: share of rows for tests, of wrong labels, hidden units, rate, updates, training loss."""

    tests: float
    wrong: float
    hidden: int
    rate: float
    updates: int
    loss: float


SETTINGS = {
    "few rows": Setting(0.9, 0, 64, 0.5, 500, 0.05),
    "wrong labels": Setting(0.6, 0.3, 64, 0.5, 400, 0.5),
    "wide": Setting(0.8, 0, 512, 0.2, 500, 0.05),
}
CODES = {"net 1/4, 1/4": (4, 4), "dense, 1/4": (K, 4), "dense, 1/16": (K, 1)}  # weight, codewords of a task
FULL: Tables = {"scheme": {"name": "uncoded"}, "problem": {"batch": 0}}
MEASURES = ("accuracy", "best accuracy", "gap", "training loss", "accuracy at loss", "gap at loss")


def coded(code: str, memory: str) -> Tables:
    """Return the tables of codewords of the whole shard's gradient."""
    weight, r = CODES[code]
    table = {"family": "net", "blocks": [K, 1], "weight": weight, "rows_per_task": r, "whiten": "none"}
    kept = {"kind": memory, **({"lookahead": 0.0} if memory == "worker" else {})}
    return {"problem": {"batch": 0}, "code": table, "memory": kept}


def minibatch(rows: int) -> Tables:
    """Return the tables of whole gradients of mini-batches, drawn with replacement."""
    return {"scheme": {"name": "uncoded"}, "problem": {"batch": rows}}


class Ended(NamedTuple):
    """End of a descent: θ, and losses and test accuracies on the way."""

    theta: np.ndarray
    training: float
    test: float
    accuracies: np.ndarray


def descend(setting: Setting, arm: Tables, seed: int, stop: Tables) -> Ended:
    """Train until `stop`; test labels are right in each setting."""
    random = np.random.default_rng(seed)
    tables = {
        "seed": seed,
        "problem": {
            "kind": "mlp",
            "hidden": [setting.hidden],
            "test_fraction": setting.tests,
            "split_seed": seed,
        },
        "workers": {"count": WORKERS},
        "update": {"mode": "all"},
        "optimizer": {"kind": "sgd", "rate": setting.rate},
        "stop": stop,
        "trace": {"progress_updates": 1},
    }
    tables = merged(tables, arm)
    x, y = digits()[0], digits()[1].copy()
    train, test = split(load.resolve(tables).problem, len(y))
    wrong = train[random.random(len(train)) < setting.wrong]
    y[wrong] = (y[wrong] + random.integers(1, 10, len(wrong))) % 10
    with TemporaryDirectory() as folder:
        trace = pdcode.simulate(tables, data=(x, y), output=Path(folder, "run.h5"), progress=False)
        model, progress = trace.model(), trace.progress
    likelihoods = model.predict_proba(x[test])[np.arange(len(test)), y[test]]
    loss = -float(np.log(np.maximum(likelihoods, 1e-12)).mean())
    return Ended(trace.theta, float(progress["loss"][-1]), loss, progress["accuracy"])


def noise(setting: Setting, arm: Tables, seeds: range) -> float:
    """Return E‖ĝ - g‖²/‖g‖² of an update's gradient ĝ at the first θ, from steps of seeds of their own."""
    errors = []
    for seed in seeds:
        start, exact = first_step(setting, seed)
        noisy = descend(setting, arm, seed, {"updates": 1}).theta
        errors.append(np.square(noisy - exact).sum() / np.square(exact - start).sum())
    return float(np.mean(errors))


@cache
def first_step(setting: Setting, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return θ before and after a step along the full gradient."""
    still = merged(FULL, {"optimizer": {"rate": 1e-30}})
    before, after = (descend(setting, each, seed, {"updates": 1}).theta for each in (still, FULL))
    return before, after


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Return the images' greys from 0 to 1, and their labels."""
    images, labels = load_digits(return_X_y=True)
    return images / 16, labels


def arms(
    setting: Setting, seeds: range, codes: Sequence[str] = tuple(CODES)
) -> dict[str, tuple[Tables, float]]:
    """Return the tables of each arm, and the noise of its first gradient, with batches to match the codes."""
    found = {"full gradients": (FULL, 0.0)}
    per_row = 4 * noise(setting, minibatch(4), seeds)  # drawn with replacement, the noise is per_row / rows
    for code in codes:
        for memory in ("none", "coordinator", "worker"):
            found[f"{code}, {memory}"] = coded(code, memory), noise(setting, coded(code, memory), seeds)
        if code.startswith("dense"):  # the noise of nets of the same share has the same size
            rows = max(1, round(per_row / found[f"{code}, none"][1]))
            found[f"{code}, as batches of {rows}"] = minibatch(rows), noise(setting, minibatch(rows), seeds)
    return found


def measure(job: tuple[Setting, Tables, int]) -> list[float]:
    """Return the measures of an arm and a seed; nan for those at a training loss that was missed."""
    setting, arm, seed = job
    whole = descend(setting, arm, seed, {"updates": setting.updates})
    part = descend(setting, arm, seed, {"updates": LONGER * setting.updates, "loss": setting.loss})
    values = [whole.accuracies[-1], whole.accuracies.max(), whole.test - whole.training, whole.training]
    at_loss = [part.accuracies[-1], part.test - part.training]
    return [*values, *(at_loss if part.training <= setting.loss else [np.nan, np.nan])]


def interval(differences: np.ndarray, comparisons: int) -> tuple[float, float, bool]:
    """Return mean, half of the 95 % interval, and whether 0 is also outside of that of all comparisons."""
    count = len(differences)
    mean, error = float(differences.mean()), float(differences.std(ddof=1) / np.sqrt(count))
    half, wide = (stats.t.ppf(1 - p / 2, count - 1) * error for p in (0.05, 0.05 / comparisons))
    return mean, float(half), bool(abs(mean) > wide)


def main(arguments: list[str]) -> None:
    """Print the tables, and draw the figure if it is asked for."""
    quick = "--quick" in arguments
    seeds, tuning = (SEEDS, range(101, 121)) if not quick else (range(1, 3), range(101, 102))
    settings = SETTINGS
    if quick:
        settings = {"few rows": SETTINGS["few rows"]._replace(updates=3, loss=2.5)}
    made = {name: arms(each, tuning, [*CODES][-1 if quick else 0 :]) for name, each in settings.items()}
    pairs = [(settings[name], arm) for name, each in made.items() for arm, _ in each.values()]
    jobs = [(*pair, seed) for pair in pairs for seed in seeds]
    results = map(measure, jobs) if quick else parallel_map(measure, jobs)  # processes take seconds to start
    shown: dict[str, Any] = {}
    comparisons = sum(len(each) - 1 for each in made.values())
    for name, each in made.items():
        found = {arm: np.array([next(results) for _ in seeds]) for arm in each}
        full, shown[name] = found.pop("full gradients"), {}
        setting = settings[name]
        print(f"\n{name}: {setting.updates} updates at rate {setting.rate}, and to loss {setting.loss}")
        print("full gradients:", *(f"{m} {v:.4f};" for m, v in zip(MEASURES, full.mean(axis=0), strict=True)))
        print(f"difference to full gradients, 95 % interval; *: not by chance in {comparisons} comparisons")
        for arm, values in found.items():
            cells, size = [], each[arm][1]
            for at, measured in enumerate(MEASURES):
                differences = (values - full)[:, at]
                reached = differences[np.isfinite(differences)]
                if len(reached) < len(seeds):
                    cells.append(f"{measured} missed by {len(seeds) - len(reached)}")
                    continue
                mean, half, sure = interval(reached, comparisons)
                cells.append(f"{measured} {mean:+.4f} ± {half:.4f}{'*' * sure}")
                shown[name][arm, measured] = mean, half
            print(f"  {arm:30} noise {size:6.3f}: {'; '.join(cells)}", flush=True)
    if "--figure" in arguments:
        draw(shown, Path(arguments[arguments.index("--figure") + 1]))


def draw(shown: dict[str, Any], path: Path) -> None:
    """Draw the differences of test accuracy, in points, after equal updates and at equal training loss."""
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    plt.rcParams.update({"font.family": "DejaVu Sans", "font.size": 9})
    figure, panels = plt.subplots(1, len(shown), figsize=(12, 4.8), sharey=True, squeeze=False)
    for axes, (name, found) in zip(panels[0], shown.items(), strict=True):
        labels = list(dict.fromkeys(arm for arm, _ in found))
        for at, (measured, colour) in enumerate((("accuracy", "#0072b2"), ("accuracy at loss", "#d55e00"))):
            rows = [
                (row, *found[arm, measured]) for row, arm in enumerate(labels) if (arm, measured) in found
            ]
            y, mean, half = np.array(rows).T
            title = "after equal updates" if measured == "accuracy" else "at equal training loss"
            bars = {"fmt": "os"[at], "color": colour, "label": title, "ms": 4, "lw": 1}
            axes.errorbar(100 * mean, y + 0.3 * at - 0.15, xerr=100 * half, **bars)
        axes.axvline(0, color="#222222", lw=0.8)
        axes.set_title(name, loc="left", fontweight="bold")
        axes.set(xlabel="test accuracy less that of full gradients [points]", yticks=range(len(labels)))
        axes.set_yticklabels([each.split(" of ")[0] for each in labels])
        axes.spines[["top", "right"]].set_visible(False)
    panels[0, 0].invert_yaxis()
    panels[0, -1].legend(frameon=False, loc="best")
    figure.tight_layout()
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main(sys.argv[1:])
