"""Emulated hosts on this machine: a network and a UTS namespace each, and links of chosen rates to a switch.

    python tests/cluster/lab.py --hosts 4 --up 100mbit --down 100mbit -- pdcode run jobs/digits.toml -n 8

The command runs on host h0. What it starts with mpirun is spread over the hosts by itself: rank 0 on h0,
alone, and the others in turn on h1, h2, … `ssh HOST COMMAND` leads to the other hosts.

All is inside one PID namespace, whose first process reads from a pipe of ours: when we end, even by SIGKILL,
it ends too, and the kernel ends the others and removes the namespaces, with all that is in them. It needs
root, and iproute2 and util-linux of Linux; packets are lost by nftables.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

MOST = 250  # hosts
HEAD = "h0"
PACKET = 1514  # bytes of the longest one
SLACK_S = 200e-6  # for which a link sends faster, after a pause: what a timer of the kernel may be late
ADDRESS = "10.99.0.{}"
QUEUE_S = 0.1  # what waits longer for a link is dropped
UNITS = {"kbit": 1e3, "mbit": 1e6, "gbit": 1e9}

HEARD = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD}

FOLDER = "/dev/shm/lab"
SSH = """\
#!/bin/sh
# ssh [-OPTION…] HOST COMMAND…: as launchers call it. The environment is the caller's.
while [ "${1#-}" != "$1" ]; do shift; done
pid=$(sed -n "s/^$1 //p" /dev/shm/lab/pids)
[ "$pid" ] || { echo "ssh: no host $1" >&2; exit 255; }
shift
exec nsenter --target "$pid" --net --uts "${SHELL:-/bin/sh}" -c "$*"
"""

KEEP = "echo; cat; :"  # until stdin closes; a shell, as a first process has to wait for orphans
LOSS = 'chain {port} {{ type filter hook ingress device "{port}" priority 0; {rule}\n}}'


class Impossible(Exception):
    """What was asked for cannot be had; the message is one line for the user."""


class Counters(NamedTuple):
    """What a host's link has carried, by the kernel's counters of the switch's interface."""

    bytes_up: int
    packets_up: int
    bytes_down: int
    packets_down: int


