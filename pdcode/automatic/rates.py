"""Learning rate "auto" of `[optimizer]`: a rule for whitened gradients, and a short descent for all others.

The rate of whitened gradients has no dimension: `rate_laws.whitened_rate`, with the number of matrices that
the model has. Any other rate depends on the lengths of gradients and on the optimizer. Where the curvature of
the loss is known, and the optimum is to be reached, it is one at which linear steps are stable:
`stable_rate`. Otherwise a trial at rank 0 descends by a few mini-batches of the size of an update, from the
first θ, without codes, at rates that differ by powers of 2, and takes the one with the least loss at its end.
"""

import math
from collections.abc import Callable

import msgspec
import numpy as np

from ..coding import proximals
from ..config import Config, kinds
from ..fitted import FIRST_RATES, OTHER_FIRST_RATE
from ..problems import Problem
from ..problems.curvature import Curvature
from ..schemes.rate_laws import gradient_rate, limited_rate, preset_optimizer, stable_rate, whitened_rate

UPDATES, COMPARED = 40, 10  # updates of a descent; the losses of the last ones are compared
RANGE = 4  # doublings or halvings between the first rates that are tried
MOST = 12  # descents


def resolve(config: Config, sample: Problem, slower: float = 1.0) -> tuple[Config, str]:
    """Return a configuration with a number for ``optimizer.rate``, and a line that gives the reason.

    `code.whiten` must be settled; `slower` is a factor on rates of a trial.
    """
    scheme, n = kinds.find("schemes", config.scheme.name), config.workers.count
    whitened = config.code.whiten != "none"
    if scheme.gradient_rate != "optimizer.rate":
        rate = scheme.tables.get("optimizer", {}).get("rate", 1.0)
        why = f"the rate of scheme '{scheme.name}', whose payloads are no gradients"
    elif config.optimizer.bounded and "rate" in (own := preset_optimizer(config)):
        rate, why = own["rate"], f"the rate of preset '{config.scheme.preset}', for any model"
    elif whitened and gradient_rate(config):
        rate, why = whitened_rate(config)
        rate, limits = limited_rate(config, rate, sum(layer.inputs > 0 for layer in sample.layers))
        why += limits
    elif (curvature := decisive_curvature(config, sample)) is not None:
        rate = float(f"{stable_rate(config, curvature):.3g}")
        why = f"the curvature of the loss is at most {curvature.mean:.3g}, of a row {curvature.row:.3g}"
    else:
        rate, count = best(Trial(config, sample), FIRST_RATES.get(config.optimizer.kind, OTHER_FIRST_RATE))
        why = f"the best of {count} rates in a trial of {UPDATES} updates each"
        if config.update.asynchronous and not (config.memory.kind == "worker" and config.optimizer.linear):
            rate, why = rate / n, f"{why}, divided by workers.count, as each payload is a step"
        if slower < 1:
            rate, why = rate * slower, f"{why}, × {slower:.2g} as shards differ"
        rate = float(f"{rate:.3g}")
    line = f"optimizer.rate is {rate:g} (optimizer.rate 'auto'): {why}"
    return config.with_keys(optimizer={"rate": rate}), line


def decisive_curvature(config: Config, sample: Problem) -> Curvature | None:
    """Return the curvature if it decides on the rate: if it is known, and the optimum is to be reached."""
    regressions = kinds.find("schemes", config.scheme.name).regressions
    if not config.optimizer.linear or sample.curvature is None:
        return None
    optimum = not config.problem.batch or config.scheme.preset in regressions or not sample.near_zero
    return sample.curvature if optimum else None


def best(loss: Callable[[float], float], first: float) -> tuple[float, int]:
    """Return the rate of least loss among powers of 2 of the first one, and the number of those tried."""
    losses: dict[int, float] = {}
    at, stride = 0, RANGE
    while stride:
        for each in (at, at + stride, at - stride):
            if each not in losses:
                losses[each] = loss(first * 2.0**each)
        least = min((at, at + stride, at - stride), key=losses.__getitem__)
        if least == at or len(losses) >= MOST:
            stride //= 2
        at = least
    return first * 2.0**at, len(losses)


class Trial:
    """Descents from the first θ by the same mini-batches, each at another rate."""

    def __init__(self, config: Config, sample: Problem) -> None:
        update, table = config.update, config.optimizer
        payloads = update.typical_payloads(config.workers.count)
        if update.asynchronous and table.linear:
            payloads = config.workers.count
        rows = min(config.problem.batch * payloads or sample.rows, sample.rows)
        rows = sample.model.rows_at_once(rows, config.problem.batch, sample.dataset.train)
        random = np.random.default_rng(config.seed)
        self._rows = [
            np.sort(random.choice(sample.rows, rows, replace=False)).astype(np.int64) for _ in range(UPDATES)
        ]
        self._sample, self._seed = sample, config.seed
        self._plan = sample.plan(rows, whiten=config.code.whitening)
        self._table = msgspec.structs.replace(table, schedule="constant", warmup=0)

    def __call__(self, rate: float) -> float:
        """Return the mean loss of the last mini-batches of a descent at this rate."""
        sample, theta = self._sample, self._sample.initial(self._seed)
        table = msgspec.structs.replace(self._table, rate=rate)
        penalty = proximals.penalty_of(table.proximal, sample)
        optimizer = table.make(sample.size, sample.dtype, penalty, 1.0, sample.layers)
        losses = []
        with np.errstate(all="ignore"):
            for number, rows in enumerate(self._rows):
                losses.append(self._plan.gradient(theta, rows, (self._seed, 0, number, 0)))
                optimizer.whole_gradient[:] = self._plan.full_gradient
                if not math.isfinite(losses[-1]) or not np.isfinite(self._plan.full_gradient).all():
                    return math.inf
                optimizer.step_whole(theta)
        return float(np.mean(losses[-COMPARED:]))
