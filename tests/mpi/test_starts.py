"""Processes that die, are stopped or raise before the run begins, or later: every job ends, with a line."""

import os
import platform
import signal
import sys

import pytest
from launches import launcher
from paths import ROOT
from test_faults import processes_of, wait_for

sys.path.insert(0, str(ROOT / "tests" / "soak"))

from storm import Deed, storm

from pdcode.launch import siblings

PLUGIN = """
import os, signal, sys, time
if {rank} in (os.environ.get("OMPI_COMM_WORLD_RANK"), None):
    time.sleep(1)  # until the others watch it: a quick machine's ranks begin in a quarter of a second
    {act}
"""
ACTS = {  # on a rank, and what the job prints and exits with
    "killed": ("os.kill(os.getpid(), 9)", "'2'", "rank 2 on {host} was ended by signal 9 (SIGKILL", 1),
    "rank 0 ended": ("os._exit(3)", "'0'", "rank 0 on {host} ended with exit code 3 before the run began", 1),
    "raised": ("raise RuntimeError('no')", "'2'", "rank 2 on {host}: ", 2),
    "exits here": ("sys.exit(0)", "None", "SystemExit: it ends the program, with exit code 0", 2),
}


@pytest.mark.every(3)
@pytest.mark.parametrize(("act", "own"), [*((act, False) for act in ACTS), ("killed", True)])
def test_a_rank_that_ends_before_mpi_starts_ends_the_job(act, own, start, trace_path, tmp_path, monkeypatch):
    if homeless := act == "killed" and not own:
        monkeypatch.delenv("HOME", raising=False)
    code, rank, words, status = ACTS[act]
    (tmp_path / "plugin.py").write_text(PLUGIN.format(rank=rank, act=code))
    command, environment = launcher(4, survives=True) if own else ((), {})
    plugin = f'plugins=["{tmp_path}/plugin.py"]'
    process = start(plugin, launcher=tuple(command), options=() if own else ("-n", "3"), **environment)
    _, err = process.communicate(timeout=200)
    assert process.returncode == (1 if own else status), err
    expected = words.format(host=platform.node())
    unseen = f"rank 2 on {platform.node()} died before the run began"  # before the others had found it
    said = [line for line in err.splitlines() if line.startswith("pdcode: ")]
    assert sum(expected in line or (own and unseen in line) for line in said) == 1, err
    assert "PMIX" not in err or own
    assert ("HOME is not set; MPI gets /" in err) == homeless
    wait_for(lambda: not processes_of(process.pid), 30)
    assert not trace_path.exists()


@pytest.mark.system
def test_a_stopped_rank_0_or_mpirun_and_a_killed_command_end_the_job() -> None:
    """A sample of `make storm`."""
    deeds = [
        Deed("stop", 0, 2.5), Deed("stop", "mpirun", 0.5), Deed("kill", "mpirun", 2.5),
        Deed("kill", "command", 2.5), Deed("stop", 2, 0.0), Deed("raise", 1, 3.5),
    ]  # fmt: skip
    outcomes = storm(deeds, 3, [], lanes=3, quiet=True)
    for outcome in outcomes:
        assert not outcome.fault() or outcome.fault().startswith("it ended "), outcome  # it may be busy here
        assert outcome.code, outcome


def test_ranks_that_wait_for_a_stopped_mpirun_at_their_end_print_nothing(start, trace_path):
    process = start("stop={seconds=1.0}", options=("-n", "3"))
    wait_for(trace_path.exists, 100)
    [mpirun] = [pid for pid in processes_of(process.pid) if siblings.state(pid)[0] in siblings.PRRTE]
    os.kill(mpirun, signal.SIGSTOP)
    out, err = process.communicate(timeout=200)
    assert (process.returncode, "stopped: 1 s" in out) == (1, True), out
    assert "mpirun remained stopped; the job ends" in err
    assert len(err.splitlines()) == 2, err


@pytest.mark.every(2)
@pytest.mark.parametrize("stop", ["stop={updates=60}", "stop={seconds=20.0}"])  # while ranks end, or work
def test_mpirun_ends_with_ranks_that_end_at_once_as_the_command_is_killed(stop, start, trace_path):
    process = start(stop, options=("-n", "5"))
    wait_for(trace_path.exists, 100)
    process.kill()
    process.communicate(timeout=200)
    wait_for(lambda: not processes_of(process.pid), 30)
