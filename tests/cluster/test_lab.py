"""Runs over emulated hosts: where ranks are, what links carry, and links that are cut."""

import json
import os
import platform
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import lab as emulated
import numpy as np
import pytest
from lab import Lab
from paths import ROOT
from rig import wait
from shell import environment

from pdcode import Trace

HEADERS = 66  # bytes of a packet for Ethernet, IP, and TCP with time stamps
SEGMENT = 1448  # bytes of a packet without them, at most
START = 30_000  # at most, of mpirun's start, whatever a host's workers do then
LAB = [sys.executable, str(ROOT / "tests" / "cluster" / "lab.py")]
CONFIG = """\
seed = 3
[problem]
data = "digits"
hidden = [64]
[update]
mode = "async"
[stop]
updates = 400
seconds = 60.0
"""
SCHEMES = {  # their workers, on four hosts, and their settings
    "uncoded": (8, ["scheme.name=uncoded"]),
    "lwpd": (4, ["scheme.name=lwpd", "downlink.kind=codewords", "code.blocks=[4,4]", "stop.updates=1200"]),
}


def start(lab: Lab, trace: Path, workers: int, *overrides: str) -> subprocess.Popen[str]:
    config = trace.with_suffix(".toml")
    config.write_text(CONFIG)
    sets = [word for override in overrides for word in ("--set", override)]
    options = "-n", str(workers), "-o", str(trace)
    return lab.start(
        *(sys.executable, "-P", "-m", "pdcode", "run", str(config), *options, *sets),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_kernel_counts_the_bytes_that_the_trace_has(lab: Lab, tmp_path: Path, scheme: str) -> None:
    before, resent = lab.counters(), lab.resent()
    workers, settings = SCHEMES[scheme]
    process = start(lab, tmp_path / "trace.h5", workers, *settings)
    printed, _ = process.communicate(timeout=200)
    assert process.returncode == 0, printed
    after, resent = lab.counters(), lab.resent() - resent

    trace = Trace(tmp_path / "trace.h5")
    hosts = trace.workers["host"]
    assert list(hosts) == ["h0", *workers // 4 * ["h1", "h2", "h3", "h4"]]
    rows = trace.arrivals
    for host in lab.hosts:
        ours = {way: trace.counters[f"bytes_{way}"] for way in ("up", "down")}
        if host == "h0":  # what is up for the workers comes down to rank 0
            ours = {"up": ours["down"], "down": ours["up"]}
        else:
            here = hosts[1 + rows["worker"]] == host
            for way in ours:
                setup = trace.attributes[f"setup_bytes_{way}"] / workers * np.count_nonzero(hosts == host)
                ours[way] = rows[f"bytes_{way}"][here].sum() + setup
        moved = np.subtract(after[host], before[host])
        for way, (size, packets) in zip(("up", "down"), moved.reshape(2, 2), strict=True):
            more = size - HEADERS * packets - ours[way]
            print(f"{scheme} {host} {way}: {size:,} B in {packets:,} packets, {more / ours[way]:+.2%}")
            limit = START + SEGMENT * resent + 0.02 * ours[way]  # and MPI's own headers
            assert 0 <= more < limit, (host, way, resent)


ALONE = """
import os
from pdcode.launch import siblings
siblings.NOTED_S, siblings.ELSEWHERE_S = 1.0, 4.0
if os.environ.get("OMPI_COMM_WORLD_RANK") == "{rank}":
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("rank", [0, 3])
def test_a_rank_alone_on_its_host_that_dies_at_first_ends_the_job(
    lab: Lab, tmp_path: Path, rank: int
) -> None:
    (tmp_path / "alone.py").write_text(ALONE.format(rank=rank))
    for _ in range(2):
        process = start(lab, tmp_path / "trace.h5", 3, f'plugins=["{tmp_path}/alone.py"]')
        printed, _ = process.communicate(timeout=200)
        if "A daemon failed to report back" not in printed:  # PRRTE's own start, on a busy machine
            break
    assert process.returncode == 1, printed
    if rank:
        assert "rank 0 on h0 waits for ranks on other machines; the job ends if that takes 4 s" in printed
        assert "has waited 4 s for ranks on other machines; one may have died; the job ends" in printed
    else:
        assert "pdcode: rank 0 on h0 has ended before the run began; the job ends\n" in printed


def test_the_others_go_on_when_links_are_cut(lab: Lab, tmp_path: Path) -> None:
    """That of h3 for good, that of h4 for 2 s."""
    ends = "stop.updates=1000000", "stop.seconds=6.5", "stop.drain_s=1.0"
    process = start(
        lab, tmp_path / "trace.h5", 4, "stragglers.kind=slow-set", "stragglers.shift_s=0.02", *ends
    )
    mending = threading.Timer(2, lab.mend, ["h4"])
    printed = []
    try:
        for line in process.stdout:
            printed.append(line)
            if " update " in line and " update 0 " not in line and not mending.ident:
                for host in "h3", "h4":
                    lab.cut(host)
                mending.start()
        assert process.wait() == 0, printed
    finally:
        if mending.ident:
            mending.join()
        lab.mend("h3")
    assert "not waited for any longer: worker 2\n" in printed
    assert any("no answer from workers 2 and 3 for " in line for line in printed)
    trace = Trace(tmp_path / "trace.h5")
    assert trace.finished
    assert trace.faults["worker"][trace.faults["kind"] == "missing"].tolist() == [2]
    assert {2, 3} <= set(trace.faults["worker"][trace.faults["kind"] == "overdue"])
    rows, cut_ns = trace.arrivals, trace.arrivals["t_recv_ns"][trace.arrivals["worker"] == 2].max()
    assert set(rows["worker"][rows["t_recv_ns"] > 5.5e9]) == {0, 1, 3}
    between = (rows["t_recv_ns"] > cut_ns + 0.5e9) & (rows["t_recv_ns"] < cut_ns + 2e9)
    assert set(rows["worker"][between]) == {0, 1}


def inhabitants(space: str) -> list[str]:
    """Processes of a network namespace."""
    found = []
    for path in Path("/proc").glob("[0-9]*/ns/net"):
        with suppress(OSError):  # it has just ended
            found += [path.parts[2]] if os.readlink(path) == space else []
    return found


@pytest.mark.parametrize(
    ("end", "code"),
    [("exit 3", 3), ("sleep 60", signal.SIGINT), ("sleep 60", signal.SIGTERM), ("sleep 60", signal.SIGKILL)],
)
def test_nothing_is_left(end: str, code: int) -> None:
    own = platform.node(), os.readlink("/proc/self/ns/net")
    links = subprocess.check_output(["ip", "-brief", "link"])
    stay = "readlink /proc/self/ns/net; hostname; nohup sleep 60 >&- &"
    command = f"{stay} ssh -x h1 '{stay} wait' & sleep 0.5; {end}"
    process = subprocess.Popen(
        [*LAB, "--hosts", "1", "--", "sh", "-c", command],
        stdout=subprocess.PIPE, text=True, env=environment(), start_new_session=True,
    )  # fmt: skip
    said = [process.stdout.readline().strip() for _ in range(4)]
    spaces = [word for word in said if word.startswith("net:")]
    assert sorted(set(said) - set(spaces)) == ["h0", "h1"]
    assert len({*spaces, own[1]}) == 3
    assert wait(lambda: all(map(inhabitants, spaces)), 100)
    if isinstance(code, signal.Signals):
        # The terminal tells all, Ctrl-C; others tell the lab alone.
        (os.killpg if code == signal.SIGINT else os.kill)(process.pid, code)
    expected = -9 if code == signal.SIGKILL else code + 128 * isinstance(code, signal.Signals)
    assert process.wait(timeout=200) == expected
    process.stdout.close()
    assert wait(lambda: not any(map(inhabitants, spaces)), 30)
    assert (platform.node(), os.readlink("/proc/self/ns/net")) == own
    assert subprocess.check_output(["ip", "-brief", "link"]) == links


def test_an_exception_ends_it() -> None:
    try:
        with emulated.start(1) as lab:
            space = lab.ask("h1", "readlink", "/proc/self/ns/net").strip()
            sleeping = lab.start("sleep", "60", host="h1")
            assert wait(lambda: len(inhabitants(space)) > 2, 100)  # two are the host's own
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    assert sleeping.wait(timeout=200) != 0
    assert wait(lambda: not inhabitants(space), 30)


SENDER = """
import socket, time
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
    for number in range(2000):
        out.sendto(bytes(100), ("h2", 9999))
        time.sleep(1e-4 * (number % 20 == 0))
"""


def test_rates_and_losses_are_those_asked_for() -> None:
    with emulated.start(2, up="10mbit", down="20mbit", loss=0.2) as lab:
        for place, port, rate in ("h1", "eth0", 10), (None, "h1", 20):
            (queue,) = json.loads(lab.ask(place, "tc", "-json", "qdisc", "show", "dev", port))
            assert (queue["kind"], 8 * queue["options"]["rate"]) == ("tbf", rate * 10**6)
        before = lab.ask("h2", "cat", "/proc/net/snmp")
        lab.ask("h1", sys.executable, "-c", SENDER)
        came = datagrams(lab.ask("h2", "cat", "/proc/net/snmp")) - datagrams(before)
        assert 0.4 < came / 2000 < 0.70  # 0.8²: over two links, whose queues lose more on a busy machine


def datagrams(text: str) -> int:
    """UDP datagrams that have come, read by somebody or not."""
    names, values = (line.split() for line in text.splitlines() if line.startswith("Udp:"))
    counts = dict(zip(names, values, strict=True))
    return int(counts["InDatagrams"]) + int(counts["NoPorts"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--hosts", "0"], "hosts 0: expected 1 to 250"),
        (["--up", "fast"], "rate 'fast': expected a number and kbit, mbit or gbit, such as 100mbit"),
        (["--loss", "200"], "loss 2.0: expected a share from 0 to 1"),
        (["--cut", "h9@1"], "--cut h9: expected one of h0 to h2"),
    ],
)
def test_what_cannot_be_had_is_one_line(options: list[str], words: str) -> None:
    done = subprocess.run(
        [*LAB, *options, "--", "true"], capture_output=True, text=True, env=environment(), check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"lab: {words}\n")


def test_it_says_which_package_is_missing() -> None:
    done = subprocess.run(
        [*LAB, "--", "true"], capture_output=True, text=True, env={"PATH": "/nowhere"}, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "lab: ip is not installed (on Debian: apt-get install iproute2)\n"
