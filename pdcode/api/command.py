"""Commands in child processes, with their lines as they are printed and their errors as exceptions."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import FrameType

from ..util import signals
from ..util.errors import Failure, InputError
from ..util.output import print_line
from ..util.progress import OFF

PREFIX = "pdcode: "  # of a command's error line on stderr


def to_options(options: Mapping[str, object], settings: Iterable[str]) -> list[str]:
    """Return options that are not None, and settings ``KEY=VALUE``, as arguments."""
    given = [f"--{name}={value}" for name, value in options.items() if value is not None]
    return [*given, *(f"--set={setting}" for setting in settings)]


def run_command(
    arguments: Sequence[str],
    progress: bool = True,
    variables: Mapping[str, str] | None = None,
    hidden: str | None = None,
    tell: Callable[[str], object] = print_line,
) -> None:
    """Run ``pdcode ARGUMENTS`` in a child process, with additional environment `variables`.

    With `progress` `tell` is called with the command's lines, without lines that begin with `hidden`. Its
    failure is an `InputError` or `Failure` with its message. Ctrl-C is passed on, and raises
    KeyboardInterrupt after the command has ended.
    """
    interrupted, last = False, ""

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        process.send_signal(number)

    with (
        tempfile.TemporaryFile("w+", errors="replace") as errors,
        subprocess.Popen(
            [sys.executable, "-P", "-m", "pdcode", *arguments],
            env={**os.environ, **OFF, **(variables or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            errors="replace",
        ) as process,
        signals.handled(dict.fromkeys(signals.TERMINATING, interrupt)),
    ):
        assert process.stdout is not None
        for line in process.stdout:
            last = line.rstrip()
            if progress and not (hidden and last.startswith(hidden)):
                tell(last)
        code = process.wait()
        errors.seek(0)
        output = f"\n{errors.read()}"
    others, _, message = output.rpartition(f"\n{PREFIX}") if code else (output, "", "")
    if others.strip():
        print(others.strip(), file=sys.stderr, flush=True)
    if interrupted:
        raise KeyboardInterrupt
    if code:
        ended = last if code == 1 else f"pdcode {arguments[0]} ended with exit code {code}"
        raise (InputError if code == 2 else Failure)(message.strip() or ended)
