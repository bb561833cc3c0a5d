"""The comparison: entrants under the same seeds."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from ..config import LARGEST, StopTable
from ..config import load as configfile
from ..config.write import to_toml, to_value
from ..trace import opening
from ..training import setup
from ..training.monitor import Print
from ..util.errors import InputError, prefix_errors, reason
from ..util.formats import duration, size
from ..util.processes import Pool
from ..virtual import capacity, costs
from .goal import Goal, choose_goal
from .measurement import Cell, Curves, Measured, results
from .named_candidates import Entrant, entrants
from .search import MOST_SEED, OWN_SLACK, Environment, baseline
from .trial import ARRIVALS, MOST_ARRIVALS, source

HEAD = "# Written by pdcode compare,"  # first words of every entrant's file
NEVER = Goal("loss", -math.inf)  # for runs without a target
POINTS = 50  # measurements in the time of the user's own configuration; others may take many times that


@dataclass(frozen=True)
class Limits:
    """Limits of a run.

    Attributes
    ----------
    seconds : float
        Time of the run.
    step_s : float
        Time between measurements.
    """

    seconds: float
    step_s: float


@dataclass(frozen=True)
class Race:
    """A comparison to be made.

    Attributes
    ----------
    entrants : list of Entrant
    seeds : sequence of int
    goal : Goal or None
    clock : {"virtual", "mpi"}
    limits : Limits
    folder : Path
        Folder for the entrants' TOML files and the traces.
    """

    entrants: list[Entrant]
    seeds: Sequence[int]
    goal: Goal | None
    clock: str
    limits: Limits
    folder: Path

    @property
    def names(self) -> list[str]:
        """Names of the entrants."""
        return [entrant.name for entrant in self.entrants]

    @property
    def configs(self) -> list[str]:
        """Configurations of the entrants, TOML."""
        return [to_toml(entrant.config) for entrant in self.entrants]

    def cell(self, entrant: Entrant, seed: int) -> Cell:
        """Return a run of an entrant."""
        stem = entrant.name.replace(":", "-").replace("/", "-")
        path = self.folder / f"{stem}.toml"
        return Cell(
            entrant.config, seed, self.clock, str(path), str(self.folder / f"{stem}-{seed}.h5"), self.goal
        )


@dataclass(frozen=True)
class Choice:
    """What the user chooses of a comparison; `pdcode compare --help` says what each means."""

    config: str
    schemes: str
    settings: Sequence[str]
    seeds: int
    clock: str
    target: float | None = None
    seconds: float | None = None
    stragglers: str | None = None
    cost: str | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)  # further names of schemes
    rounds: float | None = None  # measure an entrant whenever it takes in so many payloads of each worker


def make_race(choice: Choice, folder: Path) -> tuple[Race, str, list[str]]:
    """Read the configuration and make the entrants.

    Returns
    -------
    race : Race
    config : str
        Text of the user's TOML file.
    notes : list of str
        Sentences on the common conditions.

    Raises
    ------
    InputError
        If something is wrong; the message names file, option, key and value.
    """
    settings = list(choice.settings)
    if choice.stragglers is not None:
        path = to_value(os.path.abspath(choice.stragglers), "--stragglers")
        settings.append(f'stragglers={{kind="trace", path={path}, draw="block"}}')
    config, text = configfile.load(choice.config, settings)
    fitted = choice.cost or (choice.stragglers if _is_trace(choice.stragglers) else None)
    if fitted is not None and choice.clock == "virtual":
        config = costs.load(fitted, config, "median" if choice.cost else "low")
        tables = msgspec.to_builtins(config)
        known = {
            name: {key: value for key, value in tables[name].items() if value is not None}
            for name in ("machine", "link")
        }
        settings = [*(f"{name}={to_value(table, name)}" for name, table in known.items()), *settings]
        config, _ = configfile.load(choice.config, settings)
    with prefix_errors(choice.config):
        if config.seed > MOST_SEED:
            raise InputError(f"seed: {config.seed}: larger seeds are used, too; give {MOST_SEED} at most")
        config.faults.ensure_endless("run")
        targets = (choice.target, config.stop.loss, config.stop.accuracy)
        goal = choose_goal(config, None, choice.target) if any(each is not None for each in targets) else None
        if goal is None and config.stop.updates is None:
            raise InputError("stop.loss: a comparison needs a target (or --target), or stop.updates")
        tables, folder_of = configfile.parse(text), Path(choice.config).parent
        made = entrants(tables, settings, folder_of, choice.schemes, choice.aliases)
        limits = find_limits(
            Environment(config, config, goal or NEVER, choice.config), choice.seconds, choice.clock
        )
    made = [limited(entrant, _at_pace(entrant, limits, choice.rounds), goal) for entrant in made]
    seeds = range(config.seed, config.seed + choice.seeds)
    notes = [f"{len(made)} schemes, {config.workers.count} workers, delays: {config.stragglers.describe()}."]
    if choice.clock == "virtual":
        link = config.link
        notes.append(f"Link: {size(link.bandwidth)}/s, θ by a {link.broadcast}.")
        if fitted is not None:
            notes.append(f"Costs: those of {fitted}, but for keys that are set.")
    notes.append(f"A run ends after {duration(1e9 * limits.seconds)} at the latest.")
    return Race(made, seeds, goal, choice.clock, limits, folder), text, notes


def _is_trace(path: str | None) -> bool:
    return path is not None and opening.is_trace(Path(path))


def find_limits(environment: Environment, seconds: float | None, clock: str) -> Limits:
    """Choose the limits of runs by a run of the user's own configuration on the virtual clock.

    A run may take `search.OWN_SLACK` times as long as that, unless the user sets a limit.

    Raises
    ------
    InputError
        If the clock is real, and the user sets no limit.
    """
    config = environment.config
    given = seconds or config.stop.seconds
    if given is None and clock == "mpi":
        raise InputError("stop.seconds: not given, and some scheme may not reach the target; give --seconds")
    arrivals = ARRIVALS if given is None else MOST_ARRIVALS
    own = baseline(environment, given, config.stop.updates if seconds is None else None, arrivals)
    most = given or min(OWN_SLACK * own.spent_s, LARGEST)
    return Limits(most, min(config.trace.progress_s, max(own.spent_s / POINTS, 1e-6)))


def _at_pace(entrant: Entrant, limits: Limits, rounds: float | None) -> Limits:
    """Return the limits with measurements at an entrant's own pace: where its workers meet no delays."""
    if rounds is None:
        return limits
    need = capacity.needs(setup.prepare(entrant.config, source=source(entrant.config)))
    return replace(limits, step_s=float(f"{rounds * need.task_s * max(1.0, need.most[1]):.2g}"))


