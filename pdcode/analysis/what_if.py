"""Costs of slow workers in a recorded run, and what would help, by the virtual clock under its delays."""

import math
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from ..api import configs
from ..choice.preset import prepare
from ..choice.timing import Timing
from ..config import Config, StopTable, StragglersTable
from ..schemes import delay_model
from ..session import setup
from ..stragglers import bases
from ..trace import descent
from ..trace.reader import TraceReader
from ..trace.recorder import Recorder
from ..util.errors import Failure, InputError
from ..util.formats import duration, number, percent, ratio, span, two_digits, workers_named
from ..util.threads import one_thread
from ..virtual import costs
from ..virtual.simulation import Simulation
from . import gain, statistics, verdict
from .diagnosis import Diagnosis, after_descent, bottlenecks, diagnose_times
from .slowness import SlowPart
from .summary import summarise

ALL = ["update.mode=all"]
SEEDS = 4  # of simulated descents
EXACT = {"progress_s": None, "progress_updates": None}  # measures as the virtual clock does by itself
MEASUREMENTS = 100  # of a simulated descent, approximately
LIMIT = 3  # multiple of its expected time at which it ends
GAIN = 0.95  # a change is proposed if it takes at most this fraction of the time
WASTE = ["update.mode=first", "update.count=auto", "update.late=waste"]
SHARED = ["problem.shards=replicated"]
"""A setting by which no rows are a slow worker's alone."""
FIRST = WASTE, ["scheme.name=uncoded", "reduce.kind=star", *WASTE]
"""Settings by which rank 0 steps at the first payloads; the first that fit a run are proposed."""

FREE: dict[str, dict[str, dict[str, Any]]] = {
    "rank 0": {
        "machine": {
            "arrival_s": 0.0,
            "decode_bandwidth": None,
            "dispatch_s": 0.0,
            "update_s": 0.0,
            "coordinator_speed": 1e9,
        }
    },
    "the link": {"link": {"latency_s": 0.0, "bandwidth": 1e18}},
}
FREE["the reduction"] = FREE["the link"]
"""The table of each bottleneck, and its keys with which that takes no time."""
REMEDIES = {
    "rank 0": "more rows a task (problem.batch), less to decode (code.share)",
    "the link": "fewer bits (wire.dtype), a smaller share (code.share), more rows a task (problem.batch)",
}
REMEDIES["the reduction"] = REMEDIES["the link"]

FORWARD = 3  # multiple of a measurement's arithmetic that a gradient of as many rows takes
MOST_FLOPS = 2e10  # of a run that is simulated with its arithmetic
EACH_FLOPS = 4e9  # of such a run, where several are
MOST_ARRIVALS = 1 << 18  # simulated without
EARLY = 0.25  # part of a run after which a change of its preset is late
DOUBT = 1.25  # factor between the predicted and the recorded time beyond which a prediction is in doubt


def diagnosed(trace: TraceReader, costs: bool = True) -> Diagnosis:
    """Diagnose a run, with the costs of its slow workers and what to try, which are simulated."""
    simple = not costs or trace.descent.diverged
    return after_descent(trace, diagnose_times(trace) if simple else _priced(trace))


def _priced(trace: TraceReader) -> Diagnosis:
    """Diagnose the workers of a run, with their costs and what to try."""
    found = diagnose_times(trace)
    if found.missing:
        return found
    try:
        if trace.config.get("plugins"):  # programs, which only a user may have run
            raise InputError("it has plug-ins")
        changed_ns = trace.segments["t_ns"][trace.segments["preset"] == 1].max(initial=0)
        if changed_ns > 1e9 * EARLY * summarise(trace).seconds:
            raise InputError("it has changed its preset")
        return _ranked(trace, found)
    except (Failure, InputError) as error:
        if not found.slow and not found.bottleneck:  # nothing that might cost something is named
            return found
        return replace(found, cost=f"not known: the virtual clock does not predict this run: {error}")


