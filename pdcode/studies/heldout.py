"""`pdcode bench heldout`: `auto` beside tuned rivals on many jobs; half of them no constant has seen.

A job is data, a model, workers, a link, delays and a target (`heldout_jobs`). `auto` runs as it is; every
rival gets the best learning rate and knobs of the same number of runs. Nobody is told of the delays: they are
faults, which the choice of preset does not read, and which tuned rivals meet in their runs. All runs of a job
are measured alike, so that the update which reached the target is known (`session.pace`). The other costs
are as in `cells`. A job is a comparison in a file of its own, as by `pdcode compare`.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ..analysis import printing
from ..api.data import arrays_of, write_arrays
from ..config import AUTO as AUTO_RATE
from ..config import NetworkTable
from ..config.write import to_toml
from ..session.monitor import Print
from ..util.formats import DASH, counted, listing, percent, ratio
from ..util.output import write_file
from ..util.processes import Pool
from ..util.progress import track
from .cells import (
    AUTO,
    RIVALS,
    SLACK,
    TUNING_SEEDS,
    Cell,
    accuracies,
    describe_time,
    job_tables,
    multiple,
    task_s,
)
from .comparison import Comparison
from .comparison_file import ensure_savable
from .heldout_jobs import HALVES, JOBS, half_of, under_draw
from .learning_rates import converted
from .ranking import Row
from .tournament import ComparisonRequest, perform_once
from .tuning import Tuning

ROUNDS = 500  # payloads of each worker in a run, at most
LONGER = 10.0  # limit of a run of `auto`, as a multiple of the best entrant's time
AVERAGED = "optimizer.average=true"  # for all entrants
FEW = (
    2  # workers with whose mini-batches the rate is found that rivals' searches begin with, as many take long
)
SPELLS, APART = 20, 100.0  # slow spells of a worker, and the mean time between them, in gradients
Events = list[dict[str, Any]]

PLAIN = RIVALS["plain"]
KINDS = "as they are", "with our inputs"
"""Kinds of rivals, each with columns of its own; inputs are ours to hidden layers or to linear models."""
LINEAR = "least-squares", "logistic", "softmax"  # kinds of problem


def rivals(kind: str, job: str) -> Mapping[str, str]:
    """Return the rivals of a kind in a job: label -> candidate."""
    if kind == KINDS[0]:
        return PLAIN
    linear = JOBS[job].problem["kind"] in LINEAR
    how, key = ("white", "problem.standardise=white") if linear else ("centred", "code.centre=true")
    return {f"{label}, {how}": f"{name}/{key}" for label, name in PLAIN.items()}


def _of(workers: Sequence[int], kind: str, **keys: Any) -> Events:
    return [{"kind": kind, "worker": worker, "at_s": 0.0, **keys} for worker in workers]


def _spells(workers: int, unit_s: float) -> Events:
    """Return times from which the next task of a worker is ten times as long, the same for all entrants."""
    at_s = np.random.default_rng(7).uniform(0, SPELLS * APART * unit_s, (workers, SPELLS))
    one_task = {"kind": "slow", "for_s": 0.0}
    return [one_task | {"worker": i, "at_s": float(t)} for i in range(workers) for t in np.sort(at_s[i])]


DELAYS: Mapping[str, Callable[[int, float], Events]] = {
    "none": lambda workers, unit_s: [],
    "slow": lambda workers, unit_s: _of([workers - 1], "slow"),
    "half": lambda workers, unit_s: _of(range(workers // 2, workers), "slow", factor=3.0),
    "late": lambda workers, unit_s: _of(range(workers), "drop", share=0.1, timeout_s=10 * unit_s),
    "spells": _spells,
}
"""Delays, as ``[[faults.events]]`` of so many workers, for the time of a gradient in s; see `LEGEND`."""


@dataclass(frozen=True)
class HeldoutBench:
    """Options of the benchmark."""

    jobs: Sequence[str]  # names in `JOBS`
    seeds: int  # runs of an entrant
    budget: int  # runs by which each rival is tuned
    folder: Path
    draw: int = 0  # of the conditions, see `heldout_jobs.under_draw`

    @property
    def tune(self) -> Tuning:
        """How rivals are tuned: all by as many runs."""
        seeds = min(TUNING_SEEDS, self.budget)
        how = Tuning(self.budget, seeds, hold=False, untuned=(AUTO,), slack=SLACK, equal=True)
        return replace(how, longer={AUTO: LONGER})

    def file(self, job: str) -> Path:
        """Return the file of a job's results."""
        return self.folder / f"{job}.h5"

    def request(self, job: str) -> ComparisonRequest:
        """Write a job's configuration and data, and return the request for its comparison."""
        names = [name for kind in KINDS for name in rivals(kind, job).values()]
        file, schemes = str(write_job(job, self.folder, self.draw)), ",".join([AUTO, *names])
        settings = [AVERAGED, *[f"seed={10_000 * self.draw + 1}"] * bool(self.draw)]
        return ComparisonRequest(file, schemes, settings, self.seeds, "virtual", lenient=True)


def missing(job: str) -> list[str]:
    """Return the packages that a job lacks."""
    return [name for name in JOBS[job].needs if find_spec(name) is None]


