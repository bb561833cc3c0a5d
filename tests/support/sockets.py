"""What a job's processes listen on, as the kernel tells it, and strangers who connect there."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

NOBODY = 65534
STRANGER = """
import os, socket, sys
what, count, user = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if user != os.geteuid():
    os.setgid(user), os.setuid(user)
held = []
print("ready", flush=True)
for line in sys.stdin:
    address, port = line.split()
    for _ in range(count):
        try:
            held.append(socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET))
            held[-1].settimeout(5)
            held[-1].connect((address, int(port)))
            held[-1].sendall(bytes.fromhex(what))
        except OSError:  # it was closed before it could send, or this process has too many
            pass
"""


class Listener(NamedTuple):
    """A listening TCP socket, and the name of a process that has it."""

    program: str
    address: str
    port: int


def family(pid: int) -> list[int]:
    """Process ids of a process and of all that descend from it."""
    found = [pid]
    for each in found:
        with suppress(OSError):
            for task in os.listdir(f"/proc/{each}/task"):
                with suppress(OSError):
                    found += map(int, Path(f"/proc/{each}/task/{task}/children").read_text().split())
    return found


def listening(pid: int) -> set[Listener]:
    """The sockets on which a process, or one that descends from it, listens."""
    sockets = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            address, port = words[1].split(":")
            number = b"".join(bytes.fromhex(address[at : at + 8])[::-1] for at in range(0, len(address), 8))
            if words[3] == "0A":
                sockets[f"socket:[{words[9]}]"] = str(ip_address(number)), int(port, 16)
    found = set()
    for each in family(pid):
        with suppress(OSError):
            name = Path(f"/proc/{each}/comm").read_text().strip()
            for path in Path(f"/proc/{each}/fd").iterdir():
                with suppress(OSError, KeyError):
                    found.add(Listener(name, *sockets[os.readlink(path)]))
    return found


class Strangers:
    """Processes of this user and of another one that connect to whatever a job listens on, and stay."""

    def __init__(self, sent: bytes, count: int = 1) -> None:
        users = {os.geteuid(), NOBODY} if os.geteuid() == 0 else {os.geteuid()}
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-c", STRANGER, sent.hex(), str(count), str(user)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
            )
            for user in users
        ]  # fmt: skip
        for process in self._processes:
            assert process.stdout.readline() == "ready\n"

    def visit(self, listeners: set[Listener]) -> None:
        """Connect to sockets."""
        for _, address, port in listeners:
            local = "::1" if address == "::" else "127.0.0.1" if address == "0.0.0.0" else address
            for process in self._processes:
                process.stdin.write(f"{local} {port}\n")

    def leave(self) -> None:
        """End the strangers."""
        for process in self._processes:
            process.kill()
            process.communicate()


def watch(process: subprocess.Popen, visit=lambda listeners: None, limit_s: float = 120) -> set[Listener]:
    """Return all that a job listens on from its start to its end; call `visit` with that, again and again."""
    seen, until_s = set(), time.monotonic() + limit_s
    while process.poll() is None:
        assert time.monotonic() < until_s, f"no end within {limit_s} s; it listens on {seen}"
        now = listening(process.pid)
        visit(now)
        seen |= now
        time.sleep(0.02)
    return seen
