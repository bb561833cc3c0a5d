"""The tournament of `pdcode compare`: candidates under the same seeds, from the request to the results."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Self

import msgspec

from ..config import Config
from ..config import load as configfile
from ..config.write import to_toml, to_value
from ..trace import opening
from ..training import setup
from ..training.monitor import Print
from ..util.errors import InputError, prefix_errors
from ..util.formats import duration, listing, size
from ..util.processes import Pool
from ..util.progress import track
from ..virtual import capacity, costs
from . import rate_tuning
from .candidate import Candidate
from .comparison import Comparison
from .goal import Goal, choose_goal
from .limits import Limits, find_limits, with_limits
from .measurement import Measured
from .named_candidates import named_candidates
from .results_table import describe_run
from .trial import TUNING_OFFSET, Trial, check_seed, data_source, perform_all


@dataclass(frozen=True)
class ComparisonRequest:
    """The user's request for a comparison; `pdcode compare --help` explains each option."""

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
    rounds: float | None = None  # time between measurements, in rounds of one payload of each worker


@dataclass(frozen=True)
class Tournament:
    """A comparison before its runs."""

    HEAD: ClassVar[str] = "# Written by pdcode compare,"  # first words of every candidate's file

    candidates: list[Candidate]  # with the limits of their runs
    seeds: Sequence[int]
    goal: Goal | None
    clock: str  # {"virtual", "mpi"}
    limits: Limits
    folder: Path  # folder for the candidates' TOML files and the traces
    text: str = ""  # the user's TOML file
    notes: list[str] = field(default_factory=list)  # sentences on the common conditions

    @property
    def names(self) -> list[str]:
        """Names of the candidates."""
        return [candidate.name for candidate in self.candidates]

    def trial(self, candidate: Candidate, seed: int) -> Trial:
        """Return a run of a candidate."""
        stem = candidate.name.replace(":", "-").replace("/", "-")
        file, trace = (str(self.folder / name) for name in (f"{stem}.toml", f"{stem}-{seed}.h5"))
        return Trial(candidate.config, seed, self.goal, self.clock, file, trace)

    def tuning_seeds(self, count: int) -> range:
        """Return seeds for tuning learning rates, which the comparison does not use."""
        return range(self.seeds[0] + TUNING_OFFSET, self.seeds[0] + TUNING_OFFSET + count)

    def tuning_trial(self, candidate: Candidate, seed: int, number: int) -> Trial:
        """Return a run of a candidate with a configuration file of its own, which a real run reads."""
        stem = str(self.folder / f"tuning-{number}")
        trial = replace(self.trial(candidate, seed), trace=f"{stem}.h5", file=f"{stem}.toml")
        trial.write(f"{self.HEAD} to tune '{candidate.name}'")
        return trial

    def with_rates(self, candidates: list[Candidate], note: str) -> Self:
        """Return the tournament with other learning rates, and a note on them."""
        return replace(self, candidates=candidates, notes=[*self.notes, note])

    def write(self, command: str) -> None:
        """Write each candidate's configuration, to which the commands of its runs refer."""
        for candidate in self.candidates:
            self.trial(candidate, 0).write(f"{self.HEAD} as '{candidate.name}' of `{command}`")

    def run(self, pool: Pool, print_line: Print, keep: bool) -> list[list[Measured]]:
        """Run every candidate under every seed; return the results by candidate and seed."""
        places = [(place, seed) for seed in self.seeds for place in range(len(self.candidates))]
        trials = [self.trial(self.candidates[place], seed) for place, seed in places]
        done: dict[tuple[int, int], Measured] = {}
        for number, run in track(perform_all(enumerate(trials), pool), len(trials), "runs"):
            place, seed = places[number]
            done[place, seed] = run
            if not keep:
                Path(trials[number].trace).unlink(missing_ok=True)
            text = f"{self.names[place]}, seed {seed}: {describe_run(run, self.goal)}"
            print_line(f"{len(done)} of {len(trials)}: {text}")
        return [[done[place, seed] for seed in self.seeds] for place in range(len(self.candidates))]


