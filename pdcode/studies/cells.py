"""Cells of benchmarks: a job for ours and for tuned rivals on the virtual clock, and what a cell shows.

Workers compute at `FLOPS_PER_S`. A cell is a comparison in a file of its own, as by `pdcode compare`.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..analysis.statistics import crossing
from ..config import Config
from ..config import load as configfile
from ..session import setup
from ..util.formats import duration, ratio, span
from ..virtual import capacity, costs
from . import portfolio, search_space
from .candidate import Candidate
from .comparison import Comparison
from .measurement import Measured
from .ranking import Row, Speedup, compare_times, rank
from .tuning import settings_of, tunable

LINKS = {"100G": 1.25e10, "1G": 1.25e8, "100M": 1.25e7, "10M": 1.25e6}
"""Bandwidth of rank 0's link in each direction, bytes/s; names in bit/s."""

BATCH, FLOPS_PER_S = 32, 2e9
EVALUATION_ROWS = 1000  # rows on which the loss is measured
DELAYED = 4  # factor on the time of as many rounds without delays, the limit of a run
TUNING_SEEDS = 2  # runs of settings that may be the best
SLACK = 1.5  # limit of a run, as a multiple of the best entrant's time
AUTO = "lwpd:auto"
PRESETS = "lwpd:default", "lwpd:ring", "lwpd:sharded", "lwpd:sharded-first", "lwpd:first"
RIVALS = portfolio.rivals()
"""Rivals of the literature, plain, and armed with our whitening and look-ahead, which no paper has; tuning
begins with the keys given there."""


def job_tables(
    problem: Mapping[str, Any], target: tuple[str, float], workers: int, link: str, payloads: int, rate: float
) -> tuple[Config, dict[str, Any]]:
    """Return a job without delays: its configuration, and the tables, with a limit of the runs' time."""
    kind, level = target
    tables: dict[str, Any] = {
        "seed": 101,
        "problem": {"kind": "mlp", "batch": BATCH, "evaluate": EVALUATION_ROWS, **problem},
        "workers": {"count": workers},
        "machine": {"flops_per_s": FLOPS_PER_S},
        "link": {"bandwidth": LINKS[link], "broadcast": "tree"},
        "scheme": {"name": "uncoded", "preset": "async"},
        "optimizer": {"rate": rate},
        "stop": {kind: level, "updates": payloads},
    }
    config = configfile.resolve(tables)
    need = capacity.load_of(setup.prepare(config))
    round_s = need.task_s * max(1.0, need.bottleneck[1])  # rank 0's time for one payload of each worker
    tables["stop"] |= {"seconds": DELAYED * payloads / workers * round_s}
    return config, tables


def task_s(config: Config) -> float:
    """Return the modelled compute time of a mini-batch's full gradient, in s."""
    whole = search_space.apply_tables(config, search_space.preset("uncoded", "all"))
    parts = setup.prepare(whole)
    return 1e-9 * float(costs.times_ns(whole.machine, parts.flops_by_worker()).max())


@dataclass(frozen=True)
class Cell:
    """Results of a cell."""

    problem: str
    link: str
    delay: str
    comparison: Comparison
    path: str

    def best(self, names: Collection[str], level: float | None = None) -> Row[str] | None:
        """Return the best of these entrants, chosen afterwards, to the target or to another loss."""
        rows = self.comparison.rows
        if level is not None:
            measured = [[_until(run, level) for run in row.runs] for row in rows]
            rows = rank([row.candidate for row in rows], measured, self.comparison.goal)
        return next((row for row in rows if row.candidate in names), None)

    @property
    def own(self) -> list[str]:
        """Our entrants."""
        return [name for name in (AUTO, *PRESETS) if name in self.comparison.names]

    def ours(self, level: float | None = None) -> Row[str]:
        """Return `auto`, or else the preset that was the best in tuning, before these runs."""
        names = self.comparison.names
        row = self.best([AUTO if AUTO in names else min(self.own, key=names.index)], level)
        assert row is not None
        return row

    def lead(self, names: Collection[str], level: float | None = None) -> Speedup:
        """Return our time over the time of the best of these rivals; unknown if none of them ran."""
        rival = self.best(names, level)
        return Speedup() if rival is None else compare_times(self.ours(level).runs, rival.runs)

    def settings(self, name: str) -> str:
        """Describe an entrant's tuned settings."""
        config = self.comparison.read_configs(self.path)[self.comparison.names.index(name)]
        return settings_of(config, tunable(Candidate(name, config), hold=False))

    def __str__(self) -> str:
        return f"{self.problem}-{self.link}-{self.delay}"


def _until(run: Measured, loss: float) -> Measured:
    """Return a run with its time to another loss."""
    return replace(run, seconds=crossing(run.curves["t_s"], run.curves["loss"], loss))


def accuracies(run: Measured) -> tuple[float, float]:
    """Return the accuracy at the target, and the best of the run."""
    curves = run.curves
    at = np.interp(run.seconds, curves["t_s"], curves["accuracy"]) if run.reached else math.nan
    return float(at), float(np.max(curves["accuracy"], initial=0.0))


def describe_time(row: Row[str]) -> str:
    """Describe the time to the target; if runs missed it, how many reached it in the mean length."""
    return (f"{row.reached} in " if row.missed else "") + duration(1e9 * row.time.mean)


def multiple(lead: Speedup) -> str:
    """Describe a ratio of times, with its interval if it is no bound."""
    interval = lead.ratio
    return (
        f"{lead.text} ({span(ratio(interval.low), ratio(interval.high))})"
        if interval.known and not lead.bound
        else lead.text
    )
