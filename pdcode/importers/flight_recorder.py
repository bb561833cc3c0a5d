"""Dumps of PyTorch's flight recorder, one a rank: when it began each collective operation.

A dump is JSON, or a pickle, as the watchdog of NCCL writes. Nothing is unpickled: only the opcodes of
dictionaries, lists, tuples, texts and numbers are read, and a pickle with others is refused.
"""

import pickletools
import re
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import numpy as np

from ..trace import periods
from ..util.errors import InputError, shorten
from .job import LONGEST_S, Fault, Importer, Job, content

RANK = re.compile(r"(\d{1,9})(?:\.(?:json|pkl|pickle|gz))*$")
EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
VALUES = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
LITERALS = "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
MOST = 20  # items of a pickle's lists for each of its bytes, where parts are repeated


Positive = Annotated[int, msgspec.Meta(ge=0, le=2**62)]


class Entry(msgspec.Struct):
    """A collective operation."""

    collective_seq_id: Positive
    profiling_name: str
    time_created_ns: Positive
    process_group: list[str] = []
    input_sizes: list[list[int]] | None = None
    is_p2p: bool = False
    duration_ms: float | None = None


class Group(msgspec.Struct):
    """A process group."""

    ranks: str = ""


class Dump(msgspec.Struct):
    """A file."""

    entries: list[Entry]
    pg_config: dict[str, Group] = {}


def read(paths: Sequence[str]) -> Job:
    """Read the dumps of all ranks."""
    dumps: dict[int, Dump] = {}
    for path in paths:
        if not (found := RANK.search(path)):
            raise InputError(f"{path}: expected a name that ends in the rank's number")
        if int(found[1]) in dumps:
            raise InputError(f"{path}: a second dump of rank {int(found[1])}")
        dumps[int(found[1])] = _dump(path)
    first = next(iter(dumps.values()))
    groups = Counter(_group(each) for each in first.entries if not each.is_p2p)
    if not groups:
        raise InputError(f"{paths[0]}: entries: no collective operation")
    group = max(groups, key=groups.__getitem__)
    config = first.pg_config.get(group) or next(iter(first.pg_config.values()), Group())
    members = {*map(int, re.findall(r"\d{1,9}", config.ranks))} or {*dumps}
    if missing := sorted(members - dumps.keys()):
        raise InputError(f"{paths[0]}: the dump of rank {missing[0]} of group {group} is missing")
    ranks = sorted(members)
    by_number = [_of_group(dumps[rank], group) for rank in ranks]
    numbers, notes = _common(by_number)
    if len(numbers) < 3:
        raise InputError(f"{paths[0]}: entries: fewer than three collectives that all ranks have begun")
    codes = np.unique([_kind(by_number[0][each]) for each in numbers], return_inverse=True)[1]
    calls = np.arange(len(codes))[:, None]
    for sequence in periods.sequences(codes)[:1]:
        calls = sequence.begin + periods.occurrences(codes[sequence.begin :], sequence.codes)
    begun = np.array([[each[number].time_created_ns for each in by_number] for number in numbers])
    gaps, period = np.diff(begun, axis=0, append=begun[-1:]), calls.shape[1]
    # After the last collective of a step the longest time passes: the wait for it, and work of the next step.
    last = max(range(period), key=lambda place: float(np.median(gaps[calls[:, place]])))
    ready, chosen = begun[calls[:, last]], [numbers[each] for each in calls[:, last]]
    notes.append(f"a step is {period} collectives of group {group}, as enqueued by each rank's host")
    ready -= ready.min()
    if ready.max() > 1e9 * LONGEST_S:
        raise InputError(f"{paths[0]}: entries: time_created_ns spans more than {LONGEST_S:g} s")
    moved_ms = [min(each[number].duration_ms or 0.0 for each in by_number) for number in chosen]
    moved_ns = 1e6 * np.clip(np.nan_to_num(moved_ms), 0, 1e6)
    end = np.maximum.accumulate(ready.max(axis=1) + moved_ns.astype(np.int64))
    begin, until = (np.broadcast_to(each[:, None], ready[1:].shape) for each in (end[:-1], end[1:]))
    times = np.stack((begin, np.maximum(begin, ready[1:]), until), axis=2)
    latest = [max(each) for each in by_number]
    faults = [
        Fault(int(end[-1] - end[0]), place, "missing", f"has not begun collective {own + 1}, as others have")
        for place, own in enumerate(latest)
        if own < max(latest)
    ]
    notes += [f"rank {ranks[each.worker]} {each.message}" for each in faults]
    hosts = ["unknown" if ranks == [*range(len(ranks))] else f"rank {rank}" for rank in ranks]
    return Job(hosts, "PyTorch's flight recorder", times - end[0], faults=faults, notes=notes)


