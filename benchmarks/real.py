"""`python -m benchmarks real`: causes that are put into programs of mpi4py, as `Trace.diagnose` sees them.

Each program runs on four ranks without a cause, and with each of `inject.CAUSES`, which act in the program's
process. What is named, and the run's time without it, is compared with the run without the cause; of a slow
rank the advice to give it less work is followed, where the program takes shares of the work.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

import pdcode
from pdcode.analysis import printing
from pdcode.analysis.diagnosis import Diagnosis
from pdcode.analysis.verdict import WARNING
from pdcode.cli import arguments
from pdcode.launch import launcher
from pdcode.util.errors import Failure, InputError, expected
from pdcode.util.progress import track

from .inject import CAUSES

if TYPE_CHECKING:
    from rich.table import Table

RANKS, TIMEOUT_S = 4, 300
FOLDER = Path(__file__).parent
SHAPES = "stencil", "k-means", "gradients"
ACTIVE = [name for name, cause in CAUSES.items() if cause.ranks]
GIVEN = re.compile(r"give worker (\d+) ([\d.]+) of its work and the others ([\d.]+): predicted ([\d.]+) ms")


class Found(NamedTuple):
    """A run with a cause; times in s, without the cause, and in ms of a step, with the advice followed."""

    program: str
    cause: str
    said: str
    right: bool
    took_s: float
    predicted_s: float
    true_s: float
    advised_ms: float = np.nan
    followed_ms: float = np.nan


def record(words: Sequence[str], cause: str, path: Path) -> pdcode.Trace:
    """Run a program with a cause; Failure if it fails."""
    inside = ["record", "-o", str(path), str(FOLDER / "inject.py"), cause, *words]
    command, environment = launcher.command(RANKS - 1, inside)
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise Failure(f"{shlex.join(words)}: no end after {TIMEOUT_S} s") from None
    if done.returncode:
        raise Failure(f"{shlex.join(words)}: exit code {done.returncode}: {done.stderr.strip()[-400:]}")
    return pdcode.Trace(path)


def named(found: Diagnosis) -> tuple[set[int | str], float]:
    """Return who is named first, and the part of the run's time that it costs."""
    for each in found.causes:
        if each.name in ("the policy", "the start") or each.share < WARNING:  # they are nobody's fault
            continue
        if each.name == "workers":
            return {part.worker for part in found.slow}, each.share
        return {*found.stalled} if each.name == "stalls" else {each.name}, each.share
    return set(), 0.0


def step_ms(trace: pdcode.Trace) -> float:
    """Return the mean time of a step."""
    return 1e-6 * float(np.diff(trace.updates["t_ns"]).mean())


def seconds(trace: pdcode.Trace) -> float:
    """Return the time of a run."""
    return float(trace.summary()["seconds"])


def perform(programs: Sequence[Sequence[str]], causes: Sequence[str]) -> Iterator[Found]:
    """Run all programs with all causes; before and after, without."""
    own = str(FOLDER / "shapes.py")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, words in enumerate(programs):
            label = words[1] if words[0] == own else Path(words[0]).name
            before = record(words, "none", folder / f"{number}-before.h5")
            made = [("none", before)] + [
                (cause, record(words, cause, folder / f"{number}-{cause}.h5")) for cause in causes
            ]
            clean_s = seconds(before), seconds(record(words, "none", folder / f"{number}-after.h5"))
            for cause, trace in made:
                found = trace.diagnose()
                who, share = named(found)
                told = GIVEN.search(found.next) if CAUSES[cause].stretch and words[0] == own else None
                advised = np.nan, np.nan
                if told:
                    shares = [told[2] if rank == int(told[1]) else told[3] for rank in range(RANKS)]
                    followed = record([*words, ",".join(shares)], cause, folder / f"{number}-followed.h5")
                    advised = float(told[4]), step_ms(followed)
                took_s = seconds(trace)
                times_s = took_s, took_s * (1 - share), float(np.mean(clean_s))
                said = ", ".join(map(str, sorted(who, key=str))) or "none"
                yield Found(label, cause, said, who == {*CAUSES[cause].named}, *times_s, *advised)


def off(predicted: float, measured: float) -> str:
    """Return the error of a prediction in percent."""
    return f"{100 * (predicted / measured - 1):+.0f}"


def table(found: Sequence[Found]) -> Table:
    """Return what was named, and predicted and measured times."""
    columns = (
        "program", "cause", "named", "run, s", "without it, predicted", "measured", "off, %",
        "less work: predicted, ms a step", "followed", "off, %",
    )  # fmt: skip
    made = printing.make_table(*columns, left=columns[:3], fold=False)
    for each in found:
        times = [f"{value:.2f}" for value in (each.took_s, each.predicted_s, each.true_s)]
        times.append(off(each.predicted_s, each.true_s))
        if np.isfinite(each.followed_ms):
            times += [f"{each.advised_ms:.1f}", f"{each.followed_ms:.1f}"]
            times.append(off(each.advised_ms, each.followed_ms))
        said = each.said + ("" if each.right else " (wrong)")
        made.add_row(each.program, each.cause, said, *times)
    return made


def parser() -> arguments.Parser:
    """Return the parser of the program's options."""
    made = arguments.Parser(
        prog="python -m benchmarks real",
        description="Programs of mpi4py on four ranks, causes that are put into them, and what pdcode says "
        "of their recordings. Exit codes: 0 done, 1 a program failed, 2 bad input.",
    )
    made.add_argument("--steps", type=int, default=150, help="of each own program (default: %(default)s)")
    made.add_argument("--causes", default="", help="separated by commas (default: all)")
    made.add_argument("--shapes", default="", help="own programs, separated by commas (default: all)")
    made.add_argument(
        "--program", action="append", default=[], metavar="'FILE ARGUMENT…'",
        help="another program of mpi4py, in place of the own ones; may be repeated",
    )  # fmt: skip
    made.set_defaults(function=run, alone="benchmarks real")
    return made


def run(options: argparse.Namespace) -> int:
    """Run the programs that the options choose, and print the table."""
    chosen = {}
    for name, known in (("causes", ACTIVE), ("shapes", SHAPES)):
        chosen[name] = [each for each in getattr(options, name).split(",") if each] or [*known]
        if unknown := [each for each in chosen[name] if each not in known]:
            raise InputError(f"--{name}: {expected(unknown[0], sorted(known))}")
    if options.steps < (least := 60):
        raise InputError(f"--steps: expected an integer >= {least} (got {options.steps})")
    programs = [shlex.split(each) for each in options.program]
    for words in programs:
        if not words or not os.path.isfile(words[0]):
            raise InputError(f"--program: {words[0] if words else ''}: no such file")
    programs = programs or [
        [str(FOLDER / "shapes.py"), shape, str(options.steps)] for shape in chosen["shapes"]
    ]
    found = track(perform(programs, chosen["causes"]), len(programs) * (1 + len(chosen["causes"])), "runs")
    printing.show([(f"Causes in programs of {RANKS} ranks", [table([*found])])])
    return 0
