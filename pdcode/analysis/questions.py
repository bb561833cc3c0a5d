"""Questions to a recorded run: its time under other keys or with other workers, and curves of it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..config import load as configfile
from ..trace.reader import TraceReader
from ..util.errors import InputError, prefix_errors
from ..util.formats import bar, counted, duration, rate, rough_percent, size, span, two_digits, workers_named
from .causes import diagnosed
from .what_if import MOST_FLOPS, SEEDS, Change, Factor, Prediction, link_of_script, prediction

TABLES = {
    "workers", "link", "machine", "update", "reduce", "downlink", "code", "wire", "scheme", "memory",
    "optimizer", "shuffle", "faults",
}  # fmt: skip
"""Tables whose keys a recorded run answers: under its delays, with its problem, to its loss."""
PROBLEM = {"batch", "axis", "shards"}  # keys of [problem] that leave the loss what it is
SPEEDS = {"link", "machine"}  # tables whose keys leave each update what it is
LONGEST = 25 * MOST_FLOPS  # arithmetic of the descents of one question: a minute or so
COUNTS = 0.5, 2, 4  # of the recorded number of workers, in a curve
OF_LINK = {
    "link.latency_s": "how much of its reductions' time is latency",
    "link.half_duplex": "which of its reductions' messages share a link",
}
"""What a script's recording does not have, by the key that it would answer."""
WIDTH = 24  # characters of the longest bar
LINKS = 0.1, 0.3, 3, 10  # of the recorded bandwidth, in a curve


@dataclass(frozen=True, repr=False)
class Answer:
    """A predicted time.

    Attributes
    ----------
    change : str
        What would be otherwise.
    goal : str
        The loss or accuracy that is to be reached; empty: the run's updates.
    recorded_s : float
        The run's own time.
    predicted_s, low_s, high_s : float
        The predicted one with a 90 % interval; infinite: more than three times the run's.
    basis : str
        How it was predicted.
    doubt : str
        Why the prediction is in doubt; empty: it is not.
    """

    change: str
    goal: str
    recorded_s: float
    predicted_s: float
    low_s: float
    high_s: float
    basis: str
    doubt: str = ""

    def __repr__(self) -> str:
        what, own = self.goal or "the run", duration(1e9 * self.recorded_s)
        if math.isinf(self.predicted_s):
            never = f"would take more than three times {own}, or never end"
            return f"{self.change}: {what} {never} ({self.basis})"
        times = [1e9 * each for each in (self.predicted_s, self.low_s, self.high_s)]
        after = f"{duration(times[0])} ({span(duration(times[1]), duration(times[2]))})"
        factor = self.predicted_s / self.recorded_s
        compared = f"{two_digits(factor)} times as long"
        if factor < 1:
            compared = f"{two_digits(100 * (1 - factor))} % less"
        doubt = f"; {self.doubt}" if self.doubt else ""
        when = f"{what} {'after' if self.goal else 'in'} {after} in place of {own}"
        return f"{self.change}: {when}, {compared}; {self.basis}{doubt}"


def ask(
    trace: TraceReader, settings: Sequence[str], without: Sequence[int] = (), replaced: Sequence[int] = ()
) -> Answer:
    """Predict a run under settings ``KEY=VALUE``, without some workers, or with usual ones in their places.

    Raises
    ------
    InputError
        If the recording does not answer a key, or the clock cannot predict the run.
    """
    for name, workers in (("--without", without), ("--replaced", replaced)):
        if bad := [each for each in workers if not 0 <= each < trace.worker_count]:
            raise InputError(f"{name} {bad[0]}: the run has workers 0 to {trace.worker_count - 1}")
    if len({*without}) >= trace.worker_count - 1:
        raise InputError(f"--without: leaves fewer than two of {counted(trace.worker_count, 'worker')}")
    with prefix_errors(f"{trace.path}: the virtual clock does not predict this run"):
        run = prediction(trace)
    return _answer(run, Change(tuple(settings), tuple(replaced), tuple(sorted({*without}))))


def _answer(run: Prediction, change: Change) -> Answer:
    tables = {_answered(run, each) for each in change.settings}
    said = [*change.settings]
    said += [f"without {workers_named([*change.dropped])}"] if change.dropped else []
    said += [f"with {workers_named(sorted(change.replaced))} as a usual one"] if change.replaced else []
    factor, basis = _predicted(run, change, tables)
    mean_s, low_s, high_s = (run.recorded_s * each for each in factor)
    what = ", ".join(said) or "as it was"
    return Answer(what, run.goal, run.recorded_s, mean_s, low_s, high_s, basis, run.doubt)


