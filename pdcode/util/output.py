"""Lines for the user."""

from __future__ import annotations

import os
import sys


def say(line: str) -> None:
    """Print a line at once; launchers buffer otherwise."""
    print(line, flush=True)


def say_on(line: str) -> None:
    """The same; if nobody reads on (`pdcode plan … | head`), there is still work to be done."""
    try:
        say(line)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
