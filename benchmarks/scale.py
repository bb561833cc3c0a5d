"""`python -m benchmarks scale`: schemes with increasing numbers of workers, and what of rank 0 limits them.

Each number of workers is a comparison in a file of its own, as by `pdcode compare`, on the virtual clock with
the costs of rank 0 on this machine.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from pdcode.analysis import printing, style
from pdcode.analysis.style import DASHES, LINES, sheet
from pdcode.bench import machine
from pdcode.choice.preset import prepare
from pdcode.cli import arguments
from pdcode.config import load as configfile
from pdcode.config.write import to_toml
from pdcode.schemes.base import NESTEROV
from pdcode.session import setup
from pdcode.session.monitor import Print
from pdcode.session.setup import MAX_WORKERS
from pdcode.studies.cells import AUTO, LINKS
from pdcode.studies.comparison import Comparison
from pdcode.studies.comparison_file import ensure_savable
from pdcode.studies.learning_rates import rate_of
from pdcode.studies.measurement import Measured
from pdcode.studies.tournament import ComparisonRequest, perform_once
from pdcode.studies.tuning import Tuning
from pdcode.util import memory
from pdcode.util.errors import InputError, expected
from pdcode.util.formats import DASH, duration, number, percent, ratio
from pdcode.util.output import print_line, write_file
from pdcode.util.processes import Pool, cores
from pdcode.util.progress import track
from pdcode.virtual import capacity, costs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TABLES: dict[str, Any] = {
    "seed": 101,
    "problem": {"kind": "mlp", "data": "digits", "hidden": [64], "batch": 32, "shards": "replicated"},
    "stragglers": {"kind": "shifted-exponential", "shift_s": 0.005, "mean_s": 0.005},
    "link": {"broadcast": "tree"},
    "scheme": {"name": "uncoded", "preset": "async"},
    "stop": {"loss": 0.1},
}
"""The job, with tasks of 10 ms on average."""

SCHEMES = (
    AUTO,
    "lwpd:default",
    "lwpd:ring",
    "uncoded:async",
    f"uncoded:first/wire.dtype=float16{NESTEROV}",
    f"allreduce{NESTEROV}",
    "topk",
)
"""Our presets and the main rivals."""

MAX_TUNED_WORKERS = 4096
"""Largest number of workers for which learning rates are chosen. Beyond it rank 0 is the limit: a payload is
n arrivals old and its step is scaled by 1/n, so the best rate does not change."""

TASKS, ROUNDS = 300, 15  # a run's time is limited to these tasks of a worker plus these rounds at rank 0
VECTORS = 16  # approximate number of vectors of θ's size per virtual worker
RESOURCES = "processor", "ingress", "egress"  # parts of rank 0
COLUMNS = (
    "workers", "arrivals/s", "samples/s", "stale", *RESOURCES, "needs", "limit", "rate", "updates", "time",
)  # fmt: skip
BUSY_LIMIT = 0.9  # least busy fraction of the time at which a part is the limit


@dataclass(frozen=True)
class ScaleBench:
    """Options of the benchmark."""

    workers: Sequence[int]  # ascending
    coordinators: Sequence[int]  # ascending
    link: str  # name in `cells.LINKS`
    schemes: str  # candidates, separated by commas
    seeds: int  # runs of a candidate
    runs: int  # runs by which its learning rate is chosen
    folder: Path

    def cells(self) -> Iterator[tuple[int, int, Path]]:
        """Yield workers, coordinators and file of each comparison."""
        for coordinators, workers in itertools.product(self.coordinators, self.workers):
            many = f"-{coordinators}" if coordinators > 1 else ""
            yield workers, coordinators, self.folder / f"{self.link}{many}-{workers}.h5"


def find_costs(folder: Path, print_line: Print) -> Path:
    """Return the file of rank 0's costs in a folder, after measuring them if it does not exist."""
    path = folder / "machine.toml"
    if path.exists():
        print_line(f"{path}: there already")
        return path
    print_line(f"{path}: measuring what rank 0 takes, as `pdcode bench machine`")
    tables, remarks = machine.measure()
    content = "".join(f"# {line}\n" for line in remarks) + machine.text({"machine": tables["machine"]}) + "\n"
    write_file(path, content, "the costs")
    return path


