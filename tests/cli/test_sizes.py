"""Sizes are refused before θ is drawn, and signals end a start in the middle of a long call."""

import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pdcode import problems
from pdcode.__main__ import main
from pdcode.automatic import keys as auto_keys
from pdcode.cli import starting
from pdcode.config import load as configfile
from pdcode.problems import network
from pdcode.problems.network import Network
from pdcode.problems.problem import Problem
from pdcode.util import memory

STOP = "[workers]\ncount = 2\n[stop]\nupdates = 5\n"
DEFAULT = "[scheme]\nname = 'lwpd'\npreset = 'default'\n"
COMMANDS = [["run", "--dry-run"], ["run"], ["simulate"], ["simulate", "--dry-run"]]
OWN = """
import numpy as np

START = np.broadcast_to(np.float32(0), (30_000, 20_000))
DATA = np.zeros((8, 2))


def loss(theta, rows):
    raise SystemExit("a gradient was computed")
"""
LONG = """
import hashlib
from pathlib import Path

import numpy as np

DATA = np.zeros((8, 2))


def start(seed):
    Path(__file__).with_name("begun").touch()
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # a quarter of an hour, in one call


def loss(theta, rows):
    return 0.0, theta
"""


def function(start: str) -> str:
    keys = f"function = 'own.py:loss'\nstart = 'own.py:{start}'\ndata = 'own.py:DATA'\n"
    return f"[problem]\nkind = 'function'\n{keys}"


@pytest.fixture
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have as much memory as the largest of these jobs would need."""
    monkeypatch.setattr(memory, "limit_bytes", lambda: 1 << 42)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if θ is drawn."""

    def draw(self: Any, seed: int) -> None:
        raise AssertionError("θ was drawn")

    monkeypatch.setattr(Network, "initial", draw)


@pytest.mark.usefixtures("roomy", "undrawn")
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("job", "said"),
    [
        ("[problem]\nhidden = [30000, 30000]\n", "problem.hidden: a task of 3.61 GB"),
        ("[problem]\nhidden = [30000, 30000]\n" + DEFAULT, "problem.hidden: a task of 7.22 GB"),
        # θ has 1.16 GB, but a task may have the accumulators, too.
        ("[problem]\nhidden = [17000, 17000]\n" + DEFAULT, "problem.hidden: a task of 2.32 GB"),
        (function("START"), "problem.start: a task of 2.40 GB"),
        (function("START") + DEFAULT, "problem.start: a task of 4.80 GB"),
    ],
    ids=["auto", "default", "state", "function, auto", "function"],
)
def test_messages_that_are_too_long_are_refused_before_anything_is_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str], job: str, said: str
) -> None:
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "job.toml").write_text(job + STOP)
    assert main([*command, str(tmp_path / "job.toml")]) == 2
    assert f"job.toml: {said} is more than MPI's 2 GiB a message\n" in capsys.readouterr().err


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("command", COMMANDS)
def test_memory_is_refused_before_anything_is_drawn(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: list[str],
) -> None:
    monkeypatch.setattr(memory, "limit_bytes", lambda: 1 << 20)
    (tmp_path / "own.py").write_text(OWN)
    job = tmp_path / "job.toml"
    for text, key in ((function("START"), "start"), ("[problem]\nhidden = [1000]\n", "hidden")):
        job.write_text(text + STOP)
        assert main([*command, str(job)]) == 2
        assert f"job.toml: problem.{key}: θ of " in capsys.readouterr().err
    job.write_text("[problem]\nhidden = [100]\n" + DEFAULT + STOP)
    assert main([*command, str(job)]) == 2
    assert "job.toml: problem.evaluate: the gradient of 1,438 rows at once" in capsys.readouterr().err


@pytest.mark.parametrize("most", [1, 7, 64, 1000])
@pytest.mark.parametrize("axis", ["output", "input"])
def test_a_draw_in_pieces_has_the_same_bits(monkeypatch: pytest.MonkeyPatch, most: int, axis: str) -> None:
    problem = problems.create({"hidden": [20, 30], "axis": axis})
    whole = problem.initial(3)
    monkeypatch.setattr(network, "DRAWN", most)
    np.testing.assert_array_equal(problem.initial(3), whole)
    shapes = [(0, 3), (3, 0), (1, 1), (5, 64), (2, 200)]
    for rows, columns in shapes:
        numbers = np.arange(rows * columns).reshape(rows, columns)
        found = [numbers[piece].ravel() for piece in network.pieces(rows, columns)]
        np.testing.assert_array_equal(np.concatenate([*found, []]), numbers.ravel())
        assert all(len(each) <= most for each in found)


def peak_of(call: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_starts_take_the_memory_of_few_thetas() -> None:
    """A draw takes that of θ and of a piece, and the starts that are compared are not held together."""
    settings = ["problem.hidden=[1000,1000]", "problem.batch=0", "workers.count=2", "stop.updates=5"]
    config = configfile.resolve({}, settings)
    dataset = problems.load_source(config.problem).dataset.sample(16)
    problem = Problem.from_dataset(config.problem, dataset, 1)
    theta = problem.initial(0).nbytes
    assert peak_of(lambda: problem.initial(0)) < theta + 3 * 8 * network.DRAWN
    assert peak_of(lambda: auto_keys.plain_rate(config, problem)) < 20 * theta


@pytest.mark.every(6)
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_start_in_a_long_call(tmp_path: Path, command: list[str], number: int) -> None:
    (tmp_path / "own.py").write_text(LONG)
    job, begun = tmp_path / "job.toml", tmp_path / "begun"
    job.write_text(function("start") + STOP)
    call = [sys.executable, "-m", "pdcode", *command, str(job)]
    process = subprocess.Popen(call, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    try:
        while not begun.exists():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert errors.splitlines()[-1] == "pdcode: interrupted"
    assert process.returncode == 1


def test_a_start_leaves_no_thread_and_no_file() -> None:
    before = os.listdir("/proc/self/fd")
    for _ in range(2):
        with starting.at_once():
            pass
    assert os.listdir("/proc/self/fd") == before
    assert signal.set_wakeup_fd(-1) == -1
