"""Training with objects of a Python program in place of names: on the virtual clock any, over MPI arrays."""

import weakref
from collections.abc import Iterable, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from ..config import kinds
from ..util.errors import InputError, short_repr
from . import configs
from .configs import ConfigLike, PathLike, Settings
from .data import write_arrays
from .runs import run, simulate
from .traces import Trace

_numbers = count()


def train_given(
    kind: str,
    given: Mapping[str, Any],
    called: Mapping[str, str],
    tables: ConfigLike,
    mpi: bool,
    workers: int | None,
    output: PathLike | None,
    set: Settings,
    resume: bool,
    progress: bool,
) -> Trace:
    """Train a problem of some kind, whose keys are names or objects; `called` are a caller's names of keys.

    Objects are known until the trace is forgotten.
    """
    settings = configs.overrides(set)
    _refuse_given_twice(kind, given, called, tables, settings)
    if isinstance(tables, Mapping) and isinstance(problem := tables.get("problem", {}), Mapping):
        tables = {**tables, "problem": {"kind": kind, **problem}}  # whose keys of other kinds are refused
    objects = dict[str, Any]()
    if mpi:
        place = called, tables, configs.overrides(settings, workers, output)
        names = {key: stored(key, each, *place) for key, each in given.items()}
    else:
        number = next(_numbers)
        names = {key: each if isinstance(each, str) else f":{key}-{number}" for key, each in given.items()}
        objects = {names[key]: each for key, each in given.items() if not isinstance(each, str)}
        kinds.OBJECTS.update(objects)
    settings += configs.overrides({f"problem.{key}": name for key, name in {"kind": kind, **names}.items()})
    start = run if mpi else simulate
    try:
        trace = start(tables, workers=workers, output=output, set=settings, resume=resume, progress=progress)
    except BaseException as error:
        _forget([*objects])
        if isinstance(error, InputError):
            error.args = (_by_arguments(str(error), names, objects, called),)
        raise
    weakref.finalize(trace, _forget, [*objects])
    return trace


def _refuse_given_twice(
    kind: str,
    given: Mapping[str, Any],
    called: Mapping[str, str],
    tables: ConfigLike,
    settings: Iterable[str],
) -> None:
    """Refuse keys of [problem] in a caller's dict and settings that have no effect beside the arguments.

    A file or trace may have them: it is a configuration without the call, too.
    """
    problem = tables.get("problem", {}) if isinstance(tables, Mapping) else {}
    own = dict(problem) if isinstance(problem, Mapping) else {}
    for name, _, value in (each.partition("=") for each in settings):
        table, _, key = name.strip().partition(".")
        own |= {key: value.strip(" \"'")} if table == "problem" else {}
    for key, value in own.items():
        if key in given:
            argument = called.get(key, key)
            raise InputError(
                f"problem.{key}: {short_repr(value)} has no effect: the argument {argument} gives it"
            )
        if key == "kind" and value != kind:
            raise InputError(
                f"problem.kind: {short_repr(value)} has no effect: this call trains kind {kind!r}"
            )


def _by_arguments(
    text: str, names: Mapping[str, str], objects: Mapping[str, Any], called: Mapping[str, str]
) -> str:
    """Name a caller's arguments in a message in place of the keys that stand for them."""
    for key, name in names.items():
        if name in objects:
            what = called.get(key, key)
            text = text.replace(f"problem.{key}: {name!r}", what).replace(f"problem.{key}:", f"{what}:")
    return text


def _forget(names: list[str]) -> None:
    for name in names:
        kinds.OBJECTS.pop(name, None)


def stored(key: str, given: Any, called: Mapping[str, str], tables: ConfigLike, settings: list[str]) -> str:
    """Return the name of an object that all ranks can import, or write arrays to a file beside the trace."""
    if isinstance(given, str):
        return given
    found: Any = given
    if key == "data" and isinstance(given, tuple) and isinstance(given[0], tuple):
        train, test = given
        found = dict(enumerate(train)) | {f"test_{number}": each for number, each in enumerate(test)}
    elif key == "data":
        found = dict(enumerate(given if isinstance(given, tuple) else (given,)))
    elif not isinstance(given, Mapping):
        found = {"theta": given}
    if any(not hasattr(each, "dtype") for each in found.values()):
        what = called.get(key, key)
        raise InputError(f"{what}: over MPI all ranks import it by its name: give 'FILE.py:NAME'")
    traced = {"trace": tables.get("trace", {})} if isinstance(tables, Mapping) else tables
    # Without the names, which are not complete.
    own = [each for each in settings if each.startswith("trace.")]
    written = Path(configs.read(traced, own).config.trace.path)
    path = written.absolute().with_suffix(f".{key}.npz")
    write_arrays(path, {str(name): np.asarray(each) for name, each in found.items()})
    return str(path)
