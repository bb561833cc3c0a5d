"""`pdcode.train`: runs on communicators of a program that goes on after them, however they end."""

from pathlib import Path

import pytest
from launches import on_ranks

from pdcode import Trace

pytestmark = pytest.mark.slow
OWN, OTHERS = "ZeroDivisionError: of this rank", "Failure: worker 1 failed: ZeroDivisionError: of this rank"


@pytest.mark.system
def test_runs_on_halves_of_a_world_and_failures_as_exceptions(tmp_path: Path) -> None:
    program = Path(__file__).parent / "programs" / "halves.py"
    done = on_ranks(5, str(program), str(tmp_path), timeout_s=200)
    assert done.returncode == 0, done.stdout + done.stderr
    notes = [line for file in tmp_path.glob("rank*.txt") for line in file.read_text().splitlines()]
    lines = dict(line.split(": ", 1) for line in notes)

    def came(name: str) -> list[str]:
        return [lines[f"{name} {rank}"] for rank in range(5)]

    assert {lines[f"even {rank}"] for rank in (0, 2)} == {lines["odd 1"]} == {"none"}
    assert (lines["even 4"], lines["odd 3"]) == ("40 updates by 2", "40 updates by 1")
    for name in ("data", "again"):
        assert came(name) == ["40 updates by 4", *["none"] * 4]
    assert came("finished") == ["True", *["False"] * 4]
    assert {line.partition(":")[0] for line in came("input") + came("missing")} == {"InputError"}
    assert all("no.npz" in line for line in came("missing"))
    for name in ("star", "exchange", "ring", "first"):
        assert came(name) == [f"{OTHERS} with a trace", OTHERS, OWN, OTHERS, OTHERS]
    assert came("pace") == [OTHERS, OTHERS, OWN, OTHERS, OTHERS]
    diverges, *others = came("diverges")
    assert [diverges] == [f"{line} with a trace" for line in {*others}]
    assert others[0].startswith("Failure: diverged")
    assert set(came("signal")) == set(came("between")) == {"KeyboardInterrupt: "}
    assert all(line.startswith("Failure: not waited for any longer: worker") for line in came("drain"))
    assert came("end") == ["5"] * 5
    assert Trace(tmp_path / "signal.h5").summary()["failure"] == "interrupted"
    assert Trace(tmp_path / "star.h5").summary()["failure"] == OTHERS.removeprefix("Failure: ")
    trace = Trace(tmp_path / "even.h5")
    assert trace.finished
    assert trace.replay(progress=False).tobytes() == trace.theta.tobytes()


DEATH = """
import os, sys
from mpi4py import MPI
import pdcode

world = MPI.COMM_WORLD
half = world.rank % 2
config = {
    "problem": {"data": "digits", "hidden": [16]}, "scheme": {"name": "uncoded"}, "stop": {"updates": 200},
    "update": {"mode": "all" if half else "async"}, "reduce": {"kind": "allreduce" if half else "star"},
    "stragglers": {"kind": "slow-set", "shift_s": 0.005},  # or worker 0 makes all updates before the death
    "faults": {"events": [{"kind": "kill", "worker": 1, "task": 3}]},
}
comm, path = world.Split(half), f"{sys.argv[1]}/{half}.h5"
try:
    trace = pdcode.train(config, comm=comm, output=path, progress=False)
    note = "none" if trace is None else f"{trace.updates.rows} updates"
except pdcode.Failure as failure:
    note = str(failure)
with open(f"{sys.argv[1]}/{world.rank}", "w") as file:
    file.write(note)
os._exit(0)
"""


def test_a_death_ends_only_runs_that_need_the_rank(tmp_path: Path) -> None:
    done = on_ranks(6, "-c", DEATH, str(tmp_path), survives=True)
    died = "worker 1 died; the run cannot continue without"
    notes = {file.name: file.read_text() for file in tmp_path.iterdir() if not file.suffix}
    assert notes == {"0": "200 updates", "2": "none", "1": died, "3": died}, done.stderr
