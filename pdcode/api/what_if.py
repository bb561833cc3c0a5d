"""Costs of slow workers in a recorded run, and what would help, by the virtual clock under its delays."""

import math
import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..analysis.diagnosis import WARN, Diagnosis, SlowPart, diagnose
from ..analysis.summary import summarise
from ..config import Config, StragglersTable
from ..stragglers import bases
from ..trace import Recorder
from ..trace.reader import TraceReader
from ..training import setup
from ..util.errors import Failure, InputError
from ..util.formats import duration, number, percent, ratio, workers_named
from ..util.threads import one_thread
from ..virtual import choice, costs
from ..virtual.simulation import Simulation
from . import configs

GAIN = 0.95  # a change is proposed if it takes at most this fraction of the time
WASTE = ["update.mode=first", "update.count=auto", "update.late=waste"]
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
"""The table of each bottleneck, and its keys with which that takes no time."""
REMEDIES = {
    "rank 0": "more rows a task (problem.batch), less to decode (code.share)",
    "the link": "fewer bits (wire.dtype), a smaller share (code.share), more rows a task (problem.batch)",
}

MOST_FLOPS = 2e10  # of a run that is simulated with its arithmetic
MOST_ARRIVALS = 1 << 18  # simulated without
RECORDED = "slow", "delay", "drop", "stop", "hang", "cut"  # faults that recorded delays include
DOUBT = 1.25  # factor between the predicted and the recorded time beyond which a prediction is in doubt


def diagnosed(trace: TraceReader) -> Diagnosis:
    """Diagnose a run, with the costs of its slow workers and what to try."""
    found = diagnose(trace)
    if not found.slow and not found.bottleneck:
        return found
    try:
        if trace.config.get("plugins"):  # programs, which only a user may have run
            raise InputError("it has plug-ins")
        if trace.first_preset:
            raise InputError("it has changed its preset")
        where = found.bottleneck
        cost, after = freed(trace, where) if where else predicted(trace, found.slow)
    except (Failure, InputError) as error:
        cost, after = f"not known: the virtual clock does not predict this run: {error}", ""
    return replace(found, cost=cost, next=after)


class Prediction:
    """Times of a run to its target, or of all of it, if an update took another time.

    Raises
    ------
    InputError
        If the virtual clock cannot predict such a run.
    """

    def __init__(self, trace: TraceReader) -> None:
        run, n = summarise(trace), trace.worker_count
        self.single = not trace.is_script and configs.read(trace, []).config.update.asynchronous
        self.reached = math.isfinite(run.target_s)
        self.recorded_s = run.target_s if self.reached else run.seconds
        self.own_s = update_s(trace)
        if not 0 < self.own_s < math.inf:
            raise InputError("a worker never answers")
        self.took = f"{f'{run.target} after' if self.reached else 'the run took'} {self.time(self.own_s)}"
        fit = self.own_s * run.updates / ((n if self.single else 1) * run.seconds)
        self.doubt = f"in doubt, as the clock predicts {ratio(fit)} the recorded time"
        if 1 / DOUBT <= fit <= DOUBT:
            self.doubt = ""
        path = shlex.quote(str(trace.path))
        self.plan = f"pdcode plan JOB.toml --trace {path} searches for more"
        if trace.is_script:
            self.plan = f"pdcode plan --trace {path} --like CONFIG searches for more"

    def time(self, update_s: float) -> str:
        """Return the time, as text."""
        return duration(1e9 * self.recorded_s * update_s / self.own_s)

    def saved(self, update_s: float) -> float:
        """Return the fraction of the time that is saved."""
        return max(0.0, 1 - update_s / self.own_s)


def freed(trace: TraceReader, where: str) -> tuple[str, str]:
    """Predict the run without its bottleneck; return lines `cost` and `next`; errors as of `Prediction`."""
    run, free_s = Prediction(trace), update_s(trace, free=where)
    cost = f"{run.took}; {run.time(free_s)} if {where} took no time, {percent(run.saved(free_s), 1)} % less"
    other = "a step for several payloads (update.mode = 'first')" if run.single else ""
    other = other or "sums by the workers (reduce.kind = 'allreduce')"
    return "; ".join(filter(None, (cost, run.doubt))), f"{REMEDIES[where]}, or {other}; {run.plan}"


