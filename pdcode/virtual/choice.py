"""Preset "auto": the preset with which a run begins, and the predicted times of the others.

The candidates are those of `Scheme.candidates` that suit the data and the keys that are given. The time of a
candidate is the number of updates that it needs, by constants from trials (docs/choosing.md), times the mean
time of these updates, by simulations without numerics. At the start nobody knows whether a worker is slow. A
run begins with the candidate of the least geometric mean of the times without delays and with one slow
worker, at the speeds of ``[machine]`` and ``[link]`` or at measured ones; one that waits for others must be
far better. What follows depends on the run's own tasks, see `review`: ``[stragglers]`` and ``[faults]`` are
read by no choice, but for workers that are dead from the start.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .. import faults, problems, stragglers
from ..coding.policies import check_end
from ..config import Config, kinds
from ..config import load as configfile
from ..problems import DataSource, Problem
from ..schemes import Scheme
from ..training import setup
from ..training.link_sizing import FRACTIONS
from ..training.setup import Components
from ..transport.layout import ensure_sendable
from ..transport.speeds import Speeds
from ..util.errors import InputError, prefix_errors
from ..util.formats import ratio
from .timing import Timing

MAX_WORKERS = 2**16  # the message header has 16 bits for their number
WORKERS = 16  # of the trials of the constants
MEAN_EXPONENT = 0.25  # of the number of updates, in one over that of averaged payloads (2 to 64 workers)
SHARE_EXPONENT = 0.4  # of the number of updates, in one over the fraction of a gradient that a task sends
MARGIN = 1.05  # a candidate that waits for every worker must be better by this factor
# Multiple of the updates where gradients have no equal length, as the workers' shards differ, and the same
# where they have a largest one (four networks of sorted rows, beside "orthogonal-network").
UNEQUAL, BOUNDED = 4.0, 1.7
WAITS = 4 / 3  # a candidate that waits for others must be better by this factor to begin with
SLOWER = 10.0  # the time of a worker's tasks that a run is prepared for when it begins, over the others'


def prepare(
    config: Config, path: str = "", source: DataSource | None = None, check: bool = True
) -> Components:
    """Build rank 0's components as `setup.prepare`, of the preset to begin with if it is "auto"."""
    if not config.scheme.is_auto:
        return setup.prepare(config, path, source, check)
    with prefix_errors(path):
        source = source or problems.load_source(config.problem)
        problem = Problem.from_dataset(config.problem, source.dataset, config.code.blocks)
        # First, as it may depend on gradients whether a candidate suits.
        ensure_sendable(f"problem.{config.problem.sized_by}", problem.size * problem.dtype.itemsize)
        choice = Choice(config)
        for name, made in configfile.candidates(config):
            if not choice.scheme.suits(name, problem):
                continue
            try:
                if isinstance(made, InputError):
                    raise made
                scaled = made.problem != config.problem
                choice.add(name, setup.prepare(made, "", None if scaled else source, check, ends=False))
            except InputError as error:
                choice.excluded[name] = error
        components = choice.made()
        if check:
            check_end(components.config, stragglers.dead_workers(config.stragglers, config.workers.count))
        return components


def prepare_ranks(config: Config, path: str) -> Components:
    """Build the components of a run over MPI; refuse more workers than training rows, a likely mistake."""
    workers = config.workers.count
    with prefix_errors(path):
        faults.check_real(config)
        check_count(config)
        source = problems.load_source(config.problem)
        if workers > source.rows and config.problem.shards == "auto":
            raise InputError(
                f"workers.count: {workers} workers are more than the {source.rows} training rows of "
                "problem.data; problem.shards = 'replicated' gives all rows to each"
            )
    return prepare(config, path, source)


def check_count(config: Config) -> None:
    """Refuse more workers than the message header can number."""
    if config.workers.count > MAX_WORKERS:
        raise InputError(
            f"workers.count: {config.workers.count} is more than the {MAX_WORKERS} workers that messages can "
            "name; without numerics (simulate --timing-only), policies that count payloads can have more"
        )


def settle(components: Components, speeds: Speeds) -> Components:
    """Return the components with which to begin at measured speeds, of those that are possible."""
    if not isinstance(choice := components.choice, Choice):
        return components.rebuild(speeds)
    settled = Choice(choice.config, speeds)
    for name, each in choice.candidates.items():
        settled.add(name, each.rebuild(speeds))
    return settled.made()


class Candidate(NamedTuple):
    """What is kept of a candidate."""

    rebuild: Callable[[Speeds], Components]
    timing: Timing
    needed: float  # updates, or payloads over the number of workers if each is an update
    factor: float  # on its time, in the comparison
    asynchronous: bool
    complete: bool  # whether an update waits for every worker
    in_step: bool  # whether its codewords require that workers have had as many tasks


