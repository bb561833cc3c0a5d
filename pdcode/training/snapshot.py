"""Snapshots of the state of objects: what a run has changed since it was built, as plain data.

A run is built from its configuration; a snapshot holds what has become of it, so that a run that is built
anew can be put where another one was. It is a walk through the attributes of pdcode's objects: numbers,
strings, arrays and containers of them are kept, what does not change is left out, and what cannot be kept is
an error. Arrays are restored in place, since others may view them. Nothing that a snapshot names is executed.
"""

from __future__ import annotations

import numbers
import types
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
import numpy as np

from ..codes.constructions.energy import BlockEnergies
from ..codes.constructions.matched import MatchedSelector
from ..coding.clipping import Votes
from ..coding.relay import Entry
from ..kernels import events, intake, roster
from ..transport.messages import Order

CONSTANT = (
    msgspec.Struct, type, partial, memoryview, np.dtype, types.FunctionType, types.MethodType,
    types.BuiltinFunctionType, types.ModuleType, slice,
)  # fmt: skip
UNCHANGED = (
    "_cython", "pdcode.kernels.", "pdcode.problems", "pdcode.codes", "pdcode.stragglers", "pdcode.config",
    "pdcode.transport.codewords", "pdcode.transport.layout",
)  # fmt: skip
CHANGING = (
    events.Events,
    intake.Received,
    roster.WorkerCounters,
    roster.UpdateCounters,
    roster.RecentTimes,
    MatchedSelector,
    BlockEnergies,
)
"""Types and modules of what does not change, or of what is only room to compute in; and exceptions."""

RECORDS = {each.__name__: each for each in (Entry, Order)}
"""Records that a run makes as it goes on."""

MADE = {each.__name__: each for each in (Votes,)}
"""Classes of objects that a run makes as it goes on, without arguments."""

SEQUENCES: dict[str, Any] = {"list": list, "tuple": tuple, "deque": deque}
PLAIN = bool, int, float, str, bytes, type(None)
COMPILED = {
    each: [name for name, field in vars(each).items() if isinstance(field, types.GetSetDescriptorType)]
    for each in (intake.Received, roster.WorkerCounters, roster.UpdateCounters, roster.RecentTimes)
}
"""Compiled classes, and their attributes."""


class Mismatch(Exception):
    """A snapshot of other objects than those that it is to be restored to."""


class Snapshot(msgspec.Struct):
    """State of an object.

    Attributes
    ----------
    tree : object
        Nested lists: a kind, and what the kind needs. An array is the number of its content, type and shape.
    contents : list of bytes
        Contents of arrays.
    """

    tree: Any
    contents: list[bytes]


class _Taking:
    """One walk that keeps."""

    def __init__(self) -> None:
        self.contents: list[bytes] = []
        self._numbers: dict[Any, int] = {}  # of arrays, by their place in memory
        self._seen: dict[int, Any] = {}  # objects; kept alive, so that no id is used twice

    def keep(self, value: Any, path: str) -> Any:
        if isinstance(value, np.generic):
            return ["plain", value.item()]
        if isinstance(value, PLAIN):
            return ["plain", value]
        if isinstance(value, np.ndarray):
            return ["array", self._array(value), value.dtype.str, [*value.shape]]
        if isinstance(value, Order):
            return ["record", "Order", self._all(msgspec.structs.astuple(value), path)]
        if constant(value):
            return ["same"]
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            if type(value).__name__ not in RECORDS:
                raise TypeError(f"{path}: {type(value).__name__} is not one of {', '.join(RECORDS)}")
            return ["record", type(value).__name__, self._all(value, path)]
        if isinstance(value, list | tuple | deque):
            return ["deque" if isinstance(value, deque) else type(value).__name__, self._all(value, path)]
        if isinstance(value, set | frozenset):
            return [type(value).__name__, sorted(value)]
        if id(value) in self._seen:
            return ["same"]
        self._seen[id(value)] = value
        if isinstance(value, Mapping):
            keys = [list(key) if isinstance(key, tuple) else key for key in value]
            return ["map", keys, self._all(list(value.values()), path)]
        if isinstance(value, events.Events):
            return ["events", self._all(value.saved(), path)]
        kept = {name: self.keep(each, f"{path}.{name}") for name, each in members(value, path)}
        return ["object", kept, type(value).__name__]

    def _all(self, values: Sequence[Any], path: str) -> list[Any]:
        return [self.keep(each, f"{path}[{number}]") for number, each in enumerate(values)]

    def _array(self, array: np.ndarray) -> int:
        place = array.ctypes.data, array.shape, array.strides, array.dtype.str
        number = self._numbers.get(place)
        if number is None:
            number = self._numbers[place] = len(self.contents)
            self.contents.append(array.tobytes())
            self._seen[id(array)] = array
        return number


