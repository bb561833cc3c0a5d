"""Errors that end a command with one line and an exit code."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class InputError(ValueError):
    """Bad input: one line naming file, key and value; exit code 2."""


class Failure(RuntimeError):
    """Failure of the environment, such as a full disk: one line; exit code 1."""


@contextmanager
def within(path: str | Path) -> Iterator[None]:
    """Prefix an `InputError` raised in the block with the name of a file, unless it is empty."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}" if path else str(error)) from None


def reason(error: BaseException) -> str:
    """Return the system's message for an OSError, by its errno, which HDF5 buries in a long text."""
    number = getattr(error, "errno", None) or int((re.findall(r"errno = (\d+)", str(error)) or [0])[0])
    return getattr(error, "strerror", None) or (os.strerror(number) if number else str(error))
