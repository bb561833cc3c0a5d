"""`pdcode plan --map`: which scheme is first where, over the link's bandwidth and the severity of delays."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from .. import stragglers
from ..config.tables import LARGEST, Config, Stragglers
from ..training import setup as parts
from ..util.errors import InputError
from ..util.processes import Pool
from ..virtual import costs
from . import space, trials
from .goal import Goal
from .ranking import genie_multiple
from .space import Candidate
from .trials import Score, Trial

MULTIPLES = (1.0, 2.0, 0.5, 4.0, 0.25)  # of the user's step size
ROUNDS = 4  # rounds of all workers from one measurement to the next
SPARE = 8  # times the updates of the middle cell that a descent may take
TUNING = 1000  # seeds of the tuning begin so far after those of the cells
RECORDED = (0.0, 1.0, 2.0, 4.0, 8.0)  # severities by default, of recorded delays …
SEVERITIES = (0.0, 0.25, 1.0, 4.0, 16.0)  # … and of others
BANDWIDTHS = (1e5, 1e6, 1e7, 1e8, 1e9)  # bytes/s

Say = Callable[[str], None]


@dataclass(frozen=True)
class Grid:
    """What the map is drawn over.

    Attributes
    ----------
    bandwidths : sequence of float
        Bytes/s of rank 0's link, each way.
    severities : sequence of float
        Multiples of the configuration's delays; if it has none, the mean of exponential ones as a multiple of
        the time that a full gradient of the mini-batch takes to compute.
    """

    bandwidths: Sequence[float]
    severities: Sequence[float]


@dataclass(frozen=True)
class Race:
    """Descents of several schemes in one cell.

    Attributes
    ----------
    runners : list of (Candidate, int)
        Schemes, and the updates that each may take at the most; those that promise most come first.
    goal : Goal
    seeds : tuple of int
    places : int
        How many of the first must be known; the others may be cut off.
    """

    runners: list[tuple[Candidate, int]]
    goal: Goal
    seeds: tuple[int, ...]
    places: int


@dataclass(frozen=True)
class Cell:
    """How a race went.

    Attributes
    ----------
    bandwidth, severity : float
    ranked : list of (str, Score)
        Names of the schemes, the first first.
    """

    bandwidth: float
    severity: float
    ranked: list[tuple[str, Score]]

    @property
    def winner(self) -> str:
        """Name of the first; empty if none reached the goal."""
        name, score = self.ranked[0]
        return name if score.reached else ""

    @property
    def factor(self) -> float:
        """Time of the second over that of the first; infinite if the first alone reached the goal."""
        others = [score.mean for _, score in self.ranked[1:2] if score.reached]
        return others[0] / self.ranked[0][1].mean if others else math.inf

    @property
    def genie(self) -> float:
        """Time of the first as a multiple of the genie's, median of its descents; nan if there is none."""
        return genie_multiple(self.ranked[0][1].outcomes) if self.winner else math.nan


def scaled(config: Config, severity: float) -> Stragglers:
    """The configuration's delays, so many times as long; 0 means none, but the dead stay dead.

    Raises
    ------
    InputError
        If recorded delays are to be shortened, or those of chosen workers to be lengthened; if delays become
        longer than a configuration can say.
    """
    table, workers = config.stragglers, config.workers.count
    if severity == 0:
        dead = stragglers.dead(table, workers)
        return Stragglers.of({"kind": "slow-set", "dead": dead} if dead else {})
    if severity == 1 and table.kind != "none":
        return table
    if table.kind == "trace":
        if severity < 1 or getattr(table, "slow", None):
            raise InputError(
                f"--severities {severity:g}: recorded delays can be taken as they are, be lengthened for all "
                "workers alike, or be left out"
            )
        changed: dict[str, Any] = {"slow": list(range(workers)), "slowdown": severity}
    elif table.kind == "none":
        mean_s = severity * task_s(config)
        table, changed = Stragglers.of({"kind": "shifted-exponential", "mean_s": 1.0}), {"mean_s": mean_s}
    else:
        keys = [key for key in table.__struct_fields__ if key.endswith("_s")]
        changed = {key: severity * getattr(table, key) for key in keys}
        if not any(changed.values()):  # slow workers take multiples of their own compute time
            changed = {"slowdown": 1 + severity * (getattr(table, "slowdown", 1.0) - 1)}
    for key, value in changed.items():
        if isinstance(value, float) and value > LARGEST:
            raise InputError(f"--severities {severity:g}: stragglers.{key} would be more than {LARGEST:g}")
    return msgspec.structs.replace(table, **changed)


