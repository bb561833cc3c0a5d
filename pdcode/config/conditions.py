"""Keys that have an effect only with certain values of another key of their table, the selector.

Keys of a kind are fields of its class, and unknown to other kinds. This is for the other keys.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from ..util.errors import InputError, short_repr
from . import kinds


class Condition(NamedTuple):
    """Condition under which keys of a table have an effect."""

    keys: tuple[str, ...]
    selector: str
    holds: Callable[[Any], bool]  # of the selector's value
    needs: str  # the condition in words


def _among(keys: tuple[str, ...], selector: str, *values: str) -> Condition:
    return Condition(keys, selector, values.__contains__, " or ".join(map(repr, values)))


def _file(keys: tuple[str, ...], formats: tuple[str, ...], needs: str) -> Condition:
    pattern = re.compile("|".join(FORMATS[each] for each in formats))
    return Condition(keys, "data", lambda name: bool(pattern.search(str(name))), needs)


def _kind(keys: tuple[str, ...], holds: Callable[[Any], bool], needs: str) -> Condition:
    """Return a condition on the class of a kind of problem; it holds for unknown kinds."""

    def holds_for(name: Any) -> bool:
        kind = kinds.find("problems", name)
        return kind is None or holds(kind)

    return Condition(keys, "kind", holds_for, needs)


def _given(value: Any) -> bool:
    return value is not None


FORMATS = {
    "npz": r"\.npz$",
    "hdf5": r"\.(h5|hdf5)$",
    "idx": r"[.-]idx\d*(-ubyte)?(\.gz)?$",
    "svmlight": r"\.(svm|svmlight|libsvm)(\.gz|\.bz2)?$",
}
"""Format of data -> pattern of the file's name."""

SYNTHETIC = "samples", "features", "outputs", "noise", "condition", "density"

CONDITIONS: dict[str, list[Condition]] = {
    "problem": [
        _kind(("hidden", "activation"), lambda kind: kind.deep, "a kind with hidden layers, such as 'mlp'"),
        _kind(("task",), lambda kind: kind.classes is None, "a kind for both tasks, such as 'mlp'"),
        _among(SYNTHETIC, "data", "synthetic"),
        _file(("labels",), ("idx",), "an IDX file"),
        _file(("inputs", "targets"), ("npz", "hdf5"), "an npz or HDF5 file"),
    ],
    "downlink": [_among(("check",), "kind", "codewords", "exchange")],
    "reduce": [_among(("check",), "kind", "allreduce")],
    "optimizer": [Condition(("nesterov",), "momentum", bool, "momentum")],
    "stragglers": [
        Condition(("slowdown",), "slow", bool, "a worker"),
        _among(("block",), "draw", "block"),
    ],
    "link": [_among(("fanout", "segment"), "broadcast", "tree")],
    "faults": [
        Condition(("failure",), "mtbf_s", _given, "a time"),
        Condition(("spot_end", "spot_speed"), "spot", _given, "a file"),
    ],
    "trace": [_among(("sample",), "arrivals", "sampled")],
}
"""Table name -> conditions."""


def without_effect(name: str, table: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table without the keys that lose their effect by the chosen values of selectors."""
    lost = {
        key
        for condition in CONDITIONS.get(name, ())
        if condition.selector in chosen and not condition.holds(chosen[condition.selector])
        for key in condition.keys
    }
    return {key: value for key, value in table.items() if key not in lost}


def check(config: Any) -> None:
    """Refuse keys that have no effect, unless they have their default values.

    Raises
    ------
    InputError
        Naming key and value.
    """
    for name, conditions in CONDITIONS.items():
        table = getattr(config, name)
        defaults = _defaults(table.__class__)
        for keys, selector, holds, needs in conditions:
            if not hasattr(table, selector) or holds(chosen := getattr(table, selector)):
                continue
            for key in keys:
                if key in defaults and (value := getattr(table, key)) != defaults[key]:
                    raise InputError(
                        f"{name}.{key}: {short_repr(value)} has no effect with {name}.{selector} "
                        f"{short_repr(chosen)}; it needs {needs}"
                    )


@functools.cache
def _defaults(table: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the default of each key: msgspec evaluates annotations anew each time that it is asked."""
    return {field.encode_name: _default(field) for field in msgspec.structs.fields(table)}


def _default(field: Any) -> Any:
    factory = field.default_factory
    return field.default if factory is msgspec.NODEFAULT else factory()
