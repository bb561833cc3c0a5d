"""`pdcode bench heldout`: `auto` against tuned rivals on many jobs, in two halves."""

import argparse
from pathlib import Path
from typing import Any

from ..util.errors import InputError
from ..util.formats import counted
from ..util.output import print_line
from . import arguments

ABOUT = "preset `auto`, told nothing of the delays, beside tuned rivals on many jobs, half of them held out"


def add_parser(benches: Any) -> None:
    """Add the bench to the parser."""
    bench = benches.add_parser(
        "heldout",
        help=ABOUT,
        example="--jobs digits-sorted,unequal-network --seeds 3 --budget 6",
        description=f"{ABOUT[0].upper()}{ABOUT[1:]}. The half of a job follows from its name. Each job is a "
        "comparison, as of `pdcode compare`, in a file of its own; existing files are not computed again, an "
        "interrupted job resumes. The last lines are a summary of each half. Exit codes: 0 done, 1 failure, "
        "2 bad input.",
    )
    option = bench.add_argument
    what = "development or held-out (default: development, or the half of each of --jobs)"
    option("--half", metavar="HALF", help=what)
    option("--jobs", metavar="A,B,…", help="only these jobs")
    option("--seeds", type=int, default=5, metavar="N", help="runs per entrant and job (default: 5)")
    what = (
        "runs by which each rival's learning rate and knobs are chosen, the same number for all (default: 12)"
    )
    option("--budget", type=int, default=12, metavar="N", help=what)
    what = (
        "draw the workers, links and delays of the jobs anew by this number, and seeds (default: their own)"
    )
    option("--draw", type=int, default=0, metavar="N", help=what)
    arguments.add_processes(bench)
    option("-o", "--output", metavar="FOLDER", help="default: results/heldout, with --draw -N behind it")
    bench.set_defaults(function=run, alone="bench heldout")


def run(options: argparse.Namespace) -> int:
    """Run the comparisons, and print their table and the summary."""
    from ..studies import heldout
    from ..util.processes import Pool

    arguments.ensure_in_range(options, budget=(1, 99, "1 to 99"), draw=(0, 9999, "0 to 9999"))
    if options.half is None and not options.jobs:
        options.half = heldout.HALVES[0]
    halves = arguments.chosen(options, "half", heldout.HALVES)
    jobs = [
        each for each in arguments.chosen(options, "jobs", heldout.JOBS) if heldout.half_of(each) in halves
    ]
    if not jobs:
        raise InputError(f"--jobs {options.jobs}: none of them is in the {options.half} half")
    for each in [*jobs]:
        if lacks := heldout.missing(each):
            print_line(f"{each}: left out, as it needs {' and '.join(lacks)}")
            jobs.remove(each)
    for each in heldout.HALVES:
        if count := sum(heldout.half_of(job) == each for job in jobs):
            print_line(f"{counted(count, 'job')} of the {each} half")
    if not jobs:
        raise InputError("bench heldout: no job is left")
    folder = Path(options.output or f"results/heldout{f'-{options.draw}' * bool(options.draw)}")
    bench = heldout.HeldoutBench(
        list(dict.fromkeys(jobs)), options.seeds, options.budget, folder, options.draw
    )
    with Pool(options.processes) as pool:
        heldout.perform(bench, options.command, pool, print_line)
    heldout.show(bench)
    return 0
