"""Predict runs over MPI on the virtual clock, then run them; see `validation`."""

import argparse
import math
import os
import sys
from pathlib import Path

from pdcode.util import threads

if __name__ == "__main__":
    threads.limit(os.environ)  # before numpy is imported
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments import validation, validation_table
from pdcode.__main__ import run_command
from pdcode.cli import arguments
from pdcode.util.errors import InputError
from pdcode.util.output import print_line
from pdcode.util.processes import Pool


def parser() -> arguments.Parser:
    """Return the parser of the options."""
    bench = arguments.Parser(
        prog="python experiments/validate.py",
        description="Predictions of the virtual clock, written before runs over MPI judge them, worst first. "
        "Half of a run over MPI calibrates the clock's costs. "
        "All cells (workers, delays, entrant) are then predicted with other seeds than the runs will have, "
        "and written to prediction.json with its SHA-256; then they run. Nothing else should run on the "
        "machine. The same command continues an interrupted bench. Exit codes: 0 done, 1 failure, or an "
        "error above --tolerance, 2 bad input.",
        epilog="example: python experiments/validate.py --workers 4 --cells '4-exponential-*' --seeds 1",
    )
    option = bench.add_argument
    option("--workers", metavar="N,N,…", default="4,8", help="default: 4,8")
    what = (
        "only cells whose names match one of these patterns, such as 8-pareto-*; delays: exponential, "
        "pareto, markov, none; entrants: all, first, async, topk, coded (default: *)"
    )
    option("--cells", metavar="A,B,…", default="*", help=what)
    option("--seeds", type=int, default=3, metavar="N", help="runs over MPI of each cell (default: 3)")
    what = "limit of the runs over MPI together: none begins that would end later (default: no limit)"
    option("--seconds", type=arguments.quantity("time"), default=math.inf, metavar="S", help=what)
    what = "mpirun of each MPI to run with, such as /opt/mpich/bin/mpirun (default: the mpirun of pdcode run)"
    option("--mpirun", metavar="FILE,…", default="", help=what)
    what = "exit with code 1 if a prediction of a time is off by more, such as 0.1 (default: no limit)"
    option("--tolerance", type=float, default=math.inf, metavar="X", help=what)
    what = "override a key, such as link.bandwidth=1.25e7 on links of 100 Mbit/s; may be repeated"
    option("--set", action="append", default=[], metavar="KEY=VALUE", help=what)
    arguments.add_processes(bench)
    option("-o", "--output", metavar="FOLDER", default="results/validate", help="default: results/validate")
    bench.set_defaults(function=run, alone="experiments/validation.py")
    return bench


def run(options: argparse.Namespace) -> int:
    """Predict, write the predictions, measure, and print both."""

    arguments.ensure_in_range(options, seconds=(0, math.inf, "a time"), tolerance=(0, math.inf, "0 or more"))
    workers = arguments.numbers(options.workers, "--workers", 1, 256)
    launchers = [each and os.path.abspath(each) for each in options.mpirun.split(",")]
    for each in launchers:
        if each and not os.access(each, os.X_OK):
            raise InputError(f"--mpirun {each}: not a program")
        if launchers.count(each) > 1:
            raise InputError(f"--mpirun {each}: there twice")
    bench = validation.choose(workers, options.cells, options.set, launchers, Path(options.output))
    if bench.path.exists():
        made = validation.read(bench)
        print_line(f"{bench.path}: there already")
    else:
        with Pool(options.processes) as pool:
            made = validation.predict(bench, options.seeds, pool, print_line)
    print_line(f"predictions: {bench.path}, SHA-256 {bench.digest}")
    found = validation.measure(bench, made, options.seeds, options.seconds, print_line)
    worst = validation_table.show(bench, made, found)
    return 1 if worst > math.log1p(options.tolerance) else 0


if __name__ == "__main__":
    sys.exit(run_command(sys.argv[1:], parser()))
