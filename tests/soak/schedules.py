"""Random schedules: jobs on simulated ranks that are stopped, killed and resumed as a seed draws it.

`make schedules` runs them. The loops, the fleets, the checkpoints and the trace are pdcode's own; MPI,
processes and the clock are `simulated_mpi`. Each job runs in a forked process, and at the end the trace is
replayed. Printed is each seed whose jobs end otherwise than they must:

- no job hangs, and none fails but by a full disk, or the death of rank 0, of a worker before the run, or of
  all workers;
- every trace opens, and its replay is the same to the last bit.
"""

import hashlib
import io
import json
import os
import random
import shlex
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import simulated_mpi
from simulated_mpi import Intracomm, World

from pdcode.launch.launcher import SURVIVES

LIMIT_S, ALARM_S = 100.0, 100  # of a job: on its clock, and of the machine
COMMON = [
    "problem={kind='softmax',data='breast-cancer',batch=8}", "optimizer.rate=0.1", "trace.checkpoint_s=0.01",
    "stragglers={kind='shifted-exponential',shift_s=0.0005,mean_s=0.001,slow=[1],slowdown=5}",
    "stop={updates=60,seconds=20,drain_s=0.05}",
]  # fmt: skip
UNCODED = ["scheme.name=uncoded", 'code={family="uncoded",blocks=1,rotate=false}']
CASES = {
    "default": ["memory.kind=worker"],
    "first": [*UNCODED, "update={mode='first',count=2}"],
    "first auto": [*UNCODED, "update={mode='first',count='auto'}"],
    "quorum": [*UNCODED, "update={mode='quorum',count=2}"],
    "all": [*UNCODED, "update.mode=all"],
    "async": [*UNCODED, "update.mode=async"],
    "spares": [*UNCODED, "update.mode=async", "workers.spares=2"],
    "relayed": ["downlink.kind=codewords", "wire.dtype=int8"],
    "exchanged": ["downlink.kind=exchange", "wire.dtype=int8"],
    "topk": ["scheme.name=topk", UNCODED[1], "memory.kind=worker"],
    "ringmaster": ["scheme.name=ringmaster", UNCODED[1]],
    "sharded-first": ["scheme.preset=sharded-first"],
    "full, async": [*UNCODED, "update.mode=async"],
    "full, quorum": [*UNCODED, "update={mode='quorum',count=2}"],
    "full, sharded-first": ["scheme.preset=sharded-first"],
}
FULL = "full"
"""How cases begin in which the disk is full at some time of each job but the last."""
RESIZED = "default", "first", "first auto", "quorum", "async", "topk"
"""Cases of which another number of workers can resume a run."""


class Inline:
    """A thread whose work is done as it starts, so that a seed gives the same run each time."""

    ident = None

    def __init__(self, target: Callable[..., None] = lambda: None, args: tuple[Any, ...] = ()) -> None:
        self._target, self._args = target, args

    def start(self) -> None:
        self._target(*self._args)


WORLD = World()
EXIT = os._exit
os.environ[SURVIVES] = "1"
simulated_mpi.install(WORLD)

from pdcode.choice.preset import prepare_ranks  # noqa: E402
from pdcode.config.load import resolve  # noqa: E402
from pdcode.launch import siblings  # noqa: E402
from pdcode.mpi import process, ranks  # noqa: E402
from pdcode.mpi.deaths import is_proc_failure  # noqa: E402
from pdcode.replay import replay  # noqa: E402
from pdcode.session import checkpoint  # noqa: E402
from pdcode.session.run import TrainingRun, check_writable  # noqa: E402
from pdcode.trace.reader import TraceReader  # noqa: E402
from pdcode.util import signals  # noqa: E402
from pdcode.util.errors import RESUMABLE, Failure, InputError  # noqa: E402

process.oversubscribed = lambda comm: True  # so a rank that waits sleeps after a few polls
siblings.outlive = lambda everyone_here: None  # the command ends the others
siblings.run_started = lambda: WORLD.begun.add(WORLD.current.number)
checkpoint.threading = SimpleNamespace(Thread=Inline)
signals.handled = partial(simulated_mpi.handled, WORLD)

Event = tuple[float, str, int]  # of a job: time in s, what happens, to which rank


