"""Fuzzing of all that reads files: a damaged file must end in one line, and in exit code 2 of a command.

    python tests/fuzz/fuzz.py n=10000 formats="traces codes" seed=1
    python tests/fuzz/fuzz.py formats=codes first=4711 n=1

A case damages a copy of a whole file at random, by (seed, case). A forked process, which does many cases,
reads it by the functions that commands call, and runs whole commands now and then. It passes if it ends with
one line on stderr and exit code 2, or with nothing there and 0 (1 for a verdict: `replay` finds a difference,
`plan` finds nothing), in less than the `seconds` of its kind and `MEMORY` of additional memory.
If a function crashes, does not end or takes memory, as HDF5 may, the commands must survive that.

The files of cases that fail are made smaller, and kept in results/fuzz. Those in `findings` failed once; a
test reads them again. Another kind of file is one more entry of `kinds.KINDS`.
"""

import argparse
import faulthandler
import json
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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support"), str(HERE.parents[1])]

from kinds import JOB, KINDS, quiet  # noqa: E402

from pdcode.util.errors import InputError  # noqa: E402
from pdcode.util.output import print_error  # noqa: E402

HANG_S, MEMORY = 200, 200 << 20  # limits: time, additional memory
BATCH = 500  # cases of a process
ALL = 99  # commands
TRIES = 300  # smaller files to try
KEPT = Path("results/fuzz")
VERDICTS = "replay", "plan", "simulate"  # commands whose exit code 1 may be their result


class Result(NamedTuple):
    """Outcome of a case; `problem` is empty if it passed."""

    case: int
    damage: str
    step: str = ""  # what had the problem
    problem: str = ""
    text: str = ""  # what it wrote to stderr


class Fuzzer:
    """Fuzzing of one kind of file, a key of `kinds.KINDS`, in an empty folder; `seed` is for all cases."""

    def __init__(self, name: str, folder: Path, seed: int = 0) -> None:
        self.kind, self.folder, self.seed = KINDS[name], folder, seed
        (folder / "job.toml").write_text(JOB)
        os.mkfifo(folder / "pipe")
        self.whole = self.kind.samples(folder)
        for number, path in enumerate(self.whole):  # everything is imported before processes are forked
            _, result = self._perform(number, self._whole(path), 0 if number else ALL)
            assert not result.problem, result

    def again(self, kept: Path) -> Result:
        """Read a file that failed once, and run all commands on it."""
        case = int(kept.name.split(".")[1])
        [result] = self.checked(range(case, case + 1), self._whole(kept), ALL)
        return result

    def _whole(self, path: Path) -> Callable[[int], tuple[Path, str]]:
        return lambda case: (self.copied(case, path), path.name)

    def fuzz(self, cases: range) -> Iterator[Result]:
        """Perform cases; yield their outcomes."""
        yield from self.checked(cases, self._damaged)

    def checked(
        self, cases: range, file: Callable[[int], tuple[Path, str]], commands: int = 0
    ) -> Iterator[Result]:
        """Read the files of cases, and run some of the commands on all or some; yield the outcomes."""
        while cases:
            done = _forked(
                cases[:BATCH],
                lambda case: self._perform(case, file, commands if case % self.kind.every else 2),
            )
            for result in done:
                if result.step in ("", "read") and result.problem.startswith(("ended by", "memory")):
                    alone = range(result.case, result.case + 1)  # do commands survive it?
                    [told] = _forked(alone, lambda case: self._perform(case, file, ALL, False))
                    result = told if told.problem else told._replace(step="(a crash)")
                yield result
            cases = cases[len(done) :]

    def _damaged(self, case: int) -> tuple[Path, str]:
        source = random.Random(f"{self.seed} {case}")
        sample = source.choice(self.whole)
        path = self.copied(case, sample)
        return path, f"{sample.name}: {self.kind.damage(source, path)}"

    def copied(self, case: int, file: Path) -> Path:
        """Copy a file to the folder of a case."""
        path = self.folder / str(case) / file.name.split(f".{case}.")[-1]
        path.parent.mkdir(exist_ok=True)
        shutil.copy(file, path)
        return path

    def smaller(self, case: int, problem: str) -> Path:
        """Damage a file as in a case that failed, less of it or in a shorter file; return its path."""
        path, _ = self._damaged(case)
        sample, best, size = (self.folder / path.name).read_bytes(), path.read_bytes(), path.stat().st_size

        def put(content: bytes) -> tuple[Path, str]:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
            return path, ""

        def fails(content: bytes) -> bool:
            [result] = self.checked(range(case, case + 1), lambda case: put(content))
            return result.problem[:30] == problem[:30]

        tries = TRIES if not problem.startswith("ended by") else 20  # a time-out takes its time
        while size := size // 2:
            for start in range(0, len(best), size):
                stop = start + size
                same = best[:start] + sample[start:stop] + best[stop:] if len(best) == len(sample) else best
                for other in (same, best[:start] + best[stop:]):
                    if other not in (best, b"") and (tries := tries - 1) > 0 and fails(other):
                        best = other
        return put(best)[0]

    def _perform(
        self, case: int, file: Callable[[int], tuple[Path, str]], commands: int, read: bool = True
    ) -> Iterator[Result]:
        """Read a damaged file, and run some of the commands; yield a line before that, and the outcome."""
        path, damage = file(case)
        yield Result(case, damage, "damaged")
        content, source, result = path.read_bytes(), random.Random(case), Result(case, damage)
        steps: list[Sequence[str] | Callable[[], object]] = []
        if read:
            steps.append(lambda: self.kind.read(source, path))
        if commands:
            found = self.kind.commands(source, path, str(self.folder / "job.toml"))
            steps += source.sample(found, min(commands, len(found)))
        for step in steps:
            name = "read" if callable(step) else " ".join(each for each in step[:3] if "/" not in each)
            problem, text = outcome(name, step, self.kind.seconds)
            result = result._replace(step=name, text=text, problem=problem)
            if path.read_bytes() != content:
                result = result._replace(problem="the file was changed")
            if result.problem:
                break
        shutil.rmtree(path.parent)
        yield result