def write_data(name: str, folder: Path) -> dict[str, Any]:
    """Write the rows of a job, unless pdcode has them, and return its table ``[problem]``."""
    job, problem = JOBS[name], dict(JOBS[name].problem)
    if isinstance(job.rows, str):
        return problem | {"data": job.rows}
    rows, path = job.rows(), (folder / f"{name}.npz").absolute()
    arrays: Mapping[str, Any] = dict(zip("xy", rows, strict=True))
    if problem["kind"] != "torch":
        arrays, keys = arrays_of(rows, NetworkTable())
        problem |= keys
    write_arrays(path, arrays)
    return problem | {"data": str(path)}


def write_job(name: str, folder: Path, draw: int = 0) -> Path:
    """Write the data and the configuration of a job, and return the file of the latter."""
    job, path, problem = under_draw(name, draw), folder / f"{name}.toml", write_data(name, folder)
    config, tables = job_tables(problem, job.target, job.workers, job.link, ROUNDS * job.workers, 1.0)
    few = config.with_keys(workers={"count": FEW}, optimizer={"rate": AUTO_RATE})
    tables["optimizer"] = {"rate": converted(config, few).optimizer.rate}
    tables["faults"] = {"events": DELAYS[job.delays](job.workers, task_s(config))}
    write_file(path, to_toml(tables), "the configuration")
    return path


def perform(bench: HeldoutBench, command: str, pool: Pool, print_line: Print) -> None:
    """Perform the comparisons whose files do not exist."""
    for job in bench.jobs:
        ensure_savable(bench.file(job))
    for job in track(bench.jobs, len(bench.jobs), "jobs"):
        request, groups = bench.request(job), [[AUTO], *(rivals(kind, job).values() for kind in KINDS)]
        perform_once(bench.file(job), request, command, pool, print_line, tune=bench.tune, groups=groups)


def show(bench: HeldoutBench, print_line: Print = print) -> None:
    """Print the results of each job, the settings of the best rivals, and what holds for each half."""
    drawn = {name: under_draw(name, bench.draw) for name in bench.jobs}
    cells = [
        Cell(name, job.link, job.delays, Comparison.load(bench.file(name)), str(bench.file(name)))
        for name, job in drawn.items()
    ]
    columns = [each for kind in KINDS for each in (f"best rival {kind}", "its time", "auto/it", "accuracy")]
    left = "job", "delays", "target", *columns[::4], "settings"
    first = "job", "workers", "link", "delays", "target", "auto", "accuracy"
    times = printing.make_table(*first, *columns, left=left, fold=False)
    tuned = printing.make_table("job", "best rival", "settings", left=("job", "best rival", "settings"))
    for cell in cells:
        job, ours, shown = drawn[cell.problem], cell.ours(), list[str]()
        for kind in KINDS:
            members = {name: label for label, name in rivals(kind, cell.problem).items()}
            rival = cell.best(members)
            label = members[rival.candidate] if rival else DASH
            time = describe_time(rival) if rival else DASH
            shown += [label, time, multiple(cell.lead(members)), _accuracy(rival)]
            if rival:
                tuned.add_row(cell.problem, label, cell.settings(rival.candidate))
        about = cell.problem, str(job.workers), job.link, job.delays, "{} {:g}".format(*job.target)
        times.add_row(*about, describe_time(ours), _accuracy(ours), *shown)
    printing.show([("", [times]), ("settings", [tuned]), ("", [printing.note(LEGEND)])])
    for half, kind in itertools.product(HALVES, KINDS):
        if mine := [cell for cell in cells if half_of(cell.problem) == half]:
            print_line(summary(half, kind, mine))


def _accuracy(row: Row[str] | None) -> str:
    """Describe the mean accuracy on held-out rows, or R², at the target."""
    mean = math.nan if row is None else float(np.mean([accuracies(run)[0] for run in row.runs]))
    return f"{percent(mean, 1)} %" if math.isfinite(mean) else DASH


def summary(half: str, kind: str, cells: Sequence[Cell]) -> str:
    """Describe the jobs of a half: how many `auto` finishes, and its times over the best rivals' times."""
    done = [cell for cell in cells if not cell.ours().missed]
    leads = {cell.problem: cell.lead(rivals(kind, cell.problem).values()) for cell in cells}
    values = {
        name: math.inf if lead.bound == ">" else lead.ratio.mean
        for name, lead in leads.items()
        if not math.isnan(lead.ratio.mean)
    }
    text = (
        f"{half} half, {counted(len(cells), 'job')}: auto reaches the target in {len(done)} of {len(cells)}"
    )
    if values:
        worst = max(values, key=values.__getitem__)
        shown = [ratio(each) if math.isfinite(each) else "never" for each in (_median(values), values[worst])]
        text += f"; over the best rival's time, rivals {kind}: median {shown[0]}, worst {shown[1]} ({worst})"
    neither = [name for name in leads if name not in values]
    return text + (f"; nobody reaches it in all runs: {listing(neither)}" if neither else "")


def _median(values: Mapping[str, float]) -> float:
    return float(np.quantile([*values.values()], 0.5, method="higher"))  # of two, the worse: one may be ∞


LEGEND = (
    "Time to the target, and the time of auto over the best rival's, chosen afterwards in each job, with "
    "the 95 % interval over paired seeds; >: auto missed the target, at least; <: the rival did, at most. "
    "Runs of rivals end at 1.5 times the best entrant's time, runs of auto at 10 times. Accuracy: on "
    "held-out rows at the target, or R². Delays: slow, the last worker ten times slower; half, half of them "
    "three times slower; late, a tenth of the replies late by ten gradients; spells, tasks ten times as long "
    "now and then. auto is told of none."
)