def _answered(run: Prediction, setting: str) -> str:
    """Return the table of a key that a recorded run answers; refuse others."""
    (table, *keys), _ = configfile.parse_override(setting)
    script, key = run.config is None, ".".join((table, *keys))
    known = f"keys of {', '.join(sorted(TABLES))}, problem.batch"
    answered = table in TABLES or (table == "problem" and keys and keys[0] in PROBLEM)
    if script:
        link = link_of_script(run.trace) > 0
        answered = key == "workers.count" or (key == "link.bandwidth" and link)
        known = f"workers.count{' and link.bandwidth' if link else ''}"
        if table == "link":
            why = OF_LINK.get(key, "its link") if link else "its reductions' bytes"
            known += f", as a recording does not have {why}"
    if not answered:
        raise InputError(f"--set {key}: {run.trace.path} does not answer this key; it answers {known}")
    return table


def _predicted(run: Prediction, change: Change, tables: set[str]) -> tuple[Factor, str]:
    """Return the time under a change, and how it was predicted."""
    same = tables <= SPEEDS and not change.dropped  # as many updates lead to the loss, if all wait for all
    if not same and 2 * SEEDS * run.flops() <= LONGEST:
        return run.relative(change, descends=True), f"simulated to the loss, {SEEDS} seeds"
    if others := tables - SPEEDS - {"workers", "faults"}:
        why = "would be simulated for minutes" if run.goal else "has no loss to reach"
        keys = ", ".join(each for each in change.settings if each.partition(".")[0] in others)
        raise InputError(f"--set {keys}: {run.trace.path} {why}; plan --trace searches for longer")
    if run.descends:
        return run.relative(change), f"simulated to the loss, {SEEDS} seeds"
    each = "payloads" if run.single else "updates" if run.config else "steps, each worker with its work"
    basis = f"for as many {each}"
    if run.config is None and "link" in tables:
        bytes_up = size(run.trace.attributes["payload_bytes"])
        now = f"{bytes_up} of each worker at {rate(link_of_script(run.trace))}"
        basis += f", as if the reductions' time were all transfer, {now}"
    return run.relative(change), basis


def curves(run: Prediction) -> Iterator[tuple[str, list[tuple[str, Answer]]]]:
    """Yield the curves of the time over the number of workers and over the link, by what they are of."""
    n = run.trace.worker_count
    counts = [max(2, round(n * each)) for each in COUNTS]
    keys = {"workers": [(f"{count:,}", f"workers.count={count}") for count in sorted({*counts} - {n})]}
    if 1 < (fitted := _bandwidth(run)) < 1e15:
        speeds = [fitted * each for each in LINKS]
        keys["link"] = [(rate(each), f"link.bandwidth={each:g}") for each in speeds]
    for name, asked in keys.items():
        found = []
        for shown, setting in asked:
            try:
                found.append((shown, _answer(run, Change((setting,)))))
            except InputError:  # not with the other keys of the run
                continue
        yield name, found


def _bandwidth(run: Prediction) -> float:
    """Return the bandwidth of a run's link in bytes/s; 0: not known."""
    return link_of_script(run.trace) if run.config is None else Change().config(run.trace).link.bandwidth


def said(trace: TraceReader) -> Iterator[str]:
    """Yield what a run says, in lines: how long it took, what costs time, what would help, and its curves."""
    found = diagnosed(trace)
    yield found.verdict
    if found.why:
        yield f"Why: {found.why}"
    for cause in found.causes:
        share, low, high = (rough_percent(each) for each in (cause.share, cause.low, cause.high))
        yield f"  {share} % ({span(low, high)}) of the time: {cause.name}"
    if found.cost:
        yield f"Cost: {found.cost}"
    if found.next:
        yield "What would help:"
        yield from (f"  {each.removeprefix('or ')}" for each in found.next.split("; "))
    try:
        run = prediction(trace)
        for name, answers in curves(run):
            yield from _curve(run, name, answers)
    except InputError as error:
        yield f"Not known under changes: the virtual clock does not predict this run: {error}"


def _curve(run: Prediction, name: str, answers: Sequence[tuple[str, Answer]]) -> Iterator[str]:
    """Yield the lines of a curve: each time as a bar, and its interval."""
    now = f"{run.trace.worker_count:,}"
    if name == "link":
        now = rate(_bandwidth(run))
    rows = [(shown, each.predicted_s, each.low_s, each.high_s) for shown, each in answers]
    rows.append((f"{now} now", *3 * (run.recorded_s,)))
    finite = [row for row in rows if math.isfinite(row[1])]
    most, width = max(row[1] for row in finite), max(len(row[0]) for row in rows)
    yield f"{run.goal or 'the run'}, over {name}{f' ({answers[0][1].basis})' if answers else ''}:"
    for shown, mean, low, high in rows:
        text = "more than three times as long, or never"
        if math.isfinite(mean):
            interval = "" if low == high else f" ({span(duration(1e9 * low), duration(1e9 * high))})"
            text = f"{bar(mean, most, WIDTH):{WIDTH}} {duration(1e9 * mean)}{interval}"
        yield f"  {shown:>{width}} {text}"