class Lab:
    """Hosts that are running; the namespaces of the switch are those of a process, the keeper."""

    def __init__(self, keeper: int) -> None:
        self._pids: dict[str, str] = {}  # host -> process that keeps its namespaces, as the hosts see it
        spaces = f"/proc/{keeper}/ns"
        self._switch = (
            *("nsenter", "--no-fork", f"--mount={spaces}/mnt", f"--net={spaces}/net"),
            *(f"--pid={spaces}/pid_for_children", f"--wdns={Path.cwd()}"),
        )
        self.environ = {
            **os.environ,
            "PATH": f"{FOLDER}:{os.environ['PATH']}",
            "PRTE_MCA_prte_default_hostfile": f"{FOLDER}/hostfile",
            "PRTE_MCA_rmaps_default_mapping_policy": "node:oversubscribe",
            "PRTE_MCA_prte_if_include": "eth0",
            "OMPI_MCA_btl_tcp_if_include": "eth0",
            "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        }

    @property
    def hosts(self) -> list[str]:
        """Names of all hosts, h0 first."""
        return list(self._pids)

    def words(self, host: str | None, *command: str) -> list[str]:
        """Return the command line that runs a command on a host, or at the switch.

        Its process has a child, the command; it ignores Ctrl-C, which the command gets as well, and ends the
        command when it is killed.
        """
        # By path, as --target takes a number of our own PID namespace: that of some other process.
        spaces = f"/proc/{self._pids[host]}/ns" if host is not None else ""
        inside = ("nsenter", f"--net={spaces}/net", f"--uts={spaces}/uts") if spaces else ()
        return [*self._switch, *inside, "unshare", "--fork", "--kill-child", *command]

    def start(self, *command: str, host: str = HEAD, **options: Any) -> subprocess.Popen[Any]:
        """Start a command on a host; options are those of `subprocess.Popen`."""
        options["env"] = self.environ | options.get("env", {})
        return subprocess.Popen(self.words(host, *command), **options)

    def ask(self, host: str | None, *command: str, text: str = "") -> str:
        """Run a command on a host, or at the switch, that must succeed; return what it prints."""
        done = subprocess.run(
            self.words(host, *command), input=text, capture_output=True, text=True, timeout=200, check=False
        )
        if done.returncode:
            raise Impossible(f"{' '.join(command)}: {' '.join(done.stderr.split())}")
        return done.stdout

    def add(self, stack: ExitStack, host: str) -> None:
        """Make a host, connected to the switch."""
        spaces = f"echo $$; exec unshare --net --uts sh -c '{KEEP}'"
        keeper = keep(stack, self.words(None, "sh", "-c", spaces))
        self._pids[host] = pid = line(keeper)
        line(keeper)  # it has its namespaces
        self.ask(host, "hostname", host)
        self.ask(None, "ip", "link", "add", host, "type", "veth", "peer", "name", "eth0", "netns", pid)
        self.ask(None, "ip", "link", "set", host, "master", "switch", "up")
        address = f"addr add {ADDRESS.format(len(self._pids))}/24 dev eth0"
        self.ask(host, "ip", "-batch", "-", text=f"link set lo up\n{address}\nlink set eth0 up\n")

    def shape(self, host: str, up: str | None, down: str | None) -> None:
        """Limit the rates of a host's link."""
        for rate, place, port in (up, host, "eth0"), (down, None, host):
            if rate is not None:
                limits = "burst", str(burst(rate)), "latency", f"{QUEUE_S}s"
                self.ask(place, "tc", "qdisc", "add", "dev", port, "root", "tbf", "rate", rate, *limits)

    def lose(self, share: float) -> None:
        """Lose a share of all packets at random, in both directions: where they leave a link."""
        rule = f"numgen random mod 1000000 < {round(1e6 * share)} drop"
        for place, ports in (None, self.hosts), *((host, ["eth0"]) for host in self.hosts):
            for port in ports:  # or packets would be lost in batches
                self.ask(place, "ip", "link", "set", port, "gso_max_segs", "1")
            chains = "\n".join(LOSS.format(port=port, rule=rule) for port in ports)
            self.ask(place, "nft", "-f", "-", text=f"table netdev lab {{\n{chains}\n}}\n")

    def write(self) -> None:
        """Write the files for launchers: on a file system that ends with the lab, its shared memory."""
        addresses = [ADDRESS.format(1 + number) for number in range(len(self.hosts))]
        lines = {
            "pids": [f"{host} {pid}" for host, pid in self._pids.items()],
            "hosts": ["127.0.0.1 localhost", *map(" ".join, zip(addresses, self.hosts, strict=True))],
            "hostfile": [f"{host} slots=1{' max-slots=1' * (host == HEAD)}" for host in self.hosts],
            "ssh": [SSH],
        }
        self.ask(None, "mount", "-t", "tmpfs", "lab", "/dev/shm")
        self.ask(None, "mkdir", FOLDER)
        for name, said in lines.items():
            self.ask(None, "tee", f"{FOLDER}/{name}", text="\n".join([*said, ""]))
        self.ask(None, "chmod", "755", f"{FOLDER}/ssh")
        self.ask(None, "mount", "--bind", f"{FOLDER}/hosts", "/etc/hosts")

    def cut(self, host: str) -> None:
        """Cut a host's link: what either end sends is lost, and neither is told."""
        self.ask(None, "ip", "link", "set", host, "nomaster")

    def mend(self, host: str) -> None:
        """Have a link that was cut carry again."""
        self.ask(None, "ip", "link", "set", host, "master", "switch")

    def connected(self) -> bool:
        """Whether every link carries: the kernel brings them up in the background."""
        ports = json.loads(self.ask(None, "ip", "-json", "-details", "link", "show", "master", "switch"))
        return all(port["linkinfo"]["info_slave_data"]["state"] == "forwarding" for port in ports)

    def counters(self) -> dict[str, Counters]:
        """Read what each link has carried; 66 bytes of a packet are headers of Ethernet, IP and TCP."""
        links = json.loads(self.ask(None, "ip", "-json", "-statistics", "link"))
        found = {}
        for link in links:
            if link["ifname"] in self._pids:
                sides = (link["stats64"][side] for side in ("rx", "tx"))
                found[link["ifname"]] = Counters(*(side[of] for side in sides for of in ("bytes", "packets")))
        return {host: found[host] for host in self.hosts}

    def resent(self) -> int:
        """Count the packets that hosts have sent again, since no answer came in time."""
        total = 0
        for host in self.hosts:
            lines = self.ask(host, "cat", "/proc/net/snmp").splitlines()
            names, numbers = (line.split() for line in lines if line.startswith("Tcp:"))
            total += int(numbers[names.index("RetransSegs")])
        return total


def keep(stack: ExitStack, words: Sequence[str]) -> subprocess.Popen[str]:
    """Start a process that ends when its stdin closes, as it does when this process ends."""
    process = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    stack.enter_context(process)  # closes the pipes and waits
    return process


def line(process: subprocess.Popen[str]) -> str:
    """Read a line that a process says once it is ready."""
    assert process.stdout is not None
    assert process.stderr is not None
    if not (found := process.stdout.readline()):
        raise Impossible(f"no namespaces can be made here: {' '.join(process.stderr.read().split())}")
    return found.strip()


def bits_per_s(rate: str) -> float:
    """Read a rate such as 100mbit."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kmg]bit)", rate)
    if not found or not float(found[1]):
        raise Impossible(f"rate {rate!r}: expected a number and kbit, mbit or gbit, such as 100mbit")
    return float(found[1]) * UNITS[found[2]]


def burst(rate: str) -> int:
    """Return the bytes that a link may send at once after a pause: as few as the kernel's timers allow."""
    return max(2 * PACKET, int(bits_per_s(rate) / 8 * SLACK_S))


def check(hosts: int, up: str | None, down: str | None, loss: float) -> None:
    """Refuse what cannot be had."""
    if not 1 <= hosts <= MOST:
        raise Impossible(f"hosts {hosts}: expected 1 to {MOST}")
    if not 0 <= loss < 1:
        raise Impossible(f"loss {loss}: expected a share from 0 to 1")
    for rate in up, down:
        if rate is not None:
            bits_per_s(rate)
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        raise Impossible("emulated hosts need root, on Linux")
    packages = {"ip": "iproute2", "tc": "iproute2", "unshare": "util-linux", "nsenter": "util-linux"}
    if loss:
        packages["nft"] = "nftables"
    for tool, package in packages.items():
        if not shutil.which(tool):
            raise Impossible(f"{tool} is not installed (on Debian: apt-get install {package})")


@contextmanager
def start(hosts: int, up: str | None = None, down: str | None = None, loss: float = 0.0) -> Iterator[Lab]:
    """Start hosts h0, where commands run, to h`hosts`; end all that runs there at the end, and remove them.

    `up` and `down` are rates of each host's link, from and to it, such as 100mbit, and `loss` is the share of
    the packets that each direction of each link loses. Raises `Impossible`.
    """
    check(hosts, up, down, loss)
    with ExitStack() as stack:
        spaces = "--net", "--pid", "--fork", "--mount-proc"
        keeper = keep(stack, ["unshare", *spaces, "sh", "-c", KEEP])
        line(keeper)
        lab = Lab(keeper.pid)
        lab.ask(None, "ip", "link", "add", "switch", "up", "type", "bridge")
        for number in range(hosts + 1):
            lab.add(stack, f"h{number}")
            lab.shape(f"h{number}", up, down)
        if loss:
            try:
                lab.lose(loss)
            except Impossible as error:
                raise Impossible(f"this kernel cannot lose packets at random: {error}") from None
        lab.write()
        stack.callback(keeper.stdin.close)  # first of all
        while not lab.connected():
            time.sleep(0.01)
        yield lab


def wait(process: subprocess.Popen[Any]) -> int:
    """Wait for a command and return its exit code as shells do; pass on signals that are sent to us."""
    while process.poll() is None:
        heard = signal.sigwaitinfo(HEARD)
        if heard.si_signo != signal.SIGCHLD and heard.si_code <= 0:  # not by the terminal, which tells all
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            for child in children.read_text().split():
                with suppress(ProcessLookupError):  # it has ended meanwhile
                    os.kill(int(child), heard.si_signo)
    code = process.returncode
    return code if code >= 0 else 128 - code


def outage(text: str) -> tuple[str, float, float | None]:
    """Read HOST@SECONDS or HOST@SECONDS+SECONDS."""
    found = re.fullmatch(r"(\w+)@([\d.]+)(?:\+([\d.]+))?", text)
    if not found:
        raise argparse.ArgumentTypeError(f"expected HOST@SECONDS or HOST@SECONDS+SECONDS (got {text!r})")
    return found[1], float(found[2]), float(found[3]) if found[3] else None


def disturb(lab: Lab, host: str, at_s: float, for_s: float | None) -> None:
    """Cut a link later, and mend it if it is to be mended."""
    time.sleep(at_s)
    lab.cut(host)
    print(f"lab: {host} is cut off", file=sys.stderr, flush=True)
    if for_s is not None:
        time.sleep(for_s)
        lab.mend(host)
        print(f"lab: {host} is back", file=sys.stderr, flush=True)


def main() -> int:
    """Run a command in a lab."""
    parser = argparse.ArgumentParser(
        description="Run a command, or a shell, on emulated hosts; print what each link has carried."
    )
    parser.add_argument("--hosts", type=int, default=2, metavar="N", help="hosts besides h0 (default: 2)")
    parser.add_argument("--up", metavar="RATE", help="of each link, from its host, such as 100mbit")
    parser.add_argument("--down", metavar="RATE", help="of each link, to its host")
    parser.add_argument("--loss", type=float, default=0, metavar="PERCENT", help="of packets, both ways")
    parser.add_argument(
        "--cut", type=outage, action="append", default=[], metavar="HOST@SECONDS[+SECONDS]",
        help="cut a host's link so long after the start, for good or for so long",
    )  # fmt: skip
    parser.add_argument("command", nargs="*", metavar="COMMAND")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with start(options.hosts, options.up, options.down, options.loss / 100) as lab:
            for host, *_ in options.cut:
                if host not in lab.hosts:
                    raise Impossible(f"--cut {host}: expected one of h0 to {lab.hosts[-1]}")
            process = lab.start(*(options.command or [os.environ.get("SHELL", "/bin/sh")]))
            signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)  # threads inherit it
            for host, at_s, for_s in options.cut:
                threading.Thread(target=disturb, args=(lab, host, at_s, for_s), daemon=True).start()
            code = wait(process)
            for host, counted in lab.counters().items():
                print(
                    f"lab: {host} up {counted.bytes_up:,} B in {counted.packets_up:,} packets, "
                    f"down {counted.bytes_down:,} B in {counted.packets_down:,}",
                    file=sys.stderr,
                )
            return code
    except Impossible as error:
        print(f"lab: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