def task_s(config: Config) -> float:
    """Time that the full gradient of a mini-batch takes to compute."""
    whole = space.apply(config, space.UNCODED | {"update": {"mode": "all"}})
    made = parts.prepare(whole)
    return 1e-9 * costs.time_ns(whole.machine, made.scheme.flops(made.problem, made.layouts, 0, None))


def ground(config: Config, bandwidth: float, severity: float) -> Config:
    """The configuration in a cell."""
    link = msgspec.structs.replace(config.link, bandwidth=bandwidth)
    return msgspec.structs.replace(config, link=link, stragglers=scaled(config, severity))


def move(candidate: Candidate, cell: Config) -> Candidate:
    """A scheme in a cell."""
    config = msgspec.structs.replace(candidate.config, link=cell.link, stragglers=cell.stragglers)
    return Candidate(candidate.name, candidate.multiple, config)


def run(race: Race) -> list[tuple[Candidate, Score]]:
    """Let schemes descend, one after the other, each cut off where its place is of no interest any more."""
    ranked: list[tuple[Candidate, Score]] = []
    for candidate, updates in race.runners:
        reached = sorted(score.mean for _, score in ranked if score.reached)
        bar = reached[race.places - 1] if len(reached) >= race.places else math.inf
        config = candidate.config
        length = ROUNDS * (config.workers.count if config.update.mode == "async" else 1)
        probe = Trial(config, race.goal, race.seeds[:1], LARGEST, LARGEST, updates=length)
        step = max(1e-6, trials.descend(probe, race.seeds[0], LARGEST).ended_s)
        trial = Trial(config, race.goal, race.seeds, LARGEST, step, bar, updates)
        ranked.append((candidate, trials.perform(trial)))
    return sorted(ranked, key=lambda pair: pair[1].key)


def tune(config: Config, goal: Goal, grid: Grid, pool: Pool, say: Say) -> list[tuple[Candidate, int]]:
    """Find each scheme's step size in the middle cell.

    Returns the schemes, the first first, and the updates that each may take. A scheme that does not reach the
    goal there with any of the step sizes comes last.
    """
    middle = ground(
        config,
        sorted(grid.bandwidths)[len(grid.bandwidths) // 2],
        sorted(grid.severities)[len(grid.severities) // 2],
    )
    schemes = {space.OWN: {}, **space.named(config)}
    seeds = config.seed + TUNING, config.seed + TUNING + 1

    def races() -> Iterator[tuple[str, Race]]:
        seen: set[bytes] = set()
        for name, tables in schemes.items():
            made = [space.offered(middle, name, tables, multiple) for multiple in MULTIPLES]
            runners = [(each, trials.most_updates(each.config)) for each in made if each is not None]
            if runners and space.identity(runners[0][0].config) not in seen:  # yours may be one of the others
                seen.add(space.identity(runners[0][0].config))
                yield name, Race(runners, goal, seeds, 1)

    firsts = [ranked[0] for _, ranked in pool.results(run, races())]
    firsts.sort(key=lambda pair: (pair[1].key, pair[0].name))
    found = []
    for candidate, score in firsts:
        updates = max(outcome.updates for outcome in score.outcomes)
        time = f"{score.mean:.3g} s" if score.reached else "not reached"
        say(f"  {candidate.name:16} rate ×{candidate.multiple:<5g} {time}")
        most = trials.most_updates(candidate.config)
        found.append((candidate, min(most, SPARE * updates) if score.reached else most))
    return found


def survey(
    config: Config, goal: Goal, grid: Grid, seeds: Sequence[int], pool: Pool, say: Say, path: str = ""
) -> tuple[list[Cell], list[str]]:
    """Run all cells; return them and the names of the schemes. `path` is the configuration's, for errors.

    Raises
    ------
    InputError
        If the configuration cannot run, or its delays cannot be scaled so.
    """
    parts.prepare(config, path)
    places = [(b, s) for s in grid.severities for b in grid.bandwidths]
    cells = [ground(config, *place) for place in places]
    say("step sizes, in the middle cell:")
    schemes = tune(config, goal, grid, pool, say)

    def races() -> Iterator[tuple[int, Race]]:
        for number, cell in enumerate(cells):
            runners = [(move(candidate, cell), updates) for candidate, updates in schemes]
            yield number, Race(runners, goal, tuple(seeds), 2)

    done: dict[int, Cell] = {}
    for number, ranked in pool.results(run, races()):
        done[number] = Cell(*places[number], [(candidate.name, score) for candidate, score in ranked])
        if len(done) % max(1, len(cells) // 10) == 0 or len(done) == len(cells):
            say(f"{len(done)} of {len(cells)} cells")
    return [done[number] for number in range(len(cells))], [candidate.name for candidate, _ in schemes]
