"""Output for the user: lines, failures of stdout, and checks of output files."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TextIO

from . import progress
from .errors import Failure, InputError, escape, reason

LINES = "\n\t"  # control characters of text of several lines


def print_line(line: str) -> None:
    """Print a line of progress and flush, as launchers buffer output.

    A failure of stdout does not end a run: a line on stderr reports it, and later lines are dropped. If the
    reader has closed the pipe (`… | head`), they are dropped without a report.
    """
    try:
        print(f"{escape(line)}\n", end="", flush=True)  # in one piece, as ranks share the terminal
    except BrokenPipeError:
        silence_stdout()
    except OSError as error:
        print_error(f"{_stdout_failure(error)}; continuing without output")
        silence_stdout()
    except Failure as error:
        print_error(f"{error}; continuing without output")


def print_error(text: str) -> None:
    """Print a line for the user on stderr if that can be written."""
    progress.hide()
    with suppress(OSError):
        print(f"pdcode: {escape(text, LINES)}", file=sys.stderr, flush=True)
    progress.show()


def silence_stdout() -> None:
    """Redirect stdout, with the contents of its buffer, to /dev/null."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _stdout_failure(error: OSError) -> str:
    return f"cannot write to standard output: {reason(error)}"


def open_streams() -> None:
    """Open stdout and stderr if they are closed (`>&-`), so that no other file gets their numbers.

    Writing to this stdout fails, as to a closed one.
    """
    for number, mode in ((1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.dup2(os.open(os.devnull, mode), number)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


class CheckedStream:
    """A text stream on stdout that escapes control characters of what is printed, such as a trace's texts.

    The first failed write raises `Failure`; later ones are dropped. A broken pipe is raised as it is. Bars of
    progress make room for lines on the terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._on_terminal = stream, stream.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text."""
        return self.write_styled(escape(text, LINES))

    def write_styled(self, text: str) -> int:
        """Write text whose control characters are our own, such as colours."""
        if self._on_terminal:
            progress.hide()
        with _checked():
            count = self._stream.write(text)
        if self._on_terminal and text.endswith("\n"):
            progress.show()
        return count

    def flush(self) -> None:
        """Write the contents of the buffer."""
        with _checked():
            self._stream.flush()


@contextmanager
def _checked() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        silence_stdout()
        raise Failure(_stdout_failure(error)) from None


def ensure_writable(path: Path, name: str) -> None:
    """Create the folder of a file, and refuse a path that cannot be written.

    `name`, in the message, is the path or its option.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        with temporary_file(path.parent):
            pass
    except OSError as error:
        raise InputError(f"{name}: cannot write there: {reason(error)}") from None


def write_file(path: Path, content: str | bytes | memoryview, what: str) -> None:
    """Write a file and create its folder; `what` names the content in an error message.

    The file appears, or replaces another, once all is written; devices and pipes are written to directly.
    """
    special = os.path.exists(path) and not os.path.isfile(path)  # which, unlike Path's, do not fail
    target = path if special else Path(os.path.realpath(path))
    place = target if special else target.with_name(f"{target.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content.encode() if isinstance(content, str) else content)
        if not special:
            os.replace(place, target)
    except OSError as error:
        if not special:
            with suppress(OSError):
                place.unlink()
        raise InputError(f"{path}: cannot write {what}: {reason(error)}") from None


def temporary_file(folder: Path) -> IO[bytes]:
    """Return a file in a folder that is deleted when it is closed."""
    import tempfile  # not loaded by ranks that write nothing

    return tempfile.TemporaryFile(dir=folder)


def ensure_replaceable(path: Path, name: str, what: str, ours: Callable[[Path], bool]) -> None:
    """Refuse to overwrite a file, unless it is empty or of the same kind.

    `ours` returns whether an existing file is of that kind. The message has `name`, the path or its option,
    and `what`, the kind.
    """
    if path.exists() and not (path.is_file() and (path.stat().st_size == 0 or ours(path))):
        raise InputError(f"{name}: the existing file is not {what} of pdcode; choose another name")
