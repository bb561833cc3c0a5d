"""Causes of a run's time, ranked by what they cost: each by a simulation in which it alone is gone."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ..trace.reader import TraceReader
from ..util.errors import Failure, InputError
from ..util.formats import counted, duration, percent, two_digits, workers_named
from . import verdict
from .account import PAUSED, PAUSED_BY, account
from .diagnosis import Cause, Diagnosis, after_descent, bottlenecks, diagnose_times
from .groups import grouped, host_of
from .remedies import GAIN, Remedies
from .what_if import START, Change, Factor, Prediction, prediction

OVERHEAD = "loading", "between steps"  # phases that are not the passes, for which the run is there
ALL = Change(("update.mode=all",))


def diagnosed(trace: TraceReader, costs: bool = True) -> Diagnosis:
    """Diagnose a run, with the costs of its causes and what to try, which are simulated."""
    simple = not costs or trace.descent.diverged
    return after_descent(trace, diagnose_times(trace) if simple else _priced(trace))


def _priced(trace: TraceReader) -> Diagnosis:
    """Diagnose the workers of a run, with their costs and what to try."""
    found = diagnose_times(trace)
    if found.missing:
        return found
    try:
        return _ranked(trace, found)
    except (Failure, InputError) as error:
        if not found.slow and not found.bottleneck:  # nothing that might cost something is named
            return found
        return replace(found, cost=f"not known: the virtual clock does not predict this run: {error}")


@dataclass(frozen=True)
class Priced:
    """A cause with its cost: the diagnosis that it would be alone, and the run's time without it."""

    found: Diagnosis
    name: str
    without: Factor
    cost: str  # in words
    unless: str  # what is gone, in words
    instead: str = ""  # what another policy would do
    machines: Sequence[tuple[str, Factor]] = ()  # of slow workers, in words, and the time with usual ones
    workers: tuple[int, ...] = ()  # whose it is

    @property
    def cause(self) -> Cause:
        """The cause, and its cost as a fraction of the time."""
        share, low, high = (max(0.0, 1 - each) for each in self.without.ordered)
        return Cause(self.name, self.found.statements[0], share, low, high, self.workers)


def _ranked(trace: TraceReader, found: Diagnosis) -> Diagnosis:
    """Return the diagnosis that begins with what costs most; the others are said beside it.

    Errors are as in `Prediction`.
    """
    run = prediction(trace)
    ranked = sorted(_priced_causes(run, found), key=lambda each: -each.cause.share)
    causes = tuple(each.cause for each in ranked)
    chosen = ranked[:1]
    if not ranked or causes[0].share < verdict.WARNING:  # who is slow is said, though it costs little
        named = "workers" if found.slow or found.fast else found.bottleneck
        chosen = [each for each in ranked if named and each.name == named]
    if not chosen:
        return replace(found, causes=causes)
    first = chosen[0]
    beside = [
        verdict.priced(each.cause, run.of)
        for each in ranked
        if each is not first and (each.cause.share >= verdict.WARNING or each.name in ("workers", "stalls"))
    ]
    said = first.found.costing(
        first.cause, run.of, "; ".join(filter(None, (first.cost, run.doubt))), first.instead
    )
    worth = [each for each in ranked if each.cause.share >= verdict.WARNING]
    tried = [each for each in worth if each.name != START]
    after = _remedies(run, tried[0]) if tried else _nothing(run, first.without, first.unless)
    if worth and not tried:
        ten = run.apart_s[START] / (run.apart_s[START] + 10 * (run.recorded_s - run.apart_s[START]))
        after = f"nothing: it comes once, and is {percent(ten, 1)} % of a run of ten times as many steps"
    return replace(said, verdict="; ".join([said.verdict, *beside]), causes=causes, next=after)


def _priced_causes(run: Prediction, found: Diagnosis) -> Iterator[Priced]:
    """Yield the causes that may cost something, each with its cost."""
    others = "" if found.slow or found.bottleneck or found.fast else found.verdict
    if found.slow:
        yield _slow(run, found)
    elif found.fast:
        yield _slower_class(run, found)
    elif found.stalled:
        unless = f"if worker {found.stalled[0]} were as the others"
        factor = run.relative(Change(replaced=tuple(found.stalled)))
        yield replace(_without(run, found, "stalls", factor, unless), workers=tuple(found.stalled))
    for each in bottlenecks(run.trace, verdict.WARNING, others):
        where, factor = each.bottleneck, run.relative(Change(free=each.bottleneck))
        each = replace(each, slow=found.slow, ratios=found.ratios)
        yield _without(run, each, where, factor, f"if {where} took no time")
    if statement := verdict.synchronous(run.trace):
        uneven = (*(each.worker for each in found.slow), *found.stalled)
        each = replace(found, statements=(statement, others), why="")
        factor = run.relative(Change(uneven=uneven))
        yield _without(run, each, "the policy", factor, "if all tasks of a worker took their mean time")
    yield from _phases(run, found, others)
    yield from _apart(run, found, others)


