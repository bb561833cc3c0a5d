"""Runs under faults: whether they reach the target, and how much time each fault costs."""

import math
import shlex
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from .. import faults
from ..analysis import printing
from ..config import Config, FaultEvent, FaultsTable
from ..config import load as configfile
from ..config.write import to_value
from ..launch import launcher
from ..session import setup
from ..session.monitor import Print
from ..util.errors import InputError, prefix_errors
from ..util.formats import DASH, counted, duration, span
from ..util.processes import Pool
from ..util.progress import track
from .goal import Goal, choose_goal
from .limits import find_limits, with_limits
from .measurement import Measured
from .ranking import student_interval
from .trial import Trial, check_seed, perform_all

HEAD = "# Written by pdcode chaos"
ORDER_KEY, MOMENT_KEY = 2**34, 2**34 + 1  # keys of `draw_kills`, which configured failures do not use


@dataclass(frozen=True)
class ChaosRequest:
    """The user's request for trials; `pdcode chaos --help` explains each option."""

    config: str
    settings: Sequence[str]
    trials: int
    clock: str
    mtbf_s: float | None = None
    kill: int | None = None
    target: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class FaultTrial:
    """A run under faults, and the same run without faults."""

    config: Config  # configuration of the run under faults
    fault_count: int  # number of faults up to its stop
    kills: tuple[int, int]  # number of drawn kills up to its stop, and of all
    free: Measured  # the run without faults
    faulty: Measured
    # Over MPI: the run without faults and without fault tolerance.
    unprotected: Measured | None = None

    @property
    def counts(self) -> bool:
        """Whether the target was missed, or reached after all drawn kills; else the kills were too late."""
        happened, drawn = self.kills
        return happened == drawn or not self.faulty.reached

    @property
    def lost_s(self) -> float:
        """Time lost per fault, s; nan without faults, or if a target was missed."""
        lost_s = self.faulty.seconds - self.free.seconds
        return lost_s / self.fault_count if self.fault_count and math.isfinite(lost_s) else math.nan

    @property
    def goodput(self) -> float:
        """Rate of useful samples under faults, as a fraction of the rate without faults."""
        return useful_rate(self.faulty) / useful_rate(self.free)

    @property
    def overhead(self) -> float:
        """Relative time cost of fault tolerance in a run without faults."""
        return math.nan if self.unprotected is None else self.free.seconds / self.unprotected.seconds - 1


def useful_rate(measured: Measured) -> float:
    """Return the training rows per second whose gradients were used."""
    return measured.samples * (1 - measured.wasted) / measured.stop_s if measured.stop_s > 0 else math.nan


def draw_kills(seed: int, workers: int, count: int, seconds: float) -> list[FaultEvent]:
    """Draw workers to kill, and times that are uniform up to a limit."""
    order = sorted(range(workers), key=lambda worker: faults.draw(seed, worker, ORDER_KEY))
    return [
        FaultEvent.of({"worker": worker, "at_s": seconds * faults.draw(seed, worker, MOMENT_KEY)})
        for worker in order[:count]
    ]


def count_faults(config: Config, seconds: float) -> int:
    """Count the faults of workers up to a time, and all faults that are set for a task."""
    events = [each for worker in range(config.workers.count) for each in faults.of_worker(config, worker)]
    return sum(each.at_s is None or each.at_s <= seconds for each in events if not each.joins)


