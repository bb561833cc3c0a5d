"""Runs in one program on 5 ranks: ``halves.py FOLDER``. Every rank notes there what each run came to."""

import gc
import signal
import sys
from pathlib import Path

import numpy as np
from mpi4py import MPI

import pdcode
from pdcode.mpi import ranks

FILE, FOLDER = Path(__file__).with_name("failing.py"), Path(sys.argv[1])
ALL = {"scheme": {"name": "uncoded"}, "update": {"mode": "all"}, "stop": {"updates": 40}}
CONFIG = {"problem": {"data": "digits", "hidden": [16], "batch": 16}, **ALL}
world = MPI.COMM_WORLD


def note(name, came):
    with (FOLDER / f"rank{world.rank}.txt").open("a") as file:
        print(f"{name} {world.rank}: {came}", file=file)


def train(name, comm, config=CONFIG, **more):
    try:
        trace = pdcode.train(config, comm=comm, output=FOLDER / f"{name}.h5", progress=False, **more)
        came = "none"
        if trace is not None:
            came = f"{trace.updates.rows} updates by {len(set(trace.arrivals['worker']))}"
    except BaseException as error:  # noqa: BLE001
        trace = getattr(error, "trace", None)
        came = f"{type(error).__name__}: {error}" + ("" if trace is None else " with a trace")
    note(name, came)


before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
half = world.Split(world.rank % 2, -world.rank)  # ranks 4, 2, 0 and 3, 1
train("odd" if world.rank % 2 else "even", half)
x = np.random.default_rng(0).standard_normal((60, 3))
data = (x, x @ [1.0, 2.0, 3.0]) if world.rank == 0 else None
train("data", world, {"problem": {"kind": "least-squares", "targets": "z"}, **ALL}, data=data)
train("input", world, CONFIG | {"code": {"blocks": 0}})
train("missing", world, CONFIG | ({"problem": {"data": "no.npz"}} if world.rank == 0 else {}))
numbers = {"kind": "least-squares", "task": "regression"}
train("diverges", world, CONFIG | {"optimizer": {"rate": 1e9}, "problem": numbers})
FUNCTION = {"kind": "function", "batch": 4, "start": f"{FILE}:START", "data": f"{FILE}:ROWS"}
SUMMED = {"scheme": {"name": "uncoded"}, "reduce": {"kind": "allreduce"}}
for name, function, more in (
    ("star", "fails", ALL),
    ("exchange", "fails", {"code": {"rows_per_task": 1}}),
    ("ring", "fails", {**SUMMED, "update": {"mode": "all"}}),
    ("first", "fails", {**SUMMED, "update": {"mode": "first", "late": "waste"}}),
    ("pace", "fails", {}),
    ("signal", "interrupts", ALL),
    ("drain", "sleeps", {"update": {"mode": "async"}, "stop": {"updates": 4000, "drain_s": 0.2}}),
):
    problem = FUNCTION | {"function": f"{FILE}:{function}"}
    train(name, world, {"problem": problem, **more, "stop": {"updates": 10**6} | more.get("stop", {})})
make_fleet = ranks.Coordination.make_fleet
if world.rank == 0:
    (FOLDER / "awake").touch()
    ranks.Coordination.make_fleet = lambda *given: (make_fleet(*given), signal.raise_signal(signal.SIGTERM))[
        0
    ]
train("between", world)
ranks.Coordination.make_fleet = make_fleet
train("again", world)
note("finished", pdcode.train(CONFIG, comm=world, output=FOLDER / "again.h5", resume=True) is not None)
assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
assert not gc.get_freeze_count()
note("end", world.allreduce(1))
