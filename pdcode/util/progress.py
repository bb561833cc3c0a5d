"""Progress of long commands on stderr: bars with the time left on a terminal, else a line now and then.

`shown` switches it on for a command. Otherwise, as in the Python interface, nothing is shown.
"""

import math
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from . import signals
from .errors import escape

VARIABLE = "PDCODE_PROGRESS"
OFF = {VARIABLE: "off"}  # environment of a command that shows none
LINE_S = 10.0  # least time between lines

T = TypeVar("T")


class Work:
    """A task with progress: its name, its number of steps (None: unknown), and the number of steps done.

    `what` is a plural that names the steps, such as "runs". If `total` is 1, it names the task, and `done` is
    a fraction.
    """

    def __init__(self, what: str, total: float | None) -> None:
        self.what, self.total, self.done = what, total, 0.0
        self._at_s = self._began_s = time.monotonic()
        self._first: float | None = None  # the first fraction: a resumed run had done it before

    def report(self, done: float) -> None:
        """Note and show how much is done."""
        self.done, self._at_s = done, time.monotonic()
        if self._first is None and self.total == 1:
            self._first, self._began_s = done, self._at_s
        if _display is not None:
            _display.update(self)

    @property
    def left_s(self) -> float:
        """Estimated time to the end in s, or nan."""
        made = self.done - (self._first or 0.0)
        if self.total is None or made <= 0:
            return math.nan
        step_s = (self._at_s - self._began_s) / made
        return max(0.0, step_s * (self.total - self.done) - (time.monotonic() - self._at_s))

    @property
    def done_of_total(self) -> str:
        """Finished part, as text."""
        if self.total is None:
            return ""
        return f"{100 * self.done:.0f} %" if self.total == 1 else f"{self.done:.0f} of {self.total:.0f}"

    @property
    def left(self) -> str:
        """Estimated time to the end, as text; empty if it is unknown."""
        if math.isnan(self.left_s):
            return ""
        hours, minutes = divmod(math.ceil(self.left_s / 60), 60)
        if hours:
            return f"{hours} h {minutes:02} min left"
        return f"{minutes} min left" if minutes > 2 else f"{self.left_s:.0f} s left"

    def __str__(self) -> str:
        return f"{self.what}: {', about '.join(filter(None, (self.done_of_total, self.left)))}"


class Lines:
    """Lines on stderr: at the start of the first steps, unless `started`; then one in `LINE_S`."""

    def __init__(self, started: bool = False) -> None:
        self.works: list[Work] = []
        self._started, self._next_s = started, 0.0

    def open(self, work: Work) -> None:
        if not self.works:
            self._next_s = time.monotonic() + LINE_S
        self.works.append(work)
        if work.total not in (None, 1) and not self._started:
            self._started = True
            print_line(str(work))

    def update(self, work: Work) -> None:
        if time.monotonic() >= self._next_s:
            print_line("; ".join(map(str, self.works)))
            self._next_s = time.monotonic() + LINE_S

    def close(self, work: Work) -> None:
        self.works.remove(work)

    def hide(self) -> None:
        """Erase what is drawn, before other output."""

    def show(self) -> None:
        """Draw it again."""

    def erase_row(self) -> None:
        """Erase the last row once more."""


class Bars(Lines):
    """A bar for each work, on a terminal; they vanish at the end. No signal interrupts drawing or erasing."""

    def __init__(self) -> None:
        super().__init__()
        self._bars: Any = None
        self._tasks: dict[Work, Any] = {}

    def open(self, work: Work) -> None:
        with signals.deferred():
            self._bars = self._bars or _make_bars()
            self._tasks[work] = self._bars.add_task("", total=work.total, work=work)
        self.show()

    def update(self, work: Work) -> None:
        self._bars.update(self._tasks[work], completed=work.done, total=work.total)

    def close(self, work: Work) -> None:
        if len(self._tasks) == 1:
            self.hide()
        with signals.deferred():
            self._bars.remove_task(self._tasks.pop(work))

    def hide(self) -> None:
        if self._bars is not None:
            with signals.deferred():
                self._bars.stop()

    def show(self) -> None:
        if self._tasks:
            with signals.deferred():
                self._bars.start()

    def erase_row(self) -> None:
        if self._bars is not None:
            with suppress(OSError):  # at Ctrl-C a terminal drops output that it has not shown yet
                print("\r\x1b[2K\x1b[?25h", end="", file=sys.stderr, flush=True)


def _make_bars() -> Any:
    from rich.console import Console
    from rich.constrain import Constrain
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(file=sys.stderr, highlight=False)

    class Narrower(Progress):
        """Bars with room behind them for the terminal's ^C and ^Z, as a line that is full would scroll."""

        def get_renderables(self) -> Any:
            yield Constrain(self.make_tasks_table(self.tasks), console.width - 4)

    what, done, left = (
        TextColumn(f"{{task.fields[work].{part}}}", markup=False)
        for part in ("what", "done_of_total", "left")
    )
    return Narrower(
        what, BarColumn(None), done, left,
        console=console, transient=True, refresh_per_second=4, redirect_stdout=False, redirect_stderr=False,
    )  # fmt: skip


_display: Lines | None = None  # of the command


@contextmanager
def shown(rank: tuple[int, int] | None = None) -> Iterator[None]:
    """Show the progress of work in the block: by bars if stderr is a terminal, else by lines.

    Of a launcher's ranks (rank, number of ranks) the first shows it, by lines.
    """
    global _display
    if os.environ.get(VARIABLE) != "off" and (rank is None or rank[0] == 0):
        terminal = sys.stderr.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
        _display = Bars() if terminal and rank is None else Lines(started=rank is not None)
    try:
        yield
    except KeyboardInterrupt:
        hide()
        if _display is not None:
            _display.erase_row()
        raise
    finally:
        hide()
        _display = None


def hide() -> None:
    """Erase the bars, before other output to the terminal."""
    if _display is not None:
        _display.hide()


def show() -> None:
    """Draw the bars again."""
    if _display is not None:
        _display.show()


@contextmanager
def work(what: str, total: float | None = 1) -> Iterator[Work]:
    """Show work in the block, which reports how much of it is done; see `Work`."""
    under_way, display = Work(what, total), _display
    if display is not None:
        display.open(under_way)
    try:
        yield under_way
    finally:
        if display is not None:
            display.close(under_way)


def track(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Yield items, and show how many of `total` the caller is done with."""
    with work(what, total) as under_way:
        for done, item in enumerate(items, 1):
            yield item
            under_way.report(done)


def print_line(text: str) -> None:
    """Print a line on stderr if progress is shown."""
    if _display is not None:
        hide()
        with suppress(OSError):
            print(f"pdcode: {escape(text)}", file=sys.stderr, flush=True)
        show()