def _without(run: Prediction, found: Diagnosis, name: str, factor: Factor, unless: str) -> Priced:
    """Return a cause with its cost, from the time without it."""
    return Priced(found, name, factor, f"{run.took}; {run.time(factor)} {unless}, {factor.less()}", unless)


def _slow(run: Prediction, found: Diagnosis) -> Priced:
    """Return the cost of the slow workers: of the first group, and of all, who may hide each other."""
    first, *others = grouped(run.trace, found.slow)
    own = without = run.relative(Change(replaced=first.workers))
    cost = f"{run.took}; {run.time(own)} if {first.name} were as the others, {own.less()}"
    machines, workers = [(first.machine, own)], first.workers
    if others:
        workers = tuple(sorted(each.worker for each in found.slow))
        rest = tuple(each for each in workers if each not in first.workers)
        alone, without = (run.relative(Change(replaced=each)) for each in (rest, workers))
        whose = "they" if first.workers[1:] else "it"
        cost += f"; {run.time(alone)} if {whose} alone were slow, "
        cost += f"{run.time(without)} if none of {workers_named(workers)} were"
        machines.append((f"the machines of {workers_named(workers)}", without))
    named = first.name if not others else workers_named(workers)
    return Priced(
        found,
        "workers",
        without,
        cost,
        f"with {named} as the others",
        _waiting_for_all(run),
        machines,
        workers,
    )


def _slower_class(run: Prediction, found: Diagnosis) -> Priced:
    """Return the cost of most workers, who are a class that is slower than the others."""
    workers = tuple(each for each in range(run.trace.worker_count) if each not in found.fast)
    factor, host = run.relative(Change(replaced=workers)), host_of(run.trace, workers)
    unless = f"if all were as fast as {workers_named(found.fast)}"
    machine = f"host {host}" if host else f"the machines of {workers_named(workers)}"
    made = _without(run, found, "workers", factor, unless)
    return replace(made, machines=[(machine, factor)], workers=workers)


def _phases(run: Prediction, found: Diagnosis, others: str) -> Iterator[Priced]:
    """Yield the phases in which a script does not compute, if they cost something in all workers."""
    spent = account(run.trace)
    if spent is None or run.trace.is_unordered:
        return
    for name in OVERHEAD:
        time_ns = spent.by_part.get(name, 0.0)
        if time_ns >= verdict.WARNING * spent.length_ns:
            statement = f"{name} takes {percent(time_ns, spent.length_ns)} % of the time, in all workers"
            each = replace(found, statements=(statement, others), why="")
            yield _without(run, each, name, run.relative(Change(free=name)), f"if {name} took no time")


def _apart(run: Prediction, found: Diagnosis, others: str) -> Iterator[Priced]:
    """Yield what no task does: the start, and rank 0's pauses for which something waits."""
    for name, time_s in run.apart_s.items():
        if time_s < verdict.WARNING * run.recorded_s:
            continue
        part, unless = percent(time_s, run.recorded_s), f"without the time of each {name}"
        statement = f"rank 0 is in {name} for {part} % of the time (more seldom: {PAUSED_BY.get(name)})"
        if name == START:
            noun = "step" if run.trace.is_script else "task"
            first = counted(run.first_tasks, f"first {noun}")
            among = f", with {first} that took all workers long" if run.first_tasks else ""
            statement = f"the start takes {duration(1e9 * time_s)}{among}"
            unless = f"if first {noun}s took as long as others" if among else "if there were no start"
        each = replace(found, statements=(statement, others), why="")
        yield _without(run, each, name, run.relative(Change(free=name)), unless)


def _remedies(run: Prediction, first: Priced) -> str:
    """Say what to try."""
    remedies, slow = Remedies(run), first.found.slow if first.name == "workers" else ()
    machines = [remedies.machine(slow, *each) for each in first.machines]
    machines += remedies.without(slow) if slow else ()
    if run.trace.is_script and first.name == "the reduction":
        machines += [remedies.rarer(first.without), *remedies.halved()]
    if first.name in PAUSED:
        machines.append(remedies.more_seldom(first.name, first.without))
    shown = remedies.best(first.name, slow, machines)
    return shown or f"nothing that was tried takes {percent(1 - GAIN, 1)} % less; {remedies.more}"


def _nothing(run: Prediction, factor: Factor, unless: str) -> str:
    """Say that nothing is worth a change, as it would save little."""
    before, after = (duration(1e9 * run.recorded_s * each) for each in (1.0, factor.mean))
    takes = f"{after} in place of {before}" if factor.mean < 1 and before != after else "as long"
    return f"nothing: {unless}, {run.goal or 'the run'} takes {takes}"


def _waiting_for_all(run: Prediction) -> str:
    """Say how much longer the run would take if all waited for all; empty if they do, or not known."""
    if run.trace.is_script:
        return ""
    try:
        factor = run.relative(ALL, seeds=1).mean  # of the run itself
    except InputError:  # not with the other keys of the run
        return ""
    what, of = "waiting for all", "" if run.descends else " for as many gradients"
    if not run.single and not run.descends:
        what, of = "an update that waits for all", ""
    if not 1 / GAIN < factor < math.inf:
        return ""
    return f"{what} would take {two_digits(factor)} times as long{of}"
