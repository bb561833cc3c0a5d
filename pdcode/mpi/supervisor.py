"""mpirun as a child process: who gets signals, and what the user sees. Imports no MPI.

mpirun stops forwarding the output of ranks once it has a signal, and prints banners when a rank ends with an
exit code. Ranks on this machine therefore write to the command's own stdout and stderr: they get both file
descriptors over a Unix socket, whose name is in the environment. Over it they also say when rank 0 handles
signals, and with which exit code they end; what mpirun prints after that is dropped. The socket closes when
the command is killed, and the ranks end, too. Ranks on other machines, which cannot connect, print through
mpirun.
"""

from __future__ import annotations

import math
import os
import selectors
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from types import FrameType
from typing import Any

from ..util import signals
from ..util.output import print_error
from .supervised import ENDED, LEFT, READY, VARIABLE

MORTAL = (
    "a process of the job has ended, and with it the job; under Open MPI 5 or later (mpirun --with-ft ulfm), "
    "with its own choice of transports, the others would go on"
)
GRACE_S = 1.0  # for mpirun to end
FOLDER = "PRTE_MCA_prte_local_tmpdir_base"  # where Open MPI 5 has its session's files on this machine
KILL_S = 3.0  # for it to end when told to: it waits for hosts that cannot be reached
POLL_S = 0.05  # time between looks at an mpirun that has closed its pipes


class Supervisor:
    """Parent of mpirun.

    Parameters
    ----------
    command : sequence of str
        mpirun and its arguments.
    environment : mapping
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._command, self._environment = command, environment
        self._survives = "ulfm" in command  # whether the job goes on when a rank dies
        self._process: subprocess.Popen[bytes] | None = None
        self._rank_0: int | None = None  # process id, once it handles signals
        self._requests, self._signals = signals.StopRequests(), 0  # of the user, to end
        self._over = False  # whether rank 0 has ended
        self._code: int | None = None  # first exit code of a rank, failures before success
        self._left: int | None = None  # exit code of a job that rank 0 has ended without other ranks
        self._end_s = math.inf  # when mpirun is ended, if it has not: MPI_Abort may not end all ranks
        self._words: list[tuple[int, bytes]] = []  # of mpirun, after a rank has ended
        self._selector = selectors.DefaultSelector()

    def run(self) -> int:
        """Run mpirun to its end; return the exit code of the job."""
        name = f"pdcode-{os.urandom(16).hex()}"
        with ExitStack() as stack:
            bell, heard = (stack.enter_context(end) for end in socket.socketpair())
            bell.setblocking(False)

            def ring(number: int, frame: FrameType | None) -> None:
                with suppress(BlockingIOError):
                    bell.send(bytes([number]))

            stack.enter_context(signals.handled(dict.fromkeys(signals.TERMINATING, ring)))
            stack.enter_context(self._selector)
            server = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            server.bind(f"\0{name}")
            server.listen(1024)
            environment = {**self._environment, VARIABLE: name}
            with suppress(OSError):  # mpirun says what it cannot write
                # Those of a job that was killed stay in /tmp, under the number of mpirun's process, and an
                # mpirun that gets the same number does not start.
                folder = tempfile.TemporaryDirectory(prefix="pdcode-", ignore_cleanup_errors=True)
                environment.setdefault(FOLDER, stack.enter_context(folder))
            # A process group of its own: the terminal sends Ctrl-C to this process alone.
            process = self._process = subprocess.Popen(
                self._command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                process_group=0,
            )
            stack.callback(process.kill)  # if this process fails
            self._serve(0, server, self._on_connection)
            self._serve(3, heard, self._on_signal)
            for target, pipe in enumerate((process.stdout, process.stderr), 1):
                assert pipe is not None
                self._serve(target, pipe, self._on_words)
            self._forward(process)
            return self._exit_code(process.wait())

    def _serve(self, target: int, source: Any, serve: Callable[[Any, int], bool]) -> None:
        """Have `serve` called when there is something to read; the source is closed when it returns false.

        `target` is where mpirun's words go: 1 for stdout, 2 for stderr; 0 for what ranks say, 3 for signals.
        """
        self._selector.register(source, selectors.EVENT_READ, (target, source, serve))

    def _forward(self, process: subprocess.Popen[bytes]) -> None:
        """Serve ranks and signals until mpirun has closed its stdout and stderr and ended, or is killed."""
        pipes = 2
        while pipes or process.poll() is None:
            wait_s = POLL_S if not pipes or self._end_s < math.inf else None
            ready = [key.data for key, _ in self._selector.select(wait_s)]
            late_s = time.monotonic() - self._end_s
            if late_s > KILL_S:
                process.kill()  # what it has started holds its pipes
                return
            if late_s > 0:
                process.terminate()
            # All that ranks have said comes before mpirun's words about it, and before signals.
            said = [each for each in ready if each[0] == 0]
            for target, source, serve in said or ready:
                if not serve(source, target):
                    self._selector.unregister(source)
                    source.close()
                    pipes -= target in (1, 2)

    def _on_connection(self, server: socket.socket, _: int) -> bool:
        """Hand stdout and stderr to a rank of this user."""
        connection, _ = server.accept()
        pid, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if user != os.getuid():
            connection.close()
            return True
        with suppress(OSError):  # a rank that is gone again
            socket.send_fds(connection, [b"."], [1, 2])
        self._serve(0, connection, lambda rank, _: self._on_message(rank, pid))
        return True

    def _on_message(self, rank: socket.socket, pid: int) -> bool:
        try:
            message = rank.recv(16)
        except OSError:
            return False
        self._over |= pid == self._rank_0 and message[:1] in (ENDED, LEFT)
        if message == READY:
            self._rank_0 = pid
        elif message[:1] == LEFT:
            self._code = self._left = message[1]
        elif message:
            self._code = self._code or message[1]
        if self._left is not None or self._code:
            self._end_s = min(self._end_s, time.monotonic() + GRACE_S)
        return bool(message)

    def _on_words(self, pipe: Any, target: int) -> bool:
        """Pass mpirun's words on, or keep them once a rank has said how it ends."""
        words = os.read(pipe.fileno(), 1 << 16)
        if words and self._code is None:
            _write(target, words)
        elif words:
            self._words.append((target, words))
        return bool(words)

    def _on_signal(self, heard: socket.socket, _: int) -> bool:
        """Forward the first two signals to rank 0; a third, or one before rank 0 is ready, ends mpirun."""
        number = heard.recv(1)[0]
        if not self._requests.new():
            return True
        self._signals += 1
        if self._rank_0 is not None and self._signals < 3:
            if not self._over:
                with suppress(ProcessLookupError):
                    os.kill(self._rank_0, number)
        else:
            self._end_s = min(self._end_s, time.monotonic())
        return True

    def _exit_code(self, code: int) -> int:
        """Return the ranks' exit code, or 1 if mpirun failed; print what has been kept if it is news."""
        if self._left is not None:
            return self._left
        if self._signals and self._code is None:
            print_error("interrupted")
            return 1
        if code and not self._code:
            for target, words in self._words:
                _write(target, words)
            if self._rank_0 is not None and not self._survives:  # it had begun
                print_error(MORTAL)
        return self._code or int(code != 0)


def _write(target: int, words: bytes) -> None:
    """Write all bytes to a file descriptor; a failure loses them."""
    with suppress(OSError):
        while words:
            words = words[os.write(target, words) :]