def _ranked(trace: TraceReader, found: Diagnosis) -> Diagnosis:
    """Return the diagnosis of what costs most: slow workers, rank 0, its link, the reduction.

    Each is priced by a simulation in which it alone is gone; others that cost something are said beside it.
    Errors are as in `Prediction`.
    """
    others = "" if found.slow or found.bottleneck else found.verdict
    shared = [*bottlenecks(trace, verdict.WARNING, others)]
    if not (found.slow or shared):
        return found
    run = Prediction(trace)
    priced = [freed(run, replace(each, slow=found.slow, ratios=found.ratios)) for each in shared]
    if found.slow:
        priced.insert(0, predicted(run, found))
    first, *others_priced = sorted(priced, key=lambda each: -each.share)
    if first.share < verdict.WARNING:
        return priced[0] if found.slow or found.bottleneck else found
    beside = [
        each.statements[0] for each in others_priced if each.share >= verdict.WARNING or not each.bottleneck
    ]
    return replace(first, verdict="; ".join([first.verdict, *beside]))


class Prediction:
    """Times of a run until a loss, or of all of it, under changes, relative to its own.

    The loss is the target. If that was not reached, or is not given, it is the last of the listed ones that
    was, unless a number of updates ended the run: then all of them count.

    Where all wait for all, the number of updates stays the same, and times are per update. Elsewhere
    a slow worker also contributes less of its rows: the descents are simulated, under several seeds. If that
    takes too long here, times are for as many payloads.

    Raises
    ------
    InputError
        If the virtual clock cannot predict such a run.
    """

    def __init__(self, trace: TraceReader) -> None:
        run, stop = summarise(trace), trace.table("stop")
        self.trace, n = trace, trace.worker_count
        self.config = None if trace.is_script else configs.read(trace, []).config
        self.single = self.config is not None and self.config.update.asynchronous
        self.goal, self.recorded_s, updates = run.target, run.target_s, run.updates
        if not 0 < run.target_s < math.inf:
            reached = statistics.milestones(trace.progress)
            whole = not reached or run.updates >= (stop.get("updates") or math.inf)
            level = 0.0 if whole else reached[-1][0]
            self.goal = "" if whole else f"loss {level:g}"
            self.recorded_s = run.seconds if whole else gain.time_s(trace, level)
            updates = run.updates if whole else int(np.sum(trace.updates["t_ns"] <= 1e9 * self.recorded_s))
        self.arrivals = int(np.sum(trace.arrivals["t_recv_ns"] <= 1e9 * self.recorded_s))
        self.own_s = update_s(trace, arrivals=self.arrivals)
        if not 0 < self.own_s < math.inf:
            raise InputError("a worker never answers")
        self.took = f"{f'{self.goal} after' if self.goal else 'the run took'} {self.time(1.0)}"
        self.of = f"the time to {self.goal}" if self.goal else "the run's time"
        given, preset = descent.given_keys(trace.config_text), trace.table("scheme").get("preset")
        # Without this setting a key of a table that presets fill would undo preset "auto".
        self.preset = (
            f"scheme.preset={preset}" if preset and not descent.get(given, "scheme", "preset") else ""
        )
        path = shlex.quote(str(trace.path))
        self.plan = f"pdcode plan JOB.toml --trace {path} searches for more"
        if trace.is_script:
            self.plan = f"pdcode plan --trace {path} --like CONFIG searches for more"
        self.descents_s = np.empty(0)  # of the run itself, by seed; none: they are not simulated
        if self.flops() <= EACH_FLOPS and self.config and not self.config.update.complete:
            self.descents_s = self.simulated_s(self.recorded_s, SEEDS)
            if not np.isfinite(self.descents_s).all():
                self.descents_s = np.empty(0)
        fit = self.own_s * updates / ((n if self.single else 1) * self.recorded_s)
        if len(self.descents_s):
            fit = self.descents_s[0] / self.recorded_s
        self.doubt = f"in doubt, as the clock predicts {ratio(fit)} the recorded time"
        if 1 / DOUBT <= fit <= DOUBT:
            self.doubt = ""

    def relative(
        self, replaced: Sequence[int] = (), free: str = "", settings: Sequence[str] = (), seeds: int = SEEDS
    ) -> np.ndarray:
        """Return times relative to the run's own, one or several by seed; parameters as of `update_s`."""
        factor = update_s(self.trace, replaced, free, settings, self.arrivals) / self.own_s
        if free or not len(self.descents_s) or not math.isfinite(factor):
            return np.array([factor])
        expected_s = max(1.0, factor) * self.recorded_s
        descents_s = self.simulated_s(expected_s, seeds, replaced, settings)
        return descents_s / self.descents_s[:seeds] if np.isfinite(descents_s).all() else np.array([factor])

    def time(self, factor: float) -> str:
        """Return a multiple of the time, as text."""
        return duration(1e9 * self.recorded_s * factor)

    def nothing(self, factor: float, unless: str) -> str:
        """Say that nothing is worth a change, as it would save little."""
        before, after = self.time(1.0), self.time(factor)
        takes = f"{after} in place of {before}" if factor < 1 and before != after else "as long"
        return f"nothing: {unless}, {self.goal or 'the run'} takes {takes}"

    def flops(self) -> float:
        """Return the arithmetic of a simulated descent to the loss; infinite if it is not known."""
        if self.config is None or not self.goal:
            return math.inf
        known = self.trace.attributes
        rows = min(known.get("rows", math.inf), self.config.problem.evaluate)
        gradients = rows / max(1, known.get("task_rows", 1)) / FORWARD
        return float(known.get("task_flops", math.inf) * (self.arrivals + MEASUREMENTS * gradients))

    def simulated_s(
        self,
        expected_s: float,
        seeds: int,
        replaced: Sequence[int] = (),
        settings: Sequence[str] = (),
        limit: float = LIMIT,
    ) -> np.ndarray:
        """Return when runs with these settings ``KEY=VALUE`` reach the loss, in s, by seed.

        It is infinite for runs that take longer than the `limit`, a multiple of the expected time.

        Raises
        ------
        InputError
            If the settings do not go with the run's other keys.
        """
        name, level = self.goal.split()
        config = recorded_config(self.trace, settings, replaced)
        config = msgspec.structs.replace(config, stop=StopTable(seconds=limit * expected_s)).with_keys(
            stop={name: float(level)}, trace=EXACT
        )
        times_s = []
        for seed in (config.seed ^ run for run in range(seeds)):
            one = config.with_seed(seed)
            components = prepare(one, str(self.trace.path), check=False)
            with np.errstate(all="ignore"), one_thread():  # the monitor checks the loss
                times_s.append(Simulation(components).run(Recorder())[1].target_s)
        return np.array(times_s)

    def waiting_for_all(self) -> str:
        """Say how much longer the run would take if all waited for all; empty if they do, or not known."""
        if self.trace.is_script:
            return ""
        try:
            factor = mean(self.relative(settings=ALL, seeds=1))  # of the run itself
        except InputError:  # not with the other keys of the run
            return ""
        if len(self.descents_s):  # over the recorded time, as `analysis.gain` has it
            factor *= self.descents_s[0] / self.recorded_s
        what, of = "waiting for all", "" if len(self.descents_s) else " for as many gradients"
        if not self.single and not len(self.descents_s):
            what, of = "an update that waits for all", ""
        if not 1 / GAIN < factor < math.inf:
            return ""
        return f"{what} would take {two_digits(factor)} times as long{of}"