def perform(bench: ScaleBench, cost: Path, command: str, processes: int, print_line: Print) -> None:
    """Perform the comparisons whose files do not exist."""
    cells = list(bench.cells())
    for *_, path in cells:
        ensure_savable(path)
    rates: dict[int, Path] = {}  # previous comparison, with fewer workers, by number of coordinators
    for workers, coordinators, path in track(cells, len(cells), "comparisons"):
        job = path.with_suffix(".toml")
        tables = TABLES | {
            "workers": {"count": workers},
            "link": TABLES["link"] | {"bandwidth": LINKS[bench.link]},
        }
        fitted = msgspec.to_builtins(costs.load(str(cost), configfile.resolve(tables)).machine)
        fitted["coordinators"] = coordinators
        tables["machine"] = {key: value for key, value in fitted.items() if value is not None}
        components = setup.prepare(configfile.resolve(tables))
        need = capacity.load_of(components)
        seconds = need.task_s * (TASKS + ROUNDS * need.bottleneck[1])
        write_file(job, to_toml(tables), "the configuration")
        request = ComparisonRequest(str(job), bench.schemes, [], bench.seeds, "virtual", seconds=seconds)
        fitting = memory.limit_bytes() // (VECTORS * components.layout.gradient_bytes * workers)
        tuned = workers <= MAX_TUNED_WORKERS or coordinators not in rates
        tune = Tuning(bench.runs, with_knobs=False, untuned=(AUTO,)) if tuned else None
        with Pool(max(1, min(processes, fitting))) as pool:
            perform_once(path, request, command, pool, print_line, tune=tune, rates=rates.get(coordinators))
        rates[coordinators] = path


@dataclass(frozen=True)
class ScalePoint:
    """A scheme with a number of workers: medians over the seeds."""

    workers: int
    coordinators: int
    measured: list[Measured]  # of each seed
    need: capacity.Load  # by the formula
    rate: float

    def median(self, key: str) -> float:
        """Return the median of a figure."""
        return float(np.median([getattr(each, key) for each in self.measured]))

    def per_second(self, key: str) -> float:
        """Return the median of a count per second."""
        return float(np.median([getattr(each, key) / each.stop_s for each in self.measured]))

    @property
    def limit(self) -> str:
        """The part of rank 0 that is always busy, or "workers"."""
        part = max(RESOURCES, key=self.median)
        return part if self.median(part) >= BUSY_LIMIT else "workers"


def points(bench: ScaleBench) -> dict[str, list[ScalePoint]]:
    """Read the results, by scheme."""
    found: dict[str, list[ScalePoint]] = {}
    for workers, coordinators, path in bench.cells():
        made = Comparison.load(path)
        for name, config, measured in zip(
            made.names, made.read_configs(str(path)), made.measured, strict=True
        ):
            components = prepare(config)
            need, rate = capacity.load_of(components), rate_of(components.config)
            point = ScalePoint(workers, coordinators, measured, need, rate)
            found.setdefault(name, []).append(point)
    return found


def show(bench: ScaleBench, found: Mapping[str, Sequence[ScalePoint]]) -> None:
    """Print for each scheme its results by number of workers."""
    several = len(bench.coordinators) > 1
    sections: list[printing.Section] = []
    for name, own in found.items():
        columns = [*COLUMNS[:1], *["coordinators"] * several, *COLUMNS[1:]]
        table = printing.make_table(*columns, left=("limit",), fold=False)
        for point in own:
            part, multiple = point.need.bottleneck
            reached = [each.seconds for each in point.measured if math.isfinite(each.seconds)]
            missed = len(point.measured) - len(reached)
            time = duration(1e9 * float(np.exp(np.mean(np.log(reached))))) if reached else DASH
            table.add_row(
                f"{point.workers:,}", *[str(point.coordinators)] * several,
                *(f"{point.per_second(key):,.0f}" for key in ("arrivals", "samples")),
                f"{point.median('staleness'):,.0f}",
                *(f"{percent(point.median(each), 1)} %" for each in RESOURCES),
                f"{ratio(multiple)} {part}" if multiple else DASH, point.limit, number(point.rate, 3),
                f"{point.median('updates'):,.0f}", f"{time}, {missed} never" if missed else time,
            )  # fmt: skip
        sections.append((name, [table]))
    sections.append(("", [printing.note(LEGEND)]))
    printing.show(sections)