@dataclass
class Plan:
    """What a seed draws: workers and events of a job, and of each that resumes it."""

    case: str
    workers: list[int]
    events: list[list[Event]]

    @classmethod
    def draw(cls, seed: int, cases: Sequence[str]) -> "Plan":
        """Draw a plan of one of some cases."""
        drawn = random.Random(seed)
        case, workers = drawn.choice(list(cases)), [drawn.randint(2, 5)]
        jobs = drawn.choice([1, 2, 2, 3])
        while len(workers) < jobs:
            resized = case in RESIZED and drawn.random() < 0.2
            workers.append(drawn.randint(2, 5) if resized else workers[-1])
        plan = cls(case, workers, [[] for _ in workers])
        for job, count in enumerate(workers):
            for _ in range(drawn.choice([0, 0, 1, 1, 2])):
                what = drawn.choice(["stop", "kill", "leave"])
                plan.events[job].append((time_s(drawn), what, drawn.randint(1, count)))
            if job < jobs - 1:
                plan.events[job].append((time_s(drawn), drawn.choice(["leave", "leave", "kill"]), 0))
                if case.startswith(FULL):
                    plan.events[job].append((time_s(drawn), FULL, 0))
        return plan


def time_s(drawn: random.Random) -> float:
    """Draw a time from the start to beyond the end of a job, which takes some 50 ms."""
    return float(10 ** drawn.uniform(-4, -0.8))


def happen(world: World, events: Sequence[Event], seed: int) -> None:
    """Have a job's events happen."""
    drawn = random.Random(seed)
    for at_s, what, rank in events:
        if what == FULL:
            continue  # in the configuration
        calls = {
            "stop": partial(world.stop, rank, round(1e9 * time_s(drawn))),
            "kill": partial(world.kill, rank),
            "leave": partial(world.signal, rank, signal.SIGTERM),
        }
        world.at(world.now_ns + round(1e9 * at_s), calls[what])


def run_job(settings: Sequence[str], resume: bool, seed: int, events: Sequence[Event]) -> int | None:
    """Run a job, or resume it; return its exit code, None if rank 0 was killed."""
    full = [f"{{kind='full-disk',at_s={at_s}}}" for at_s, what, _ in events if what == FULL]
    config = resolve({}, [*settings, f"faults.events=[{','.join(full)}]"])
    found, given = (checkpoint.find(config) if resume else None), config
    if found is not None:
        config = found.resumed_config(config)
    others = config.workers.count + config.workers.spares
    comm, stuck = Intracomm.of(WORLD, range(1 + others), 0), list[bool]()

    class Observed(ranks.Coordination):
        def train(self, *parts: Any) -> TrainingRun:
            done = super().train(*parts)
            stuck.append(done.coordinator.stuck)  # as no worker was left
            return done

    def coordinate() -> None:
        components = prepare_ranks(config, "job")
        check_writable(config.trace.path, "job", config.stragglers.reads)
        coordination = Observed(process.Group(comm), "", given, found, resume=True)
        WORLD.current.end(coordination.run(components).code)

    def serve() -> None:
        ranks.serve(process.Group(comm), given)

    works = [partial(guarded, work, comm) for work in (coordinate, *[serve] * others)]
    WORLD.begin(works, seed)
    happen(WORLD, events, seed)
    WORLD.run(LIMIT_S)
    for number, error in WORLD.errors:
        raise AssertionError(f"rank {number} failed") from error
    code = WORLD.ranks[0].code
    assert code in (0, RESUMABLE, None) or full or 0 not in WORLD.begun or stuck == [True], code
    return code


def guarded(work: Callable[[], None], comm: Intracomm) -> None:
    """Do a rank's work; an error ends the job as in `process.job`."""
    with signals.handled(dict.fromkeys(signals.TERMINATING, signal.SIG_IGN)):
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - as in `process.job`
            dead = isinstance(error, simulated_mpi.MPIError) and is_proc_failure(error, comm)
            if not (dead or isinstance(error, Failure)):
                WORLD.errors.append((WORLD.current.number, error))
            process.abort(error, True, comm)


def check_trace(path: Path, resized: bool) -> str:
    """Read a trace, and replay it, unless it is one that cannot be; return a digest of its rows."""
    trace, rows = TraceReader(path, correct_clocks=False), hashlib.sha256()
    for table in (trace.arrivals, trace.updates, trace.faults):
        for name in sorted(table):
            rows.update(table[name].tobytes())
    try:
        replay(trace, lambda line: None)
    except InputError as error:
        if not (resized and "another number of workers" in str(error)):
            raise
    return rows.hexdigest()


