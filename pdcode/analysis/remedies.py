"""What to try after a diagnosis: changes that are simulated first, and proposed if they save time."""

import math
import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from ..stragglers import bases
from ..trace import descent
from ..util.errors import InputError
from ..util.formats import duration, number, workers_named
from . import timing
from .slowness import SlowPart
from .what_if import EACH_FLOPS, MOST_FLOPS, SEEDS, Change, Factor, Prediction

GAIN = 0.95  # a change is proposed if it takes at most this fraction of the time
SHOWN = 3  # remedies
MOST_LOADERS = 8  # processes that load in the background
WASTE = "update.mode=first", "update.count=auto", "update.late=waste"
FEWER = "wait for fewer workers"
POLICIES = (
    (FEWER, ("update.mode=first", "update.count=auto")),
    (FEWER, WASTE),
    (FEWER, ("scheme.name=uncoded", "reduce.kind=star", *WASTE)),
    ("wait for nobody", ("update.mode=async",)),
    ("codewords of partial derivatives", ("scheme.name=lwpd", "scheme.preset=default")),
)
SHARED = ("give all rows to each worker", ("problem.shards=replicated",))
BYTES = (
    ("send fewer bits", ("wire.dtype=int8",)),
    ("send fewer bits", ("wire.dtype=float16",)),
    ("codewords of partial derivatives", ("scheme.name=lwpd", "scheme.preset=default")),
    ("send a quarter of the blocks", ("code.share=0.25",)),
)
SUMS = (
    ("sums by the workers", ("reduce.kind=allreduce",)),
    ("sums by the workers", ("scheme.name=allreduce",)),
)
TRIED = {
    "rank 0": (*SUMS, *BYTES, *POLICIES[:3]),
    "the link": (*BYTES, *SUMS, *POLICIES[:3]),
    "the reduction": BYTES,
    "the policy": POLICIES,
}
"""Settings that are tried against each cause, with words for them; slow workers: as the policy."""
OF_SCRIPTS = {
    "the reduction": "fewer bytes a step, such as by the hook of pdcode.torch.ddp, or more work a step",
    "the policy": "several batches a step (no_sync), or steps that do not wait for all, such as local ones",
}
"""What is said of a program whose descent is not known, beside what was tried."""


@dataclass(frozen=True)
class Remedy:
    """A change that was tried, in words, and its predicted time."""

    text: str
    factor: Factor


class Remedies:
    """Remedies of a run, tried one after another.

    Parameters
    ----------
    run : Prediction
    """

    def __init__(self, run: Prediction) -> None:
        self.run = run
        given, preset = descent.given_keys(run.trace.config_text), run.trace.table("scheme").get("preset")
        # Without this setting a key of a table that presets fill would undo preset "auto".
        self.preset = (
            f"scheme.preset={preset}" if preset and not descent.get(given, "scheme", "preset") else ""
        )
        path = shlex.quote(str(run.trace.path))
        what = f"--trace {path} --like CONFIG" if run.trace.is_script else f"JOB.toml --trace {path}"
        self.more = f"pdcode plan {what} searches for more"

    def best(self, cause: str, slow: Sequence[SlowPart], machines: Sequence[Remedy]) -> str:
        """Return the best remedies against a cause, in words, and what else could be tried."""
        found = [*machines, *self._policies(cause, slow)]
        if self.run.trace.is_script and slow:
            found += moved_work(self.run, slow[0])
        best = dict[str, Remedy]()  # of each kind
        for each in sorted(found, key=lambda each: each.factor.mean):
            if each.factor.mean <= GAIN:
                best.setdefault(each.text.partition(", ")[0], each)
        shown = [each.text for each in [*best.values()][:SHOWN]]
        if self.run.trace.is_script:
            shown += filter(None, [OF_SCRIPTS.get(cause)])
        elif self.run.flops() > MOST_FLOPS:
            kinds = dict(reversed(TRIED.get(cause, POLICIES)))
            listed = ", ".join(f"{what} (--set {' --set '.join(kinds[what])})" for what in reversed(kinds))
            shown.append(f"not tried, as no descent to a loss can be simulated in seconds: {listed}")
        return f"{'; or '.join(shown)}; {self.more}" if shown else ""

    def machine(self, slow: Sequence[SlowPart], factor: Factor) -> Remedy:
        """Return the remedy that workers get the machine of a usual one."""
        workers = [each.worker for each in slow]
        whose = f"worker {workers[0]}'s machine"
        if workers[1:]:
            whose = f"the machines of {workers_named(sorted(workers))}"
        return Remedy(f"replace {whose}: predicted {self.run.time(factor)}", factor)

    def without(self, slow: Sequence[SlowPart]) -> Iterator[Remedy]:
        """Yield the remedy that the job goes on without its slow workers."""
        workers = tuple(sorted(each.worker for each in slow))
        if 2 * len(workers) >= self.run.trace.worker_count or self.run.trace.is_script:
            return
        run, change = self.run, Change(dropped=workers)
        with suppress(InputError):  # not with the other keys of the run
            factor = run.relative(change)
            if run.flops() <= EACH_FLOPS and math.isfinite(factor.mean):  # fewer rows an update, too
                factor = run.relative(change, descends=True)
            text = f"go on without {workers_named([*workers])}, pdcode run JOB.toml -n "
            yield Remedy(
                f"{text}{run.trace.worker_count - len(workers)}: predicted {run.time(factor)}", factor
            )

    def _policies(self, cause: str, slow: Sequence[SlowPart]) -> Iterator[Remedy]:
        """Yield settings that reach the loss sooner."""
        run = self.run
        if (flops := run.flops()) > MOST_FLOPS:
            return
        tried = TRIED.get(cause, POLICIES)
        if slow and run.descends:
            tried = (SHARED, *tried)
        for what, settings in tried[: max(1, int(2 * MOST_FLOPS / flops))]:
            with suppress(InputError):  # not with the other keys of the run
                if not math.isfinite(run.descended(Change(settings), GAIN)):
                    continue
                seeds = SEEDS if flops <= EACH_FLOPS else 1
                factor = run.relative(Change(settings), seeds, descends=True)
                own = any(each.startswith("scheme.") for each in settings)
                whole = [self.preset, *settings] if self.preset and not own else settings
                shown = " ".join(f"--set {each}" for each in whole)
                yield Remedy(f"{what}, pdcode run JOB.toml {shown}: predicted {run.time(factor)}", factor)


