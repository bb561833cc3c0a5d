"""`pdcode bench schemes`: presets against every kind of rival, over problems, links and delays."""

import argparse
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..mpi import launch
from ..util.errors import InputError, did_you_mean
from ..util.output import print_line
from . import arguments

ABOUT = "presets and every kind of rival on the virtual clock, over problems, links and delays"


def add_parser(benches: Any) -> None:
    """Add the bench to the parser."""
    bench = benches.add_parser(
        "schemes",
        help=ABOUT,
        description=f"{ABOUT[0].upper()}{ABOUT[1:]}. Each cell is a comparison, as of `pdcode compare`, in a "
        "file of its own; existing files are not computed again. Exit codes: 0 done, 1 failure, 2 bad input.",
    )
    add_cells(bench, "mnist5k,digits,deep", "100G,1G,100M,10M", None)
    bench.add_argument("--schemes", metavar="A,B,…", help="only these of the candidates")
    add_runs(bench, 7, "in two runs each", "results/schemes")
    bench.set_defaults(function=run)


def add_cells(bench: Any, problems: str, links: str, delays: str | None) -> None:
    """Add --problems, --links and --delays."""
    option = bench.add_argument
    option("--problems", metavar="A,B,…", default=problems, help=f"default: {problems}")
    option("--links", metavar="A,B,…", default=links, help=f"bit/s; default: {links}")
    what = (
        f"exponential, none, markov, persistent, dead (default: {delays or 'all'}), or a folder of recorded "
        "ones: CSV, workers × rounds, task times in multiples of a gradient's compute time"
    )
    option("--delays", metavar="A,B,…", default=delays, help=what)


def add_runs(bench: Any, rates: int, tuning: str, folder: str) -> None:
    """Add --seeds, --tune, --processes and --output."""
    option = bench.add_argument
    option("--seeds", type=int, default=5, metavar="N", help="runs per candidate and cell (default: 5)")
    what = f"learning rates that are tried for each candidate, {tuning} (default: {rates})"
    option("--tune", type=int, default=rates, metavar="N", help=what)
    arguments.add_processes(bench)
    option("-o", "--output", metavar="FOLDER", default=folder, help=f"default: {folder}")


def run(options: argparse.Namespace) -> int:
    """Run the comparisons, and print their tables."""
    launch.require_one_process("bench schemes")
    from ..studies import schemes_bench
    from ..util.processes import Pool

    arguments.ensure_in_range(options)
    every = schemes_bench.candidates()
    bench = schemes_bench.SchemesBench(
        *chosen_cells(options),
        options.seeds,
        options.tune,
        chosen(options, "schemes", every),
        Path(options.output),
    )
    for link in bench.links:
        for name, table in bench.delays.items():
            if (ours := schemes_bench.our_preset(link, table)) not in bench.schemes:
                raise InputError(f"--schemes: '{ours}' is missing, which is ours in {link}bit/s, {name}")
    with Pool(options.processes) as pool:
        schemes_bench.perform(bench, shlex.join(["pdcode", *options.argv]), pool, print_line)
    schemes_bench.show(bench)
    return 0


def chosen(options: argparse.Namespace, name: str, known: Iterable[str]) -> list[str]:
    """Return the names that an option gives, or all that are known."""
    given = (getattr(options, name) or ",".join(known)).split(",")
    for each in given:
        if each not in known:
            meant = did_you_mean(each, known)
            raise InputError(f"--{name} {each}: expected some of {', '.join(known)}{meant}")
    return given


def chosen_cells(options: argparse.Namespace) -> tuple[list[str], list[str], dict[str, dict[str, Any]]]:
    """Return the names of problems and links, and the tables of delays."""
    from ..studies.schemes_bench import DELAYS, LINKS, PROBLEMS, recorded_delays

    if options.delays and Path(options.delays).is_dir() and options.delays not in DELAYS:
        delays = recorded_delays(Path(options.delays))
    else:
        delays = {name: DELAYS[name] for name in chosen(options, "delays", DELAYS)}
    return chosen(options, "problems", PROBLEMS), chosen(options, "links", LINKS), delays
