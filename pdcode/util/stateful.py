"""State of objects, for checkpoints: `state_dict` and `load_state_dict`, as in PyTorch.

A class with state names its state attributes; nothing else is saved. A state is plain data: numbers, strings,
bytes, numpy arrays, lists, and dicts of these.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np

from .errors import InputError

PLAIN = bool, int, float, str, bytes, type(None)


class Stateful:
    """Base class of objects with state.

    A class whose state is not a set of attributes overrides `state_dict` and `load_state_dict`.

    Attributes
    ----------
    state_names : tuple of str
        Names of the state attributes: those that change from task to task, or from update to update, and do
        not follow from others. A subclass extends the tuple, ``state_names = (*Base.state_names, "sums")``.
    """

    state_names: ClassVar[tuple[str, ...]] = ()

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of the state.

        Raises
        ------
        InputError
            If an attribute holds an object without state, or the class of a plug-in does not declare its own
            `state_names`.
        """
        own = type(self)
        if not own.__module__.startswith("pdcode.") and not vars(own).keys() & {"state_names", "state_dict"}:
            raise InputError(f"{own.__name__}: a plug-in's class must declare state_names to be checkpointed")
        state = {}
        for name in self.state_names:
            with part(name):
                state[name] = state_of(getattr(self, name))
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set the state to one that `state_dict` returned for an object that was built alike.

        Arrays that are attributes are changed in place, because others may hold views of them.

        Raises
        ------
        InputError
            If the state is that of another object; this one is then of no use.
        """
        if not isinstance(state, Mapping) or {*state} != {*self.state_names}:
            raise InputError(f"not a state of {type(self).__name__}")
        for name in self.state_names:
            with part(name):
                before = getattr(self, name)
                after = load_state(before, state[name])
                if after is not before:
                    setattr(self, name, after)


@contextmanager
def part(name: object) -> Iterator[None]:
    """Turn errors of an unfit part of a state into an `InputError` that names it."""
    try:
        yield
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError) as error:
        raise InputError(f"{name}: {error}") from None


def state_of(value: Any) -> Any:
    """Return the state of an object, or a copy of plain data, in which sequences and sets are lists."""
    if hasattr(value, "state_dict"):
        return value.state_dict()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, dict):
        return {key: state_of(each) for key, each in value.items()}
    if isinstance(value, list | tuple | deque):
        return [state_of(each) for each in value]
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise InputError(f"a {type(value).__name__} has no state_dict")


def load_state(value: Any, state: Any) -> Any:
    """Return what replaces a value when a state is loaded: an object or array itself, else new plain data."""
    if hasattr(value, "load_state_dict"):
        value.load_state_dict(state)
    elif isinstance(value, np.ndarray):
        if not isinstance(state, np.ndarray) or (state.dtype, state.shape) != (value.dtype, value.shape):
            raise InputError(f"{_kind(state)} in place of {_kind(value)}")
        value[...] = state
    elif value is None:
        _check(value, state, (*PLAIN, list))
        return state_of(state)
    elif isinstance(value, dict):
        _check(value, state, dict)
        if not any(isinstance(each, np.ndarray) or _in_place(each) for each in value.values()):
            return state_of(state)
        if value.keys() != state.keys():
            raise InputError(f"{', '.join(map(str, state))} in place of {', '.join(map(str, value))}")
        for key, each in value.items():
            with part(key):
                value[key] = load_state(each, state[key])
    elif isinstance(value, list | tuple) and any(map(_in_place, value)):
        _check(value, state, list)
        if len(value) != len(state):
            raise InputError(f"{len(state)} entries in place of {len(value)}")
        for number, (each, its) in enumerate(zip(value, state, strict=True)):
            with part(number):
                load_state(each, its)
    elif isinstance(value, list | tuple | deque | set | frozenset):
        _check(value, state, list)
        kinds = {type(each) for each in value if isinstance(each, PLAIN)}
        for each in state if kinds else ():
            _check(next(iter(value)), each, tuple({int, *kinds} if float in kinds else kinds))
        made = state_of(state)
        return deque(made, value.maxlen) if isinstance(value, deque) else type(value)(made)
    else:
        if state is not None:
            _check(value, state, int | float if isinstance(value, float) else type(value))
        return state
    return value


def _in_place(value: Any) -> bool:
    """Return whether a value is an object with state, or holds one."""
    if isinstance(value, list | tuple):
        return any(map(_in_place, value))
    return hasattr(value, "load_state_dict")


def _check(value: Any, state: Any, kind: Any) -> None:
    if not isinstance(state, kind):
        raise InputError(f"{_kind(state)} in place of {_kind(value)}")


def _kind(value: Any) -> str:
    """Describe a value by its type, for messages."""
    if isinstance(value, np.ndarray):
        return f"an array {value.dtype} {value.shape}"
    return f"{value!r:.40}" if isinstance(value, PLAIN) else f"a {type(value).__name__}"