LEGEND = (
    "processor, ingress, egress: shares of the time until the stop for which rank 0's processor, and its "
    f"link receiving and sending, were busy; limit: the one that was for {100 * BUSY_LIMIT:.0f} % of it, or "
    "the workers. needs: by the formula, the time that one payload of every worker takes the busiest part, "
    "as a multiple of a task's time; above 1 the workers wait for it. Medians over the seeds; time: to "
    "training loss 0.1 on the virtual clock, geometric mean. θ goes by a tree to workers that start together."
)


def draw(found: Mapping[str, Sequence[ScalePoint]]) -> Figure:
    """Draw samples per second and time to the target of each scheme against the number of workers."""
    with sheet(13, 5.6) as drawing:
        left, right = drawing.subplots(1, 2)
        stems = [name.partition("/")[0] for name in found]
        for colour, (name, own) in zip(itertools.cycle(LINES), found.items()):
            numbers = sorted({point.coordinators for point in own})
            for dashes, coordinators in zip(DASHES, numbers, strict=False):
                mine = [point for point in own if point.coordinators == coordinators]
                stem = name.partition("/")[0]
                label = stem if stems.count(stem) == 1 else name
                label += "" if coordinators == 1 else f", {coordinators} coordinators"
                style: Any = {"color": colour, "linestyle": dashes, "marker": "o", "label": label}
                at = [point.workers for point in mine]
                left.plot(at, [point.per_second("samples") for point in mine], **style)
                right.plot(at, [point.median("seconds") for point in mine], **style)
        for axes, title in ((left, "Training rows per second"), (right, "Time to the target, s")):
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_xlabel("workers")
            axes.set_title(title)
            axes.xaxis.set_major_formatter("{x:,.0f}")
        handles, labels = left.get_legend_handles_labels()
        drawing.legend(handles, labels, loc="outside upper left", ncols=4, frameon=False)
    return drawing


def parser() -> arguments.Parser:
    """Return the parser of the options."""
    bench = arguments.Parser(
        prog="python -m benchmarks scale",
        description="Presets and the main rivals with 8 to 65,536 workers on the virtual clock, and the "
        "limits of rank 0. Each number of workers is a comparison, as of `pdcode compare`, in a file of its "
        "own; existing files are not computed again. The figure is scale.png beside them. Exit codes: 0 "
        "done, 1 failure, 2 bad input.",
        epilog="example: python -m benchmarks scale --workers 8,64,512 --link 100M",
    )
    option = bench.add_argument
    option("--workers", metavar="N,N,…", default="8,64,512,4096,65536", help="default: 8,64,512,4096,65536")
    what = "numbers of ranks over which θ is sharded (default: 1)"
    option("--coordinators", metavar="N,N,…", default="1", help=what)
    option("--link", default="1G", help="bit/s of each link: 100G, 1G, 100M or 10M (default: 1G)")
    option("--schemes", metavar="A,B,…", help="as of compare; default: presets and the main rivals")
    option("--seeds", type=int, default=1, metavar="N", help="runs per candidate (default: 1)")
    option("--tune", type=int, default=5, metavar="N", help="runs that choose a learning rate (default: 5)")
    arguments.add_processes(bench)
    option("--cost", metavar="FILE", help="[machine] as TOML; default: measured, once per folder")
    option("-o", "--output", metavar="FOLDER", default="results/scale", help="default: results/scale")
    bench.set_defaults(function=run, alone="benchmarks scale")
    return bench


def run(options: argparse.Namespace) -> int:
    """Run the comparisons, print their tables and draw the figure."""
    arguments.ensure_in_range(options)
    if options.link not in LINKS:
        raise InputError(f"--link: {expected(options.link, LINKS)}")
    folder = Path(options.output)
    bench = ScaleBench(
        arguments.numbers(options.workers, "--workers", 2, MAX_WORKERS),
        arguments.numbers(options.coordinators, "--coordinators", 1, 1024),
        options.link,
        options.schemes or ",".join(SCHEMES),
        options.seeds,
        options.tune,
        folder,
    )
    figure = str(folder / "scale.png")
    style.ensure_figure_can_be_drawn(figure)
    cost = Path(options.cost) if options.cost else find_costs(folder, print_line)
    perform(bench, cost, options.command, options.processes or cores(), print_line)
    found = points(bench)
    show(bench, found)
    style.save(draw(found), figure)
    print(f"figure: {figure}")
    return 0
