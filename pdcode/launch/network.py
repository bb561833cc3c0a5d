"""Who may connect to the processes of a job: on one machine nobody else. Imports no MPI.

Ranks on one machine use shared memory alone. Launchers listen on all addresses, and have no parameter for
that: a library of ours, preloaded into them, has them listen on the loopback address, and closes connections
that do not come from their job (csrc/launch/loopback.c). docs/network.md says what is left.
"""

import os
import re
import socket
import sys
import sysconfig
import tempfile
from collections.abc import Collection, Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import NamedTuple

from ..util.errors import InputError, short_repr

INTERFACE = (
    "PDCODE_INTERFACE"  # variable: the interface between hosts, by name or network; lo if there are none
)
LOOPBACK = "lo"
BTL, WITHOUT_OFI, SHARED = "OMPI_MCA_btl", "^ofi", "^tcp,ofi"  # ofi is not used, and its shutdown takes 1 s
LIBRARY = Path(__file__).with_name(f"loopback{sysconfig.get_config_var('EXT_SUFFIX')}")
SEGMENTS, ROOM = Path("/dev/shm"), 32 << 20  # where Open MPI has 16 MiB for each rank, which remain unused
# Variables by which mpirun may start ranks on other machines, and files with such settings.
SLURM = "SLURM_JOB_NODELIST", "SLURMD_NODENAME"
HOSTS = re.compile(
    r"PBS_NODEFILE|PE_HOSTFILE|COBALT_NODEFILE|LSB_\w*HOST\w*|FLUX_URI|HYDRA_HOST_FILE|\w+_MCA_\w*host\w*"
)
SETTINGS = "~/.openmpi", "~/.prte", "/etc/openmpi", "/etc/prte"


class Listener(NamedTuple):
    """A TCP socket on which a process listens."""

    pid: int
    address: str
    port: int

    @property
    def is_open(self) -> bool:
        """Whether other machines can reach it."""
        return not ip_address(self.address).is_loopback

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


def is_local(environment: Mapping[str, str], mpirun: str) -> bool:
    """Return whether mpirun starts all ranks on this machine: nothing that it reads names others."""
    if interface := environment.get(INTERFACE):
        return interface == LOOPBACK
    nodes = {environment.get(name) for name in SLURM}  # in a job on one node, and not on a login node
    if any(map(HOSTS.fullmatch, environment)) or nodes not in ({None}, {socket.gethostname().split(".")[0]}):
        return False
    for folder in Path(mpirun).resolve().parents[1] / "etc", *(Path(name).expanduser() for name in SETTINGS):
        for path in folder.glob("*"):
            with suppress(OSError):
                lines = {
                    line.partition("#")[0].strip() for line in path.read_text(errors="replace").split("\n")
                }
                if any("hostfile" in f"{path.name} {line}" for line in lines - {""}):
                    return False
    return True


def restrict_launcher(environment: MutableMapping[str, str], local: bool) -> None:
    """Have mpirun listen for its job alone, if that is on this machine; else say the user's interface."""
    interface = environment.get(INTERFACE)
    if local:
        if LIBRARY.exists() and not set(" :") & set(str(LIBRARY)):
            others = environment.get("LD_PRELOAD")
            environment["LD_PRELOAD"] = f"{LIBRARY}:{others}" if others else str(LIBRARY)
        environment.setdefault("HYDRA_IFACE", LOOPBACK)
    elif interface:
        _check(interface)
        for name in (
            "PRTE_MCA_prte_if_include",
            "OMPI_MCA_btl_tcp_if_include",
            "OMPI_MCA_oob_tcp_if_include",
        ):
            environment.setdefault(name, interface)
        for name in ("HYDRA_IFACE", "UCX_NET_DEVICES", "FI_TCP_IFACE") if "/" not in interface else ():
            environment.setdefault(name, interface)


def _check(interface: str) -> None:
    """Refuse what is neither an interface of this machine nor a network."""
    names = [name for _, name in socket.if_nameindex()]
    with suppress(ValueError):
        if "/" in interface and ip_network(interface, strict=False):
            return
    if interface not in names:
        known = ", ".join(names)
        raise InputError(
            f"{INTERFACE}: {short_repr(interface)}: expected one of {known}, or a network, such as 10.0.0.0/8"
        )


@contextmanager
def restricted_rank(environment: MutableMapping[str, str]) -> Iterator[None]:
    """Have MPI_Init, called within, use shared memory alone, as all ranks are on this machine.

    What the user has chosen is left. Afterwards the variables are as before: what this process starts may
    have ranks on other machines.
    """
    chosen = {}
    if environment.get(BTL, WITHOUT_OFI) == WITHOUT_OFI:
        chosen[BTL] = SHARED
        if not _has_room(SEGMENTS):
            chosen["OMPI_MCA_btl_sm_backing_directory"] = tempfile.gettempdir()
    chosen["UCX_TLS"] = "self,sm"
    if "MPI_LOCALNRANKS" in environment:  # of MPICH
        chosen["FI_PROVIDER"] = "shm"
    before = {name: environment.get(name) for name in chosen}
    environment.update((name, value) for name, value in chosen.items() if name == BTL or before[name] is None)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                environment.pop(name, None)
            else:
                environment[name] = value


def _has_room(folder: Path) -> bool:
    try:
        space = os.statvfs(folder)
    except OSError:
        return False
    return os.access(folder, os.W_OK) and space.f_bavail * space.f_frsize >= ROOM


def listeners(pids: Collection[int]) -> list[Listener]:
    """Return the TCP sockets on which processes of this user listen, on Linux."""
    ends = {}
    for table in Path("/proc/net/tcp"), Path("/proc/net/tcp6"):
        with suppress(OSError):
            for line in table.read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A":  # listening
                    ends[f"socket:[{fields[9]}]"] = fields[1].split(":")
    found = set()
    for pid in pids:
        with suppress(OSError):
            for path in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError, KeyError):
                    words, port = ends[os.readlink(path)]
                    found.add(Listener(pid, _address(words), int(port, 16)))
    return sorted(found)


def _address(words: str) -> str:
    """Return the address that /proc/net/tcp writes as words of 32 bits of this machine's order."""
    parts = (int(words[at : at + 8], 16) for at in range(0, len(words), 8))
    return str(ip_address(b"".join(part.to_bytes(4, sys.byteorder) for part in parts)))
