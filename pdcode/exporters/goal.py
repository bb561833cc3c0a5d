"""Export to GOAL: a schedule of rank 0 and the workers, for LogGOPSim and ATLAHS."""

from collections.abc import Iterator

import numpy as np

from . import events
from .request import Format, Request, clock_error_ns


def write(request: Request) -> str:
    """Write a schedule; return a description.

    Operations of a worker follow one another: a task is received, calculations take its times of computing
    and of injected delay, the payload is sent. Rank 0 decodes payloads in the recorded order, and sends a
    task as long after its previous decoding as recorded. The simulator determines how long messages take.
    """
    found, merged, text = events.events(request)
    errors, names = [0, *clock_error_ns(request.trace).tolist()], events.locations(request)
    with request.path.open("w", encoding="utf-8") as file:
        file.write(f"// {request.note}\n// {text}\n")
        file.write(f"num_ranks {len(names)}\n")
        for rank, name in enumerate(names):
            file.write(f"\n// {name}: clock error at most {errors[rank]} ns\nrank {rank} {{\n")
            begin, end = found["location"].searchsorted((rank, rank + 1))
            file.writelines(_operations(found[begin:end], not rank, not rank and merged == 1))
            file.write("}\n")
    return text


def _operations(found: np.ndarray, centre: bool, gaps: bool) -> Iterator[str]:
    """Yield the lines of a rank; the `centre` receives messages at any time, others in turn."""
    number = chain = entered_ns = 0
    left_ns: int | None = None
    with_peer: dict[int, int] = {}  # peer -> the last operation with it
    received: dict[int, int] = {}  # message -> operation
    for _, t_ns, kind, region, peer, size, message in events.in_turn(found):
        if kind == events.ENTER or (kind == events.LEAVE and region >= events.TASK):
            entered_ns = t_ns
            continue
        needed = [chain]
        if kind == events.LEAVE:
            operation, left_ns = f"calc {t_ns - entered_ns}", t_ns
            needed.append(received.pop(message, 0))
        elif kind == events.SEND:
            if gaps and left_ns is not None and t_ns > left_ns:
                number += 1
                yield f"l{number}: calc {t_ns - left_ns}\nl{number} requires l{chain}\n"
                chain, left_ns = number, t_ns
                needed = [chain]
            operation = f"send {size}b to {peer} tag {message & 1}"
        else:
            operation = f"recv {size}b from {peer} tag {message & 1}"
            needed = [with_peer.get(peer, 0)] if centre else needed
        number += 1
        yield f"l{number}: {operation}\n" + "".join(
            f"l{number} requires l{each}\n" for each in needed if each
        )
        if kind == events.LEAVE or not centre:
            chain = number
        else:
            with_peer[peer] = number
            if kind == events.RECEIVE:
                received[message] = number


GOAL = Format("goal", "a schedule for LogGOPSim and ATLAHS", write, ".goal", takes="events")