def mean(factors: np.ndarray) -> float:
    """Return the geometric mean."""
    return float(np.exp(np.log(factors).mean()))


def less(factors: np.ndarray) -> str:
    """Return the part that is saved, with its range over several seeds."""
    if mean(factors) >= 1:
        return "not less"
    if len(factors) == 1:
        return f"{percent(1 - factors[0], 1)} % less"
    low, high = (two_digits(round(100 * (1 - each), 1) + 0.0) for each in (factors.max(), factors.min()))
    return f"{two_digits(100 * (1 - mean(factors)))} % less ({span(low, high)} by seed)"


def freed(run: Prediction, found: Diagnosis) -> Diagnosis:
    """Predict the run without its bottleneck; errors are as in `Prediction`."""
    where = found.bottleneck
    factors = run.relative(free=where)
    factor = mean(factors)
    share = max(0.0, 1 - factor)
    cost = f"{run.took}; {run.time(factor)} if {where} took no time, {less(factors)}"
    other = "a step for several payloads (update.mode = 'first')" if run.single else ""
    other = other or "sums by the workers (reduce.kind = 'allreduce')"
    kept = f" (with --set {run.preset}, which such a key would undo)" if run.preset else ""
    after = f"{REMEDIES[where]}{'' if where == 'the reduction' else f', or {other}'}{kept}; {run.plan}"
    if run.trace.is_script:
        after = (
            f"fewer bytes a step, such as by the hook of pdcode.torch.ddp, or more work a step; {run.plan}"
        )
    if share < verdict.WARNING:
        after = run.nothing(factor, f"if {where} took no time")
    return found.costing(share, run.of, "; ".join(filter(None, (cost, run.doubt))), after)


