"""Fuzzing of the commands that read files: a damaged file must end in exit code 2 and one line.

    python tests/fuzz/fuzz_files.py traces --cases 10000 --seed 1
    python tests/fuzz/fuzz_files.py codes --cases 1 --first 4711 --keep failed/ --verbose

A case damages a copy of a whole file at random, by (seed, case), and runs commands on it in a forked
process. A command passes if it ends with exit code 2 and one line on stderr, or with 0 and nothing there (1
for a verdict: `replay` finds a difference, `plan` finds nothing), in less than 5 s of processor time and 200
MB of additional memory.

Another kind of file is one more entry of `samples.KINDS`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parent)]

from samples import JOB, KINDS, quiet  # noqa: E402

SECONDS, HANG_S, MEMORY = 5.0, 600.0, 200 << 20  # limits: processor time, time, additional memory
VERDICTS = "replay", "plan", "simulate"  # commands whose exit code 1 may be their result


class Result(NamedTuple):
    """Outcome of a command on a damaged file; `problem` is empty if it passed."""

    case: int
    damage: str
    command: str
    problem: str
    text: str  # what it wrote to stderr


def fuzz(
    kind: str, cases: range, seed: int, processes: int = 1, keep: Path | None = None
) -> Iterator[Result]:
    """Perform cases; yield the outcome of every command.

    Parameters
    ----------
    kind : str
        A key of `samples.KINDS`.
    cases : range
        Numbers of the cases.
    seed : int
        Seed of the damage, together with the number of the case.
    processes : int
        Number of processes.
    keep : Path, optional
        Folder for the files whose cases fail.
    """
    with tempfile.TemporaryDirectory(prefix="fuzz") as name:
        folder = Path(name)
        (folder / "job.toml").write_text(JOB)
        whole = KINDS[kind].samples(folder)
        for number, path in enumerate(whole):  # everything is imported before processes are forked
            for arguments in KINDS[kind].commands(random.Random(number), path, str(folder / "job.toml")):
                with open(os.devnull, "w") as sys.stderr:
                    quiet(arguments)
                sys.stderr = sys.__stderr__
        with multiprocessing.get_context("fork").Pool(processes) as pool:
            waiting = [pool.apply_async(perform, (kind, whole, folder, seed, case, keep)) for case in cases]
            for results in waiting:
                yield from results.get()


def perform(
    kind: str, whole: list[Path], folder: Path, seed: int, case: int, keep: Path | None
) -> list[Result]:
    """Damage a copy of one of the whole files, and run the commands on it."""
    source = random.Random(f"{seed} {case}")
    sample = source.choice(whole)
    place = folder / str(case)
    place.mkdir()
    path = place / sample.name
    try:
        shutil.copy(sample, path)
        damage = f"{sample.stem}: {KINDS[kind].damage(source, path)}"
        commands = KINDS[kind].commands(source, path, str(folder / "job.toml"))
        content = path.read_bytes()
        outcomes = in_child(commands)
        if path.read_bytes() != content:
            outcomes.append(("the file was changed", ""))
        results = [
            Result(case, damage, _shown(arguments), *outcome)
            for arguments, outcome in zip([*commands, ["all"]], outcomes, strict=False)
        ]
        if keep and any(result.problem for result in results):
            keep.mkdir(parents=True, exist_ok=True)
            (keep / f"{case}-{sample.name}").write_bytes(content)
    finally:
        shutil.rmtree(place)
    return results


def _shown(arguments: list[str]) -> str:
    return " ".join(each for each in arguments[:3] if "/" not in each)


def in_child(commands: list[list[str]]) -> list[tuple[str, str]]:
    """Run commands in a forked process; return for each what is wrong (or an empty text), and its stderr."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        signal.alarm(int(HANG_S))  # without a handler: kills
        with os.fdopen(writing, "w") as report:
            _serve(commands, report.write)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as report:
        outcomes = [tuple(json.loads(line)) for line in report]
    status = os.waitpid(child, 0)[1]
    if len(outcomes) < len(commands):
        outcomes.append((f"ended by signal {os.WTERMSIG(status)}", ""))
    return outcomes  # type: ignore[return-value]


def _serve(commands: list[list[str]], report: Callable[[str], object]) -> None:
    size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (size + 8 * MEMORY,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for arguments in commands:
        with tempfile.TemporaryFile("w+", errors="replace") as errors:
            os.dup2(errors.fileno(), 2)  # also what C writes
            sys.stderr, began = errors, sum(os.times()[:4])
            code = _code(arguments)
            seconds = sum(os.times()[:4]) - began  # with those of its own children
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start << 10
            errors.seek(0)
            text = errors.read().rstrip("\n")
        report(json.dumps([judge(arguments[0], code, seconds, memory, text), text]) + "\n")


def _code(arguments: list[str]) -> object:
    try:
        return quiet(arguments)
    except SystemExit as error:
        return error.code
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
        return 1


def judge(command: str, code: object, seconds: float, memory: int, text: str) -> str:
    """Return what is wrong with the end of a command, or an empty text."""
    lines = len(text.splitlines())
    if "Traceback" in text:
        return f"traceback: {text.splitlines()[-1]:.100}"
    if (code, lines) not in ((2, 1), (0, 0)) and not (code == 1 and not lines and command in VERDICTS):
        return f"exit code {code}, {lines} lines on stderr"
    if seconds > SECONDS:
        return f"{seconds:.1f} s"
    return f"{memory >> 20} MiB" if memory > MEMORY else ""


def command_line() -> int:
    """Fuzz as the arguments say; return 1 if a command failed."""
    parser = argparse.ArgumentParser(description="Run the commands that read files on damaged ones.")
    parser.add_argument("kind", choices=list(KINDS))
    parser.add_argument("--cases", type=int, default=1000, metavar="N", help="number of cases")
    parser.add_argument("--first", type=int, default=0, metavar="CASE", help="number of the first case")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1, metavar="N")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the files whose cases fail")
    parser.add_argument("--verbose", action="store_true", help="print what failed commands wrote to stderr")
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    began = time.monotonic()
    cases = range(options.first, options.first + options.cases)
    for result in fuzz(options.kind, cases, options.seed, options.processes, options.keep):
        if result.problem:
            counts[f"{result.command}: {result.problem}"] += 1
            print(f"case {result.case}: {result.damage}: {result.command}: {result.problem}", flush=True)
            if options.verbose:
                print(result.text)
    for problem, count in counts.most_common():
        print(f"{count:6d}  {problem}")
    took = time.monotonic() - began
    print(f"{len(cases)} cases of seed {options.seed}: {counts.total()} failures, {took:.0f} s")
    return 1 if counts else 0


if __name__ == "__main__":
    sys.exit(command_line())
