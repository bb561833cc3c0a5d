"""mpirun as a child process: distribution of signals, and of output. Imports no MPI.

mpirun stops forwarding the output of ranks once it has received a signal, and prints banners when a rank
exits with an error. Ranks on this machine therefore write to the command's own stdout and stderr: they get
both file descriptors over a Unix socket, whose name is in the environment. Over it they also report when rank
0 handles signals, and their exit codes; mpirun's later output is dropped. The socket closes when the command
is killed, and the ranks end, too. Ranks on other machines cannot connect, and print through mpirun.
"""

import math
import os
import select
import selectors
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from types import FrameType
from typing import Any

from ..util import progress, signals
from . import siblings
from .supervised import DEATH, END_S, JOB_EXIT, READY, VARIABLE, here, is_writable, print_line

JOB_ENDED = (
    "{} has ended, and with it the job; under Open MPI 5 or later (mpirun --with-ft ulfm), "
    "with its own choice of transports, the others would continue"
)
EXIT_GRACE_S = 1.0  # for mpirun to end by itself
FOLDER = "PRTE_MCA_prte_local_tmpdir_base"  # variable: Open MPI 5's folder of session files
KILL_S = END_S - EXIT_GRACE_S  # for mpirun to end after SIGTERM: it waits for unreachable hosts
START_S = 300.0  # for all ranks to come to MPI_Init after the first one
LEFT_S = 7.0  # for a job's other processes to end by themselves after rank 0
POLL_S = 0.05  # between polls of an mpirun that has closed its pipes


