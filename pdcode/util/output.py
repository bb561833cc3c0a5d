"""Output to the user: lines, and checks of output files."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from .errors import InputError, reason


def print_line(line: str) -> None:
    """Print a line and flush, as launchers buffer output; a no-op once the reader is gone (`… | head`)."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def ensure_writable(path: Path, name: str) -> None:
    """Create the folder of a file, and check that it can be written.

    Parameters
    ----------
    path : Path
    name : str
        Name of the file in the error message: its path or its option.

    Raises
    ------
    InputError
        If the file cannot be written, or `path` is a folder.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise InputError(f"{name}: cannot write there: {reason(error)}") from None
