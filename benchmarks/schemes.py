"""`python -m benchmarks schemes`: ours and every kind of rival, over problems, links and delays.

Sixteen workers compute at 2 Gflop/s. Delays are in units of the compute time of a mini-batch's gradient; with
recorded delays the median task takes that unit, the fastest has no delay, and their number of workers is
used. A cell is a problem, a link and delays. In each cell the learning rate and the knobs of every rival are
chosen by the same number of runs, unless many rivals of its kind are better after some of these; those that
may be the best then run under new seeds. Ours run as they are. A cell is a comparison in a file of its own,
as by `pdcode compare`; existing files are not computed again, and the runs of an unfinished cell are in a
journal beside it.
"""

import argparse
import io
import itertools
import math
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pdcode.analysis import printing
from pdcode.cli import arguments
from pdcode.config.write import to_toml
from pdcode.session.monitor import Print
from pdcode.stragglers import records
from pdcode.studies.cells import (
    AUTO,
    FLOPS_PER_S,
    LINKS,
    PRESETS,
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
from pdcode.studies.comparison import Comparison
from pdcode.studies.comparison_file import ensure_savable
from pdcode.studies.tournament import ComparisonRequest, perform_once, prepare
from pdcode.studies.tuning import Tuning
from pdcode.util.errors import InputError, did_you_mean
from pdcode.util.formats import DASH, counted, duration, listing, percent, ratio
from pdcode.util.output import print_line, write_file
from pdcode.util.processes import Pool
from pdcode.util.progress import track

PROBLEMS: Mapping[str, tuple[dict[str, Any], float, float]] = {
    "mnist5k": ({"data": "mnist5k", "hidden": [256]}, 0.1, 0.1),
    "digits": ({"data": "digits", "hidden": [128, 64]}, 0.05, 0.1),
    "deep": ({"data": "mnist5k", "hidden": [128, 128, 128]}, 0.1, 0.02),
    "softmax": ({"kind": "softmax", "data": "mnist5k"}, 0.2, 0.1),
    "batch128": ({"data": "mnist5k", "hidden": [256], "batch": 128}, 0.1, 0.1),
}
"""Keys of ``[problem]``, the training loss to reach, and a learning rate with which plain steps converge."""

LOWER = {name: 0.17 if name == "softmax" else 0.02 for name in PROBLEMS}
"""Loss to which runs go on; a linear model cannot reach the loss of the others."""

DELAYS: Mapping[str, dict[str, Any]] = {
    "exponential": {"kind": "shifted-exponential", "mean_s": 1.0},
    "none": {"kind": "none"},
    "markov": {"kind": "markov", "extra_s": 9.0, "enter": 0.02, "leave": 0.2},
    "persistent": {"kind": "slow-set", "slow": [15], "slowdown": 10.0},
    "dead": {"kind": "slow-set", "dead": [15]},
}
"""Tables ``[stragglers]``; times are in units of a gradient's compute time."""

WORKERS = 16
MAX_PAYLOADS = 8000  # payloads of a run
SPELLS, TUNING_SPELLS = 4, 2  # factors on seeds under `markov`, whose times differ most between them
MOST, MEDIAN = 1.05, 0.8  # the goal: our time over the best rival's, in every cell and in the median
LABELS = {name: label for members in RIVALS.values() for label, name in members.items()}


@dataclass(frozen=True)
class SchemesBench:
    """Options of the benchmark."""

    problems: Sequence[str]  # names in `PROBLEMS`
    links: Sequence[str]  # names in `LINKS`
    delays: Mapping[str, dict[str, Any]]  # tables ``[stragglers]``, as `DELAYS`
    seeds: int  # runs of an entrant in a cell
    tune: Tuning  # how entrants are tuned in each cell
    schemes: Sequence[str]
    folder: Path
    payloads: int = MAX_PAYLOADS  # of a run, at most
    tune_once: bool = False  # whether settings found under the first delays are those under the others, too

    def file(self, problem: str, link: str, delay: str) -> Path:
        """Return the file of a cell."""
        return self.folder / f"{problem}-{link}-{delay}.h5"

    def cells(self) -> Iterator[tuple[str, str, str]]:
        """Yield problem, link and delays of each cell."""
        yield from itertools.product(self.problems, self.links, self.delays)

    def spells(self, delay: str) -> bool:
        """Return whether workers are slow for some time, so that more seeds are needed."""
        return bool(self.delays[delay]["kind"] == "markov")

    def runs(self, delay: str) -> int:
        """Return the number of runs of an entrant in a cell."""
        return self.seeds * (SPELLS if self.spells(delay) else 1)

    def tuning(self, delay: str) -> Tuning:
        """Return how entrants are tuned in a cell."""
        return replace(self.tune, seeds=self.tune.seeds * (TUNING_SPELLS if self.spells(delay) else 1))

    def request(self, problem: str, link: str, delay: str) -> ComparisonRequest:
        """Write the configuration of a cell, and return the request for its comparison."""
        delays = self.delays[delay]
        workers = worker_count(delays)
        job = write_job(self.folder, problem, link, delay, delays, workers, self.payloads)
        lower = LOWER[problem] if math.isfinite(self.tune.slack) else None
        seeds, schemes = self.runs(delay), ",".join(self.schemes)
        return ComparisonRequest(str(job), schemes, [], seeds, "virtual", beyond=lower)

    @property
    def ours(self) -> list[str]:
        """Our entrants."""
        return [name for name in self.schemes if name in (AUTO, *PRESETS)]


def tuning(budget: int) -> Tuning:
    """Return how rivals are tuned by a number of runs each; ours run as they are."""
    return Tuning(budget, TUNING_SEEDS, hold=False, untuned=(AUTO, *PRESETS), slack=SLACK)


def recorded_delays(path: Path) -> dict[str, dict[str, Any]]:
    """Return tables ``[stragglers]`` for a CSV file, or a folder of them: task times, workers × rounds."""
    found = {
        f"recorded-{each.stem}": {"kind": "trace", "path": str(each), "times": "task", "draw": "replay"}
        for each in (sorted(path.glob("*.csv")) if path.is_dir() else [path])
    }
    if not found:
        raise InputError(f"--delays {path}: no CSV files in it")
    return found


def candidates() -> list[str]:
    """Return the names of all entrants, ours first."""
    return [AUTO, *PRESETS, *LABELS]


def perform(bench: SchemesBench, command: str, pool: Pool, print_line: Print) -> None:
    """Perform the comparisons whose files do not exist, after an estimate of their time."""
    cells = list(bench.cells())
    for cell in cells:
        ensure_savable(bench.file(*cell))
    if missing := [cell for cell in cells if not bench.file(*cell).exists()]:
        print_line(_estimate(bench, missing))
    groups = [[AUTO], bench.ours, *(members.values() for members in RIVALS.values())]
    for problem, link, delay in track(cells, len(cells), "comparisons"):
        path, begun = bench.file(problem, link, delay), time.process_time()
        first = bench.file(problem, link, next(iter(bench.delays)))
        taken = first if bench.tune_once and path != first else None
        perform_once(
            path, bench.request(problem, link, delay), command, pool, print_line,
            tune=None if taken else bench.tuning(delay), groups=groups, rates=taken,
        )  # fmt: skip
        if pool.processes == 1:
            print_line(f"{path}: {duration(1e9 * (time.process_time() - begun))} of CPU time")


def _estimate(bench: SchemesBench, cells: Sequence[tuple[str, str, str]]) -> str:
    """Estimate the CPU time of cells, by a run of the first entrant in the first cell of each problem."""
    run_s: dict[str, float] = {}
    runs, total_s = 0, 0.0
    for problem, link, delay in cells:
        if problem not in run_s:
            begun = prepare(bench.request(problem, link, delay), bench.folder)
            trial = replace(begun.trial(begun.candidates[0], begun.seeds[0]), trace="")
            started = time.process_time()
            trial.perform()
            run_s[problem] = time.process_time() - started
        tuned = bench.tune.runs * len(bench.schemes)
        runs += tuned
        # Half of these runs are made; a sixth of the entrants remain, and runs to the lower loss are longer.
        total_s += run_s[problem] * (tuned / 2 + len(bench.schemes) / 2 * bench.runs(delay))
    many = counted(len(cells), "cell")
    return f"{many}, {runs} runs of tuning at most, others then: about {duration(1e9 * total_s)} of CPU time"


def worker_count(delays: Mapping[str, Any]) -> int:
    """Return the number of workers of a recorded matrix, or `WORKERS`."""
    return len(records.read_csv(Path(delays["path"]))) if "path" in delays else WORKERS


def write_job(
    folder: Path,
    problem: str,
    link: str,
    name: str,
    delays: Mapping[str, Any],
    workers: int,
    payloads: int = MAX_PAYLOADS,
) -> Path:
    """Write the configuration of a cell, with delays in units of a gradient's time; return its file."""
    table, target, rate = PROBLEMS[problem]
    config, tables = job_tables(table, ("loss", target), workers, link, payloads, rate)
    unit_s = task_s(config)
    scaled = dict(delays) | {key: unit_s * value for key, value in delays.items() if key.endswith("_s")}
    path = folder / f"{problem}-{link}-{name}.toml"
    if "path" in delays:
        times, text = records.read_csv(Path(delays["path"])), io.StringIO()
        typical = float(np.median(times))
        quick = max(0.01, float(times.min()) / typical)
        tables["machine"] = {"flops_per_s": FLOPS_PER_S / quick, "task_s": config.machine.task_s * quick}
        np.savetxt(text, unit_s / typical * times, delimiter=",")
        recorded = path.with_suffix(".csv").absolute()
        scaled["path"] = str(recorded)
        write_file(recorded, text.getvalue(), "the delays")
    write_file(path, to_toml(tables | {"stragglers": scaled}), "the configuration")
    return path


def show(bench: SchemesBench) -> None:
    """Print our time in each cell over the best rival's time for each kind, and whether the goal is met."""
    sections: list[printing.Section] = []
    cells: list[Cell] = []
    for problem in bench.problems:
        mine = [
            Cell(problem, link, delay, Comparison.load(path), str(path))
            for link, delay in itertools.product(bench.links, bench.delays)
            for path in [bench.file(problem, link, delay)]
        ]
        cells += mine
        sections += _tables(problem, mine)
    sections.append(("", [printing.note(LEGEND)]))
    printing.show(sections)
    print_goal(cells)


def _tables(problem: str, cells: Sequence[Cell]) -> list[printing.Section]:
    """Return the tables of a problem."""
    left = "delays", "ours", *RIVALS
    columns = [column for kind in RIVALS for column in (kind, f"ours/{kind}")]
    times = printing.make_table("link", "delays", "ours", "time", *columns, left=left, fold=False)
    beside = printing.make_table(
        "link", "delays", "ours/best to lower", "accuracy at target", "best rival's", "best accuracy",
        "best rival's", left=("delays",), fold=False,
    )  # fmt: skip
    own = [name for name in (AUTO, *PRESETS) if any(name in cell.own for cell in cells)]
    presets = printing.make_table("link", "delays", *own, left=("delays",), fold=False)
    tuned = printing.make_table(
        "link", "delays", "best rival", "settings", left=("delays", "best rival", "settings")
    )
    for cell in cells:
        ours, shown = cell.ours(), list[str]()
        for members in RIVALS.values():
            rival = cell.best(members.values())
            label = LABELS[rival.candidate] if rival else DASH
            shown += [label, multiple(cell.lead(members.values()))]
            if rival:
                tuned.add_row(cell.link, cell.delay, label, cell.settings(rival.candidate))
        times.add_row(cell.link, cell.delay, ours.candidate, describe_time(ours), *shown)
        rows = (cell.best([name]) for name in own)
        presets.add_row(cell.link, cell.delay, *(describe_time(row) if row else DASH for row in rows))
        rival = cell.best(LABELS)
        found = [[accuracies(run) for run in row.runs] if row else [] for row in (ours, rival)]
        means = [np.mean(each, axis=0) if each else (math.nan, math.nan) for each in found]
        figures = [
            f"{percent(value, 1)} %" if math.isfinite(value) else DASH
            for pair in zip(*means, strict=True)
            for value in pair
        ]
        beside.add_row(cell.link, cell.delay, multiple(cell.lead(LABELS, LOWER[problem])), *figures)
    target = PROBLEMS[problem][1]
    return [
        (f"{problem}, to training loss {target:g}", [times]),
        (f"{problem}, our entrants", [presets]),
        (f"{problem}, to loss {LOWER[problem]:g}, and test accuracy", [beside]),
        (f"{problem}, settings", [tuned]),
    ]


def print_goal(cells: Sequence[Cell], print_line: Print = print) -> None:
    """Print whether our time is near enough to the best rival's, and the cells that miss it."""
    groups: dict[str, Collection[str]] = {kind: each.values() for kind, each in RIVALS.items()}
    for kind, names in {**groups, "all": LABELS}.items():
        leads = {str(cell): cell.lead(names) for cell in cells}
        values = {
            name: math.inf if lead.bound == ">" else lead.ratio.mean
            for name, lead in leads.items()
            if not math.isnan(lead.ratio.mean)
        }
        if not values:
            continue
        missed = [
            f"{name} {ratio(value) if math.isfinite(value) else 'never'}"
            for name, value in values.items()
            if not value <= MOST
        ]
        median = float(np.median([*values.values()]))
        met = not missed and median <= MEDIAN
        over = f"; over {MOST:g} in {len(missed)} of {len(values)} cells: {listing(missed)}" if missed else ""
        what = f"goal {'met' if met else 'missed'}" if kind == "all" else f"against {kind} rivals"
        print_line(f"{what}: median {ratio(median)}, least {ratio(min(values.values()))}{over}")


LEGEND = (
    "Our time over the time of the best rival of each kind, chosen afterwards in each cell, with the 95 % "
    "interval over paired seeds; >: ours missed the target, at least; <: the rival did, at most. Plain "
    "rivals are as in the literature; armed ones have our whitening and look-ahead, too. Delays are in "
    "units of the time of a gradient; of recorded tasks the median one takes as long, and the fastest only "
    "computes. θ goes by a tree to workers that start together, as by MPI_Ibcast, which pdcode's own runs "
    "do not use: in favour of policies that wait. Sparse and coded payloads are exchanged among the workers, "
    "all rivals', too."
)


def parser() -> arguments.Parser:
    """Return the parser of the options."""
    bench = arguments.Parser(
        prog="python -m benchmarks schemes",
        description="Ours, as they are, beside tuned rivals of every kind, in virtual time, by problem, link "
        "and delays. Each cell is a comparison, as of `pdcode compare`, in a file of its own; existing files "
        "are not computed again, an interrupted cell resumes. The last line says whether the goal is met. "
        "Exit codes: 0 done, 1 failure, 2 bad input.",
        epilog="example: python -m benchmarks schemes --problems digits --links 1G --delays none --seeds 3",
    )
    add_cells(bench, "mnist5k,digits,deep,softmax,batch128", "100G,1G,100M,10M", None)
    what = "only these of the entrants, one of ours among them"
    bench.add_argument("--schemes", metavar="A,B,…", help=what)
    what = "a rival's learning rate and knobs, such as momentum and rank, are chosen in each cell, at most"
    add_runs(bench, "budget", 24, what, "results/schemes")
    bench.set_defaults(function=run, alone="benchmarks schemes")
    return bench


def add_cells(bench: Any, problems: str, links: str, delays: str | None) -> None:
    """Add --problems, --links and --delays."""
    option = bench.add_argument
    option("--problems", metavar="A,B,…", default=problems, help=f"default: {problems}")
    option("--links", metavar="A,B,…", default=links, help=f"bit/s; default: {links}")
    what = (
        f"exponential, none, markov, persistent, dead (default: {delays or 'all'}), and recorded ones: "
        "CSV files and folders of them, workers × rounds, task times in any unit"
    )
    option("--delays", metavar="A,B,…", default=delays, help=what)


def add_runs(bench: Any, name: str, runs: int, chosen: str, folder: str) -> None:
    """Add --seeds, an option for the number of runs of tuning, --processes and --output."""
    option = bench.add_argument
    what = "runs per candidate and cell, four times as many under markov (default: 5)"
    option("--seeds", type=int, default=5, metavar="N", help=what)
    what = f"runs by which {chosen} (default: {runs})"
    option(f"--{name}", type=int, default=runs, metavar="N", help=what)
    arguments.add_processes(bench)
    option("-o", "--output", metavar="FOLDER", default=folder, help=f"default: {folder}")


def run(options: argparse.Namespace) -> int:
    """Run the comparisons, and print their tables."""
    arguments.ensure_in_range(options, budget=(3, 99, "3 to 99"))
    every = candidates()
    alias = {"lwpd": AUTO}
    named = arguments.chosen(options, "schemes", [*every, *alias])
    bench = SchemesBench(
        *chosen_cells(options),
        options.seeds,
        tuning(options.budget),
        [*dict.fromkeys(alias.get(each, each) for each in named)],
        Path(options.output),
    )
    if not bench.ours:
        raise InputError(f"--schemes {options.schemes}: none of them is ours, such as {every[0]}")
    with Pool(options.processes) as pool:
        perform(bench, options.command, pool, print_line)
    show(bench)
    return 0


def chosen_cells(options: argparse.Namespace) -> tuple[list[str], list[str], dict[str, dict[str, Any]]]:
    """Return the names of problems and links, and the tables of delays."""
    delays: dict[str, dict[str, Any]] = {}
    for each in options.delays.split(",") if options.delays else DELAYS:
        recorded = each not in DELAYS and Path(each).exists()
        delays |= recorded_delays(Path(each)) if recorded else {each: DELAYS.get(each, {})}
    if unknown := [each for each, table in delays.items() if not table]:
        meant = did_you_mean(unknown[0], DELAYS)
        raise InputError(
            f"--delays {unknown[0]}: expected some of {', '.join(DELAYS)}, or a file or folder{meant}"
        )
    return arguments.chosen(options, "problems", PROBLEMS), arguments.chosen(options, "links", LINKS), delays
