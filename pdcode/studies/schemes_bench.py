"""`pdcode bench schemes`: our presets and every kind of rival, over problems, links and delays.

Sixteen workers compute at 2 Gflop/s. Delays are in units of the compute time of a mini-batch's gradient; with
recorded delays the median task takes that unit, the fastest has no delay, and their number of workers is
used. For each problem, link and number of workers, learning rates are chosen in one cell, from the same
number of rates, each by two runs; all cells then have new seeds. A cell is a comparison in a file of its own,
as by `pdcode compare`; existing files are not computed again.
"""

import io
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..analysis import printing
from ..config import Config
from ..config import load as configfile
from ..config.write import to_toml
from ..stragglers import records
from ..training import setup
from ..training.monitor import Print
from ..util.errors import InputError
from ..util.formats import DASH, duration, ratio
from ..util.output import write_file
from ..util.processes import Pool
from ..util.progress import track
from ..virtual import capacity, costs
from . import search_space
from .comparison import Comparison
from .comparison_file import ensure_savable
from .ranking import Row, Speedup, compare_times
from .tournament import ComparisonRequest, perform_once

PROBLEMS: Mapping[str, tuple[dict[str, Any], float, float]] = {
    "mnist5k": ({"data": "mnist5k", "hidden": [256]}, 0.1, 0.1),
    "digits": ({"data": "digits", "hidden": [128, 64]}, 0.05, 0.1),
    "deep": ({"data": "mnist5k", "hidden": [128, 128, 128]}, 0.1, 0.02),
}
"""Keys of ``[problem]``, the training loss to reach, and a learning rate with which plain steps converge."""

LINKS = {"100G": 1.25e10, "1G": 1.25e8, "100M": 1.25e7, "10M": 1.25e6}
"""Bandwidth of rank 0's link in each direction, bytes/s; names in bit/s."""

FAST = 1.25e9
"""Least bandwidth at which our preset is not coded."""

SLOW = 1.25e6
"""Largest bandwidth at which our preset sends chosen elements, because coded payloads are too long."""

DELAYS: Mapping[str, dict[str, Any]] = {
    "exponential": {"kind": "shifted-exponential", "mean_s": 1.0},
    "none": {"kind": "none"},
    "markov": {"kind": "markov", "extra_s": 9.0, "enter": 0.02, "leave": 0.2},
    "persistent": {"kind": "slow-set", "slow": [15], "slowdown": 10.0},
    "dead": {"kind": "slow-set", "dead": [15]},
}
"""Tables ``[stragglers]``; times are in units of a gradient's compute time."""

TUNING_DELAYS = "exponential"  # delays under which learning rates are chosen
TUNING_SEEDS = 2  # runs by which a rate is judged; the best rate of a single run is at the edge of stability
RATES = "rates"  # part of the name of the file in which rates are chosen

WORKERS, BATCH, FLOPS_PER_S = 16, 32, 2e9
EVALUATION_ROWS = 1000  # rows on which the loss is measured
ROUNDS = 2  # payloads of each worker between measurements
MAX_PAYLOADS = 8000  # payloads of a run, at most
NESTEROV = "/optimizer.momentum=0.9/optimizer.nesterov=true"
EXCHANGE = "/downlink.kind=exchange"

OURS = "lwpd:default", "lwpd:ring", "lwpd:first", "topk:whitened"
FAMILIES: Mapping[str, Sequence[str]] = {
    "top-k, whitened, look-ahead": (
        f"topk/code.whiten=auto/memory.lookahead=auto{EXCHANGE}",
        "topk:whitened",
    ),
    "all-reduce": (f"allreduce{NESTEROV}",),
    "first-q": (f"uncoded:first/wire.dtype=float16{NESTEROV}",),
    "asynchronous": ("uncoded:async",),
    "PowerSGD": (f"powersgd/reduce.kind=allreduce/scheme.options.rank=2{NESTEROV}",),
    "top-k asynchronous": (
        f"topk{EXCHANGE}",
        f"topk/scheme.options.share=0.0025/wire.dtype=int4{EXCHANGE}",
        f"topk/scheme.options.share=0.004/wire.dtype=int2{EXCHANGE}",
    ),
    "top-k first-q": (
        f"topk/update.mode=first/wire.dtype=int2{NESTEROV}{EXCHANGE}",
        f"topk/update.mode=first/scheme.options.share=0.0025/wire.dtype=int4{NESTEROV}{EXCHANGE}",
    ),
    "DiLoCo": ("diloco/scheme.options.steps=4",),
    "SparseLoCo": (f"sparseloco/scheme.options.steps=4/update.mode=first{EXCHANGE}",),
    "DeMo": (f"demo/update.mode=first{EXCHANGE}",),
    "gradient codes": ("frc",),
}
"""Rivals by family; `NOT_A_RIVAL` has our whitening and look-ahead with other payloads."""