def predicted(run: Prediction, found: Diagnosis) -> Diagnosis:
    """Predict the run without its slow workers, and with other policies; errors are as in `Prediction`."""
    workers = [each.worker for each in found.slow]
    factors = run.relative(workers[:1])
    none = first = mean(factors)
    texts = [f"{run.took}; {run.time(first)} if worker {workers[0]} were as the others, {less(factors)}"]
    named = workers_named(sorted(workers))
    if workers[1:]:
        alone, none = mean(run.relative(workers[1:])), mean(run.relative(workers))
        texts.append(f"{run.time(alone)} if it alone were slow, {run.time(none)} if none of {named} were")
    share, cost = max(0.0, 1 - none), "; ".join([*texts, *filter(None, [run.doubt])])
    if share < verdict.WARNING:
        after = run.nothing(none, f"with {named} as the others")
    else:
        after = advice(run, found.slow, first, none)
    return found.costing(share, run.of, cost, after, run.waiting_for_all())


def advice(run: Prediction, slow: Sequence[SlowPart], first: float, none: float) -> str:
    """Say what to try, with the relative times without the slowest worker, and without all slow ones."""
    machine = f"replace worker {slow[0].worker}'s machine: predicted {run.time(first)}"
    if 1 - first < verdict.WARNING:
        named = workers_named(sorted(each.worker for each in slow))
        machine = f"replace the machines of {named}: predicted {run.time(none)}"
    if len(run.descents_s):
        with suppress(InputError):  # not with the other keys of the run
            shared = mean(run.relative(settings=SHARED))
            if shared <= GAIN:
                rows = f"pdcode run JOB.toml --set {SHARED[0]}: predicted {run.time(shared)}"
                machine = f"give all rows to each worker, {rows}; or {machine}"
    if not run.single and run.flops() <= MOST_FLOPS:
        for settings in FIRST:
            try:
                (target_s,) = run.simulated_s(run.recorded_s, 1, settings=settings, limit=1)
            except InputError:  # not with the other keys of the run
                continue
            if target_s <= GAIN * run.recorded_s:
                own = any(each.startswith("scheme.") for each in settings)
                whole = [run.preset, *settings] if run.preset and not own else settings
                shown = " ".join(f"--set {each}" for each in whole)
                policy = f"pdcode run JOB.toml {shown}: predicted {duration(1e9 * target_s)}"
                return f"wait for fewer workers, {policy}; or {machine}"
            break
    if run.trace.is_script:
        machine = "; or ".join([*moved_work(run.trace, slow[0]), machine])
    return f"{machine}; {run.plan}"