def prepare(request: ComparisonRequest, folder: Path) -> Tournament:
    """Read the configuration and make the candidates."""
    settings = list(request.settings)
    if request.stragglers is not None:
        path = to_value(os.path.abspath(request.stragglers), "--stragglers")
        settings.append(f'stragglers={{kind="trace", path={path}, draw="block"}}')
    config, text = configfile.load(request.config, settings)
    recorded = request.stragglers is not None and opening.is_trace(Path(request.stragglers))
    fitted = request.cost or (request.stragglers if recorded else None)
    if fitted is not None and request.clock == "virtual":
        config = costs.load(fitted, config, "median" if request.cost else "low")
        tables = msgspec.to_builtins(config)
        known = {
            name: {key: value for key, value in tables[name].items() if value is not None}
            for name in ("machine", "link")
        }
        settings = [*(f"{name}={to_value(table, name)}" for name, table in known.items()), *settings]
        config, _ = configfile.load(request.config, settings)
    goal = None
    with prefix_errors(request.config):
        check_seed(config)
        config.faults.ensure_endless("run")
        if {request.target, config.stop.loss, config.stop.accuracy} != {None}:
            goal = choose_goal(config, None, request.target)
        elif config.stop.updates is None:
            raise InputError("stop.loss: a comparison needs a target (or --target), or stop.updates")
        tables, folder_of = configfile.parse(text), Path(request.config).parent
        made = named_candidates(tables, settings, folder_of, request.schemes, request.aliases)
        limits = find_limits(config, goal, request.config, request.seconds, request.clock)
    for place, each in enumerate(made):
        own = _at_pace(each.config, limits, request.rounds)
        made[place] = replace(each, config=with_limits(each.config, goal, own, each.config.stop.updates))
    notes = [f"{len(made)} schemes, {config.workers.count} workers, delays: {config.stragglers.describe()}."]
    if request.clock == "virtual":
        link = config.link
        notes.append(f"Link: {size(link.bandwidth)}/s, θ by a {link.broadcast}.")
        if fitted is not None:
            notes.append(f"Costs: those of {fitted}, but for keys that are set.")
    notes.append(f"A run ends after {duration(1e9 * limits.seconds)} at the latest.")
    seeds = range(config.seed, config.seed + request.seeds)
    return Tournament(made, seeds, goal, request.clock, limits, folder, text, notes)


def _at_pace(config: Config, limits: Limits, rounds: float | None) -> Limits:
    """Return the limits with measurements every `rounds` rounds of a candidate without delays."""
    if rounds is None:
        return limits
    need = capacity.load_of(setup.prepare(config, source=data_source(config)))
    return replace(limits, step_s=float(f"{rounds * need.task_s * max(1.0, need.bottleneck[1]):.2g}"))


def perform(
    tournament: Tournament,
    command: str,
    pool: Pool,
    print_line: Print,
    *,
    tune: int | None = None,
    tuning_seeds: int = 1,
    rates: tuple[str, Comparison] | None = None,
    keep: bool = False,
) -> Comparison:
    """Choose the learning rates, write the candidates' files, and perform all runs.

    Learning rates are those of another comparison, given with its file; or the best of `tune` rates, each
    judged by `tuning_seeds` runs; or unchanged. Traces are deleted unless `keep` is set.
    """
    if rates:
        chosen = rate_tuning.take_rates(tournament.candidates, *rates)
        tournament = tournament.with_rates(chosen, f"Learning rates: those of {rates[0]}.")
    if tune:
        tournament.write(command)
        seeds = tournament.tuning_seeds(tuning_seeds)
        chosen, edges = rate_tuning.tune(
            tournament.candidates, tournament.goal, tune, seeds, tournament.tuning_trial, pool, print_line
        )
        text = rate_tuning.describe_tuning(tune, seeds)
        if edges:
            text += f" Those of {listing(edges)} are the least or largest that were tried."
        tournament = tournament.with_rates(chosen, text)
    tournament.write(command)
    return Comparison(
        tournament.names,
        [to_toml(candidate.config) for candidate in tournament.candidates],
        list(tournament.seeds),
        tournament.clock,
        tournament.goal,
        tournament.run(pool, print_line, keep),
        command,
        tournament.text,
        tournament.notes,
    )


def perform_once(
    path: Path,
    request: ComparisonRequest,
    command: str,
    pool: Pool,
    print_line: Print,
    *,
    tune: int | None = None,
    tuning_seeds: int = 1,
    rates: Path | None = None,
) -> None:
    """Perform a comparison of a benchmark and write its file, unless the file exists."""
    tournament = prepare(request, path.with_suffix(""))
    if path.exists():
        found = Comparison.load(path)
        wanted = (tournament.names, [*tournament.seeds], tournament.text)
        note = rate_tuning.describe_tuning(tune, tournament.tuning_seeds(tuning_seeds)) if tune else ""
        if (found.names, found.seeds, found.config) != wanted or note not in " ".join(found.notes):
            raise InputError(f"{path}: is there, of another bench; use another folder, or remove it")
        print_line(f"{path}: there already")
        return
    print_line(f"{path}:")
    taken = None if rates is None else (str(rates), Comparison.load(rates))
    made = perform(tournament, command, pool, print_line, tune=tune, tuning_seeds=tuning_seeds, rates=taken)
    made.save(path)