NOT_A_RIVAL = "top-k, whitened, look-ahead"


@dataclass(frozen=True)
class SchemesBench:
    """What to measure."""

    problems: Sequence[str]  # names in `PROBLEMS`
    links: Sequence[str]  # names in `LINKS`
    delays: Mapping[str, dict[str, Any]]  # tables ``[stragglers]``, as `DELAYS`
    seeds: int  # runs of a candidate in a cell
    rates: int  # learning rates tried for a candidate
    schemes: Sequence[str]
    folder: Path
    tuning_seeds: int = TUNING_SEEDS
    payloads: int = MAX_PAYLOADS  # of a run, at most

    def file(self, problem: str, link: str, delay: str) -> Path:
        """Return the file of a cell."""
        return self.folder / f"{problem}-{link}-{delay}.h5"


def recorded_delays(folder: Path) -> dict[str, dict[str, Any]]:
    """Return tables ``[stragglers]`` for the CSV files of a folder: whole task times, workers × rounds."""
    found = {
        f"recorded-{path.stem}": {"kind": "trace", "path": str(path), "times": "task", "draw": "replay"}
        for path in sorted(folder.glob("*.csv"))
    }
    if not found:
        raise InputError(f"--delays {folder}: no CSV files in it")
    return found


def candidates() -> list[str]:
    """Return the names of all candidates, ours first."""
    return list(dict.fromkeys([*OURS, *itertools.chain.from_iterable(FAMILIES.values())]))


def perform(bench: SchemesBench, command: str, pool: Pool, print_line: Print) -> None:
    """Perform the comparisons whose files do not exist."""
    cells = list(_cells(bench))
    for path, *_ in cells:
        ensure_savable(path)
    for path, problem, link, name, workers, seeds in track(cells, len(cells), "comparisons"):
        delays = bench.delays.get(name, DELAYS[TUNING_DELAYS])
        job = write_job(bench.folder, problem, link, name, delays, workers, bench.payloads)
        request = ComparisonRequest(
            str(job), ",".join(bench.schemes), [], seeds or 1, "virtual", rounds=ROUNDS
        )
        how = (
            {"rates": bench.file(problem, link, rates_cell(workers))}
            if seeds
            else {"tune": bench.rates, "tuning_seeds": bench.tuning_seeds}
        )
        perform_once(path, request, command, pool, print_line, **how)


def _cells(bench: SchemesBench) -> Iterator[tuple[Path, str, str, str, int, int]]:
    """Yield file, problem, link, delays, workers and seeds (0: those of tuning) of each comparison."""
    counts = {name: worker_count(delays) for name, delays in bench.delays.items()}
    for problem, link in itertools.product(bench.problems, bench.links):
        for workers in dict.fromkeys(counts.values()):
            name = rates_cell(workers)
            yield bench.file(problem, link, name), problem, link, name, workers, 0
        for name, workers in counts.items():
            yield bench.file(problem, link, name), problem, link, name, workers, bench.seeds


def worker_count(delays: Mapping[str, Any]) -> int:
    """Return the number of workers of a recorded matrix, or `WORKERS`."""
    return len(records.read_csv(Path(delays["path"]))) if "path" in delays else WORKERS


def rates_cell(workers: int) -> str:
    """Return the name of the cell in which the learning rates for a number of workers are chosen."""
    return RATES if workers == WORKERS else f"{RATES}-{workers}"


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
    tables: dict[str, Any] = {
        "seed": 101,
        "problem": {"kind": "mlp", "batch": BATCH, "evaluate": EVALUATION_ROWS, **table},
        "workers": {"count": workers},
        "machine": {"flops_per_s": FLOPS_PER_S},
        "link": {"bandwidth": LINKS[link], "broadcast": "tree"},
        "scheme": {"name": "uncoded", "preset": "async"},
        "optimizer": {"rate": rate},
        "stop": {"loss": target, "updates": payloads},
    }
    config = configfile.resolve(tables)
    unit_s = task_s(config)
    scaled = dict(delays) | {key: unit_s * value for key, value in delays.items() if key.endswith("_s")}
    path = folder / f"{problem}-{link}-{name}.toml"
    if delays.get("dead"):  # some schemes would wait forever for dead workers
        need = capacity.load_of(setup.prepare(config))
        round_s = need.task_s * max(1.0, need.bottleneck[1])  # rank 0's time for one payload of each worker
        tables["stop"] |= {"seconds": payloads / workers * round_s}
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


