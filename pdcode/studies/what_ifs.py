"""What-ifs of a recorded job: other workers, links and policies, and the chance to meet a deadline."""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.special import betaincinv

from ..analysis import printing
from ..analysis.slowness import find_slow, tasks_of
from ..stragglers.bases import shared_link_ns
from ..trace.reader import TraceReader
from ..util.formats import percent, span
from ..util.processes import Pool
from ..util.progress import track
from .candidate import OWN, Candidate
from .limits import MAX_ARRIVALS, Limits, max_updates, with_limits
from .ranking import CONFIDENCE, Row, compare_times
from .results_table import format_seconds
from .search import SLACK, Environment, SearchResult
from .search_space import make_candidate, preset
from .trial import Trial, perform_all

NEVER = "never"
FIRST = {
    **preset("uncoded", "first"),
    "update": {"mode": "first", "count": "auto", "late": "waste"},
    "reduce": {"kind": "allreduce"},
}
"""Tables of a job that goes on with the first payloads."""


def slowest_workers(trace: TraceReader) -> list[int]:
    """Return the slow workers of a run, the worst first; or the slowest one, if it has several."""
    slow, ratios = find_slow(tasks_of(trace))
    known = np.isfinite(ratios)
    if slow or known.sum() < 2:
        return [each.worker for each in slow]
    return [int(np.argmax(np.where(known, ratios, -np.inf)))]


def changes(environment: Environment) -> Iterator[Candidate]:
    """Yield the job with one change each: of a worker, the link, or the policy."""
    config, trace = environment.config, environment.trace
    assert trace is not None

    count = config.workers.count  # --workers may differ from the recorded number
    slow = [worker for worker in slowest_workers(trace) if worker < count]
    for worker in slow[:2]:
        if count <= trace.worker_count:  # else others have the same delays
            fewer = config.with_keys(stragglers={"dropped": [worker]}, workers={"count": count - 1})
            yield Candidate(f"without worker {worker}", fewer)
        usual = config.with_keys(stragglers={"replaced": [worker]})
        yield Candidate(f"worker {worker} replaced by a usual one", usual)
        if others := [each for each in slow if each != worker]:
            yield Candidate(f"worker {worker} alone slow", config.with_keys(stragglers={"replaced": others}))
    if shared_link_ns(trace).any():
        bandwidth = max(1.0, config.link.bandwidth / 2)
        yield Candidate("half the bandwidth", config.with_keys(link={"bandwidth": bandwidth}))
    local = preset("local")
    if config.optimizer.linear:  # local steps have no other optimizer
        local["scheme"] = {"name": "local", "options": {"rate": float(config.optimizer.rate)}}
    for name, tables in (("first q", FIRST), ("local steps", local)):
        if candidate := make_candidate(config, name, tables):
            yield candidate


def perform(environment: Environment, found: SearchResult, pool: Pool) -> tuple[list[Row[Candidate]], float]:
    """Simulate the changes under the seeds of the finalists; return their rows, and the job's own time in s.

    That is the time with the recorded delays in their order.
    """
    goal, own_s = environment.goal, found.own.time.mean
    limits = Limits(SLACK * own_s)

    def trial(candidate: Candidate, seed: int) -> Trial:
        most = max_updates(candidate.config, MAX_ARRIVALS)
        return Trial(with_limits(candidate.config, goal, limits, most), seed, goal)

    config = environment.config
    job = Candidate(OWN, config.with_keys(stragglers={"draw": "replay"}))
    listed = [*changes(environment), job]
    trials = [
        ((number, seed), trial(candidate, seed))
        for number, candidate in enumerate(listed)
        for seed in (found.seeds if candidate is not job else found.seeds[:1])
    ]
    runs = dict(track(perform_all(trials, pool), len(trials), "runs of what-ifs"))
    *rows, last = (
        Row(candidate, [runs[number, seed] for seed in found.seeds if (number, seed) in runs], goal)
        for number, candidate in enumerate(listed)
    )
    return rows, last.runs[0].spent_s


def chance(done: int, of: int) -> str:
    """Format the fraction of runs that were in time, with its 95 % interval by Clopper and Pearson."""
    tail = (1 - CONFIDENCE) / 2
    low = betaincinv(done, of - done + 1, tail) if done else 0.0
    high = betaincinv(done + 1, of - done, 1 - tail) if done < of else 1.0
    return f"{percent(done, of)} % ({span(percent(low, 1), percent(high, 1))})"


def _time(seconds: float) -> str:
    return NEVER if np.isinf(seconds) else format_seconds(seconds)


def show(rows: Sequence[Row[Candidate]], own: Row[Candidate], deadline_s: float, source: str) -> None:
    """Print the times of candidates, the quickest first, and their chances to meet the deadline."""
    until = f"P(T ≤ {format_seconds(deadline_s)})"
    table = printing.make_table("what if", "median", "p10 – p90", until, "of yours", left=("what if",))
    lines = []
    for row in rows:
        times = np.array([run.seconds for run in row.runs])
        low, median, high = np.quantile(times, (0.1, 0.5, 0.9), method="inverted_cdf")
        factor = compare_times(row.runs, own.runs)
        cells = (
            _time(median),
            NEVER if np.isinf(low) else span(_time(low), _time(high)),
            chance(int(np.count_nonzero(times <= deadline_s)), len(times)),
            factor.text,
        )
        lines.append((float(median), row is not own, row.candidate.title, cells))
    for _, _, title, cells in sorted(lines):
        table.add_row(title, *cells)
    longest_s = SLACK * own.time.mean
    least = f" Runs may end after {format_seconds(longest_s)}: P is a lower bound." * (deadline_s > longest_s)
    text = (
        f"T: time to {rows[0].goal}, of {len(own.runs)} runs each, with other mini-batches and delays, those "
        f"of a recording in blocks. t = {format_seconds(deadline_s)}: {source}.{least} With 95 % intervals. "
        f"{NEVER}: not within the limit of time, {format_seconds(longest_s)} or more."
    )
    printing.show([("What if", [table]), ("", [printing.note(text)])])