def moved_work(trace: TraceReader, slow: SlowPart) -> list[str]:
    """Return how to move work away from a script's slow worker, if that helps, with the predicted times."""
    rows, n, worker = trace.arrivals, trace.worker_count, slow.worker
    work_ns = np.full((int(rows["task"].max()) + 1, n), np.nan)
    work_ns[rows["task"], rows["worker"]] = rows["t_send_ns"] - rows["t_start_ns"]
    work_ns = work_ns[slow.first : slow.last + 1]
    work_ns, rest_ns = work_ns[np.isfinite(work_ns).all(axis=1)], bases.shared_link_ns(trace).mean()
    if not len(work_ns):  # no step of all workers
        return []
    shares = 1 / np.maximum(work_ns.mean(axis=0), 1)
    shares *= n / shares.sum()
    others = np.delete(work_ns, worker, axis=1)

    def mean_ns(changed: np.ndarray) -> float:
        return float(changed.max(axis=1).mean() + rest_ns)

    now_ns, moved_ns, fewer_ns = mean_ns(work_ns), mean_ns(work_ns * shares), mean_ns(others) * n / (n - 1)
    found = [
        (
            moved_ns,
            f"give worker {worker} {number(shares[worker], 2)} of its work and the others "
            f"{number((n - shares[worker]) / (n - 1), 2)}: predicted {duration(moved_ns)} a step, not "
            f"{duration(now_ns)}, if its time grows with its work",
        ),
        (fewer_ns, f"go on without it: predicted {duration(fewer_ns)} for the work of a step"),
    ]
    return [text for time_ns, text in sorted(found) if time_ns <= GAIN * now_ns]


def update_s(
    trace: TraceReader,
    replaced: Sequence[int] = (),
    free: str = "",
    settings: Sequence[str] = (),
    arrivals: int = MOST_ARRIVALS,
) -> float:
    """Return the time of an update in s, or of n payloads if each is one, under a run's recorded delays.

    It is the time of so many payloads, at most the recorded ones. Workers in `replaced` take the delays of a
    usual one; parts in `free` take no time; `settings` are keys ``KEY=VALUE`` of another run.
    """
    if trace.is_script:
        return script_step_s(trace, replaced, free)
    config = recorded_config(trace, settings, replaced)
    if free:
        config = config.with_keys(**FREE[free])
    components = setup.prepare(config, str(trace.path), check=False)
    if len(components.layouts) > 1:
        raise InputError("an update has several rounds")
    rounds = max(1, min(trace.arrivals.rows, arrivals, MOST_ARRIVALS) // trace.worker_count)
    return Timing(components).round_s([delay_model(config)], rounds)


def script_step_s(trace: TraceReader, replaced: Sequence[int], free: str = "") -> float:
    """Return the mean time of a script's step, at whose end all wait for the slowest, in s.

    The reduction takes no time if it is `free`.
    """
    table = StragglersTable.of(_delays(trace, replaced))
    workers, base_s = np.arange(trace.worker_count), 1e-9 * bases.base_ns(trace)
    model = table.make(0, len(workers))
    steps = max(1, min(trace.updates.rows, MOST_ARRIVALS // len(workers)))
    own_s = model.delays_s(workers, np.zeros_like(workers), steps)
    own_s += base_s * (1 + model.stretch(workers))[:, None]
    link_s = 0.0 if free else 1e-9 * bases.shared_link_ns(trace).mean()
    return float(own_s.max(axis=0).mean() + link_s)


def _delays(trace: TraceReader, replaced: Sequence[int]) -> dict[str, Any]:
    draw = "replay" if trace.attributes.get("arrivals", "all") == "all" else "block"
    return {"kind": "trace", "path": str(trace.path), "draw": draw, "replaced": [*replaced]}


def recorded_config(trace: TraceReader, settings: Sequence[str], replaced: Sequence[int] = ()) -> Config:
    """Return a run's configuration with its recorded delays and costs, and settings ``KEY=VALUE``."""
    delays = configs.overrides({"stragglers": _delays(trace, replaced)})
    config = configs.read(trace, [*delays, *settings]).config
    return costs.load(str(trace.path), costs.under_delays(trace, config), settings, base="low")
