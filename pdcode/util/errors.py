"""Errors that a command turns into one line and an exit code."""

from __future__ import annotations

import os
import re
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


def reason(error: BaseException) -> str:
    """Why the system did not do something, by its number, which HDF5 hides in a long text."""
    number = getattr(error, "errno", None) or int((re.findall(r"errno = (\d+)", str(error)) or [0])[0])
    return getattr(error, "strerror", None) or (os.strerror(number) if number else str(error))
