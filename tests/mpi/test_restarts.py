"""Jobs that the death of a rank ends, and that go on from their newest checkpoint."""

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grids import with_system
from outcomes import assert_replays, faults_of
from paths import SUPPORT
from test_faults import processes_of, ranks_of, wait_for
from test_resume import ENDLESS, KINDS, NAMES, wait_for_checkpoint

from pdcode import Trace

DEADLY = """

import os
from pathlib import Path

died, gradient, tasks = Path(__file__).with_name("died"), loss_and_gradient, []

def loss_and_gradient(theta, x, y, key):
    tasks.append(1)
    if os.environ.get("OMPI_COMM_WORLD_RANK") == "1" and len(tasks) > (0 if died.exists() else 50):
        died.touch()
        os.kill(os.getpid(), 9)
    return gradient(theta, x, y, key)
"""
SIMPLE = "OMPI_MCA_pml", "ob1"  # no death is survived


def kill(path: Path, *ranks: int) -> dict[int, int]:
    """Kill ranks of a job; return the process ids of all."""
    before = ranks_of(path)
    for rank in ranks or before:
        with suppress(ProcessLookupError):  # mpirun ends them with the first
            os.kill(before[rank], signal.SIGKILL)
    return before


def end(process: "subprocess.Popen[str]") -> str:
    """End a job by a signal; return its stderr."""
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 75, err
    wait_for(lambda: not processes_of(process.pid), 30)
    return err


@pytest.mark.every(2)
@pytest.mark.parametrize("kind", with_system("exchanged", system=["async", "integers", "first, averaged"]))
def test_rank_0_dies_twice(kind: str, run: Any, trace_path: Path, capsys: Any) -> None:
    deaths = ", ".join(f"{{kind='kill-rank-0', at_s={at_s}}}" for at_s in (0.5, 1.0))
    job = *ENDLESS, *KINDS[kind], "stop.seconds=1.5", f"faults.events=[{deaths}]"
    done = run(*job, alone=True, options=("-n", "2"))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("; the job goes on from its checkpoint ") == 2
    trace = Trace(trace_path)
    assert trace.finished
    assert faults_of(trace).count("restarted") == 2
    assert (np.diff(trace.updates["version"]) == 1).all()
    assert not trace_path.with_name(trace_path.name + ".checkpoint").exists()
    assert_replays(trace_path, capsys)


def test_ranks_die_while_the_job_starts_again(start: Any, trace_path: Path, capsys: Any) -> None:
    """First rank 0 and a worker, then the new rank 0 as soon as it is there."""
    process = start(*ENDLESS, options=("-n", "2"))
    wait_for_checkpoint(process, trace_path)
    before = kill(trace_path, 0, 2)
    wait_for(lambda: ranks_of(trace_path).get(0, before[0]) != before[0], 100)
    again = kill(trace_path, 0)
    wait_for(lambda: ranks_of(trace_path).get(0, again[0]) != again[0], 100)
    wait_for(lambda: Trace(trace_path).segments.rows == 2, 100)
    wait_for_checkpoint(process, trace_path)
    assert "; the job goes on from its checkpoint " in end(process)
    trace = Trace(trace_path)
    assert (np.diff(trace.updates["version"]) == 1).all()
    assert_replays(trace_path, capsys)


@pytest.mark.parametrize("who", with_system("a worker", system=["all"]))
def test_a_job_that_survives_no_death_goes_on(who: str, start: Any, trace_path: Path, capsys: Any) -> None:
    process = start(*ENDLESS, options=("-n", "2"), **dict([SIMPLE]))
    wait_for_checkpoint(process, trace_path)
    kill(trace_path, *([1] if who == "a worker" else []))
    wait_for(lambda: Trace(trace_path).segments.rows == 2, 100)
    wait_for_checkpoint(process, trace_path)
    assert "; the job goes on from its checkpoint " in end(process)
    assert "restarted" in faults_of(Trace(trace_path))
    assert_replays(trace_path, capsys)


def test_a_job_ends_that_dies_again_and_again(run: Any, trace_path: Path) -> None:
    """At its first task, once it has died at its 50th."""
    file = trace_path.with_name("model.py")
    file.write_text((SUPPORT / "functions.py").read_text(encoding="utf-8") + DEADLY, encoding="utf-8")
    keys = ", ".join(f"{key}='{file}:{name}'" for key, name in NAMES.items())
    job = *ENDLESS, f"problem={{kind='function', {keys}}}", "code.blocks=4"
    done = run(*job, options=("-n", "2"), **dict([SIMPLE]))
    assert done.returncode == 1, done.stderr
    assert done.stderr.endswith("pdcode: 3 restarts in a row came no further; --resume would try again\n")
    assert trace_path.with_name(trace_path.name + ".checkpoint").exists()