@dataclass(frozen=True)
class FaultTrials:
    """Trials before their runs."""

    request: ChaosRequest
    config: Config  # has the limits of a run, and configured faults, but no drawn kills
    goal: Goal

    @property
    def seeds(self) -> range:
        """Seeds of the trials."""
        return range(self.config.seed, self.config.seed + self.request.trials)

    def under_faults(self, seed: int, free: Measured) -> Config:
        """Return the configuration of a trial."""
        config, request = self.config.with_seed(seed), self.request
        if request.kill is None:
            return config
        drawn = draw_kills(seed, config.workers.count, request.kill, free.spent_s)
        return config.with_keys(faults={"events": [*config.faults.events, *drawn]})

    def kills(self, config: Config, seconds: float) -> tuple[int, int]:
        """Count the drawn kills of a trial up to a time, and all of them."""
        drawn = config.faults.events[len(self.config.faults.events) :]
        return sum(each.at_s <= seconds for each in drawn if each.at_s is not None), len(drawn)

    def repeat_command(self, trial: FaultTrial) -> str:
        """Return the command that repeats the run of a trial."""
        verb = "run" if self.request.clock == "mpi" else "simulate"
        tables = msgspec.to_builtins(trial.config)
        made = [f"{name}={to_value(tables[name], name)}" for name in ("stop", "faults")]
        settings = [*self.request.settings, f"seed={trial.config.seed}", *made]
        return shlex.join(["pdcode", verb, self.request.config, *(f"--set={each}" for each in settings)])


def prepare(request: ChaosRequest) -> FaultTrials:
    """Read the configuration and choose target and limits."""
    settings = list(request.settings)
    if request.mtbf_s is not None:
        settings.append(f"faults.mtbf_s={request.mtbf_s!r}")
    config, _ = configfile.load(request.config, settings)
    with prefix_errors(request.config):
        if not config.faults and request.kill is None:
            raise InputError("faults: no faults are configured; give [faults], --mtbf or --kill")
        workers = config.workers.count
        if request.kill is not None and request.kill >= workers:
            raise InputError(f"--kill {request.kill}: one of the {workers} workers must be left")
        config.faults.ensure_endless()
        check_seed(config)
        goal = choose_goal(config, None, request.target)
        free = msgspec.structs.replace(config, faults=FaultsTable())
        limits = find_limits(free, goal, request.config, request.seconds, request.clock)
        config = with_limits(config, goal, limits, config.stop.updates)
        if request.clock == "mpi":
            faults.check_real(config)
        setup.prepare(config)
    return FaultTrials(replace(request, settings=settings), config, goal)


def perform(trials: FaultTrials, pool: Pool, print_line: Print) -> list[FaultTrial]:
    """Perform each seed without faults, over MPI also without fault tolerance, and with faults."""
    config, real = trials.config, trials.request.clock == "mpi"
    free = msgspec.structs.replace(config, faults=FaultsTable())
    with tempfile.TemporaryDirectory(prefix="pdcode-") as name:
        folder = Path(name)

        def trial(config: Config, seed: int, kind: str) -> Trial:
            file, trace = (str(folder / f"{kind}-{seed}.{ending}") for ending in ("toml", "h5"))
            made = Trial(config, seed, trials.goal, trials.request.clock, file, trace, kind != "plain")
            made.write(HEAD)
            return made

        def measured(made: Sequence[Trial], note: Callable[[int, Measured], str]) -> list[Measured]:
            found: dict[int, Measured] = {}
            for number, result in track(perform_all(enumerate(made), pool), len(made), "runs"):
                found[number] = result
                Path(made[number].trace).unlink(missing_ok=True)
                print_line(f"{len(found)} of {len(made)}: {note(number, result)}")
            return [found[number] for number in range(len(made))]

        kinds = (
            ["free", "plain"] if real and launcher.survival_options(launcher.find_mpirun(), {}) else ["free"]
        )
        before = [trial(free, seed, kind) for seed in trials.seeds for kind in kinds]
        texts = {"free": "without faults", "plain": "without faults, nor surviving any"}
        print_line("without faults:")

        def paired(number: int, result: Measured) -> str:
            what = texts[kinds[number % len(kinds)]]
            return f"seed {before[number].seed}, {what}: {format_time(result.seconds)}"

        found = measured(before, paired)
        frees, plains = found[:: len(kinds)], found[1::2] if len(kinds) > 1 else [None] * len(trials.seeds)
        configs = [trials.under_faults(seed, each) for seed, each in zip(trials.seeds, frees, strict=True)]

        def faulty(number: int, result: Measured) -> str:
            config = configs[number]
            count, (happened, drawn) = (
                count_faults(config, result.stop_s),
                trials.kills(config, result.stop_s),
            )
            late = f", {drawn - happened} of {drawn} kills after the stop" if happened < drawn else ""
            return f"seed {config.seed}: {counted(count, 'fault')}{late}, {format_time(result.seconds)}"

        print_line("under faults:")
        after = measured([trial(each, each.seed, "faulty") for each in configs], faulty)
    return [
        FaultTrial(
            config, count_faults(config, end_s), trials.kills(config, end_s), free, faulty, unprotected
        )
        for config, free, faulty, unprotected in zip(configs, frees, after, plains, strict=True)
        for end_s in [faulty.stop_s]
    ]