class _Restoring:
    """One walk that restores."""

    def __init__(self, contents: Sequence[bytes]) -> None:
        self._contents = contents
        self._made: dict[int, np.ndarray] = {}  # arrays that there were not, by the number of their content

    def restore(self, current: Any, kept: Any, path: str) -> Any:
        """Return what takes the place of `current`: the same object, changed, wherever that can be."""
        kind, *rest = kept
        if kind == "same":
            return current
        if kind == "plain" and fits(current, rest[0]):
            return rest[0]
        if isinstance(current, PLAIN) and current is not None:
            raise Mismatch(f"{path} is a {type(current).__name__}, and {kind} {rest!r:.40} in the snapshot")
        if kind == "array":
            return self._array(current, *rest)
        if kind == "frozenset":
            return frozenset(rest[0])
        if kind == "set":
            return self._set(current, rest[0])
        if kind == "record":
            return RECORDS[rest[0]](*self._all((), rest[1], path))
        if kind in SEQUENCES:
            return self._sequence(current, SEQUENCES[kind], rest[0], path)
        if kind == "map":
            return self._map(current, rest[0], rest[1], path)
        if kind == "events" and isinstance(current, events.Events):
            current.restore(self._all((), rest[0], path))
            return current
        if kind == "object" and current is None and rest[1] in MADE:
            current = MADE[rest[1]]()
        if kind == "object" and hasattr(current, "__dict__"):
            for name, each in rest[0].items():
                before = getattr(current, name, None)
                after = self.restore(before, each, f"{path}.{name}")
                if after is not before:
                    setattr(current, name, after)
            if callable(restored := getattr(current, "restored", None)):
                restored()
            return current
        raise Mismatch(f"{path} is a {type(current).__name__}, and {kind} in the snapshot")

    def _all(self, current: Sequence[Any], kept: Sequence[Any], path: str) -> list[Any]:
        """Restore elements; those that there are not yet are made."""
        there = [*current, *[None] * (len(kept) - len(current))]
        return [
            self.restore(before, each, f"{path}[{number}]")
            for number, (before, each) in enumerate(zip(there, kept, strict=False))
        ]

    def _sequence(self, current: Any, kind: Any, kept: Sequence[Any], path: str) -> Any:
        there = current if isinstance(current, kind) else ()
        if len(there) != len(kept) and any(each[0] in ("object", "same", "events") for each in kept):
            raise Mismatch(f"{path} has {len(there)} entries, and {len(kept)} in the snapshot")
        restored = self._all(there, kept, path)
        if kind is tuple or not isinstance(current, kind):
            same = len(there) == len(kept) and all(a is b for a, b in zip(there, restored, strict=True))
            return current if same and isinstance(current, kind) else kind(restored)
        current.clear()
        current.extend(restored)
        return current

    def _map(self, current: Any, keys: Sequence[Any], kept: Sequence[Any], path: str) -> Any:
        names = [tuple(key) if isinstance(key, list) else key for key in keys]
        there = current if isinstance(current, Mapping) else {}
        restored = {
            name: self.restore(there.get(name), each, f"{path}[{name!r}]")
            for name, each in zip(names, kept, strict=True)
        }
        if not isinstance(current, dict):
            return restored
        current.clear()
        current.update(restored)
        return current

    @staticmethod
    def _set(current: Any, kept: Sequence[Any]) -> set[Any]:
        if not isinstance(current, set):
            return {*kept}
        current.clear()
        current.update(kept)
        return current

    def _array(self, current: Any, number: int, dtype: str, shape: list[int]) -> np.ndarray:
        there = np.frombuffer(self._contents[number], np.dtype(dtype)).reshape(shape)
        if isinstance(current, np.ndarray) and (current.dtype, current.shape) == (there.dtype, there.shape):
            if current.flags.writeable:
                current[...] = there
                return current
            if np.array_equal(current, there):
                return current
        if number not in self._made:
            self._made[number] = there.copy()
        return self._made[number]


def fits(current: object, plain: object) -> bool:
    """Tell whether a number, string or None may take the place of a value; anything may that of None."""
    if isinstance(current, numbers.Number | np.ndarray):
        return plain is None or isinstance(plain, numbers.Number)
    return current is None or plain is None or isinstance(plain, type(current))


def take(root: object) -> Snapshot:
    """Return the state of an object, and of all that it holds.

    Raises
    ------
    TypeError
        If something that it holds cannot be kept.
    """
    walk = _Taking()
    return Snapshot(walk.keep(root, type(root).__name__), walk.contents)


def restore(root: object, snapshot: Snapshot) -> None:
    """Put an object, built as another was, into that one's state.

    Raises
    ------
    Mismatch
        If it was built otherwise; the object is then of no use.
    """
    try:
        _Restoring(snapshot.contents).restore(root, snapshot.tree, type(root).__name__)
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError) as error:
        raise Mismatch(str(error)) from None


def constant(value: object) -> bool:
    """Tell whether a value is of those that do not change."""
    frozen = getattr(type(value), "__dataclass_params__", None)
    return not isinstance(value, CHANGING) and (
        isinstance(value, CONSTANT)
        or type(value).__module__.startswith(UNCHANGED)
        or (frozen is not None and frozen.frozen)
    )


def members(value: Any, path: str) -> list[tuple[str, Any]]:
    """Return names and values of an object's attributes that may change.

    A class may name others in `transient`: what is computed anew when it is needed.
    """
    if not hasattr(value, "__dict__"):
        raise TypeError(f"{path}: a {type(value).__module__}.{type(value).__name__} cannot be kept")
    names = [*vars(value)]
    for each, fields in COMPILED.items():
        if isinstance(value, each):
            names += fields
    left = {name for each in type(value).__mro__ for name in vars(each).get("transient", ())}
    return [(name, getattr(value, name)) for name in names if name not in left]