def task_s(config: Config) -> float:
    """Return the modelled compute time of a mini-batch's full gradient, in s."""
    whole = search_space.apply_tables(config, search_space.preset("uncoded", "all"))
    parts = setup.prepare(whole)
    return 1e-9 * float(costs.times_ns(whole.machine, parts.flops_by_worker()).max())


def our_preset(link: str, delays: Mapping[str, Any]) -> str:
    """Return our preset for a cell."""
    if LINKS[link] <= SLOW:
        return "topk:whitened"
    if LINKS[link] < FAST:
        return "lwpd:default"
    return "lwpd:ring" if delays["kind"] == "none" else "lwpd:first"


def show(bench: SchemesBench) -> None:
    """Print for each problem our time in each cell, and each family's time as a multiple of it."""
    sections: list[printing.Section] = []
    families = {family: members for family, members in FAMILIES.items() if {*members} & {*bench.schemes}}
    for problem in bench.problems:
        table = printing.make_table(
            "link", "delays", "ours", "× oracle", "best rival", *families, left=("delays",), fold=False
        )
        best: list[Speedup] = []
        every: dict[str, list[Speedup]] = {family: [] for family in families}
        for link, (name, delays) in itertools.product(bench.links, bench.delays.items()):
            made = Comparison.load(bench.file(problem, link, name))
            runs = {row.candidate: row.runs for row in made.rows}  # best first
            mine = Row(our_preset(link, delays), runs[our_preset(link, delays)])
            for family, members in families.items():
                first = next(each for each in runs if each in members)
                every[family].append(compare_times(runs[first], mine.runs))
            rivals = {family: found[-1] for family, found in every.items() if family != NOT_A_RIVAL}
            name_of = min(rivals, key=lambda family: _key(rivals[family]), default=None)
            best += [rivals[name_of]] if name_of else []
            table.add_row(
                f"{link}bit/s", name, describe_time(mine), ratio(mine.oracle),
                f"{name_of} {_multiple(rivals[name_of])}" if name_of else DASH,
                *(_multiple(found[-1]) for found in every.values()),
            )  # fmt: skip
        table.add_section()
        for what, choose in (("least", np.min), ("median", np.median)):
            figures = [_summarise(choose, found) for found in (best, *every.values())]
            table.add_row("", what, "", "", *figures)
        target = PROBLEMS[problem][1]
        sections.append((f"{problem}, time to training loss {target:g} and its multiples", [table]))
    sections.append(("", [printing.note(LEGEND)]))
    printing.show(sections)


LEGEND = (
    "Ours: on links of 10 Gbit/s or more lwpd:ring without delays, and lwpd:first with delays; on those of "
    "10 Mbit/s or less topk:whitened; else lwpd:default. Of each family its best member in the cell, chosen "
    "afterwards; its time as a multiple of ours, the geometric mean over the "
    "seeds. >: it missed the target, at least; <: ours did, at most. "
    f"“{NOT_A_RIVAL}” is no rival: it sends the largest elements under our whitening and look-ahead. Delays "
    "are in units of the time of a gradient; of recorded tasks the median one takes as long, and the fastest "
    "only computes; all rates are chosen under exponential delays with as many workers, of as many rates. "
    "θ goes by a tree to workers that start together, as by MPI_Ibcast, which pdcode's own runs do not use: "
    "in favour of those that wait. Sparse and coded payloads are exchanged among the workers, all rivals', "
    "too."
)


def _key(speedup: Speedup) -> tuple[bool, float]:
    mean = speedup.ratio.mean
    return speedup.bound == ">", mean if math.isfinite(mean) else math.inf


def _multiple(speedup: Speedup) -> str:
    return f"{speedup.bound} {ratio(speedup.ratio.mean)}".strip()


def describe_time(row: Row[str]) -> str:
    return (f"{row.reached} in " if row.missed else "") + duration(1e9 * row.time.mean)


def _summarise(choose: Callable[[Sequence[float]], Any], found: Sequence[Speedup]) -> str:
    """Return the least or median multiple; if a rival missed the target, its lower bound counts."""
    means = [each.ratio.mean for each in found if math.isfinite(each.ratio.mean)]
    return ratio(float(choose(means))) if means else DASH
