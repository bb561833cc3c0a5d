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
from ..util.formats import duration, workers_named
from . import description, timing
from .account import PAUSED, PAUSED_BY
from .slowness import SlowPart
from .what_if import EACH_FLOPS, MOST_FLOPS, SEEDS, Change, Factor, Prediction, link_of_script

GAIN = 0.95  # a change is proposed if it takes at most this fraction of the time
SHOWN = 3  # remedies
SELDOM = 10  # times as long from one pause of rank 0's to the next
RARER = {"evaluation": "measure the loss", "checkpoint": "write checkpoints"}
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
    **dict.fromkeys(PAUSED, ()),
}
"""Settings that are tried against each cause, with words for them; slow workers: as the policy."""
OF_SCRIPTS = {
    "the reduction": "fewer bytes a step, such as by the hook of pdcode.torch.ddp",
    "loading": "load in the background, DataLoader(..., num_workers=…, persistent_workers=True)",
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
            found += moved_work(self.run, slow)
        best = dict[str, Remedy]()  # of each kind
        for each in sorted(found, key=lambda each: each.factor.mean):
            if each.factor.mean <= GAIN:
                best.setdefault(each.text.partition(", ")[0], each)
        shown = [each.text for each in [*best.values()][:SHOWN]]
        if self.run.trace.is_script:
            shown += filter(None, [OF_SCRIPTS.get(cause)])
        elif self.run.flops() > MOST_FLOPS and (tried := TRIED.get(cause, POLICIES)):
            kinds = dict(reversed(tried))
            listed = ", ".join(f"{what} (--set {' --set '.join(kinds[what])})" for what in reversed(kinds))
            why = "its descent takes too long to simulate" if self.run.goal else "it has no loss to reach"
            shown.append(f"not tried, as {why}: {listed}")
        return f"{'; or '.join(shown)}; {self.more}" if shown else ""

    def machine(self, slow: Sequence[SlowPart], whose: str, factor: Factor) -> Remedy:
        """Return the remedy that workers get the machine of a usual one."""
        if self.run.trace.is_script and len(slow) == 1 and slow[0].period:  # the script's own, such as saving
            late = f"what worker {slow[0].worker} does in one step of {slow[0].period}"
            return Remedy(f"take {late} off it, as to a thread: predicted {self.run.time(factor)}", factor)
        return Remedy(f"replace {whose}: predicted {self.run.time(factor)}", factor)

    def rarer(self, free: Factor) -> Remedy:
        """Return the remedy that a script reduces half as often, from the time without reductions."""
        factor = Factor(*((1 + each) / 2 for each in free))
        text = "twice the work a step, such as two batches (no_sync): predicted"
        return Remedy(f"{text} {self.run.time(factor)} for as much work", factor)

    def more_seldom(self, what: str, free: Factor) -> Remedy:
        """Return the remedy that rank 0 pauses for something more seldom, from the time without it."""
        trace, updates = self.run.trace, None
        if what == "evaluation":
            updates = trace.table("trace").get("progress_updates")
        pauses = trace.pauses["what"] == PAUSED.index(what)
        every_s = SELDOM * 1e-9 * description.stop_ns(trace) / max(1, int(pauses.sum()))
        settings = [f"{PAUSED_BY[what]}={every_s:.2g}"]
        settings += [f"trace.progress_updates={SELDOM * updates}"] if updates else []
        factor = Factor(*(1 - (1 - 1 / SELDOM) * (1 - each) for each in free))
        shown = " ".join(f"--set {each}" for each in settings)
        text = f"{RARER[what]} {SELDOM} times more seldom, pdcode run JOB.toml {shown}: predicted"
        return Remedy(f"{text} {self.run.time(factor)}", factor)

    def halved(self) -> Iterator[Remedy]:
        """Yield the remedy that a script's reductions have half the bytes, if their bytes are known."""
        if bandwidth := link_of_script(self.run.trace):
            factor = self.run.relative(Change((f"link.bandwidth={2 * bandwidth:g}",)))
            text = "half the bytes, model.register_comm_hook(None, fp16_compress_hook): predicted"
            yield Remedy(f"{text} {self.run.time(factor)}, if the reduction's time is all transfer", factor)

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


def moved_work(run: Prediction, slow: Sequence[SlowPart]) -> Iterator[Remedy]:
    """Yield how to move work away from a script's slow workers, in the steps in which the first is slow."""
    trace, first = run.trace, slow[0]
    rows, n = trace.arrivals, trace.worker_count
    work_ns = np.full((int(rows["task"].max()) + 1, n), np.nan)
    work_ns[rows["task"], rows["worker"]] = rows["t_send_ns"] - rows["t_start_ns"]
    loads_ns, phases = np.zeros_like(work_ns), timing.phases_of(trace)
    if first.cause == "loading" and phases is not None:
        loads_ns[rows["task"], rows["worker"]] = phases[timing.PHASES.index("loading")]
    work_ns, loads_ns = (each[first.first : first.last + 1] for each in (work_ns, loads_ns))
    whole = np.isfinite(work_ns).all(axis=1)
    work_ns, loads_ns, rest_ns = work_ns[whole], loads_ns[whole], bases.shared_link_ns(trace).mean()
    named = [each.worker for each in slow[:SHOWN]]
    others = [worker for worker in range(n) if worker not in named]
    if not len(work_ns) or not others or trace.is_unordered:  # no step of all workers
        return
    usual_ns = work_ns.mean(axis=0)
    usual_ns[others] = usual_ns[others].mean()  # they get equal shares
    shares = 1 / np.maximum(usual_ns, 1)
    shares *= n / shares.sum()

    def step_ns(changed_ns: np.ndarray, longer: float = 1.0) -> float:
        return float(changed_ns.max(axis=1).mean()) * longer + rest_ns

    now_ns, moved_ns = step_ns(work_ns), step_ns(work_ns * shares)
    fewer_ns = step_ns(work_ns[:, others], n / len(others))

    def factor(changed_ns: float) -> Factor:
        """Return the time of the run, in which only these steps change, over the recorded one."""
        return Factor(*3 * (1 - (now_ns - changed_ns) * len(work_ns) / (1e9 * run.recorded_s),))

    if first.cause == "loading":
        rest_of_step_ns = (work_ns - loads_ns).max(axis=1).mean()
        loaders = min(MOST_LOADERS, math.ceil(loads_ns.max(axis=1).mean() / max(1.0, rest_of_step_ns)))
        behind_ns = step_ns(np.maximum(work_ns - loads_ns, loads_ns / loaders))
        text = (
            f"load in the background, DataLoader(..., num_workers={loaders}, "
            f"persistent_workers=True): predicted {duration(behind_ns)} a step, not {duration(now_ns)}, "
            "if there are processors for it"
        )
        yield Remedy(text, factor(behind_ns))
    elif first.cause != "between steps" and first.pattern != "sometimes":  # which depend little on the rows
        parts = [f"worker {named[0]} {shares[named[0]]:.2f} of its work"]
        parts += [f"worker {worker} {shares[worker]:.2f}" for worker in named[1:]]
        text = (
            f"give {', '.join(parts)} and the others {shares[others[0]]:.2f}: predicted {duration(moved_ns)} "
            f"a step, not {duration(now_ns)}, if its time grows with its work"
        )
        yield Remedy(text, factor(moved_ns))
    whom = workers_named(sorted(named)) if named[1:] else "it"
    yield Remedy(
        f"go on without {whom}: predicted {duration(fewer_ns)} for the work of a step", factor(fewer_ns)
    )
