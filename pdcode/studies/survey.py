"""The map of best schemes over the link's bandwidth and the severity of delays."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from .. import stragglers
from ..config import LARGEST, Config, StragglersTable
from ..training import setup
from ..training.monitor import Print
from ..util.errors import InputError
from ..util.processes import Pool
from ..virtual import costs
from . import halving
from . import search_space as space
from . import trial as trials
from .goal import Goal
from .ranking import oracle_multiple
from .search import Environment
from .search_space import Candidate
from .trial import Score, Trial

MULTIPLES = (1.0, 2.0, 0.5, 4.0, 0.25)  # multiples of the user's step size
ROUNDS = 4  # rounds of all workers between measurements
TUNING = 1000  # offset of the tuning's seeds from those of the cells
RECORDED = (0.0, 1.0, 2.0, 4.0, 8.0)  # default severities for recorded delays
SEVERITIES = (0.0, 0.25, 1.0, 4.0, 16.0)  # default severities for other delays
BANDWIDTHS = (1e5, 1e6, 1e7, 1e8, 1e9)  # bytes/s

Entrant = tuple[Candidate, int]
"""A scheme, and the maximum number of updates of its descents."""


@dataclass(frozen=True)
class Grid:
    """Axes of a map."""

    bandwidths: Sequence[float]  # bytes/s of rank 0's link, each way
    severities: Sequence[float]  # factors of the delays; see `scaled`


@dataclass(frozen=True)
class Cell:
    """Cell of a map, with the names and scores of the schemes, best first."""

    bandwidth: float
    severity: float
    ranked: list[tuple[str, Score]]

    @property
    def best(self) -> str:
        """Name of the best scheme; empty if none reached the target."""
        name, score = self.ranked[0]
        return name if score.reached else ""

    @property
    def factor(self) -> float:
        """Time of the second scheme over the first's; infinity if only the first reached the target."""
        others = [score.seconds for _, score in self.ranked[1:2] if score.reached]
        return others[0] / self.ranked[0][1].seconds if others else math.inf

    @property
    def oracle(self) -> float:
        """Time of the first scheme over the oracle's, median of its descents; nan if unknown."""
        return oracle_multiple(self.ranked[0][1].outcomes) if self.best else math.nan


def scaled(config: Config, severity: float) -> StragglersTable:
    """Multiply the configuration's delays by `severity`; 0 leaves only its dead workers.

    Without delays, exponential ones are added; `severity` is then their mean, in units of the compute time of
    a mini-batch's full gradient.

    Raises
    ------
    InputError
        If recorded delays would be shortened, or lengthened together with slow workers, or if delays would
        exceed the largest value that a configuration allows.
    """
    table, workers = config.stragglers, config.workers.count
    if severity == 0:
        dead = stragglers.dead_workers(table, workers)
        return StragglersTable.of({"kind": "slow-set", "dead": dead} if dead else {})
    if severity == 1 and table.kind != "none":
        return table
    if table.kind == "trace":
        if severity < 1 or getattr(table, "slow", None):
            raise InputError(
                f"--severities {severity:g}: recorded delays can be kept (1), lengthened for all workers "
                "alike, or left out (0)"
            )
        changed: dict[str, Any] = {"slow": list(range(workers)), "slowdown": severity}
    elif table.kind == "none":
        mean_s = severity * task_s(config)
        table, changed = (
            StragglersTable.of({"kind": "shifted-exponential", "mean_s": 1.0}),
            {"mean_s": mean_s},
        )
    else:
        keys = [key for key in table.__struct_fields__ if key.endswith("_s")]
        changed = {key: severity * getattr(table, key) for key in keys}
        if not any(changed.values()):  # slow workers take multiples of their compute time
            changed = {"slowdown": 1 + severity * (getattr(table, "slowdown", 1.0) - 1)}
    for key, value in changed.items():
        if isinstance(value, float) and value > LARGEST:
            raise InputError(f"--severities {severity:g}: stragglers.{key} would be more than {LARGEST:g}")
    return msgspec.structs.replace(table, **changed)


def task_s(config: Config) -> float:
    """Return the modelled compute time of a mini-batch's full gradient, in s."""
    whole = space.apply(config, space.preset("uncoded", "all"))
    parts = setup.prepare(whole)
    flops = parts.scheme.work(parts.problem, parts.layouts, 0, None).by_worker
    return 1e-9 * float(costs.times_ns(whole.machine, flops).max())


