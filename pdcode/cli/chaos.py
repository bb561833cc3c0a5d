"""`pdcode chaos`: a configuration under faults."""

from __future__ import annotations

import argparse
from typing import Any

from ..mpi import launch
from ..util.errors import InputError
from ..util.output import print_line


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "chaos",
        help="run a configuration under faults, and measure what they cost",
        description="Run a configuration several times under the faults of [faults], or of the options, and "
        "without, each pair under one seed, on the virtual clock or over MPI. Prints how many trials reached "
        "the target, the time lost per fault, and goodput: useful samples over those of the same machines "
        "without faults; over MPI also what being able to survive costs where nothing fails. Exit codes: 0 "
        "every trial reached the target, 1 failure, 2 bad input.",
    )
    option = command.add_argument
    option("config", metavar="CONFIG", help="TOML file, such as jobs/digits.toml")
    option("--trials", type=int, default=20, metavar="N", help="number of trials (default: 20)")
    what = (
        "mean time between failures of each worker, of the kind in faults.failure (instead of faults.mtbf_s)"
    )
    option("--mtbf", type=float, metavar="S", help=what)
    what = "kill N workers, at random moments of the time that the run takes without"
    option("--kill", type=int, metavar="N", help=what)
    option("--clock", choices=("virtual", "mpi"), default="virtual", help="default: virtual")
    option("--target", type=float, metavar="LOSS", help="training loss to reach (instead of [stop])")
    what = "limit of a run's time (default: stop.seconds; on the virtual clock else 10 times that of CONFIG)"
    option("--seconds", type=float, metavar="S", help=what)
    option("-n", "--workers", type=int, metavar="N", help="number of workers (instead of workers.count)")
    what = "override a key, such as update.mode=first; may be repeated"
    option("--set", action="append", default=[], metavar="KEY=VALUE", help=what)
    option("--processes", type=int, metavar="N", help="number of processes (default: one per core)")
    command.set_defaults(function=chaos)


def chaos(options: argparse.Namespace) -> int:
    """Make the trials and print what became of them; exit code 1 if one missed the target."""
    launch.alone("chaos")
    check_options(options)
    from ..api import configs
    from ..studies.chaos import Choice, perform, plan, show, worst
    from ..util.processes import Pool

    settings = configs.overrides(options.set, options.workers)
    trials = plan(
        Choice(
            options.config, settings, options.trials, options.clock, options.mtbf, options.kill,
            options.target, options.seconds,
        )
    )  # fmt: skip
    with Pool(options.processes) as pool:
        made = perform(trials, pool, print_line)
    print_line("")
    show(trials, made)
    print_line(f"the worst again: {trials.again(worst(made))}")
    return 0 if all(each.reached for each in made) else 1


def check_options(options: argparse.Namespace) -> None:
    """Refuse numbers out of range, and options that have no effect."""
    from ..util.processes import MAX_PROCESSES

    for name, least, most, text in (
        ("trials", 1, 1000, "1 to 1000"),
        ("mtbf", 1e-9, 1e9, "a time above 0 and at most 1e9"),
        ("kill", 1, 2**31 - 1, "1 or more"),
        ("processes", 1, MAX_PROCESSES, f"1 to {MAX_PROCESSES}"),
        ("workers", 1, 2**31 - 1, "1 or more"),
        ("seconds", 1e-9, 1e9, "a time above 0 and at most 1e9"),
        ("target", 1e-300, 1e300, "a number above 0"),
    ):
        value = getattr(options, name)
        if value is not None and not least <= value <= most:
            raise InputError(f"--{name} {value:.15g}: expected {text}")
    if options.clock == "mpi" and options.processes is not None:
        raise InputError(f"--processes {options.processes}: valid only with --clock virtual")
