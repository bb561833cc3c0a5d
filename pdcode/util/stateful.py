"""State of objects, for checkpoints: `state_dict` and `load_state_dict`, as in PyTorch.

A class with state names its state attributes; nothing else is saved. A state is plain data: numbers, strings,
bytes, numpy arrays, lists, and dicts of these.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import msgspec
import numpy as np

from .errors import InputError

PLAIN = bool, int, float, str, bytes, type(None)


class Stateful:
    """Base class of objects with state.

    A class whose state is not a set of attributes overrides `state_dict` and `load_state_dict`.

    Attributes
    ----------
    state_names : tuple of str
        Names of the attributes that change during a run and do not follow from others. A subclass extends
        the tuple of its base class, ``state_names = (*Base.state_names, "sums")``.
    state_types : tuple of (str, type)
        Names of attributes that may be None, are empty at first, or are lists of any length, and the types of
        their states. Other values are replaced by values of their own type and length.
    """

    state_names: ClassVar[tuple[str, ...]] = ()
    state_types: ClassVar[tuple[tuple[str, Any], ...]] = ()

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of the state.

        Raises
        ------
        InputError
            If an attribute holds an object without state, or a plug-in's class does not declare its state.
        """
        for each in type(self).__mro__:
            own, plugin = vars(each), not each.__module__.startswith(("pdcode.", "builtins"))
            if plugin and "__init__" in own and not own.keys() & {"state_names", "state_dict"}:
                raise InputError(f"{each.__name__}: a class with its own __init__ must declare state_names")
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
            If the state is of another object; this one is then of no use.
        """
        if not isinstance(state, Mapping) or {*state} != {*self.state_names}:
            raise InputError(f"not a state of {type(self).__name__}")
        for name in self.state_names:
            with part(name):
                before, declared = getattr(self, name), _type_of(type(self), name)
                if declared is not None:
                    msgspec.convert(state[name], declared)
                optional = declared is not None and state[name] is None
                after = None if optional else load_state(before, state[name], declared is None)
                if after is not before:
                    setattr(self, name, after)


def _type_of(kind: type, name: str) -> Any:
    """Return the type that a class or one of its bases declares of an attribute's state, or None."""
    declared = [dict(vars(each).get("state_types", ())) for each in kind.__mro__]
    return next((types[name] for types in declared if name in types), None)


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
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, np.ndarray | np.generic):
        return value.copy() if isinstance(value, np.ndarray) else value.item()
    if isinstance(value, dict):
        return {key: state_of(each) for key, each in value.items()}
    if isinstance(value, list | tuple | deque | set | frozenset):
        return [state_of(each) for each in value]
    raise InputError(f"a {type(value).__name__} has no state_dict")


def load_state(value: Any, state: Any, sized: bool = True) -> Any:
    """Return what replaces a value when a state is loaded: an object or array itself, else new plain data.

    With `sized` a list of plain data must have the length of the value's.
    """
    if hasattr(value, "load_state_dict"):
        value.load_state_dict(state)
    elif isinstance(value, np.ndarray):
        _check(value, state, np.ndarray)
        if (state.dtype, state.shape) != (value.dtype, value.shape):
            raise InputError(f"{state.dtype} {state.shape} in place of {value.dtype} {value.shape}")
        value[...] = state
    elif _in_place(value):
        own, its = ({**each} if isinstance(each, dict) else dict(enumerate(each)) for each in (value, state))
        if own.keys() != its.keys():
            raise InputError(f"{', '.join(map(str, its))} in place of {', '.join(map(str, own))}")
        for key, each in own.items():
            with part(key):
                load_state(each, its[key])
    else:
        return _replacement(value, state, sized)
    return value


def _in_place(value: Any) -> bool:
    """Return whether a value is an object with state or holds one, or is a dict of arrays."""
    if isinstance(value, dict):
        return any(isinstance(each, np.ndarray) or _in_place(each) for each in value.values())
    if isinstance(value, list | tuple):
        return any(map(_in_place, value))
    return hasattr(value, "load_state_dict")


def _replacement(value: Any, state: Any, sized: bool) -> Any:
    """Return plain data in place of other plain data of the same kind."""
    if value is None:
        _check(value, state, (*PLAIN, list))
    elif isinstance(value, list | tuple | deque | set | frozenset):
        _check(value, state, list)
        if sized and isinstance(value, list | tuple) and value and len(state) != len(value):
            raise InputError(f"{len(state)} values in place of {len(value)}")
        kinds = {type(each) for each in value if isinstance(each, PLAIN)}
        for each in state if kinds else ():
            _check(next(iter(value)), each, (*kinds, int) if float in kinds else tuple(kinds))
    else:
        _check(value, state, (int, float) if isinstance(value, float) else type(value))
    made = state_of(state)
    if isinstance(value, deque):
        return deque(made, value.maxlen)
    return type(value)(made) if isinstance(value, tuple | set | frozenset) else made


def _check(value: Any, state: Any, kind: Any) -> None:
    if not isinstance(state, kind):
        raise InputError(f"a {type(state).__name__} in place of a {type(value).__name__}")
