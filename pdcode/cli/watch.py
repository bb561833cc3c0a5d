"""`pdcode watch`: a live view of a running job, or the last one of an ended job."""

from __future__ import annotations

import argparse
import gc
import math
import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..util.errors import InputError
from ..util.output import print_line
from . import arguments

if TYPE_CHECKING:
    from ..analysis.live import Reading

LINE_S = 5.0  # between lines where there is no terminal
SHARE = 10  # a reading takes at most one part in so many of the time
PATIENCE_S = 10.0  # after which a file that is not there may be named wrongly
MOST_OPENED, MOST_NAMED = 20, 5  # files beside it
DIAGNOSES = 5  # readings from one diagnosis to the next


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "watch",
        help="show a running job live",
        example="results/digits.h5",
        description="Show a run while it goes on: loss, updates a second, the workers' last task times, slow "
        "workers and faults; on a terminal until the run ends, q or Ctrl-C, else by a line every five "
        "seconds. It waits for a trace that does not exist yet, and shows an ended run once. Of a long run "
        "it reads the last 65,536 payloads and updates. Exit codes: 0 done, 2 bad input.",
    )
    command.add_argument("trace", metavar="TRACE", help="HDF5 file that a run writes")
    what = "seconds between two views (default: 1, and 5 without a terminal)"
    command.add_argument("--every", type=arguments.quantity("time"), metavar="S", help=what)
    command.set_defaults(function=watch)


def watch(options: argparse.Namespace) -> int:
    """Show a run until it ends."""
    arguments.ensure_in_range(options, every=(0.1, 3600, "0.1 to 3600"))
    path = Path(options.trace)
    if path.is_dir():
        raise InputError(f"{path}: a folder")
    with suppress(KeyboardInterrupt):
        if sys.stdout.isatty():
            with keys() as pressed:
                draw(path, options.every or 1.0, pressed)
        else:
            lines(path, options.every or LINE_S)
    return 0


def readings(path: Path, wait: Any, every_s: float, tell: Callable[[str], object]) -> Iterator[Reading]:
    """Yield what the trace holds, again and again until the run ends.

    `wait` is called with seconds, `tell` with a line if there is no file for long.
    """
    from ..analysis.live import WINDOW, Reading
    from ..trace.reader import TraceReader
    from . import guard

    told_s = time.monotonic() + PATIENCE_S
    while not path.exists():
        if wait(0.2):
            return
        if time.monotonic() >= told_s:
            tell(f"{path}: still no such file; {traces_beside(path)}")
            told_s = math.inf
    guard.probe_in_subprocess(path)
    while True:
        begun_s = time.monotonic()
        now = Reading(TraceReader(path, window=WINDOW))
        yield now
        gc.collect()  # earlier traces, which refer to themselves
        if now.ended or wait(max(every_s, SHARE * (time.monotonic() - begun_s))):
            return


def traces_beside(path: Path) -> str:
    """List the traces in the folder of a file, the newest first."""
    from ..trace import opening

    folder = path.parent
    if not folder.is_dir():
        return f"there is no folder {folder}"
    files = [each for each in folder.glob("*.h5") if each.is_file()]
    files.sort(key=lambda each: each.stat().st_mtime, reverse=True)
    found = [each.name for each in files[:MOST_OPENED] if opening.is_trace(each)]
    return f"traces in {folder.resolve()}: {', '.join(found[:MOST_NAMED]) or 'none'}"


def lines(path: Path, every_s: float) -> None:
    """Print a line now and then, and the outcome."""
    from ..analysis.description import headline

    if not path.exists():
        print_line(f"{path}: waiting for the run to begin")
    before, known = None, ""
    for now in readings(path, time.sleep, every_s, print_line):
        if (wrong := now.trace.descent.line).partition(":")[0] != known.partition(":")[0]:
            print_line(wrong)
            known = wrong
        print_line(now.line(before))
        before = now
    if before is not None:
        print_line(headline(before.trace))


def draw(path: Path, every_s: float, pressed: Any) -> None:
    """Draw the view in place until the run ends or q is pressed."""
    from rich.console import Console, Group
    from rich.live import Live

    from ..analysis import diagnosis, live

    before, found = None, None
    # Texts of the trace are escaped in the view; the checked stream would escape the control characters, too.
    console = Console(file=sys.__stdout__, highlight=False, markup=False, emoji=False)
    waiting = "" if path.exists() else f"{path}: waiting for the run to begin; q quits"
    with Live(waiting, console=console, auto_refresh=False) as view:

        def tell(text: str) -> None:
            view.update(f"{text}; q quits", refresh=True)

        for number, now in enumerate(readings(path, pressed, every_s, tell)):
            if number % DIAGNOSES == 0 or now.ended or (found and found.missing):
                found = diagnosis.diagnose(now.trace)
            hint = [] if now.ended else ["q quits"]
            view.update(Group(*live.screen(now, before, found), *hint), refresh=True)
            before = now


@contextmanager
def keys() -> Iterator[Any]:
    """Read keys without echo; yield a function that waits some seconds, and returns whether q was pressed."""
    import termios
    import tty

    if not sys.stdin.isatty():
        yield time.sleep
        return
    saved = termios.tcgetattr(sys.stdin)

    def wait(seconds: float) -> bool:
        until_s = time.monotonic() + seconds
        while (left_s := until_s - time.monotonic()) > 0:
            if select.select([sys.stdin], [], [], left_s)[0] and not {
                *os.read(sys.stdin.fileno(), 64)
            }.isdisjoint(b"qQ"):
                return True
        return False

    try:
        tty.setcbreak(sys.stdin)
        yield wait
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, saved)
