"""Output to the user: lines, stdout that fails, and checks of output files."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TextIO

from .errors import Failure, InputError, reason


def print_line(line: str) -> None:
    """Print a line of progress and flush, as launchers buffer output.

    A run is worth more than its output: if that fails, one line on stderr says so, and stdout is silent from
    then on. It is silent at once when the reader is gone (`… | head`).
    """
    try:
        print(line, flush=True)
    except BrokenPipeError:
        silence()
    except OSError as error:
        complain(f"{unwritable(error)}; it goes on without")
        silence()
    except Failure as error:
        complain(f"{error}; it goes on without")


def complain(text: str) -> None:
    """Print a line for the user on stderr, if that can be written."""
    with suppress(OSError):
        print(f"pdcode: {text}", file=sys.stderr, flush=True)


def silence() -> None:
    """Send stdout, and what it still buffers, to /dev/null."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def unwritable(error: OSError) -> str:
    """Return what to say of stdout that fails."""
    return f"cannot write to standard output: {reason(error)}"


def open_streams() -> None:
    """Open stdout and stderr where they are closed (`>&-`), so that no other file gets their numbers.

    Writing to this stdout fails, as to a closed one.
    """
    for number, mode in ((1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.dup2(os.open(os.devnull, mode), number)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


class Checked:
    """A text stream whose writes fail with a `Failure`, but for closed pipes; afterwards it is silent.

    Parameters
    ----------
    stream : TextIO
        Standard output.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text."""
        with _checked():
            return self._stream.write(text)

    def flush(self) -> None:
        """Write what is buffered."""
        with _checked():
            self._stream.flush()


@contextmanager
def _checked() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        silence()
        raise Failure(unwritable(error)) from None


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
        with temporary_file(path.parent):
            pass
    except OSError as error:
        raise InputError(f"{name}: cannot write there: {reason(error)}") from None


def temporary_file(folder: Path) -> IO[bytes]:
    """Return a file in a folder that is gone when it is closed."""
    import tempfile  # which ranks that write nothing need not load

    return tempfile.TemporaryFile(dir=folder)


def ensure_replaceable(path: Path, name: str, what: str, ours: Callable[[Path], bool]) -> None:
    """Refuse to overwrite a file, unless it is empty or one of the same kind that pdcode has made.

    Parameters
    ----------
    path : Path
    name : str
        Name of the file in the error message: its path or its option.
    what : str
        The kind of file.
    ours : callable
        Whether an existing file is of that kind.

    Raises
    ------
    InputError
        If the file may not be overwritten.
    """
    if path.exists() and not (path.is_file() and (path.stat().st_size == 0 or ours(path))):
        raise InputError(f"{name}: a file is there that is not {what} of pdcode; choose another name")