def predicted(trace: TraceReader, slow: Sequence[SlowPart]) -> tuple[str, str]:
    """Predict the run without its slow workers, and with other policies; return lines `cost` and `next`.

    Errors are those of `Prediction`.
    """
    run = Prediction(trace)
    time, recorded_s = run.time, run.recorded_s
    workers = [each.worker for each in slow]
    without_s = update_s(trace, workers[:1])
    share = run.saved(without_s)
    texts = [
        f"{run.took}; {time(without_s)} if worker {workers[0]} were as the others, {percent(share, 1)} % less"
    ]
    if workers[1:]:
        alone, none = time(update_s(trace, workers[1:])), time(update_s(trace, workers))
        named = workers_named(sorted(workers))
        texts.append(f"{alone} if it alone were slow, {none} if none of {named} were")
    else:
        texts.append(f"{time(run.own_s)} with it alone slow, as no other worker is")
    texts += filter(None, [run.doubt])
    if share < WARN:
        return "; ".join(texts), "nothing: the run hardly waits for it"
    machine = f"replace worker {workers[0]}'s machine: predicted {time(without_s)}"
    if not run.single and run.reached:
        for settings in FIRST:
            try:
                target_s = simulated_s(trace, settings, recorded_s)
            except InputError:  # not with the other keys of the run
                continue
            if target_s <= GAIN * recorded_s:
                shown = " ".join(f"--set {each}" for each in settings)
                policy = f"pdcode run JOB.toml {shown}: predicted {duration(1e9 * target_s)}"
                return "; ".join(texts), f"wait for fewer workers, {policy}; or {machine}"
            break
    if trace.is_script:
        machine = "; or ".join([*moved_work(trace, slow[0]), machine])
    return "; ".join(texts), f"{machine}; {run.plan}"


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


def simulated_s(trace: TraceReader, settings: Sequence[str], limit_s: float) -> float:
    """Return when a run with these settings ``KEY=VALUE`` reaches its target, in s; inf: not in `limit_s`.

    Raises
    ------
    InputError
        If the settings do not go with the run's other keys, or its arithmetic takes too long here.
    """
    work = float(trace.attributes.get("task_flops", math.inf)) * trace.arrivals.rows
    if work > MOST_FLOPS:
        raise InputError("its arithmetic takes too long here")
    config = recorded_config(trace, [*settings, f"stop.seconds={limit_s}"])
    components = choice.prepare(config, str(trace.path), check=False)
    with np.errstate(all="ignore"), one_thread():  # the monitor checks the loss
        _, result = Simulation(components.config, components).run(Recorder())
    return result.target_s


def update_s(trace: TraceReader, replaced: Sequence[int] = (), free: str = "") -> float:
    """Return the time of an update in s, or of n payloads if each is one, under a run's recorded delays.

    Workers in `replaced` take the delays of a usual one; what `free` names takes no time.
    """
    if trace.is_script:
        return script_step_s(trace, replaced)
    config = recorded_config(trace, (), replaced)
    if free:
        config = config.with_keys(**FREE[free])
    components = setup.prepare(config, str(trace.path), check=False)
    if len(components.layouts) > 1:
        raise InputError("an update has several rounds")
    rounds = max(1, min(trace.arrivals.rows, MOST_ARRIVALS) // trace.worker_count)
    return choice.round_s(components, None, rounds)


def script_step_s(trace: TraceReader, replaced: Sequence[int]) -> float:
    """Return the mean time of a script's step, at whose end all wait for the slowest, in s."""
    table = StragglersTable.of(_delays(trace, replaced))
    workers, base_s = np.arange(trace.worker_count), 1e-9 * bases.base_ns(trace)
    model = table.make(0, len(workers))
    steps = max(1, min(trace.updates.rows, MOST_ARRIVALS // len(workers)))
    own_s = model.delays_s(workers, np.zeros_like(workers), steps)
    own_s += base_s * (1 + model.stretch(workers))[:, None]
    return float(own_s.max(axis=0).mean() + 1e-9 * bases.shared_link_ns(trace).mean())


def _delays(trace: TraceReader, replaced: Sequence[int]) -> dict[str, Any]:
    draw = "replay" if trace.attributes.get("arrivals", "all") == "all" else "block"
    return {"kind": "trace", "path": str(trace.path), "draw": draw, "replaced": [*replaced]}


def recorded_config(trace: TraceReader, settings: Sequence[str], replaced: Sequence[int] = ()) -> Config:
    """Return a run's configuration with its recorded delays and costs, and settings ``KEY=VALUE``."""
    delays = configs.overrides({"stragglers": _delays(trace, replaced)})
    config = configs.read(trace, [*delays, *settings]).config
    events = [event for event in config.faults.events if event.kind not in RECORDED]
    return costs.load(str(trace.path), config.with_keys(faults={"events": events}), base="low")