class Choice:
    """The candidates, given one after another; the components of only the one to begin with are kept.

    Attributes
    ----------
    config : Config
        The user's, with preset "auto".
    speeds : Speeds or None
        Measured ones.
    candidates : dict
        By name.
    evenly_s, mean_s : dict
        Their predicted times without delays, and the means of that and of that with one slow worker, by name.
    """

    def __init__(self, config: Config, speeds: Speeds | None = None) -> None:
        self.config, self.speeds = config, speeds
        self.scheme: type[Scheme] = kinds.find("schemes", config.scheme.name)
        self.candidates: dict[str, Candidate] = {}
        self.excluded: dict[str, InputError] = {}
        self.evenly_s: dict[str, float] = {}
        self.mean_s: dict[str, float] = {}
        # A worker that is dead from the start does not answer the measurement with which a real run begins.
        dead = stragglers.dead_workers(config.stragglers, config.workers.count)
        self._waits = math.inf if dead else WAITS
        self._best: Components | None = None

    def add(self, name: str, components: Components) -> None:
        """Add a candidate, and predict its time without delays."""
        config, needed, workers = components.config, self.scheme.candidates[name], components.scheme.workers
        batch, code, preset, update = (
            config.problem.batch,
            config.code,
            str(config.scheme.preset),
            config.update,
        )
        needed *= math.sqrt(max(1.0, 2 * config.optimizer.fewest_samples / max(1, workers * batch)))
        usual = components.scheme.presets[preset].get("code", {}).get("whiten", "none")
        if usual != "none" and code.whiten == "none":
            needed *= BOUNDED if config.optimizer.bounded else UNEQUAL  # the constant is of whitened steps
        if not update.asynchronous:
            needed *= (WORKERS / workers) ** MEAN_EXPONENT
        if components.requested.code.rows_per_task == "auto" and code.share:
            needed *= (FRACTIONS[0] / code.share) ** SHARE_EXPONENT
        factor, timing = MARGIN if update.complete else 1.0, Timing(components, self.speeds)
        coded = not all(unit.uncoded for layout in components.layouts for unit in layout.units)
        self.candidates[name] = Candidate(
            components.rebuild,
            timing,
            needed,
            factor,
            update.asynchronous,
            update.complete,
            config.sums_all and coded,
        )
        self.evenly_s[name] = self.time_s(name, timing.tasks_s)
        slowed_s = np.broadcast_to(timing.tasks_s, (workers, timing.tasks_s.shape[1])).copy()
        slowed_s[-1] *= SLOWER
        self.mean_s[name] = math.sqrt(self.evenly_s[name] * self.time_s(name, slowed_s))
        if self._in_order()[0] == name:
            self._best = components

    def _in_order(self) -> list[str]:
        """Return the names, that to begin with first: one that waits for others must be far better."""

        def rank(name: str) -> tuple[float, bool, float]:
            candidate, mean_s = self.candidates[name], self.mean_s[name]
            if not candidate.asynchronous:
                mean_s *= self._waits
            return mean_s, candidate.complete, self.evenly_s[name]

        return sorted(self.candidates, key=rank)

    def time_s(self, name: str, tasks_s: np.ndarray) -> float:
        """Return the predicted time of a candidate whose tasks take given times in turn, shape (n, m)."""
        candidate = self.candidates[name]
        return candidate.needed * candidate.timing.repeated_s(tasks_s, math.ceil(candidate.needed))

    def times_s(self, name: str, tasks_s: np.ndarray) -> dict[str, float]:
        """Return the predicted times of all candidates, given times of tasks of one of them."""
        scaled_s = tasks_s / self.candidates[name].timing.work[:, None]
        return {
            other: self.time_s(other, scaled_s * each.timing.work[:, None])
            for other, each in self.candidates.items()
        }

    def build(self, name: str, tasks_s: np.ndarray, before: Components) -> Components:
        """Build the components of a candidate, given the mean times of its tasks, shape (n,)."""
        link = self.config.link.bandwidth
        up, down = (link, link) if self.speeds is None else (self.speeds.ingress, self.speeds.egress)
        made = self.candidates[name].rebuild(Speeds(up, down, tasks_s))
        made.source, made.choice = before.source, self
        return made

    def name_of(self, components: Components) -> str:
        """Return the name of the candidate with these components."""
        scheme = components.config.scheme
        return f"{scheme.name}:{scheme.preset}" if scheme.name != self.scheme.name else str(scheme.preset)

    def made(self) -> Components:
        """Return the components to begin with, with a line on them; refuse if there is no candidate."""
        if self._best is None:
            none = InputError("scheme.preset: no candidate of 'auto' suits the model and problem.batch")
            raise next(iter(self.excluded.values()), none)
        chosen, *others = self._in_order()
        own_s = self.mean_s[chosen]
        line = f"preset '{chosen}' (scheme.preset 'auto')"
        if others and 0 < own_s < math.inf:
            multiples = (f"{name} {ratio(self.mean_s[name] / own_s)}" for name in others)
            line += f" to begin with: others would take {', '.join(multiples)}, in the mean of no delays "
            line += f"and one worker {SLOWER:g} times slower"
        configured = "by [machine] and [link]; a run over MPI measures first"
        line += f" ({configured if self.speeds is None else 'by measured speeds'})"
        if self.excluded:
            line += f"; against the given keys: {', '.join(self.excluded)}"
        self._best.notes.insert(0, line)
        self._best.choice = self
        return self._best
