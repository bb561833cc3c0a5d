"""Lines for the user, and the files that they ask for."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from .errors import InputError, reason


def print_line(line: str) -> None:
    """Print a line at once, as launchers buffer otherwise; once nobody reads (`… | head`), print nothing."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def ensure_writable(path: Path, name: str) -> None:
    """Make the folder of a file, and try to write there.

    Parameters
    ----------
    path : Path
    name : str
        Of the file in the error: its path or its option.

    Raises
    ------
    InputError
        If no file can be written there, or `path` is a folder.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise InputError(f"{name}: cannot write there: {reason(error)}") from None
