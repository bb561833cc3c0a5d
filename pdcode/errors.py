"""Errors that a command turns into one line and an exit code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class InputError(ValueError):
    """Bad input by the user: one clear line that names file, key and value; exit code 2."""


class Failure(RuntimeError):
    """What the machine does not let us do, such as writing to a full disk: one clear line; exit code 1."""


@contextmanager
def within(path: str | Path) -> Iterator[None]:
    """Put the name of a file, if there is one, before what is wrong in it."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}" if path else str(error)) from None
