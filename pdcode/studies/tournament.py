"""The tournament of `pdcode compare`: candidates under the same seeds, from the request to the results."""

import math
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import ClassVar, Self

import msgspec

from ..config import load as configfile
from ..config.write import to_toml, to_value
from ..session.monitor import Print
from ..trace import opening
from ..trace.reader import TraceReader
from ..util.errors import InputError, prefix_errors
from ..util.formats import counted, duration, listing, rate
from ..util.processes import Pool
from ..util.progress import track
from ..virtual import costs
from . import tuning
from .candidate import Candidate
from .comparison import Comparison
from .goal import Goal, choose_goal
from .limits import Limits, find_limits, with_limits
from .measurement import Measured
from .named_candidates import named_candidates
from .results_table import describe_run
from .trial import TUNING_OFFSET, Journal, Trial, check_seed, perform_all
from .tuning import Tuning

POINTS = 400  # a run to the lower loss has at most this many measurements
BEYOND = 4.0  # a run to the lower loss ends after this multiple of the best candidate's longest tuning run
LONGEST = 200  # bytes of the beginning of a file's name


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
    beyond: float | None = None  # lower loss to which runs go on after tuning
    lenient: bool = False  # whether schemes that cannot run are left out, not refused


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
    beyond: float | None = None  # lower loss to which runs go on after tuning

    @property
    def names(self) -> list[str]:
        """Names of the candidates."""
        return [candidate.name for candidate in self.candidates]

    def trial(self, candidate: Candidate, seed: int) -> Trial:
        """Return a run of a candidate."""
        stem = candidate.name.replace(":", "-").replace("/", "-")
        if len(stem.encode()) > LONGEST:  # as file systems allow 255 bytes
            stem = f"{stem[: LONGEST // 2]}-{sha256(stem.encode()).hexdigest()[:16]}"
        file, trace = (str(self.folder / name) for name in (f"{stem}.toml", f"{stem}-{seed}.h5"))
        return Trial(candidate.config, seed, self.goal, self.clock, file, trace)

    def tuning_seeds(self, count: int) -> range:
        """Return seeds for tuning learning rates, which the comparison does not use."""
        return range(self.seeds[0] + TUNING_OFFSET, self.seeds[0] + TUNING_OFFSET + count)

    def tuning_trial(self, candidate: Candidate, seed: int, number: int) -> Trial:
        """Return a run of a candidate; a real run has a configuration file of its own, which it reads."""
        if self.clock == "virtual":
            return replace(self.trial(candidate, seed), trace="", file="", scored=False)
        stem = str(self.folder / f"tuning-{number}")
        trial = replace(self.trial(candidate, seed), trace=f"{stem}.h5", file=f"{stem}.toml")
        trial.write(f"{self.HEAD} to tune '{candidate.name}'")
        return trial

    def with_settings(self, candidates: list[Candidate], *notes: str) -> Self:
        """Return the tournament with other settings of candidates, and notes on them."""
        return replace(self, candidates=candidates, notes=[*self.notes, *notes])

    def continued(self, seconds: float) -> Self:
        """Return the tournament with runs that go on to the lower loss, for `seconds` at most."""
        if self.beyond is None:
            return self
        stop, trace = {"loss": self.beyond, "seconds": seconds}, {"progress_s": seconds / POINTS}
        made = [
            replace(each, config=each.config.with_keys(stop=stop, trace=trace)) for each in self.candidates
        ]
        return self.with_settings(
            made, f"Runs go on to loss {self.beyond:g}, and other figures are at the stop."
        )

    def write(self, command: str) -> None:
        """Write each candidate's configuration, to which the commands of its runs refer."""
        for candidate in self.candidates:
            self.trial(candidate, 0).write(f"{self.HEAD} as '{candidate.name}' of `{command}`")

    def run(
        self,
        pool: Pool,
        print_line: Print,
        keep: bool,
        slack: float = math.inf,
        journal: Journal | None = None,
        longer: Mapping[str, float] = {},
    ) -> list[list[Measured]]:
        """Run every candidate under every seed; return the results by candidate and seed.

        With a finite `slack` the first candidate runs first, and a run of another ends after `slack` times
        its time under the same seed; `longer` has the slack of some names.
        """
        places = [(place, seed) for seed in self.seeds for place in range(len(self.candidates))]
        done: dict[tuple[int, int], Measured] = {}

        def trials(mine: Sequence[tuple[int, int]]) -> Iterator[tuple[tuple[int, int], Trial]]:
            for place, seed in mine:
                candidate, first = self.candidates[place], done.get((0, seed))
                if math.isfinite(slack) and first is not None and first.reached:
                    candidate = candidate.within(longer.get(candidate.name, slack) * first.stop_s)
                yield (place, seed), self.trial(candidate, seed)

        first = [pair for pair in places if pair[0] == 0 and math.isfinite(slack)]

        def results() -> Iterator[tuple[tuple[int, int], Measured]]:
            for mine in (first, [pair for pair in places if pair not in first]):
                yield from perform_all(trials(mine), pool, journal, keep)

        for (place, seed), run in track(results(), len(places), "runs"):
            done[place, seed] = run
            if not keep:
                Path(self.trial(self.candidates[place], seed).trace).unlink(missing_ok=True)
            text = f"{self.names[place]}, seed {seed}: {describe_run(run, self.goal)}"
            print_line(f"{len(done)} of {len(places)}: {text}")
        return [[done[place, seed] for seed in self.seeds] for place in range(len(self.candidates))]


