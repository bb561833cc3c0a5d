"""`pdcode`, with the arguments after the first, where worker 1 fails in the exchange of update 10.

The first says when: it dies before it sends its payload ("scatter"), or when it has sent its mean to rank 0
("gather"); or it is stopped for some seconds before it sends its payload ("stop").
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from pdcode.__main__ import main
from pdcode.reductions import first_ranks as first

WHEN, attend, failed = sys.argv[1], first.FirstLink._attend, []
if WHEN == "stop":
    first.LONGEST_S = 0.5
else:  # a machine may be busy
    first.LONGEST_S, first.ANSWER_NS = 60.0, 60 * 10**9


class Dying:
    """A communicator that ends the process at its second send of a mean, once it has those of the others."""

    def __init__(self, comm: Any, tag: int) -> None:
        self._comm, self._tag, self._means = comm, tag, []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._comm, name)

    def Irecv(self, buffer: Any, rank: int, tag: int) -> Any:  # noqa: N802
        request = self._comm.Irecv(buffer, rank, tag)
        self._means += [request] if tag == self._tag else []
        return request

    def Isend(self, message: Any, rank: int, tag: int) -> Any:  # noqa: N802
        if tag == self._tag:
            if rank:
                for request in self._means:
                    request.Wait()
                os.kill(os.getpid(), signal.SIGKILL)
            self._comm.Send(message, rank, tag)
        return self._comm.Isend(message, rank, first.ANSWER if tag == self._tag else tag)


def attend_or_fail(
    link: first.FirstLink, attempt: int, version: int, members: Sequence[int]
) -> Iterator[None]:
    if link.worker == 1 and version == 10 and members and not failed:
        failed.append(WHEN)
        if WHEN == "scatter":
            os.kill(os.getpid(), signal.SIGKILL)
        elif WHEN == "stop":
            subprocess.Popen(["sh", "-c", f"sleep 3; kill -CONT {os.getpid()}"])
            os.kill(os.getpid(), signal.SIGSTOP)
        else:
            link._comm = Dying(link._comm, first.tags(attempt)[1])
    yield from attend(link, attempt, version, members)


if __name__ == "__main__":
    first.FirstLink._attend = attend_or_fail
    sys.exit(main(sys.argv[2:]))
