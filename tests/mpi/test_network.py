"""Jobs on one machine, and strangers: nothing listens beyond it, and nobody else's connection stops a run."""

import os
import socket
import subprocess
import sys

import pytest
from grids import with_system
from outcomes import assert_replays, faults_of
from shell import environment
from sockets import Strangers, listening, watch
from test_faults import ranks_of
from test_resume import ENDLESS, wait_for_checkpoint

from pdcode import Trace
from pdcode.launch import launcher, network
from pdcode.util.errors import InputError

UPDATES = "stop={updates=1500, seconds=100.0}"
SENT = {"silence": (b"", 1), "byte": (b"O", 1), "garbage": (os.urandom(20_000), 1), "many": (b"", 100)}


def test_on_one_machine_nothing_listens_beyond_it(start):
    """At the start, in mid-run and at the end; the ranks do not listen at all."""
    job = start(UPDATES, options=("-n", "3"))
    seen = watch(job)
    out, err = job.communicate()
    assert (job.returncode, err) == (0, ""), out
    assert {each.address for each in seen} in ({"127.0.0.1"}, {"127.0.0.1", "::1"})
    assert not {each.program for each in seen} & {"python", "pdcode: init", "pdcode: done"}


@pytest.mark.parametrize("way", with_system("byte", "many", system=["silence", "garbage"]))
def test_strangers_do_not_stop_a_run(way, start, trace_path):
    """They connect to all that listens, from the start of the job to its end, and stay."""
    strangers = Strangers(*SENT[way])
    try:
        job = start(UPDATES, options=("-n", "3"))
        assert watch(job, strangers.visit)
        out, err = job.communicate()
    finally:
        strangers.leave()
    assert (job.returncode, err) == (0, ""), out
    assert len(Trace(trace_path).updates["t_ns"]) == 1500


def test_ranks_get_what_the_user_preloads_and_nothing_else(monkeypatch):
    monkeypatch.setenv("LD_PRELOAD", "libm.so.6")
    command, variables = launcher.command(1, [])
    assert variables["LD_PRELOAD"] == f"{network.LIBRARY}:libm.so.6"
    words = [*command[: command.index(sys.executable)], sys.executable, "-c"]
    show = "import os; print(os.environ.get('LD_PRELOAD'), flush=True)"
    for preloaded, expected in (("libm.so.6", "libm.so.6"), (None, "None")):
        own = f"{network.LIBRARY}:{preloaded}" if preloaded else f"{network.LIBRARY}"
        done = subprocess.run(
            [*words, show], env=environment() | variables | {"LD_PRELOAD": own},
            capture_output=True, text=True, timeout=100, check=True,
        )  # fmt: skip
        assert done.stdout.split() == [expected] * 2


HOST = socket.gethostname().split(".")[0]
SINGLE = {"SLURM_JOB_NODELIST": HOST, "SLURMD_NODENAME": HOST}


@pytest.mark.parametrize(
    ("variables", "local"),
    [
        ({}, True),
        (SINGLE, True),
        (SINGLE | {"SLURM_JOB_NODELIST": "n[1-2]"}, False),
        ({"SLURM_JOB_NODELIST": HOST}, False),  # of salloc, which runs elsewhere
        ({"PBS_NODEFILE": "/var/nodes"}, False),
        ({"PRTE_MCA_prte_default_hostfile": "hosts"}, False),
        ({"HYDRA_HOST_FILE": "hosts"}, False),
        ({"PDCODE_INTERFACE": "eth0"}, False),
        ({"PBS_NODEFILE": "/var/nodes", "PDCODE_INTERFACE": "lo"}, True),
    ],
)
def test_what_names_other_machines_is_seen(variables, local):
    assert network.is_local(variables, launcher.find_mpirun()) == local


def test_a_host_file_of_the_installation_is_seen(tmp_path):
    for folder in ("bin", "etc"):
        (tmp_path / folder).mkdir()
    hosts = tmp_path / "etc" / "prte-default-hostfile"
    hosts.write_text("# none\n")
    assert network.is_local({}, str(tmp_path / "bin" / "mpirun"))
    hosts.write_text("# two\nn1 slots=4\n")
    assert not network.is_local({}, str(tmp_path / "bin" / "mpirun"))


def test_the_interface_between_hosts_is_passed_on(monkeypatch):
    monkeypatch.setenv(network.INTERFACE, "10.0.0.0/8")
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    _, variables = launcher.command(2, [])
    assert "LD_PRELOAD" not in variables
    assert variables["PRTE_MCA_prte_if_include"] == variables["OMPI_MCA_btl_tcp_if_include"] == "10.0.0.0/8"
    monkeypatch.setenv(network.INTERFACE, "eth99")
    with pytest.raises(InputError, match=r"PDCODE_INTERFACE: 'eth99': expected one of lo.*, or a network"):
        launcher.command(2, [])


def test_transports_that_the_user_chooses_are_left():
    chosen = {network.BTL: "tcp,self", "UCX_TLS": "tcp,self"}
    own = dict(chosen)
    with network.restricted_rank(own):
        assert own == chosen
    own = {network.BTL: network.WITHOUT_OFI}
    with network.restricted_rank(own):
        assert own[network.BTL] == network.SHARED
    assert own == {network.BTL: network.WITHOUT_OFI}


def test_what_a_process_starts_may_be_on_other_machines():
    """MPI in this process uses shared memory alone; an mpirun that it starts is not told to."""
    script = "import os; before = dict(os.environ); import pdcode.mpi.initialise;"
    changed = "print({name for name in os.environ if os.environ[name] != before.get(name)})"
    out = subprocess.check_output(
        [sys.executable, "-c", script + changed], env=environment(), text=True, timeout=100
    )
    assert out == "set()\n"


TCP = {network.BTL: "tcp,self"}
BOUND = """
from pdcode.mpi import watchdog

watchdog.STILL_S, watchdog.BOUND_S = 2.0, {bound_s}
"""
STILL = ": a call of MPI does not return; replies wait\n"


@pytest.mark.parametrize("bound_s", with_system(4.0, system=[100.0]))
def test_a_connection_that_holds_mpi_is_said_and_rank_0_ends_at_the_bound(bound_s, start, trace_path, capsys):
    """Ranks that use TCP, and a stranger that sends rank 0 one byte of the greeting."""
    (file := trace_path.with_name("bound.py")).write_text(BOUND.format(bound_s=bound_s))
    ends = "stop.seconds=12.0", f"plugins=['{file}']"
    process = start(*ENDLESS, *ends, options=("-n", "2"), **TCP)
    wait_for_checkpoint(process, trace_path)
    stranger, ranks = Strangers(b"O"), ranks_of(trace_path)
    try:
        for line in process.stdout:
            if line.endswith(STILL):
                break
            stranger.visit(listening(ranks[0]))
        assert line.endswith(STILL)
        if bound_s == 100.0:
            stranger.leave()
        _, err = process.communicate(timeout=60)
    finally:
        stranger.leave()
    assert process.returncode == 0, err
    ended = "restarted" in faults_of(Trace(trace_path))
    if bound_s == 100.0:
        assert (err, ended) == ("", False)
    else:
        assert "pdcode: rank 0: a call of MPI has not returned for 4 s; rank 0 ends\n" in err
        assert "; the job goes on from its checkpoint " in err
        assert ended
    assert_replays(trace_path, capsys)
