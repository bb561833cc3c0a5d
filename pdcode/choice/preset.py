"""Preset "auto": the preset with which a run begins, and the predicted times of the others.

The candidates are the `Scheme.candidates` that suit the data and the keys that are given. The time of a
candidate is the number of updates that it needs, by constants from trials (docs/results/auto.md), times the
mean time of these updates, by simulations without numerics. At the start nobody knows whether a worker is
slow. A run begins with the preset that loses the least time in the geometric mean without delays and with
one slow worker, at the speeds of ``[machine]`` and ``[link]`` or at measured ones, as the run can change
its preset. Later presets depend on the run's own tasks, see `review`: ``[stragglers]`` and ``[faults]`` are
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
from ..fitted import (
    BOUNDED,
    FRACTIONS,
    HELD,
    MEAN_EXPONENT,
    SHARE_EXPONENT,
    SLOW_WORKER,
    TRIED_WORKERS,
    UNEQUAL,
    WAITING,
)
from ..problems import DataSource, Problem
from ..schemes import Scheme
from ..session import setup
from ..session.setup import Components, check_count
from ..transport.layout import ensure_sendable
from ..transport.speeds import Speeds
from ..util.errors import InputError, prefix_errors
from ..util.formats import ratio
from .review import Review
from .timing import Timing


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
        components = choice.first_components()
        if check:
            check_end(components.config, stragglers.dead_workers(config.stragglers, config.workers.count))
        return components


def prepare_ranks(config: Config, path: str) -> Components:
    """Build the components of a run over MPI; refuse more workers than training rows, a likely mistake."""
    workers = config.workers.count
    with prefix_errors(path):
        faults.check_real(config)
        check_count(config)
        if config.reduction.virtual_only:
            raise InputError(
                f"reduce.kind: '{config.reduce.kind}' is on the virtual clock alone: see pdcode simulate"
            )
        source = problems.load_source(config.problem)
        if workers > source.rows and config.problem.shards == "auto":
            raise InputError(
                f"workers.count: {workers} workers are more than the {source.rows} training rows of "
                "problem.data; problem.shards = 'replicated' gives all rows to each"
            )
    return prepare(config, path, source)


class Candidate(NamedTuple):
    """A candidate of the choice."""

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
    evenly_s, slowed_s : dict
        Their predicted times without delays and with one slow worker, by name.
    """

    def __init__(self, config: Config, speeds: Speeds | None = None) -> None:
        self.config, self.speeds = config, speeds
        self.scheme: type[Scheme] = kinds.find("schemes", config.scheme.name)
        self.candidates: dict[str, Candidate] = {}
        self.excluded: dict[str, InputError] = {}
        self.evenly_s: dict[str, float] = {}
        self.slowed_s: dict[str, float] = {}
        # A worker that is dead from the start does not answer the measurement with which a real run begins.
        self._dead = bool(stragglers.dead_workers(config.stragglers, config.workers.count))
        self._best: dict[bool, tuple[str, Components]] = {}  # of presets: waiting for others, and not

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
            needed *= (TRIED_WORKERS / workers) ** MEAN_EXPONENT
        if components.requested.code.rows_per_task == "auto" and code.share:
            needed *= (FRACTIONS[0] / code.share) ** SHARE_EXPONENT
        factor, timing = WAITING if update.complete else 1.0, Timing(components, self.speeds)
        coded = not all(unit.uncoded for layout in components.layouts for unit in layout.units)
        self.candidates[name] = Candidate(
            components.rebuild,
            timing,
            needed,
            factor,
            update.asynchronous,
            update.complete,
            config.reduction.workers_step and coded,
        )
        self.evenly_s[name] = self.time_s(name, timing.tasks_s)
        slowed_s = np.broadcast_to(timing.tasks_s, (workers, timing.tasks_s.shape[1])).copy()
        slowed_s[-1] *= SLOW_WORKER
        self.slowed_s[name] = self.time_s(name, slowed_s)
        alike = [other for other, each in self.candidates.items() if each.asynchronous == update.asynchronous]
        if min(alike, key=lambda other: (self.mean_s(other), self.evenly_s[other])) == name:
            self._best[update.asynchronous] = name, components

    def with_speeds(self, speeds: Speeds) -> Components:
        """Return the components with which to begin at measured speeds, among the possible ones."""
        settled = Choice(self.config, speeds)
        for name, each in self.candidates.items():
            settled.add(name, each.rebuild(speeds))
        return settled.first_components()

    def review(self, components: Components, before: object = None) -> Review | None:
        """Return the review of a run; None if there is no choice, or its workers cannot be set up anew."""
        config = components.config
        fixed = config.shuffle.moves or config.workers.spares or config.workers.count < 2
        if len(self.candidates) < 2 or fixed:
            return None
        return Review(self, components, before if isinstance(before, Review) else None)

    def _first(self) -> tuple[str, Components]:
        """Return the candidate to begin with, and its components.

        It is the best that waits for nobody, or the best that waits, whichever loses less in the mean. A
        beginning does not decide the rest: without delays a run goes on with the better one after the first
        tasks, some of them waited for (see `review`), and with a slow worker after a first update.
        """
        if len(self._best) < 2:
            return next(iter(self._best.values()))
        (free, _), (waiting, _) = self._best[True], self._best[False]
        round_s = self.slowed_s[waiting] / self.candidates[waiting].needed
        tasks_s = HELD * self.evenly_s[free] / self.candidates[free].needed
        slowed_s = min(self.slowed_s[waiting], round_s + self.slowed_s[free])
        evenly_s = min(self.evenly_s[free], tasks_s + self.evenly_s[waiting])
        waits = self.evenly_s[waiting] * slowed_s < evenly_s * self.slowed_s[free]
        return self._best[self._dead or not waits]

    def mean_s(self, name: str) -> float:
        """Return the geometric mean of the times predicted without delays and with a slow worker."""
        return math.sqrt(self.evenly_s[name] * self.slowed_s[name])

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

    def first_components(self) -> Components:
        """Return the components to begin with, with a line on them; refuse if there is no candidate."""
        if not self._best:
            none = InputError("scheme.preset: no candidate of 'auto' suits the model and problem.batch")
            raise next(iter(self.excluded.values()), none)
        chosen, made = self._first()
        others = sorted(self.candidates.keys() - {chosen}, key=self.mean_s)
        own_s = self.mean_s(chosen)
        line = f"preset '{chosen}' (scheme.preset 'auto')"
        if others and 0 < own_s < math.inf:
            multiples = (f"{name} {ratio(self.mean_s(name) / own_s)}" for name in others)
            line += f" to begin with: others would take {', '.join(multiples)}, in the mean of no delays "
            line += f"and one worker {SLOW_WORKER:g} times slower"
        configured = "by [machine] and [link]; a run over MPI measures first"
        line += f" ({configured if self.speeds is None else 'by measured speeds'})"
        if self.excluded:
            line += f"; against the given keys: {', '.join(self.excluded)}"
        made.notes.insert(0, line)
        made.choice = self
        return made