def _dump(path: str) -> Dump:
    data = content(path)
    try:
        if data.lstrip()[:1] == b"{":
            return msgspec.json.decode(data, type=Dump)
        return msgspec.convert(unpacked(data), Dump)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path}: {shorten(str(error))}") from None
    except (ValueError, TypeError, LookupError) as error:
        raise InputError(f"{path}: neither JSON nor a pickle of plain data: {shorten(str(error))}") from None


def unpacked(data: bytes) -> Any:
    """Return the plain data of a pickle; ValueError, TypeError or LookupError if there is any other."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[Any, Any] = {}
    sizes = Counter[int]()  # items within a container, by its `id`

    def grow(container: Any, items: Sequence[Any]) -> Any:
        within = (sizes[id(each)] for each in items if isinstance(each, list | dict | tuple))
        sizes[id(container)] += len(items) + sum(within)
        if sizes[id(container)] > MOST * len(data):
            raise ValueError("parts are repeated too often")
        return container

    for opcode, argument, _ in pickletools.genops(data):
        name = opcode.name
        if name in LITERALS:
            stack.append(argument)
        elif name in VALUES:
            stack.append(VALUES[name])
        elif name in EMPTY:
            stack.append(EMPTY[name]())
        elif name == "MARK":
            marks.append(len(stack))
        elif name in ("APPENDS", "SETITEMS", "TUPLE"):
            place = marks.pop()
            items = stack[place:]
            del stack[place:]
            if name == "TUPLE":
                stack.append(grow(tuple(items), items))
            elif name == "APPENDS":
                list.extend(grow(stack[-1], items), items)
            else:
                dict.update(grow(stack[-1], items), zip(items[::2], items[1::2], strict=True))
        elif name in TUPLES:
            items = stack[-TUPLES[name] :]
            del stack[-TUPLES[name] :]
            stack.append(grow(tuple(items), items))
        elif name == "APPEND":
            item = stack.pop()
            list.append(grow(stack[-1], [item]), item)
        elif name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            dict.__setitem__(grow(stack[-1], [value]), key, value)
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if argument is None else argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise ValueError(f"opcode {name}")
    return stack.pop()


def _group(entry: Entry) -> str:
    return entry.process_group[0] if entry.process_group else ""


def _of_group(dump: Dump, group: str) -> dict[int, Entry]:
    entries = (each for each in dump.entries if not each.is_p2p and _group(each) == group)
    return {each.collective_seq_id: each for each in entries}


def _kind(entry: Entry) -> str:
    return f"{entry.profiling_name} of {entry.input_sizes}"


def _common(ranks: Sequence[dict[int, Entry]]) -> tuple[list[int], list[str]]:
    """Return the last numbers in sequence that all ranks have, until they differ, and notes."""
    numbers = sorted(set.intersection(*({*each} for each in ranks)))
    for place, number in enumerate(numbers):
        if len(kinds := {_kind(each[number]) for each in ranks}) > 1:
            note = f"collective {number} is not the same on all ranks: {' and '.join(sorted(kinds))}"
            return _common([{key: each[key] for key in numbers[:place]} for each in ranks])[0], [note]
    breaks = np.flatnonzero(np.diff(numbers) != 1)
    return numbers[breaks[-1] + 1 if len(breaks) else 0 :], []


FLIGHT_RECORDER = Importer(
    "flight-recorder", "dumps of PyTorch's flight recorder, one a rank: JSON or pickle", read
)