def in_cell(config: Config, bandwidth: float, severity: float) -> Config:
    """Return the configuration for a cell's bandwidth and severity."""
    link = msgspec.structs.replace(config.link, bandwidth=bandwidth)
    return msgspec.structs.replace(config, link=link, stragglers=scaled(config, severity))


def move(candidate: Candidate, cell: Config) -> Candidate:
    """Return the candidate's scheme in the cell of a configuration."""
    config = msgspec.structs.replace(candidate.config, link=cell.link, stragglers=cell.stragglers)
    return Candidate(candidate.name, candidate.multiple, config)


@dataclass(frozen=True)
class CellRace:
    """Race of schemes in one cell for the first `places`."""

    entrants: list[Entrant]
    goal: Goal
    seeds: tuple[int, ...]
    places: int


def race_in_cell(task: CellRace) -> list[tuple[Candidate, Score]]:
    """Run a race within this process."""

    def work(entrant: Entrant, cut_off_s: float) -> Trial:
        candidate, updates = entrant
        config = candidate.config
        length = ROUNDS * (config.workers.count if config.update.asynchronous else 1)
        probe = Trial(config, task.goal, task.seeds[:1], LARGEST, LARGEST, updates=length)
        step = max(1e-6, trials.descend(probe, task.seeds[0], LARGEST).ended_s)
        return Trial(config, task.goal, task.seeds, LARGEST, step, cut_off_s, updates)

    ranked = halving.race(task.entrants, task.places, Pool(1), trials.perform, work)
    return [(candidate, score) for (candidate, _), score in ranked]


def tune(config: Config, goal: Goal, grid: Grid, pool: Pool, print_line: Print) -> list[Entrant]:
    """Tune each scheme's step size in the middle cell.

    Returns the schemes, best first, with limits of their updates. Schemes that miss the target with all step
    sizes come last.
    """
    middle = in_cell(config, *(sorted(axis)[len(axis) // 2] for axis in (grid.bandwidths, grid.severities)))
    schemes = {space.OWN: {}, **space.named(config)}
    seeds = config.seed + TUNING, config.seed + TUNING + 1

    def races() -> Iterator[tuple[str, CellRace]]:
        seen: set[bytes] = set()
        for name, tables in schemes.items():
            variants = [space.offered(middle, name, tables, multiple) for multiple in MULTIPLES]
            entrants = [
                (variant, trials.most_updates(variant.config)) for variant in variants if variant is not None
            ]
            if entrants and space.identity(entrants[0][0].config) not in seen:  # unless it is a named scheme
                seen.add(space.identity(entrants[0][0].config))
                yield name, CellRace(entrants, goal, seeds, 1)

    firsts = [ranked[0] for _, ranked in pool.results(race_in_cell, races())]
    firsts.sort(key=lambda pair: (pair[1].key, pair[0].name))
    tuned = []
    for candidate, score in firsts:
        time = f"{score.seconds:.3g} s" if score.reached else "not reached"
        print_line(f"  {candidate.name:16} rate ×{candidate.multiple:<5g} {time}")
        updates = trials.SPARE * max(outcome.updates for outcome in score.outcomes)
        most = trials.most_updates(candidate.config)
        tuned.append((candidate, min(most, updates) if score.reached else most))
    return tuned


def survey_cells(
    environment: Environment, grid: Grid, seeds: Sequence[int], pool: Pool, print_line: Print
) -> tuple[list[Cell], list[str]]:
    """Race the schemes in all cells, and return the cells and the schemes' names.

    Raises
    ------
    InputError
        If the configuration cannot run, or its delays cannot be scaled.
    """
    config = environment.config
    setup.prepare(config, environment.path)
    places = [(b, s) for s in grid.severities for b in grid.bandwidths]
    cells = [in_cell(config, *place) for place in places]
    print_line("step sizes, in the middle cell:")
    schemes = tune(config, environment.goal, grid, pool, print_line)

    def races() -> Iterator[tuple[int, CellRace]]:
        for number, cell in enumerate(cells):
            entrants = [(move(candidate, cell), updates) for candidate, updates in schemes]
            yield number, CellRace(entrants, environment.goal, tuple(seeds), 2)

    done: dict[int, Cell] = {}
    for number, ranked in pool.results(race_in_cell, races()):
        done[number] = Cell(*places[number], [(candidate.name, score) for candidate, score in ranked])
        if len(done) % max(1, len(cells) // 10) == 0 or len(done) == len(cells):
            print_line(f"{len(done)} of {len(cells)} cells")
    return [done[number] for number in range(len(cells))], [candidate.name for candidate, _ in schemes]
