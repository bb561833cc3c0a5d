"""`pdcode bench schemes`: ours against every kind of rival, over problems, links and delays."""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..util.errors import InputError, did_you_mean
from ..util.output import print_line
from . import arguments

ABOUT = "ours, as they are, beside tuned rivals of every kind, in virtual time, by problem, link and delays"


def add_parser(benches: Any) -> None:
    """Add the bench to the parser."""
    bench = benches.add_parser(
        "schemes",
        help=ABOUT,
        example="--problems digits --links 1G,100M --delays none --seeds 3",
        description=f"{ABOUT[0].upper()}{ABOUT[1:]}. Each cell is a comparison, as of `pdcode compare`, in a "
        "file of its own; existing files are not computed again, an interrupted cell resumes. The last line "
        "says whether the goal is met. Exit codes: 0 done, 1 failure, 2 bad input.",
    )
    add_cells(bench, "mnist5k,digits,deep,softmax,batch128", "100G,1G,100M,10M", None)
    what = "only these of the entrants, one of ours among them"
    bench.add_argument("--schemes", metavar="A,B,…", help=what)
    what = "a rival's learning rate and knobs, such as momentum and rank, are chosen in each cell, at most"
    add_runs(bench, "budget", 24, what, "results/schemes")
    bench.set_defaults(function=run, alone="bench schemes")


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
    from ..studies import schemes_bench
    from ..util.processes import Pool

    arguments.ensure_in_range(options, budget=(3, 99, "3 to 99"))
    every = schemes_bench.candidates()
    alias = {"lwpd": schemes_bench.AUTO}
    bench = schemes_bench.SchemesBench(
        *chosen_cells(options),
        options.seeds,
        schemes_bench.tuning(options.budget),
        [*dict.fromkeys(alias.get(each, each) for each in chosen(options, "schemes", [*every, *alias]))],
        Path(options.output),
    )
    if not bench.ours:
        raise InputError(f"--schemes {options.schemes}: none of them is ours, such as {every[0]}")
    with Pool(options.processes) as pool:
        schemes_bench.perform(bench, options.command, pool, print_line)
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

    delays: dict[str, dict[str, Any]] = {}
    for each in options.delays.split(",") if options.delays else DELAYS:
        recorded = each not in DELAYS and Path(each).exists()
        delays |= recorded_delays(Path(each)) if recorded else {each: DELAYS.get(each, {})}
    if unknown := [each for each, table in delays.items() if not table]:
        meant = did_you_mean(unknown[0], DELAYS)
        raise InputError(
            f"--delays {unknown[0]}: expected some of {', '.join(DELAYS)}, or a file or folder{meant}"
        )
    return chosen(options, "problems", PROBLEMS), chosen(options, "links", LINKS), delays
