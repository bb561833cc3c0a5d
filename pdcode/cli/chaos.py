"""`pdcode chaos`: a configuration under faults."""

import argparse
from typing import Any

from ..util.errors import Failure
from ..util.output import print_line
from . import arguments


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "chaos",
        help="run a configuration under faults, and measure their cost",
        example="jobs/digits.toml -n 8 --kill 2 --trials 10",
        description="Run a configuration several times with the faults of [faults] or of the options and "
        "without faults, each pair with the same seed, on the virtual clock or over MPI. Prints how many "
        "trials reached the target, the time lost per fault, and goodput: useful samples over the samples of "
        "the same machines without faults; over MPI also the cost of fault tolerance if nothing fails. Exit "
        "codes: 0 every trial that counts reached the target, 1 failure, 2 bad input.",
    )
    option = command.add_argument
    arguments.add_job(command, "update.mode=first")
    option("--trials", type=int, default=20, metavar="N", help="number of trials (default: 20)")
    what = (
        "mean time between failures of each worker, of the kind in faults.failure (instead of faults.mtbf_s)"
    )
    option("--mtbf", type=arguments.quantity("time"), metavar="S", help=what)
    what = (
        "kill N workers, at random times within the duration of the run without faults; trials that reach "
        "the target before are not counted"
    )
    option("--kill", type=int, metavar="N", help=what)
    arguments.add_clock(command)
    arguments.add_target(command)
    arguments.add_seconds(command)
    arguments.add_processes(command)
    command.set_defaults(function=chaos, alone="chaos")


def chaos(options: argparse.Namespace) -> int:
    """Run the trials and print their results; exit code 1 if one missed the target."""
    time = (1e-9, 1e9, "a time above 0 and at most 1e9")
    count = (1, 2**31 - 1, "1 or more")
    arguments.ensure_in_range(options, trials=(1, 1000, "1 to 1000"), mtbf=time, kill=count)
    arguments.ensure_virtual(options, "processes")
    from ..api import configs
    from ..studies.chaos import ChaosRequest, perform, prepare, show, worst
    from ..util.processes import Pool

    settings = configs.overrides(options.set, options.workers)
    trials = prepare(
        ChaosRequest(
            options.config, settings, options.trials, options.clock, options.mtbf, options.kill,
            options.target, options.seconds,
        )
    )  # fmt: skip
    with Pool(options.processes) as pool:
        made = perform(trials, pool, print_line)
    print_line("")
    show(trials, made)
    counted = [each for each in made if each.counts]
    if not counted:
        raise Failure(
            "--kill: every trial reached the target before all its kills; a harder one takes longer"
        )
    print_line(f"repeat the worst: {trials.repeat_command(worst(counted))}")
    return 0 if all(each.faulty.reached for each in counted) else 1
