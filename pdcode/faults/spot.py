"""Nodes that come and go by a recorded spot trace: lines ``ms,add|remove,node``, in order of time."""

import re
from functools import lru_cache

from ..util.errors import InputError, ensure_file, reason
from .base import Fault
from .process import Join, Kill, Leave

LARGEST = 1 << 24  # bytes
Place = tuple[tuple[float, bool], ...]
"""Times in s, and whether a node comes (or goes) at each."""


@lru_cache(maxsize=4)
def nodes_by_place(path: str) -> tuple[Place, ...]:
    """Read the places that nodes occupy in turn: a new node occupies the first free place.

    Times are relative to the first node's. Errors name file and line.
    """
    ensure_file(path, "faults.spot")
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise InputError(f"faults.spot: {path}: {reason(error)}") from None
    if len(content) > LARGEST:
        raise InputError(f"faults.spot: {path}: larger than {LARGEST:,} bytes, so not a spot trace")
    found: list[list[tuple[float, bool]]] = []
    free: list[int] = []
    holds: dict[str, int] = {}
    start_s, last_s = None, 0.0
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        if not line.strip():
            continue
        at, _, rest = line.partition(",")
        what, _, node = (word.strip() for word in rest.partition(","))
        if not re.fullmatch("[0-9]{1,15}", at.strip()) or what not in ("add", "remove") or not node:
            raise InputError(f"faults.spot: {path}, line {number}: expected ms,add|remove,node")
        at_s = 1e-3 * int(at.strip())
        start_s = at_s if start_s is None else start_s
        if at_s < last_s or (what == "add") == (node in holds):
            raise InputError(f"faults.spot: {path}, line {number}: {node}: is there, is not, or came earlier")
        last_s = at_s
        if what == "remove":
            place = holds.pop(node)
            free.append(place)
        else:
            place = min(free, default=len(found))
            if place == len(found):
                found.append([])
            else:
                free.remove(place)
            holds[node] = place
        found[place].append((at_s - start_s, what == "add"))
    if not found:
        raise InputError(f"faults.spot: {path}: no node")
    return tuple(map(tuple, found))


def events(path: str, speed: float, end: str, worker: int) -> list[Fault]:
    """Return a worker's events: it goes with its node, and comes back with the next node of its place.

    A worker whose place is vacant at first dies at once.
    """
    found, goes = nodes_by_place(path), Leave if end == "leave" else Kill
    place = found[worker % len(found)]
    made: list[Fault] = [] if place[0][0] == 0 else [Kill(worker=worker, at_s=0.0)]
    for at_s, comes in place[1:] if place[0][0] == 0 else place:
        kind = Join if comes else goes
        made.append(kind(worker=worker, at_s=at_s / speed))
    return made
