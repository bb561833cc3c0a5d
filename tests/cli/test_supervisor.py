"""mpirun as a child of the command: a script takes mpirun's place, and its child is a rank."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pdcode.launch.supervisor import FOLDER
from pdcode.util import progress

DRIVER = """
import os, sys
from pdcode.launch import supervisor
from pdcode.util import progress, signals
signals.SAME_REQUEST_S = float(sys.argv[2])
if sys.argv[3:]:
    progress.LINE_S = float(sys.argv[3])
    supervisor.START_S = 2.5 * progress.LINE_S
with progress.shown():
    sys.exit(supervisor.Supervisor([sys.executable, "-P", sys.argv[1]], os.environ).run())
"""
MPIRUN = """
import os, signal, subprocess, sys, time

def say(text):
    print(text, file=sys.stderr, flush=True)

def rank(program, number=0):
    os.environ |= {"OMPI_COMM_WORLD_RANK": str(number), "OMPI_COMM_WORLD_SIZE": "2"}
    begin = "import os, signal, sys, time; from pdcode.launch import supervised; supervised.attach(int)"
    return subprocess.Popen([sys.executable, "-P", "-c", begin + "\\n" + program], stdout=subprocess.PIPE)

"""
WAITING = """
def last(number, frame):
    print('stopped: interrupted', flush=True)
    supervised.report_exit(1)
    sys.exit(1)
signal.signal(signal.SIGTERM, last)
supervised.report_ready()
os.write(1, b'ready\\n')  # a handler may not print while the program does
time.sleep(60)
"""


def start(folder: Path, mpirun: str, *seconds: float) -> subprocess.Popen[str]:
    """Start the command; within the first time signals are one, the second is between lines of a start."""
    script = folder / "mpirun.py"
    script.write_text(MPIRUN + mpirun)
    return subprocess.Popen(
        [sys.executable, "-P", "-c", DRIVER, str(script), *map(str, seconds or [0.05])],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={name: value for name, value in os.environ.items() if name not in progress.OFF},
    )  # fmt: skip


def outcome(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=200)
    return process.returncode, out, err


def ends_within(pid: int, limit_s: float) -> bool:
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


ENDS = {  # what mpirun does, and the exit code, output and errors of the command
    "the line of a rank is the last one and its exit code counts": (
        """
say("mpirun: a warning")
rank("print('pdcode: bad', file=sys.stderr); sys.stderr.flush(); supervised.report_exit(2)").wait()
say("banner")
sys.exit(213)
""",
        (2, "", "mpirun: a warning\npdcode: bad\n"),
    ),
    "a rank without a line leaves the word to mpirun": (
        """
rank("supervised.report_exit(0)").wait()
rank("os.kill(os.getpid(), signal.SIGKILL)").wait()
say("rank 1 was killed")
sys.exit(137)
""",
        (1, "", "rank 1 was killed\n"),
    ),
    "a rank elsewhere, which cannot connect to the name in its environment, prints through mpirun": (
        """
