"""A worker's loop: the newest θ, a mini-batch, its codewords; a payload back."""

from __future__ import annotations

from .config import Config
from .fleet.base import Link
from .memory import Respond
from .rng import Batches
from .stragglers import Delays


class InjectedFault(RuntimeError):
    """Raised on purpose by ``[faults]``."""


def work(link: Link, respond: Respond, batches: Batches, delays: Delays, config: Config) -> None:
    """Serve tasks until rank 0 has no more.

    Parameters
    ----------
    link : Link
        To rank 0.
    respond : callable
        Turns θ, batch and codewords into a payload in the link's buffer; returns the mini-batch loss.
    batches : Batches
        Rows of each task.
    delays : Delays
        Injected delays.
    config : Config
        Of the run, for its faults.
    """
    faults = config.faults
    while (task := link.next_task()) is not None:
        t_start_ns = link.now_ns()
        if faults.raise_worker == batches.worker and faults.raise_task == task.task:
            raise InjectedFault(f"worker {batches.worker} raises at task {task.task}, as [faults] asks")
        loss = respond(task.theta, batches.draw(task.task), task.codewords)
        t_compute_ns = link.now_ns()
        delay_ns = delays.delay_ns(task.task, t_compute_ns - t_start_ns)
        if delay_ns:
            link.wait(delay_ns, delays.spin)
        link.reply(t_start_ns, t_compute_ns, delay_ns, loss)
