"""`pdcode`, with the arguments after the first, where workers wait for rank 0 after two messages.

If the first is "bad", worker 1 damages its θ after 20 tasks.
"""

import sys

from pdcode.__main__ import main
from pdcode.reductions import allreduce_ranks as reduce
from pdcode.transport.messages import Task

reduce.PENDING = 2
next_task = reduce.AllreduceLink.next_task


def damage(link: reduce.AllreduceLink) -> Task | None:
    if link._tasks == 20 and link.worker == 1:
        link.state.theta[100] += 0.5
    return next_task(link)


if __name__ == "__main__":
    if sys.argv[1] == "bad":
        reduce.AllreduceLink.next_task = damage
    sys.exit(main(sys.argv[2:]))