def prepare(request: ComparisonRequest, folder: Path) -> Tournament:
    """Read the configuration and make the candidates."""
    settings = list(request.settings)
    if request.stragglers is not None:
        path = to_value(os.path.abspath(request.stragglers), "--stragglers")
        settings.append(f'stragglers={{kind="trace", path={path}, draw="block"}}')
    config, text = configfile.load(request.config, settings)
    recorded = False
    if request.stragglers is not None and (recorded := opening.is_trace(Path(request.stragglers))):
        left = costs.under_delays(TraceReader(request.stragglers), config).faults.events
        if left != config.faults.events:
            settings.append(f"faults.events={to_value(msgspec.to_builtins(left), '--stragglers')}")
            config, text = configfile.load(request.config, settings)
    fitted = request.cost or (request.stragglers if recorded else None)
    if fitted is not None and request.clock == "virtual":
        config = costs.load(fitted, config, settings, "median" if request.cost else "low")
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
        config.faults.ensure_endless()
        if {request.target, config.stop.loss, config.stop.accuracy} != {None}:
            goal = choose_goal(config, None, request.target)
        elif config.stop.updates is config.stop.epochs is None:
            raise InputError("stop.loss: a comparison needs a target (--target), stop.updates or stop.epochs")
        tables, folder_of = configfile.parse(text), Path(request.config).parent
        unfit = list[str]() if request.lenient else None
        made = named_candidates(tables, settings, folder_of, request.schemes, request.aliases, unfit)
        limits = find_limits(config, goal, request.config, request.seconds, request.clock)
    for place, each in enumerate(made):
        made[place] = replace(each, config=with_limits(each.config, goal, limits, each.config.stop.updates))
    many = f"{counted(len(made), 'scheme')}, {counted(config.workers.count, 'worker')}"
    notes = [f"{many}, delays: {config.stragglers.describe()}."]
    if request.clock == "virtual":
        link = config.link
        notes.append(f"Link: {rate(link.bandwidth)}, θ by a {link.broadcast}.")
        if fitted is not None:
            notes.append(f"Costs: as in {fitted}, but for keys that are set.")
    if unfit:
        notes.append(f"Left out, as they cannot run this: {listing(unfit)}.")
    notes.append(f"A run ends after {duration(1e9 * limits.seconds)} at the latest.")
    seeds = range(config.seed, config.seed + request.seeds)
    return Tournament(made, seeds, goal, request.clock, limits, folder, text, notes, request.beyond)


def perform(
    tournament: Tournament,
    command: str,
    pool: Pool,
    print_line: Print,
    *,
    tune: Tuning | None = None,
    groups: Sequence[Collection[str]] = (),
    rates: tuple[str, Comparison] | None = None,
    keep: bool = False,
    journal: Journal | None = None,
) -> Comparison:
    """Tune the candidates, write their files, and perform all runs.

    Settings are from another comparison, given with its file; or chosen by `tune`; or unchanged. If
    `tune` has a finite slack, the worse candidates of each of the `groups` of names are tuned by fewer runs,
    the ones beyond the slack are left out, except the best of each group, and the best comes first. Traces
    are deleted unless `keep` is set.
    """
    slack = math.inf
    if rates:
        chosen = tuning.take_rates(tournament.candidates, *rates)
        tournament = tournament.with_settings(chosen, f"Learning rates: as in {rates[0]}.")
    if tune:
        tournament.write(command)
        seeds, slack = tournament.tuning_seeds(tune.seeds), tune.slack
        tuned = tuning.tune(
            tournament.candidates,
            tournament.goal,
            tune,
            seeds,
            tournament.tuning_trial,
            pool,
            print_line,
            journal,
            groups,
        )
        notes = [tuning.describe_tuning(tune, seeds) + tuning.describe_edges(tuned)]
        notes += tuning.describe_ends(tuned, tune)
        if math.isfinite(slack):
            tuned, dropped = tuning.select(tuned, slack, groups)
            if dropped:
                notes.append(
                    f"Left out, over {slack:g} times as slow as the best in tuning: {listing(dropped)}."
                )
        tournament = tournament.with_settings([each.tuned for each in tuned], *notes)
        if math.isfinite(slack):
            longest = max(tuned[0].search.seconds)
            tournament = tournament.continued(min(BEYOND * longest, tournament.limits.seconds))
    tournament.write(command)
    return Comparison(
        tournament.names,
        [to_toml(candidate.config) for candidate in tournament.candidates],
        list(tournament.seeds),
        tournament.clock,
        tournament.goal,
        tournament.run(pool, print_line, keep, slack, journal, tune.longer if tune else {}),
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
    tune: Tuning | None = None,
    groups: Sequence[Collection[str]] = (),
    rates: Path | None = None,
) -> None:
    """Perform a comparison of a benchmark and write its file, unless the file exists.

    Its runs are in a journal beside the file until it is written, from which an interrupted one resumes.
    """
    tournament = prepare(request, path.with_suffix(""))
    if path.exists():
        found = Comparison.load(path)
        wanted = (tournament.notes[:1], [*tournament.seeds], tournament.text)
        note = tuning.describe_tuning(tune, tournament.tuning_seeds(tune.seeds)) if tune else ""
        others = {*found.names} - {*tournament.names}  # some may have been left out
        if (
            (found.notes[:1], found.seeds, found.config) != wanted
            or others
            or note not in " ".join(found.notes)
        ):
            raise InputError(f"{path}: is there, of another bench; use another folder, or remove it")
        print_line(f"{path}: there already")
        return
    print_line(f"{path}:")
    taken = None if rates is None else (str(rates), Comparison.load(rates))
    journal = Journal(path.with_suffix(".journal"))
    made = perform(
        tournament, command, pool, print_line, tune=tune, groups=groups, rates=taken, journal=journal
    )
    made.save(path)
    journal.remove()