os.environ["PDCODE_SUPERVISOR"] = "of another machine"
print(rank("print('progress', flush=True); supervised.report_exit(0)").communicate()[0].decode(), end="")
""",
        (0, "progress\n", ""),
    ),
}


@pytest.mark.parametrize(("mpirun", "came"), ENDS.values(), ids=ENDS)
def test_what_ranks_and_mpirun_leave(mpirun: str, came: tuple[int, str, str], tmp_path: Path) -> None:
    assert outcome(start(tmp_path, mpirun)) == came


def test_a_signal_reaches_rank_0_and_its_last_words_the_user(tmp_path: Path) -> None:
    process = start(tmp_path, f"one = rank({WAITING!r})\none.wait()\nsay('banner')\nsys.exit(1)")
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    assert outcome(process) == (1, "stopped: interrupted\n", "")


def test_a_signal_before_rank_0_is_ready_ends_mpirun(tmp_path: Path) -> None:
    process = start(tmp_path, "print('started', flush=True)\ntime.sleep(60)")
    assert process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGHUP)
    assert outcome(process) == (1, "", "pdcode: interrupted\n")


def test_a_signal_ends_an_mpirun_that_has_closed_its_pipes(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    process = start(tmp_path, f"os.close(1); os.close(2); open({str(closed)!r}, 'w'); time.sleep(60)")
    while not closed.exists():
        time.sleep(0.01)
    process.terminate()
    assert outcome(process) == (1, "", "pdcode: interrupted\n")


def test_a_second_signal_ends_mpirun_when_rank_0_hangs(tmp_path: Path) -> None:
    hangs = WAITING.replace("SIGTERM, last", r"SIGTERM, lambda *given: os.write(1, b'got\n')")
    process = start(tmp_path, f"rank({hangs!r}).wait()")
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    assert process.stdout.readline() == "got\n"
    time.sleep(0.1)  # signals of a moment are one
    process.terminate()
    line = "pdcode: the second signal: the job ends at once\n"
    assert outcome(process) == (1, "got\n", f"{line}pdcode: interrupted\n")


def test_a_signal_reaches_rank_0_after_workers_have_ended(tmp_path: Path) -> None:
    worker = "rank('supervised.report_exit(0)').wait()\n"
    process = start(tmp_path, f"one = rank({WAITING!r})\n{worker}one.wait()\nsys.exit(1)")
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.5)  # the worker's start
    process.terminate()
    assert outcome(process) == (1, "stopped: interrupted\n", "")


def test_signals_of_a_moment_are_one(tmp_path: Path) -> None:
    slow = WAITING.replace("def last(number, frame):", "def last(number, frame):\n    time.sleep(0.3)")
    process = start(tmp_path, f"one = rank({slow!r})\none.wait()\nsay('banner')\nsys.exit(1)", 60.0)
    assert process.stdout.readline() == "ready\n"
    for _ in range(4):
        process.terminate()
        time.sleep(0.002)
    assert outcome(process) == (1, "stopped: interrupted\n", "")


def test_ranks_die_with_the_command(tmp_path: Path) -> None:
    program = WAITING.replace(r"b'ready\n'", r"f'{os.getpid()}\n'.encode()")
    process = start(tmp_path, f"rank({program!r}).wait()")
    rank = int(process.stdout.readline())
    assert Path(f"/proc/{rank}").exists()
    os.kill(process.pid, signal.SIGKILL)
    process.wait(30)
    assert ends_within(rank, 30)


def test_the_files_of_a_session_are_in_a_folder_of_its_own(tmp_path: Path, monkeypatch) -> None:
    """Open MPI's own name for it may be that of a job that was killed."""
    program = f"print(*(os.environ['{FOLDER}'], os.listdir(os.environ['{FOLDER}'])))"
    made = []
    for _ in range(2):
        code, out, err = outcome(start(tmp_path, program))
        assert (code, out.split()[1:]) == (0, ["[]"]), err
        made.append(Path(out.split()[0]))
    assert made[0] != made[1]
    assert not any(each.exists() for each in made)
    monkeypatch.setenv(FOLDER, str(tmp_path))
    assert outcome(start(tmp_path, program))[1].split()[0] == str(tmp_path)
    assert tmp_path.exists()


def test_a_start_names_the_rank_that_it_waits_for_and_is_bounded(tmp_path: Path) -> None:
    in_init = "from pdcode.launch import siblings; siblings.mpi_starts(); time.sleep(60)"
    process = start(tmp_path, f"rank({in_init!r}); rank('time.sleep(60)', 1).wait()", 0.05, 1.0)
    code, _, err = outcome(process)
    first, *_, last = err.splitlines()
    assert code == 1
    assert re.fullmatch(r"pdcode: 2 processes have started; not in MPI_Init yet: rank 1 on \S+", first)
    assert re.fullmatch(r"pdcode: not in MPI_Init 2.5 s after others: rank 1 on \S+; the job ends", last)
