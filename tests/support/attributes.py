"""Oracle of states: all data that objects hold, found by a walk through their attributes."""

import types
from collections import deque
from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec
import numpy as np

CONSTANT = (
    msgspec.Struct, type, partial, memoryview, np.dtype, types.FunctionType, types.MethodType,
    types.ModuleType, types.BuiltinFunctionType,
)  # fmt: skip
OTHERS = (
    "_cython", "pdcode.problems", "pdcode.trace", "pdcode.config", "pdcode.stragglers",
    "pdcode.transport.layout", "pdcode.transport.codewords",
)  # fmt: skip
"""Modules of objects that do not change, or that have nothing but room to compute in."""


def attributes(value: Any, left: Mapping[str, str], path: str = "", seen: Any = None) -> dict[str, Any]:
    """Return numbers, strings and contents of arrays by their paths, but for `left`: class -> names."""
    seen = {} if seen is None else seen
    if isinstance(value, np.ndarray):
        return {path: (value.dtype.str, value.shape, value.tobytes())}
    if isinstance(value, bool | int | float | str | bytes | np.generic | None):
        return {path: repr(value.item() if isinstance(value, np.generic) else value)}
    own = type(value)
    if isinstance(value, CONSTANT) or own.__module__.startswith(OTHERS) or id(value) in seen:
        return {}
    if isinstance(value, set | frozenset):
        value = sorted(value)
    if isinstance(value, list | tuple | deque):
        members = {f"{path}[{number}]": each for number, each in enumerate(value)}
    elif isinstance(value, Mapping):
        members = {f"{path}[{key!r}]": each for key, each in value.items()}
    else:
        seen[id(value)] = value
        names = {*getattr(value, "__dict__", ()), *getattr(value, "state_names", ())}
        for each in own.__mro__:  # compiled classes
            names |= {name for name, of in vars(each).items() if isinstance(of, types.GetSetDescriptorType)}
        out = {name for each in own.__mro__ for name in left.get(each.__name__, "").split()}
        members = {f"{path}.{name}": getattr(value, name) for name in sorted(names - out) if name[:2] != "__"}
    found = {}
    for place, member in members.items():
        found |= attributes(member, left, place, seen)
    return found
