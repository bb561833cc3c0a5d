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
    option = bench.add_argument
    option("--problems", metavar="A,B,…", default="mnist5k,digits,deep", help="default: mnist5k,digits,deep")
    option("--links", metavar="A,B,…", default="100G,1G,100M,10M", help="bit/s; default: 100G,1G,100M,10M")
    what = (
        "exponential, none, markov, persistent, dead (default: all), or a folder of recorded ones: CSV, "
        "workers × rounds, task times in multiples of a gradient's compute time"
    )
    option("--delays", metavar="A,B,…", help=what)
    option("--schemes", metavar="A,B,…", help="only these of the candidates")
    option("--seeds", type=int, default=5, metavar="N", help="runs per candidate and cell (default: 5)")
    what = "learning rates that are tried for each candidate, in two runs each (default: 7)"
    option("--tune", type=int, default=7, metavar="N", help=what)
    arguments.add_processes(bench)
    option("-o", "--output", metavar="FOLDER", default="results/schemes", help="default: results/schemes")

    bench.set_defaults(function=run)


def run(options: argparse.Namespace) -> int:
    """Run the comparisons, and print their tables."""
    launch.require_one_process("bench schemes")
    from ..studies import schemes_bench
    from ..util.processes import Pool

    arguments.ensure_in_range(options)

    def chosen(name: str, known: Iterable[str], default: str = "") -> list[str]:
        given = (getattr(options, name) or default).split(",")
        for each in given:
            if each not in known:
                meant = did_you_mean(each, known)
                raise InputError(f"--{name} {each}: expected some of {', '.join(known)}{meant}")
        return given

    if options.delays and not {*options.delays.split(",")} <= {*schemes_bench.DELAYS}:
        if not Path(options.delays).is_dir():
            chosen("delays", schemes_bench.DELAYS)
        delays = schemes_bench.recorded_delays(Path(options.delays))
    else:
        names = chosen("delays", schemes_bench.DELAYS, ",".join(schemes_bench.DELAYS))
        delays = {name: schemes_bench.DELAYS[name] for name in names}
    every = schemes_bench.candidates()
    bench = schemes_bench.SchemesBench(
        chosen("problems", schemes_bench.PROBLEMS),
        chosen("links", schemes_bench.LINKS),
        delays,
        options.seeds,
        options.tune,
        chosen("schemes", every, ",".join(every)),
        Path(options.output),
    )
    for link in bench.links:
        for name, table in delays.items():
            if (ours := schemes_bench.our_preset(link, table)) not in bench.schemes:
                raise InputError(f"--schemes: '{ours}' is missing, which is ours in {link}bit/s, {name}")
    with Pool(options.processes) as pool:
        schemes_bench.perform(bench, shlex.join(["pdcode", *options.argv]), pool, print_line)
    schemes_bench.show(bench)
    return 0
