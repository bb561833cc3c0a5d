"""Profiles of PyTorch's profiler (Kineto): a JSON file a rank, of the same steps.

A rank waits, or moves data, while a collective operation is under way and nothing is computed; the rest of a
step is its own work. On a GPU both are seen by kernels, else by operators on threads that run no collective,
and the phases of own work by the data loader, the model that is wrapped, and the operators of autograd.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import numpy as np

from ..util.errors import InputError
from .job import LONGEST_S, Importer, Job, from_json

STEP = re.compile(r"ProfilerStep#(\d{1,15})")
COLLECTIVE = re.compile(r"(?:gloo|mpi|ucc|xccl|hccl):")
LOADING = re.compile(r"enumerate\(DataLoader\)#.*__next__")
FORWARD = re.compile(r"(?:DistributedDataParallel|FullyShardedDataParallel)\.forward")
BACKWARD = "autograd::engine::evaluate_function: "
DEVICE = "kernel", "gpu_memcpy", "gpu_memset"
SIZES = {"Double": 8, "Float": 4, "Half": 2, "BFloat16": 2}  # bytes, by name of the type
FARTHEST_US = 1e16


class Arguments(msgspec.Struct):
    """Details of an event."""

    collective: Any = msgspec.field(default=None, name="Collective name")
    group: Any = msgspec.field(default="", name="Process Group Name")
    number: Any = msgspec.field(default=None, name="Seq")
    elements: Any = msgspec.field(default=0, name="In msg nelems")
    dtype: Any = ""


class Event(msgspec.Struct):
    """An event; times in µs."""

    ph: str = ""
    cat: str = ""
    name: Any = ""
    ts: float = 0.0
    dur: float = 0.0
    tid: Any = 0
    args: Arguments = msgspec.field(default_factory=Arguments)


class Rank(msgspec.Struct):
    """Who has written a profile."""

    rank: int
    world_size: int


class Profile(msgspec.Struct):
    """A file."""

    traceEvents: list[Event]  # noqa: N815
    distributedInfo: Rank | None = None  # noqa: N815
    host_name: str = "unknown"


class Steps:
    """Steps of a rank: numbers, times in µs of its clock, and their first collective's sequence number."""

    def __init__(self, path: str) -> None:
        profile = from_json(path, Profile)
        if profile.distributedInfo is None:
            raise InputError(f"{path}: no distributedInfo: was it profiled after init_process_group?")
        self.path, self.host = path, profile.host_name
        self.rank, self.ranks = profile.distributedInfo.rank, profile.distributedInfo.world_size
        events = [each for each in profile.traceEvents if each.ph == "X"]
        for each in events:
            if not (abs(each.ts) <= FARTHEST_US and 0 <= each.dur <= FARTHEST_US):
                raise InputError(f"{path}: {each.name}: ts {each.ts:g}, dur {each.dur:g} are no times in µs")
        marks = {
            kind: {int(found[1]): each for each in events if each.cat == kind and (found := _step(each))}
            for kind in ("user_annotation", "gpu_user_annotation")
        }
        on_host = marks["user_annotation"]
        spans = marks["gpu_user_annotation"] or on_host
        if len(spans) < 2:
            raise InputError(f"{path}: fewer than two ProfilerStep#: call the profiler's step() in each step")
        self.numbers = np.array(sorted(spans))
        begins = np.array([spans[number].ts for number in self.numbers.tolist()])
        ends = begins + [spans[number].dur for number in self.numbers.tolist()]
        begins = np.maximum.accumulate(begins)
        # A step ends where the next one begins, but for the last one of a cycle of the profiler.
        after, follows = np.append(begins[1:], np.inf), np.append(np.diff(self.numbers) == 1, False)
        ends = np.where(follows, after, np.minimum(ends, after))
        self.spans = np.stack((begins, np.maximum(begins, ends)), axis=1)
        collectives, computing = _split(events)
        if not len(collectives):
            raise InputError(f"{path}: no collective operation")
        both = np.concatenate((collectives, computing))

        def own(spans: np.ndarray) -> np.ndarray:
            exposed = covered(both, spans) - covered(computing, spans)
            return np.maximum(0, np.diff(spans - exposed)[:, 0])

        self.work = own(self.spans)
        self.phases = None if any(each.cat in DEVICE for each in events) else self._phases(events, own)
        ends = np.sort(collectives[:, 1])
        self.ends = ends[np.maximum(np.searchsorted(ends, self.spans[:, 1], "right") - 1, 0)]
        self.known = sorted(filter(_has_number, events), key=lambda each: each.ts)
        self._on_host = on_host

    def sequence(self, group: str | None) -> np.ndarray | None:
        """Return the sequence number of each step's first collective in a group, None if some are unknown."""
        known = [each for each in self.known if str(each.args.group) == group]
        if not known or not {*self.numbers.tolist()} <= self._on_host.keys():
            return None
        begins = np.array([self._on_host[number].ts for number in self.numbers.tolist()])
        place = np.searchsorted(np.array([each.ts for each in known]), begins)
        if place[-1] >= len(known) or not (np.diff(place) > 0).all():
            return None
        numbers = np.array([known[each].args.number for each in place])
        return numbers if (np.diff(numbers) > 0).all() else None

    def _phases(self, events: Sequence[Event], own: Callable[[np.ndarray], np.ndarray]) -> np.ndarray | None:
        """Return the own work of each step by phase, (steps, 3), in the order of `PHASES`; None if not known.

        A forward pass lasts, with the loss, until a backward pass or loading begins, and that pass until the
        end of its last operator.
        """
        forwards = _spans(each for each in events if FORWARD.match(str(each.name)))
        if not len(forwards):
            return None
        loads = _spans(each for each in events if LOADING.match(str(each.name)))
        passes = _spans(each for each in events if str(each.name).startswith(BACKWARD))
        begins = forwards[:, 0]
        turn = np.searchsorted(begins, passes[:, 0], "right") - 1
        first, last = np.full(len(begins) + 1, np.inf), np.full(len(begins) + 1, -np.inf)  # -1: of none
        np.minimum.at(first, turn, passes[:, 0])
        np.maximum.at(last, turn, passes[:, 1])
        following = np.append(loads[:, 0], np.inf)[np.searchsorted(loads[:, 0], begins)]
        until = np.minimum(np.append(begins[1:], np.inf), following)
        forwards = np.stack((begins, np.minimum(first[:-1], until)), axis=1)
        backwards = np.stack((first[:-1], last[:-1]), axis=1)[np.isfinite(last[:-1])]
        found = np.zeros((len(self.spans), 3))
        for place, spans in enumerate((loads, forwards, backwards)):
            step = np.searchsorted(self.spans[:, 0], spans[:, 0], "right") - 1
            ends = np.minimum(spans[:, 1], self.spans[step, 1])
            inside = (step >= 0) & (spans[:, 0] < ends)
            spans = np.stack((spans[:, 0], ends), axis=1)[inside]
            found[:, place] = np.bincount(step[inside], own(spans), len(found))
        return found

    def gradient_bytes(self) -> int:
        """Return the bytes that a step's all-reduces add up, if they are known."""
        sizes = [
            each.args.elements * SIZES.get(str(each.args.dtype), 0)
            for each in self.known
            if each.args.collective == "allreduce" and isinstance(each.args.elements, int)
        ]
        return min(2**40, max(0, sum(sizes) // len(self.numbers)))


def _step(event: Event) -> re.Match[str] | None:
    return STEP.fullmatch(event.name) if isinstance(event.name, str) else None


def _has_number(event: Event) -> bool:
    number, moves = event.args.number, event.args.collective not in ("wait", "init")
    return moves and event.cat == "cpu_op" and isinstance(number, int) and 0 <= number < 2**62


def _split(events: Sequence[Event]) -> tuple[np.ndarray, np.ndarray]:
    """Return begins and ends of collective operations, and of computing."""
    kernels = [each for each in events if each.cat in DEVICE]
    if kernels:
        moves = [each for each in kernels if each.args.collective or "nccl" in str(each.name).lower()]
        found = {id(each) for each in moves}
        computes = [each for each in kernels if id(each) not in found]
    else:
        moves = [
            each for each in events if each.cat == "user_annotation" and COLLECTIVE.match(str(each.name))
        ]
        threads = {str(each.tid) for each in moves}
        computes = [each for each in events if each.cat == "cpu_op" and str(each.tid) not in threads]
    return _spans(moves), _spans(computes)


def _spans(events: Iterable[Event]) -> np.ndarray:
    """Return begins and ends of events, in the order of their begins."""
    found = np.array([(each.ts, each.ts + each.dur) for each in events]).reshape(-1, 2)
    return found[np.argsort(found[:, 0], kind="stable")]


def covered(spans: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return how much of the time before each of `times` the spans cover together.

    Parameters
    ----------
    spans : ndarray of float64, shape (m, 2)
        Begins and ends, which may overlap.
    times : ndarray of float64
        Of any shape.

    Returns
    -------
    ndarray of float64
        Of the shape of `times`.
    """
    if not len(spans):
        return np.zeros(times.shape)
    spans = spans[np.argsort(spans[:, 0], kind="stable")]
    until = np.maximum.accumulate(spans[:, 1])
    begin = np.maximum(spans[:, 0], np.concatenate((spans[:1, 0], until[:-1])))
    after = np.cumsum(until - begin)
    points = np.stack((begin, until), axis=1).ravel()
    return np.interp(times, points, np.stack((after - (until - begin), after), axis=1).ravel())


def read(paths: Sequence[str]) -> Job:
    """Read the profiles of all ranks."""
    ranks = {each.rank: each for each in map(Steps, paths)}
    count = next(iter(ranks.values())).ranks
    if len(ranks) < len(paths):
        raise InputError(f"{paths[0]}: of {len(paths)} files, several are of the same rank")
    if missing := sorted({*range(min(count, 1 << 20))} - ranks.keys()):
        raise InputError(f"{paths[0]}: a profile of rank {missing[0]} of {count} is missing")
    if other := sorted(ranks.keys() - {*range(count)}):
        raise InputError(f"{ranks[other[0]].path}: distributedInfo.rank: {other[0]} of {count} ranks")
    steps = [ranks[rank] for rank in range(count)]
    groups = Counter(str(each.args.group) for each in steps[0].known)
    group = max(groups, key=groups.__getitem__, default=None)
    sequences = [each.sequence(group) for each in steps]
    numbered = all(each is not None for each in sequences)
    numbers = [
        each.numbers if own is None or not numbered else own
        for each, own in zip(steps, sequences, strict=True)
    ]
    common = sorted(set.intersection(*({*each.tolist()} for each in numbers)))
    if not common:
        raise InputError(f"{paths[0]}: no step that all ranks have profiled")
    times, phases = np.empty((len(common), count, 3)), np.zeros((len(common), count, 3))
    ends = steps[0].ends[np.searchsorted(numbers[0], common)]
    for rank, (each, own) in enumerate(zip(steps, numbers, strict=True)):
        place = np.searchsorted(own, common)
        begin, end = each.spans[place].T
        # Collectives end on all ranks at about the same time, by which clocks are set.
        late = np.median(each.ends[place] - ends)
        times[:, rank] = np.stack((begin, begin + each.work[place], end), axis=1) - late
        if each.phases is not None:
            phases[:, rank] = 1e3 * each.phases[place]
    times = 1e3 * (times - times.min())
    if times.max() > 1e9 * LONGEST_S:
        raise InputError(f"{paths[0]}: steps of more than {LONGEST_S:g} s together")
    way = f"the sequence numbers of group {group}" if numbered else "ProfilerStep#, without sequence numbers"
    notes = [f"{len(common):,} steps, aligned by {way}"]
    if all(each.phases is not None for each in steps):
        times = np.concatenate((times, phases), axis=2)
    made = np.rint(times).astype(np.int64)
    hosts = [each.host for each in steps]
    return Job(hosts, "PyTorch's profiler", made, gradient_bytes=steps[0].gradient_bytes(), notes=notes)


KINETO = Importer("kineto", "profiles of PyTorch, one a rank: JSON, also gzipped", read)