class Supervisor:
    """Parent of mpirun, with its arguments `command` and an environment.

    After `run`, `died` names the rank whose death has ended the job, or is empty; `died_ns` is the time since
    1970 of the last death.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._command, self._environment = command, environment
        self._survives = "ulfm" in command  # whether the job survives the death of a rank
        self._rank_0: int | None = None  # process id, once it handles signals
        self._started, self._line_s = 0, time.monotonic()  # number of ranks; time of the last line about it
        self._init_s = self._line_s  # last time at which no rank was known to be in MPI_Init
        self._stop_requests, self._signals = signals.StopRequests(), 0  # the user's, and their number
        self._rank_0_ended = False  # whether rank 0 has ended, or reported its exit
        self._left_s = math.inf  # time to end what has not ended since then
        self._mpirun = 0  # process id
        self._before = set(siblings.children(os.getpid()))  # processes that are not of the job
        self._late = False  # whether that has come
        self._code: int | None = None  # exit code of the first rank that failed, else of the first
        self._job_code: int | None = None  # exit code of a job that rank 0 has ended without other ranks
        self._end_s = math.inf  # time to terminate mpirun: MPI_Abort may not end all ranks
        self._ranks: list[tuple[socket.socket, int]] = []  # connections to all, closed or not; process ids
        # Ranks that have ended without a report: all, and ranks that ended first, before mpirun ended others.
        self._dead: list[int] = []
        self._first: list[int] = []
        self.died, self.died_ns = "", 0
        self._stopped = 0  # number of polls in a row that found mpirun stopped
        self._output: list[tuple[int, bytes]] = []  # mpirun's, after a rank has ended
        self._selector = selectors.DefaultSelector()

    def run(self) -> int:
        """Run mpirun to its end; return the exit code of the job."""
        name = f"pdcode-{os.urandom(16).hex()}"
        with ExitStack() as stack:
            sender, receiver = (stack.enter_context(end) for end in socket.socketpair())
            sender.setblocking(False)

            def notify(number: int, frame: FrameType | None) -> None:
                with suppress(BlockingIOError):
                    sender.send(bytes([number]))

            stack.enter_context(signals.handled(dict.fromkeys(signals.TERMINATING, notify)))
            stack.enter_context(self._selector)
            siblings.adopt()
            stack.callback(siblings.adopt, False)
            server = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            server.bind(f"\0{name}")
            server.listen(1024)
            environment = {**self._environment, VARIABLE: f"{name} {here()}"}
            with suppress(OSError):  # mpirun reports what it cannot write
                # A killed job leaves its session files in /tmp, named by the process id of mpirun. An mpirun
                # with the same id would not start.
                folder = tempfile.TemporaryDirectory(prefix="pdcode-", ignore_cleanup_errors=True)
                environment.setdefault(FOLDER, stack.enter_context(folder))
            # A process group of its own: the terminal sends Ctrl-C to this process alone.
            process = subprocess.Popen(
                self._command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                process_group=0,
            )
            stack.callback(process.kill)  # if this process fails
            self._mpirun = process.pid
            self._serve(0, server, self._on_connection)
            self._serve(3, receiver, self._on_signal)
            for target, pipe in enumerate((process.stdout, process.stderr), 1):
                assert pipe is not None
                self._serve(target, pipe, self._on_output)
            self._forward(process)
            self._end_ranks()
            code = process.wait()
            until_s = time.monotonic() + (EXIT_GRACE_S if self._signals < 2 else 0)
            while self._left() and time.monotonic() < until_s:
                time.sleep(POLL_S)
            self._end_left()
            return self._exit_code(code)

    def _serve(self, target: int, source: Any, serve: Callable[[Any, int], bool]) -> None:
        """Call `serve` whenever the source is readable; close the source when `serve` returns false.

        `target` is the file descriptor for mpirun's output: 1 or 2; 0 for messages of ranks, 3 for signals.
        """
        self._selector.register(source, selectors.EVENT_READ, (target, source, serve))

    def _forward(self, process: subprocess.Popen[bytes]) -> None:
        """Serve ranks and signals until mpirun has closed its stdout and stderr and ended, or is killed."""
        pipes = 2
        while pipes or process.poll() is None:
            wait_s = POLL_S if not pipes or self._end_s < math.inf else siblings.POLL_S
            self._check_stopped(process.pid)
            self._first = self._first or self._dead.copy()
            ready = [key.data for key, _ in self._selector.select(wait_s)]
            if self._rank_0 is self._code is None and time.monotonic() > self._line_s + progress.LINE_S:
                self._check_start()
            if time.monotonic() >= self._left_s:
                self._left_s, self._end_s = math.inf, min(self._end_s, time.monotonic())
                self._late = True
                self._end_left()
            late_s = time.monotonic() - self._end_s
            if late_s > KILL_S:
                self._end_ranks()
                time.sleep(POLL_S)  # MPI in ranks that lose mpirun prints a banner each
                process.kill()  # what it has started holds its pipes
                return
            if late_s > 0:
                process.terminate()
            # Messages of ranks are handled before mpirun's output about them, and before signals.
            for target, source, serve in [each for each in ready if each[0] == 0] or ready:
                if not serve(source, target):
                    self._selector.unregister(source)
                    source.close()
                    pipes -= target in (1, 2)

    def _check_start(self) -> None:
        """Say which ranks the start waits for, and end the job if those in MPI_Init have waited too long."""
        self._line_s = now_s = time.monotonic()
        left = [pid for rank, pid in self._ranks if pid and rank.fileno() >= 0]
        late = [pid for pid in left if siblings.state(pid)[0] != siblings.INIT]
        names = siblings.described(late, left) if late else ""
        if len(late) == len(left):
            self._init_s = now_s
        if now_s - self._init_s > START_S:
            why = (
                f"not in MPI_Init {START_S:g} s after others: {names}"
                if late
                else f"MPI_Init took {START_S:g} s"
            )
            print_line(f"{why}; the job ends")
            self._code, self._end_s = 1, now_s
        elif is_writable(2):
            which = f"not in MPI_Init yet: {names}" if late else "all are in MPI_Init"
            progress.print_line(f"{self._started} processes have started; {which}")

    def _end_ranks(self) -> None:
        """End the ranks that live on: ranks in MPI_Finalize have no thread that could receive a message."""
        for rank, pid in self._ranks:
            with suppress(OSError):  # the connection is closed: the rank has ended
                rank.send(b"e")
                if pid:  # 0 in another namespace
                    os.kill(pid, signal.SIGKILL)

    def _left(self) -> list[int]:
        """Return the processes of the job that live, besides mpirun: ranks, and what they have started."""
        left = {pid for rank, pid in self._ranks if pid and rank.fileno() >= 0 and siblings.lives(pid)}
        for pid in siblings.children(os.getpid()):
            if pid not in self._before:
                left |= {pid, *siblings.descendants(pid)}
        own = {pid for pid in siblings.children(self._mpirun) if siblings.rank_of(pid) is None}  # ssh
        return [pid for pid in sorted(left - {self._mpirun} - own) if siblings.lives(pid)]

    def _end_left(self) -> None:
        """Name and end the processes that live on although rank 0 has ended."""
        if left := self._left():
            names = siblings.described(left, [pid for _, pid in self._ranks])
            print_line(f"{names} did not end after the job, and was killed")
            siblings.kill(left)

    def _on_connection(self, server: socket.socket, _: int) -> bool:
        """Pass stdout and stderr to a rank of this user."""
        connection, _ = server.accept()
        pid, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if user != os.getuid():
            connection.close()
            return True
        with suppress(OSError):  # the rank has ended already
            socket.send_fds(connection, [b"."], [1, 2])
        self._ranks.append((connection, pid))
        rank, alone = siblings.rank_of(pid), siblings.is_alone(pid)
        self._serve(0, connection, lambda source, _: self._on_message(source, pid, rank, alone))
        self._started += 1
        return True

    def _on_message(self, source: socket.socket, pid: int, rank: int | None, alone: bool) -> bool:
        try:
            message = source.recv(16)
        except OSError:
            message = b""
        if not message and self._code is None and rank is not None:
            self._dead.append(rank)
            self.died_ns = time.time_ns()
            if alone and self._rank_0 is None:  # no other rank sees that
                print_line(f"{siblings.named(rank)} has ended before the run began; the job ends")
                self._code, self._end_s = 1, time.monotonic()
        if pid == self._rank_0 and message != READY and not self._rank_0_ended:
            self._rank_0_ended, self._left_s = True, time.monotonic() + LEFT_S
        if message == READY:
            self._rank_0 = pid
            self._flush()
        elif message[:1] == JOB_EXIT:
            self._code = self._job_code = message[1]
        elif message:
            self._code = self._code or message[1]
            if message[:1] == DEATH and not self._signals:
                self.died = siblings.named(min(self._dead)) if self._dead else "a rank"
                self.died_ns = self.died_ns or time.time_ns()
        if self._job_code is not None or self._code:
            self._end_s = min(self._end_s, time.monotonic() + EXIT_GRACE_S)
        return bool(message)

    def _on_output(self, pipe: Any, target: int) -> bool:
        """Forward mpirun's output; store it while MPI starts, and after a rank has reported its exit code."""
        if not is_writable(target):
            time.sleep(POLL_S)
            return True
        output = os.read(pipe.fileno(), select.PIPE_BUF)
        starting = self._started and self._rank_0 is None
        if output and self._code is None and not starting:
            _write(target, output)
        elif output:
            self._output.append((target, output))
        return bool(output)

    def _flush(self) -> None:
        """Print the stored output."""
        for target, output in self._output:
            _write(target, output)
        self._output.clear()

    def _check_stopped(self, pid: int) -> None:
        """End the job if mpirun remains stopped. Counts polls, as this process may be stopped, too."""
        self._stopped = self._stopped + 1 if siblings.is_stopped(pid) else 0
        if self._stopped == 2:
            print_line(siblings.stopped("mpirun"))
        elif self._stopped * siblings.POLL_S > siblings.STOPPED_S and self._end_s == math.inf:
            print_line("mpirun remained stopped; the job ends")
            self._code, self._end_s = 1, time.monotonic() - KILL_S

    def _on_signal(self, receiver: socket.socket, _: int) -> bool:
        """Forward a signal to rank 0; the second one, or one while there is no rank 0, ends the job."""
        number = receiver.recv(1)[0]
        if not self._stop_requests.new():
            return True
        self._signals += 1
        now_s = time.monotonic()
        if self._rank_0_ended:
            self._left_s = now_s
        elif self._rank_0 is None or self._signals > 2:
            self._end_s = min(self._end_s, now_s)
        else:
            with suppress(ProcessLookupError):
                os.kill(self._rank_0, number)
            if self._signals == 2:
                print_line("the second signal: the job ends at once")
                self._end_s = min(self._end_s, now_s + EXIT_GRACE_S)
        return True

    def _exit_code(self, code: int) -> int:
        """Return the ranks' exit code, or 1 if mpirun failed; print stored output if no rank failed."""
        if self._job_code is not None:
            return self._job_code
        if self._signals and self._code is None:
            print_line("interrupted")
            return 1
        if self._late and self._code is not None:
            return self._code
        if self._dead and self._rank_0 is None and self._code in (None, 1):
            self.died = siblings.named(self._dead[0])
        if code and not self._code:
            self._flush()
            who = siblings.named(self._first[0]) if len(self._first) == 1 else "a process of the job"
            if self._rank_0 is not None:
                self.died, self.died_ns = who, self.died_ns or time.time_ns()
            if code < 0:
                print_line(f"mpirun was ended by {siblings.named_signal(-code)}; the job ends")
            elif self._rank_0 is not None and not self._survives:  # it had started
                print_line(JOB_ENDED.format(who))
            elif self._rank_0 is None and self._dead:
                print_line(f"{who} has ended before the run began, and with it the job")
        return self._code or int(code != 0)


def _write(target: int, output: bytes) -> None:
    """Write all bytes to a file descriptor; errors are ignored."""
    with suppress(OSError):
        while output:
            output = output[os.write(target, output) :]
