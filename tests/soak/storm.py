"""Many starts of a job; in each, one of its processes is killed, stopped or made to raise at a random moment.

    python tests/soak/storm.py starts=200 others=50 seed=1 first=0 workers=8 lanes=2 within=5

In `starts` jobs this meets a random rank, in `others` mpirun or the command itself, within the first `within`
seconds. Each job must end within `LIMIT_S` of it, with exit code 1 or 2 and a line that names what happened,
or go on to its end; and no process may remain. The exit code is 1 if that does not hold of any. `launcher=`
gives a launcher of the user's own in place of the command's, such as "mpirun -n 9 --with-ft ulfm".
"""

import os
import random
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

LIMIT_S = 10.0
RUN_S = 4.0  # stop.seconds
LOST_S = 90.0  # until a job counts as hanging
VARIABLE = "PDCODE_STORM"  # by which processes of a job are found
RANKS = b"OMPI_COMM_WORLD_RANK", b"PMI_RANK", b"PMIX_RANK"
JOB = """
plugins = ["{folder}/raises.py"]
problem = {{data = "digits", hidden = [16], batch = 16}}
code = {{blocks = [8, 1], weight = 4}}
stragglers = {{kind = "slow-set", shift_s = 0.02}}
update = {{mode = "async"}}
workers = {{count = {workers}}}
stop = {{seconds = {seconds}}}
"""
PLUGIN = """
import signal

def fail(number, frame):
    raise RuntimeError("made to raise")

signal.signal(signal.SIGUSR2, fail)
"""
DEFAULTS = {"starts": 200, "others": 50, "seed": 1, "first": 0, "workers": 8, "lanes": 2, "within": 5}
SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "raise": signal.SIGUSR2}
NAMED = {  # what a line must have, by what the deed was done to
    "mpirun": r"mpirun was ended by signal 9|mpirun is stopped|mpirun remained stopped",
    "command": r"the command that started mpirun was killed|stopped: ",
}


class Deed(NamedTuple):
    """What is done: to a rank, "mpirun" or "command", so many seconds after the start."""

    action: str
    target: int | str
    at_s: float


class Outcome(NamedTuple):
    """What came of a job."""

    deed: Deed
    code: int | None  # None: it never ended
    took_s: float | None  # from the deed to the end; None: it ended before
    said: str
    left: list[int]  # processes

    def fault(self) -> str:
        """Why this is not as it should be; empty if it is."""
        action, target, _ = self.deed
        if self.left:
            return f"{len(self.left)} processes remained"
        if self.code is None:
            return "it did not end"
        if self.took_s is None:
            return "" if self.code == 0 else f"exit code {self.code} before anything was done"
        killed = target == "command" and action == "kill"
        if self.code and self.took_s > LIMIT_S:
            return f"it ended {self.took_s:.1f} s after it"
        if self.code and not killed and self.code not in (1, 2):
            return f"exit code {self.code}"
        if isinstance(target, str):
            words = NAMED[target]
        else:
            words = rf"rank {target}\b|worker {target - 1}\b|workers [^\n]*\b{target - 1}\b"
        if killed and "update 0" not in self.said:  # there may have been no rank yet to print a line
            return ""
        lines = [line for line in self.said.splitlines() if re.search(words, line)]
        if not lines and (self.code or not re.search(r"^stopped: ", self.said, re.M)):
            return "no line names it"
        if "remained stopped; the job ends" in self.said and "was ended by signal" in self.said:
            return "it seems to have been killed by another"
        if self.said.count("\n") > 40 and action != "raise":
            return f"{self.said.count(chr(10))} lines"
        return ""


def storm(
    deeds: list[Deed], workers: int, launcher: list[str], lanes: int = 1, quiet: bool = False
) -> list[Outcome]:
    """Run a job for each deed, several at a time; print a line of each."""
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(lanes) as pool:
        folder = Path(name)
        (folder / "raises.py").write_text(PLUGIN)
        job = folder / "job.toml"
        job.write_text(JOB.format(folder=folder, workers=workers, seconds=RUN_S))
        outcomes = []
        runs = pool.map(lambda each: meet(each[1], job, folder / f"{each[0]}.h5", launcher), enumerate(deeds))
        for number, outcome in enumerate(runs):
            outcomes.append(outcome)
            if not quiet:
                print(line(number, outcome), flush=True)
    return outcomes