def in_child(work: Callable[[], object]) -> Any:
    """Return a function's result from a forked process; AssertionError with its traceback if it fails."""
    reading, writing = os.pipe()
    if not (pid := os.fork()):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(ALARM_S)
        os.close(reading)
        said = io.StringIO()
        try:
            with redirect_stdout(said), redirect_stderr(said):
                answer = {"result": work()}
        except BaseException:  # noqa: BLE001 - the parent reports it
            answer = {"error": said.getvalue()[-2000:] + traceback.format_exc()}
        with os.fdopen(writing, "w") as pipe:
            json.dump(answer, pipe)
        EXIT(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    os.waitpid(pid, 0)
    answer = json.loads(text) if text else {"error": f"no end after {ALARM_S} s, or a crash"}
    if "error" in answer:
        raise AssertionError(answer["error"])
    return answer["result"]


def run_plan(plan: Plan, seed: int, folder: Path) -> tuple[list[int | None], str]:
    """Run all jobs of a plan, and replay the trace; return the exit codes, and a digest of the trace."""
    path, codes, rows = folder / "trace.h5", list[int | None](), ""
    for job, (workers, events) in enumerate(zip(plan.workers, plan.events, strict=True)):
        settings = [*COMMON, *CASES[plan.case], f"workers.count={workers}", f"trace.path={str(path)!r}"]
        codes.append(in_child(partial(run_job, settings, bool(job), seed + job, events)))
        if codes[-1] not in (RESUMABLE, None) and not (codes[-1] and plan.case.startswith(FULL)):
            break
    if path.exists():
        rows = in_child(partial(check_trace, path, len(set(plan.workers)) > 1))
    return codes, rows


def import_all() -> None:
    """Import what a job imports late, so that its forked process has it."""

    def run_once() -> list[str]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "trace.h5")
            for case in CASES.values():
                run_job([*COMMON, *case, "workers.count=2", f"trace.path={str(path)!r}"], False, 0, ())
            check_trace(path, False)
        return list(sys.modules)

    for name in in_child(run_once):
        with suppress(ImportError):
            import_module(name)


def run_seeds(seeds: Sequence[int], cases: Sequence[str]) -> Iterator[tuple[int, str, str]]:
    """Yield each seed, the exit codes of its jobs and a digest of the trace, or what is wrong."""
    for seed in seeds:
        plan = Plan.draw(seed, cases)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            try:
                codes, rows = run_plan(plan, seed, Path(folder))
                yield seed, json.dumps(codes), rows
            except AssertionError as error:
                yield seed, f"{plan}\n{error}", ""


def main(words: Sequence[str]) -> int:
    """Run the schedules that the words ask for, on all cores; return the exit code."""
    given = dict(word.partition("=")[::2] for word in words)
    first, count = int(given.get("first", 0)), int(given.get("n", 1000))
    cases = shlex.split(given.get("cases", "")) or list(CASES)
    cores = min(len(os.sched_getaffinity(0)), count)
    import_all()
    pipes, ends, bad, digests = list[Any](), Counter[str](), 0, list[str]()
    for lane in range(cores):
        reading, writing = os.pipe()
        if not os.fork():
            with os.fdopen(writing, "w") as pipe:
                for found in run_seeds(range(first + lane, first + count, cores), cases):
                    print(json.dumps(found), file=pipe, flush=True)
            EXIT(0)
        os.close(writing)
        pipes.append(os.fdopen(reading))
    for pipe in pipes:
        for line in pipe:
            seed, end, rows = json.loads(line)
            digests.append(f"{seed} {rows}")
            if end.startswith("["):
                ends[end] += 1
            else:
                bad += 1
                print(f"seed {seed}: {end}", flush=True)
    codes = ", ".join(f"{number} {end.replace('null', 'killed')}" for end, number in ends.most_common())
    print(f"{sum(ends.values()) + bad} of {count} schedules, {bad} bad; exit codes: {codes}")
    print(f"digest of all traces: {hashlib.sha256(repr(sorted(digests)).encode()).hexdigest()[:16]}")
    return int(bad > 0 or sum(ends.values()) < count)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
