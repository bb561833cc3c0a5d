"""Kinds of files to damage: small whole files, and the commands that read them."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import damage
import inputs

from pdcode.__main__ import main
from pdcode.trace import Trace

JOB = """
problem = {kind = "least-squares", data = "synthetic", samples = 60, features = 12, batch = 4}
code = {blocks = 4, weight = 2}
workers = {count = 3}
stragglers = {kind = "shifted-exponential", shift_s = 0.001, mean_s = 0.001, slow = [1], slowdown = 2}
stop = {updates = 12, loss = 1e-3}
trace = {progress_s = 1e-3}
"""
LAUNCHERS = "OMPI_", "PMIX_", "PMI_", "PRTE_", "SLURM_"


class Kind(NamedTuple):
    """A kind of file to damage.

    Attributes
    ----------
    samples : callable
        Writes whole files of this kind into a folder, and returns their paths. The folder also holds
        `job.toml`, a small configuration.
    damage : callable
        Damages a file in place; returns how, for the report.
    commands : callable
        Returns the commands to run on a file, as lists of arguments of `pdcode`, given `job.toml`. They write
        in the folder of the damaged file only.
    """

    samples: Callable[[Path], list[Path]]
    damage: Callable[[random.Random, Path], str]
    commands: Callable[[random.Random, Path, str], list[list[str]]]


def quiet(arguments: list[str]) -> int:
    """Run a command in this process without its output; return its exit code."""
    kept = sys.stdout
    with open(os.devnull, "w") as sys.stdout:
        try:
            return main(arguments)
        finally:
            sys.stdout = kept


def real_traces(folder: Path) -> list[Path]:
    """Record a small run over MPI."""
    job, real = str(folder / "job.toml"), folder / "real.h5"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(LAUNCHERS)}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = [sys.executable, "-m", "pdcode", "run", job, "-o", str(real)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    return [real]


def virtual_traces(folder: Path) -> list[Path]:
    """Record small runs on the virtual clock, with several schemes, and with times only."""
    job = str(folder / "job.toml")
    runs = {
        "virtual": ["memory.kind=worker", "downlink.kind=codewords"],
        "cyclic": ["scheme.name=cyclic", "update.mode=first", "problem.batch=0"],
        "matched": ["code.family=matched", "memory.kind=difference", "optimizer.momentum=0.5"],
        "sampled": ["trace.arrivals=sampled", "trace.sample=2"],
        "timing": [],
    }
    for name, options in runs.items():
        keys = [part for option in options for part in ("--set", option)]
        only = ["--timing-only"] if name == "timing" else []
        assert quiet(["simulate", job, "-o", str(folder / f"{name}.h5"), *keys, *only]) == 0
    paths = [folder / f"{name}.h5" for name in runs]
    assert all(Trace(path).finished for path in paths)
    return paths


def trace_commands(source: random.Random, path: Path, job: str) -> list[list[str]]:
    """Choose two of the commands, as all take 0.4 s."""
    trace, out = str(path), ["-o", str(path.with_suffix(".out.h5"))]
    commands = [
        ["show", trace, *_figure(source, path)],
        ["show", trace, trace, *_figure(source, path)],
        ["codes", "show", trace],
        ["replay", trace],
        ["simulate", job, "--stragglers", trace, *out],
        ["simulate", job, "--cost", trace, *out],
    ]
    if not source.randrange(8):
        size = ["--candidates", "2", "--seeds", "1", "--processes", "1"]
        commands += [["plan", job, "--trace", trace, *size, "-o", str(path.with_suffix(".toml"))]]
    return source.sample(commands, 2)


def codes(folder: Path) -> list[Path]:
    """Design small codes."""
    designs = {
        "net": ["-n", "16", "-k", "16", "-w", "4"],
        "random": ["-n", "9", "-k", "5", "-w", "3"],
        "repetition": ["-n", "8", "-k", "4"],
    }
    for name, options in designs.items():
        assert quiet(["codes", "design", name, *options, "-o", str(folder / f"{name}.h5")]) == 0
    return [folder / f"{name}.h5" for name in designs]


def code_commands(source: random.Random, path: Path, job: str) -> list[list[str]]:
    return [["codes", "show", str(path), *_figure(source, path)], ["show", str(path)]]


def comparisons(folder: Path) -> list[Path]:
    """Compare two schemes briefly."""
    job, path = str(folder / "job.toml"), folder / "compared.h5"
    schemes = ["--schemes", "yours,uncoded", "--seeds", "2", "--processes", "1", "-o", str(path)]
    assert quiet(["compare", job, *schemes]) == 0
    return [path]


def comparison_commands(source: random.Random, path: Path, job: str) -> list[list[str]]:
    return [["show", str(path), *_figure(source, path)]]


def _figure(source: random.Random, path: Path) -> list[str]:
    """Ask for a figure now and then, as it takes a second."""
    return [] if source.randrange(100) else ["--figure", str(path.with_suffix(".svg"))]


KINDS = {
    "traces": Kind(lambda folder: real_traces(folder) + virtual_traces(folder), damage.hdf5, trace_commands),
    "virtual": Kind(virtual_traces, damage.hdf5, trace_commands),
    "codes": Kind(codes, damage.hdf5, code_commands),
    "comparisons": Kind(comparisons, damage.hdf5, comparison_commands),
    "configurations": Kind(inputs.configurations, inputs.configuration, inputs.configuration_commands),
    "data": Kind(inputs.data, inputs.datum, inputs.data_commands),
}