def moved_work(run: Prediction, slow: SlowPart) -> Iterator[Remedy]:
    """Yield how to move work away from a script's slow worker."""
    trace, worker = run.trace, slow.worker
    rows, n = trace.arrivals, trace.worker_count
    work_ns = np.full((int(rows["task"].max()) + 1, n), np.nan)
    work_ns[rows["task"], rows["worker"]] = rows["t_send_ns"] - rows["t_start_ns"]
    loads_ns, phases = np.zeros_like(work_ns), timing.phases_of(trace)
    if slow.cause == "loading" and phases is not None:
        loads_ns[rows["task"], rows["worker"]] = phases[timing.PHASES.index("loading")]
    work_ns, loads_ns = (each[slow.first : slow.last + 1] for each in (work_ns, loads_ns))
    loads_ns = loads_ns[np.isfinite(work_ns).all(axis=1)]
    work_ns, rest_ns = work_ns[np.isfinite(work_ns).all(axis=1)], bases.shared_link_ns(trace).mean()
    if not len(work_ns) or trace.is_unordered:  # no step of all workers
        return
    shares = 1 / np.maximum(work_ns.mean(axis=0), 1)
    shares *= n / shares.sum()
    others = np.delete(work_ns, worker, axis=1)

    def mean_ns(changed: np.ndarray) -> float:
        return float(changed.max(axis=1).mean() + rest_ns)

    now_ns, moved_ns, fewer_ns = mean_ns(work_ns), mean_ns(work_ns * shares), mean_ns(others) * n / (n - 1)
    if slow.cause == "loading":
        rest_of_step_ns = (work_ns - loads_ns).max(axis=1).mean()
        loaders = min(MOST_LOADERS, math.ceil(loads_ns.max(axis=1).mean() / max(1.0, rest_of_step_ns)))
        behind_ns = mean_ns(np.maximum(work_ns - loads_ns, loads_ns / loaders))
        text = (
            f"load in the background, DataLoader(..., num_workers={loaders}): predicted "
            f"{duration(behind_ns)} a step, not {duration(now_ns)}, if there are processors for it"
        )
        yield Remedy(text, Factor(*3 * (behind_ns / now_ns,)))
    text = (
        f"give worker {worker} {number(shares[worker], 2)} of its work and the others "
        f"{number((n - shares[worker]) / (n - 1), 2)}: predicted {duration(moved_ns)} a step, not "
        f"{duration(now_ns)}, if its time grows with its work"
    )
    if slow.cause not in ("loading", "between steps"):  # which do not depend on the rows
        yield Remedy(text, Factor(*3 * (moved_ns / now_ns,)))
    text = f"go on without it: predicted {duration(fewer_ns)} for the work of a step"
    yield Remedy(text, Factor(*3 * (fewer_ns / now_ns,)))