def meet(deed: Deed, job: Path, trace: Path, launcher: list[str]) -> Outcome:
    """Start a job, do the deed, wait for the end."""
    mark = os.urandom(8).hex()
    command = [*launcher, sys.executable, "-P", "-m", "pdcode", "run", str(job), "-o", str(trace)]
    start_s = time.monotonic()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command, env=os.environ | {VARIABLE: mark}, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        time.sleep(deed.at_s)
        done_s = None
        while process.poll() is None and done_s is None and time.monotonic() < start_s + LOST_S:
            pid = process.pid if deed.target == "command" else find(mark, deed.target)
            with suppress(ProcessLookupError):
                if pid is not None:
                    os.kill(pid, SIGNALS[deed.action])
                    done_s = time.monotonic()
            time.sleep(0.02)
        if deed.target == "command" and deed.action == "stop":
            time.sleep(RUN_S)
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
            done_s = done_s and time.monotonic()
        code: int | None = None
        with suppress(subprocess.TimeoutExpired):
            code = process.wait(LOST_S)
        wait_s = done_s or time.monotonic()
        while (left := list(processes(mark))) and time.monotonic() < max(wait_s + LIMIT_S, start_s + 20):
            time.sleep(0.05)
        took_s = None if done_s is None else time.monotonic() - done_s
        output.seek(0)
        said = output.read()
    remaining = [pid for pid, _ in left]
    for pid in remaining:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    return Outcome(deed, code, took_s, said, remaining)


def processes(mark: str) -> Iterator[tuple[int, Mapping[bytes, bytes]]]:
    """Yield the living processes of a job, with their environment."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            variables = dict(each.partition(b"=")[::2] for each in path.read_bytes().split(b"\0"))
        except OSError:
            continue
        if variables.get(VARIABLE.encode()) == mark.encode():
            yield int(path.parent.name), variables


def find(mark: str, target: int | str) -> int | None:
    """Find a process of a job: a rank, or mpirun."""
    for pid, variables in processes(mark):
        rank = next((int(variables[name]) for name in RANKS if name in variables), None)
        with suppress(OSError):
            started = b"\0-P\0-m\0pdcode\0" in Path(f"/proc/{pid}/cmdline").read_bytes()  # not --version
            mpirun = "prterun" in Path(f"/proc/{pid}/exe").readlink().name and started
            if target == ("mpirun" if mpirun else rank):
                return pid
    return None


def line(number: int, outcome: Outcome) -> str:
    """Describe an outcome in a line, with what was printed if it is not as it should be."""
    action, target, at_s = outcome.deed
    who = target if isinstance(target, str) else f"rank {target}"
    took = "after the end" if outcome.took_s is None else f"{outcome.took_s:.1f} s to the end"
    load = os.getloadavg()[0]
    text = f"{number}: {action} {who} at {at_s:.2f} s: exit code {outcome.code}, {took}, load {load:.0f}"
    fault = outcome.fault()
    return f"{text}: {fault}\n{outcome.said[-3000:]}" if fault else text


def draw(seed: int, number: int, starts: int, workers: int, within_s: float) -> Deed:
    """Draw what is done to job `number`: to a rank in the first `starts`, to another process after that."""
    dice = random.Random(f"{seed} {number}")
    if number < starts:
        return Deed(dice.choice(list(SIGNALS)), dice.randrange(workers + 1), dice.uniform(0, within_s))
    return Deed(dice.choice(["kill", "stop"]), dice.choice(["mpirun", "command"]), dice.uniform(0, within_s))


def main(words: list[str]) -> int:
    """Run the jobs that the words ask for; return the exit code."""
    given = dict(word.partition("=")[::2] for word in words)
    starts, others, seed, first, workers, lanes, within_s = (
        int(given.get(name) or default) for name, default in DEFAULTS.items()
    )
    deeds = [draw(seed, number, starts, workers, within_s) for number in range(first, starts + others)]
    outcomes = storm(deeds, workers, shlex.split(given.get("launcher", "")), lanes)
    faults = [outcome for outcome in outcomes if outcome.fault()]
    ended = [outcome.took_s for outcome in outcomes if outcome.code and outcome.took_s is not None]
    went_on = sum(outcome.code == 0 and outcome.took_s is not None for outcome in outcomes)
    print(
        f"{len(outcomes)} jobs: {went_on} went on, {len(ended)} ended, at most {max(ended, default=0):.1f} s "
        f"after what was done to them; {len(faults)} not as they should be"
    )
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
