"""Lines for the user."""

from __future__ import annotations

import os
import sys


def say(line: str) -> None:
    """Print a line at once, as launchers buffer otherwise; once nobody reads (`… | head`), print nothing."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