def limited(entrant: Entrant, limits: Limits, goal: Goal | None) -> Entrant:
    """Return the entrant with the limits of a run, and with the goal as its target."""
    config, stop = entrant.config, entrant.config.stop
    made = (
        goal.stop(limits.seconds, stop.updates)
        if goal
        else StopTable(updates=stop.updates, seconds=limits.seconds)
    )
    stop = msgspec.structs.replace(made, drain_s=stop.drain_s)
    trace = msgspec.structs.replace(config.trace, progress_s=limits.step_s, arrivals="all")
    return replace(entrant, config=msgspec.structs.replace(config, stop=stop, trace=trace))


def write_entrants(race: Race, command: str) -> None:
    """Write each entrant's configuration, which the commands of its runs name.

    Raises
    ------
    InputError
        If a file cannot be written.
    """
    for entrant in race.entrants:
        write(race.cell(entrant, 0), f"{HEAD} as '{entrant.name}' of `{command}`")


def write(cell: Cell, head: str) -> None:
    """Write the configuration of a run to its file, below a line of comment.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    path = Path(cell.file)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{head}\n{to_toml(cell.config)}")
    except OSError as error:
        raise InputError(f"{path}: cannot write the configuration: {reason(error)}") from None


def run(
    race: Race, pool: Pool, print_line: Print, keep: bool
) -> tuple[list[list[Measured]], list[list[Curves]]]:
    """Run every entrant under every seed; delete the traces unless they are to be kept.

    Returns
    -------
    measured : list of list of Measured
        Figures by entrant and seed.
    curves : list of list of Curves
        Measurements of each run.
    """
    places = [(place, seed) for seed in race.seeds for place in range(len(race.entrants))]
    cells = [(number, race.cell(race.entrants[place], seed)) for number, (place, seed) in enumerate(places)]
    done: dict[tuple[int, int], tuple[Measured, Curves]] = {}
    for number, result in results(cells, pool):
        place, seed = places[number]
        done[place, seed] = result
        if not keep:
            Path(cells[number][1].trace).unlink(missing_ok=True)
        name = race.entrants[place].name
        print_line(f"{len(done)} of {len(cells)}: {name}, seed {seed}: {verdict(result[0], race.goal)}")
    table = [[done[place, seed] for seed in race.seeds] for place in range(len(race.entrants))]
    return [[cell[0] for cell in row] for row in table], [[cell[1] for cell in row] for row in table]


def verdict(measured: Measured, goal: Goal | None) -> str:
    """Describe the result of a run in a few words."""
    if math.isfinite(measured.seconds):
        return duration(1e9 * measured.seconds) + ("" if goal else f", loss {measured.loss:.3g}")
    if measured.failed or not math.isfinite(measured.loss):
        return "failed"
    return f"{goal.shown(goal.value(measured.loss, measured.accuracy)) if goal else ''} at the end"