def _forked(cases: range, perform: Callable[[int], Iterator[Result]]) -> list[Result]:
    """Perform cases in a forked process; return the outcomes, up to that of one which ends the process."""
    with tempfile.TemporaryFile("w+", buffering=1) as report:
        child = os.fork()
        if not child:
            code = 1
            try:
                os.setsid()
                _limit()
                for case in cases:
                    for result in perform(case):
                        report.write(json.dumps(result) + "\n")
                code = 0
            except BaseException:  # noqa: BLE001 (nothing of this process may go on)
                traceback.print_exc()
            finally:
                os._exit(code)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # what it has forked
        report.seek(0)
        results = [Result(*json.loads(line)) for line in report]
    done = [result for result in results if result.step != "damaged"]
    if status and (not results or results[-1] in done[-1:]):
        raise RuntimeError(f"a forked process ended by {status}")
    if status:
        how = signal.Signals(-status).name if status < 0 else f"exit code {status}"
        done.append(results[-1]._replace(problem=f"ended by {how}", step=""))
    return done


def _limit() -> None:
    size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (size + 8 * MEMORY,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.disable()
    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, signal.SIG_DFL)  # pytest-timeout handles one


def outcome(name: str, step: Sequence[str] | Callable[[], object], limit_s: float) -> tuple[str, str]:
    """Read, or run a command; return what is wrong (or an empty text), and what went to stderr."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.setitimer(signal.ITIMER_PROF, limit_s)  # without handlers they end the process
    signal.alarm(HANG_S)
    with _stderr() as errors:
        began = sum(os.times()[:4])  # with those of its own children
        code = _code(step)
        seconds = sum(os.times()[:4]) - began
        errors.seek(0)
        text = errors.read().rstrip("\n")
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.alarm(0)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before << 10
    return judge(name, code, memory, text) or (f"{seconds:.1f} s" if seconds > limit_s else ""), text


@contextmanager
def _stderr() -> Iterator[IO[str]]:
    """Send what this process, also what C, writes to stderr to a file."""
    kept, descriptor = sys.stderr, os.dup(2)
    with open(os.memfd_create("stderr"), "w+", errors="replace") as errors:
        os.dup2(errors.fileno(), 2)
        sys.stderr = errors
        try:
            yield errors
        finally:
            sys.stderr = kept
            os.dup2(descriptor, 2)
            os.close(descriptor)


def _code(step: Sequence[str] | Callable[[], object]) -> object:
    try:
        if not callable(step):
            return quiet([*step])
        step()
    except InputError as error:
        print_error(str(error))
        return 2
    except SystemExit as error:
        return error.code
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
        return 1
    return 0


def judge(command: str, code: object, memory: int, text: str) -> str:
    """Return what is wrong with the end of a command, or an empty text."""
    lines = len(text.splitlines())
    if "Traceback" in text:
        return f"traceback: {text.splitlines()[-1]:.100}"
    verdict = code == 1 and not lines and command.startswith(VERDICTS)
    verdict |= (code, lines) == (1, 1) and command.startswith("simulate --resume")  # its run failed
    if (code, lines) not in ((2, 1), (0, 0)) and not verdict:
        return f"exit code {code}, {lines} lines on stderr"
    return f"memory: {memory >> 20} MiB" if memory > MEMORY else ""


def told(name: str, cases: range, seed: int) -> bool:
    """Fuzz one kind of file; print what failed, and keep its files; return whether anything did."""
    counts, seen, began = Counter[str](), set[str](), time.monotonic()
    with scratch() as folder:
        fuzzer = Fuzzer(name, folder, seed)
        for case, damage, step, problem, text in fuzzer.fuzz(cases):
            counts["failures" if problem else "refused"] += bool(problem or text)
            counts["crashes that commands survive"] += step == "(a crash)"
            same = f"{step} {problem:.40} {text.splitlines()[-3:-2]}"
            if problem and same not in seen:
                seen.add(same)
                path = fuzzer.smaller(case, problem)
                KEPT.mkdir(parents=True, exist_ok=True)
                kept = shutil.copy(path, KEPT / f"{name}.{case}.{path.name}")
                print(f"{kept}: {damage}: {step}: {problem}\n{text}", flush=True)
    counted = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()) if count)
    took = time.monotonic() - began
    print(f"{name}: {len(cases)} cases of seed {seed}: {counted}; {took:.0f} s", flush=True)
    return counts["failures"] > 0


@contextmanager
def scratch() -> Iterator[Path]:
    """Make a folder, in memory where that can be: files come and go."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="fuzz", dir=memory if memory.is_dir() else None) as name:
        yield Path(name)


def command_line() -> int:
    """Fuzz as the arguments say; return 1 if a case failed."""
    parser = argparse.ArgumentParser(description="Damage files, and read them.")
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="n, formats, seed, first")
    given = {"n": "", "seed": "1", "first": "0", "formats": " ".join(KINDS)}
    given |= dict(word.split("=", 1) for word in parser.parse_args().words)
    first, failed = int(given["first"]), False
    for name in given["formats"].split():
        cases = range(first, first + int(given["n"] or 1000 * KINDS[name].every))
        failed |= told(name, cases, int(given["seed"]))
    return int(failed)


if __name__ == "__main__":
    sys.exit(command_line())