def format_time(seconds: float) -> str:
    """Format a time to the target."""
    return duration(1e9 * seconds) if math.isfinite(seconds) else "target missed"


def show(trials: FaultTrials, performed: Sequence[FaultTrial]) -> None:
    """Print the table of the trials that count."""
    made = [each for each in performed if each.counts]
    reached = [each for each in made if each.faulty.reached]
    table = printing.make_table("", "median", "mean", "worst", left=("",), fold=False)

    def line(name: str, values: Sequence[float], text: Callable[[float], str], largest: bool = True) -> None:
        known = [value for value in values if not math.isnan(value)]
        worst = max if largest else min
        cells = [float(np.median(known)), float(np.mean(known)), worst(known)] if known else []
        table.add_row(name, *(map(text, cells) if cells else [DASH] * 3))

    line("faults of a trial", [each.fault_count for each in made], lambda value: f"{value:.3g}")
    line("time to the target without faults", [each.free.seconds for each in made], format_time)
    line("time to the target under faults", [each.faulty.seconds for each in reached], format_time)
    line("time lost per fault", [each.lost_s for each in made], format_difference)
    line("goodput", [each.goodput for each in made], lambda share: f"{100 * share:.1f} %", largest=False)
    overheads = [each.overhead for each in made if math.isfinite(each.overhead)]
    line("overhead without faults", overheads, lambda share: f"{100 * share:+.1f} %")
    notes = [
        "Worst: of the trials that reached the target, in the lines of times. Time lost per fault: the "
        "difference from the same seed without faults, over the number of faults up to the stop. Goodput: "
        "training rows per second whose gradients were used, as a share of the rows without faults."
    ]
    if late := [each for each in performed if not each.counts]:
        which = ", ".join(
            f"seed {each.config.seed} ({each.kills[0]} of {each.kills[1]} kills)" for each in late
        )
        notes.append(f"Not counted, and not repeated, as they reached the target before all kills: {which}.")
    if overheads:
        interval = student_interval(overheads)
        between = span(f"{100 * interval.low:+.1f} %", f"{100 * interval.high:+.1f} %")
        notes.append(
            "Overhead: time to the target with what it takes to survive a death (mpirun --with-ft ulfm) over "
            f"that without, in pairs; mean {100 * interval.mean:+.1f} %, 95 % {between}."
        )
    elif trials.request.clock == "virtual":
        notes.append("Overhead: surviving faults takes no time on the virtual clock.")
    title = f"{len(reached)} of {len(made)} trials reached {trials.goal} ({trials.request.clock} clock)"
    printing.show([(title, [table]), ("", [printing.note(" ".join(notes))])])


def format_difference(seconds: float) -> str:
    """Format a difference of times."""
    return ("-" if seconds < 0 else "") + duration(1e9 * abs(seconds))


def worst(made: Sequence[FaultTrial]) -> FaultTrial:
    """Return a trial that missed the target, or else the one with the most time lost per fault."""
    return max(made, key=lambda each: (not each.faulty.reached, np.nan_to_num(each.lost_s)))
