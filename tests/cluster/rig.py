"""A real SLURM on this machine: its own munged, slurmctld and slurmd, own ports, a temporary directory.

It needs root (slurmd starts jobs as their owners) and the Debian packages slurmctld, slurmd, slurm-client and
munge. A SLURM or munge that is already configured on the machine is left alone. A requeued job starts again
after the shortest time that SLURM accepts, cred_expire, not after two minutes.
"""

import os
import platform
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

CONFIG = """\
ClusterName=pdcode
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={root}/munge/socket,cred_expire=5
SlurmUser=root
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SchedulerParameters=sched_interval=1,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PreemptParameters=send_user_signal
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
KillWait=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=16
PartitionName=main Nodes=ALL Default=YES PriorityTier=1 GraceTime=30 OverSubscribe=FORCE:8
PartitionName=urgent Nodes=ALL PriorityTier=2
"""

CGROUP = "CgroupPlugin=disabled\nIgnoreSystemd=yes\n"


class Slurm:
    """Commands of the running cluster; `root` has its configuration, state and logs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        # A job inherits the environment of sbatch: what an outer SLURM or MPI has set there would mislead it.
        outer = ("SLURM_", "SBATCH_", "PMI", "OMPI_", "PRTE_")
        self.environ = {key: value for key, value in os.environ.items() if not key.startswith(outer)}
        self.environ["SLURM_CONF"] = str(root / "slurm.conf")

    def ask(self, *words: str, cwd: Path | None = None, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a SLURM command."""
        environ = self.environ | environ
        return subprocess.run(
            words, cwd=cwd, env=environ, capture_output=True, text=True, timeout=200, check=False
        )

    def command(self, *words: str, cwd: Path | None = None, **environ: str) -> str:
        """Run a SLURM command that must succeed and return what it prints, stripped."""
        done = self.ask(*words, cwd=cwd, **environ)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}{self.logs()}"
        return done.stdout.strip()

    def idle(self) -> bool:
        """Whether the node is up and has nothing to do."""
        return self.ask("sinfo", "--noheader", "--format=%T").stdout.strip() == "idle"

    def states(self, job: str) -> set[str]:
        """States of a job, or of all tasks of an array, such as RUNNING or COMPLETED."""
        words = self.command("scontrol", "show", "job", "-o", job).split()
        return {word.removeprefix("JobState=") for word in words if word.startswith("JobState=")}

    def finished(self, job: str, within_s: float) -> str:
        """Wait until a job has ended and return its states; cancel it if that takes too long."""
        # The others, such as RUNNING, but also SIGNALING and PREEMPTED, pass.
        ended = {
            "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY",
            "TIMEOUT",
        }  # fmt: skip
        if not wait(lambda: self.states(job) <= ended, within_s, every_s=0.2):
            self.command("scancel", job)
            return f"not ended after {within_s} s, was cancelled"
        return " ".join(self.states(job))

    def logs(self) -> str:
        """The last lines of each daemon's log, for messages of failed assertions."""
        tails = []
        for log in sorted(self.root.glob("*.log")):
            lines = log.read_text(errors="replace").splitlines()
            tails.append("\n".join(["", f"--- {log.name}", *lines[-15:]]))
        return "\n".join(tails)


def wait(condition: Callable[[], bool], within_s: float, every_s: float = 0.05) -> bool:
    """Poll a condition; False if it did not hold in time."""
    until = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(every_s)
    return True


def free_ports(count: int) -> list[int]:
    """Ports that no one listens on now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def daemon(slurm: Slurm, *words: str, user: str | None = None) -> Callable[[], None]:
    """Start a daemon in the foreground, its output in a log; return what stops it."""
    with (slurm.root / f"{words[0]}.log").open("wb") as log:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=slurm.environ, user=user
        )
    return partial(stop, process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask a daemon to end, then insist."""
    process.terminate()
    try:
        process.wait(timeout=200)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def cancel_all(slurm: Slurm) -> None:
    """Leave no job's processes behind when slurmd stops."""
    slurm.command("scancel", "--user=root")
    wait(lambda: not slurm.command("squeue", "--noheader"), 15, every_s=0.2)


@contextmanager
def start() -> Iterator[Slurm]:
    """Start a cluster of one node, wait until it is ready for jobs, and stop all of it at the end."""
    with ExitStack() as stack:
        # Not under tmp_path: everyone must be able to enter munged's folder, and paths of sockets are short.
        root = Path(tempfile.mkdtemp(prefix="slurm-"))
        stack.callback(shutil.rmtree, root, ignore_errors=True)
        root.chmod(0o755)
        for name in ("munge", "state", "spool"):
            (root / name).mkdir(mode=0o755)
        host = platform.node().split(".")[0]
        controller_port, node_port = free_ports(2)
        config = CONFIG.format(root=root, host=host, controller_port=controller_port, node_port=node_port)
        (root / "slurm.conf").write_text(config)
        (root / "cgroup.conf").write_text(CGROUP)
        slurm = Slurm(root)

        munge = root / "munge"
        (munge / "key").write_bytes(os.urandom(128))
        (munge / "key").chmod(0o600)
        for path in (munge, munge / "key"):
            shutil.chown(path, "munge", "munge")
        files = [f"--{name}-file={munge / name}" for name in ("key", "pid", "seed", "log")]
        words = ("munged", "--foreground", f"--socket={munge / 'socket'}", *files)
        stack.callback(daemon(slurm, *words, user="munge"))
        assert wait((munge / "socket").exists, 100), slurm.logs()

        stack.callback(daemon(slurm, "slurmctld", "-D"))
        stack.callback(daemon(slurm, "slurmd", "-D", "-N", host))
        assert wait(slurm.idle, 100, every_s=0.2), slurm.logs()
        stack.callback(cancel_all, slurm)
        yield slurm
