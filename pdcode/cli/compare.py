"""`pdcode compare`: schemes under the same delays, ranked."""

import argparse
from pathlib import Path
from typing import Any

from ..analysis import style
from ..util.output import print_line
from . import arguments

RUNS = 16  # per scheme, of --tune without a number


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "compare",
        help="run several schemes under the same delays, and rank them",
        example="jobs/digits.toml --schemes lwpd,uncoded,topk --target 0.1 --tune",
        description="Run schemes on the problem, workers and delays of a configuration, each with the same "
        "seeds, on the virtual clock or over MPI. Prints a ranked table with 95 % intervals, and writes an "
        "HDF5 file for `pdcode show` and a configuration of each scheme. Exit codes: 0 done, 1 failure, 2 "
        "bad input.",
    )
    option = command.add_argument
    arguments.add_job(command, "problem.batch=16", " for all schemes")
    what = (
        "schemes, separated by commas: NAME, NAME:PRESET or `yours`, the configuration itself, with "
        "/KEY=VALUE for keys to change; `all` every scheme and preset that can run"
    )
    option("--schemes", metavar="A,B,…", required=True, help=what)
    option("--seeds", type=int, default=5, metavar="N", help="runs per scheme (default: 5)")
    rate = command.add_mutually_exclusive_group()
    what = (
        "choose each scheme's learning rate and knobs first, such as momentum, wire format and rank, by N "
        f"runs with another seed (default: {RUNS}); keys that --schemes or --set gives stay"
    )
    rate.add_argument("--tune", type=int, nargs="?", const=RUNS, metavar="N", help=what)
    what = "read them from an earlier comparison, such as one of the other clock"
    rate.add_argument("--rates", metavar="FILE", help=what)
    arguments.add_clock(command)
    arguments.add_target(command)
    arguments.add_seconds(command)
    what = "delays of this recorded run, in random blocks, or of a workers × rounds matrix (CSV, HDF5) in s"
    option("--stragglers", metavar="FILE", help=what)
    what = "read [machine] and [link] from a TOML file, or fit them to a trace (virtual clock)"
    option("--cost", metavar="FILE", help=what)
    what = "bandwidth of rank 0's link, bytes/s or such as 1Gbit/s (virtual clock); sets link.bandwidth"
    option("--link", type=arguments.quantity("rate"), metavar="B", help=what)
    arguments.add_processes(command)
    option("-o", "--output", metavar="FILE", help="HDF5 file (default: results/<name>.compare.h5)")
    what = "also draw loss against time and bytes, with bands over the seeds (.png, .svg or .pdf)"
    option("--figure", metavar="PNG", help=what)
    option("--keep", action="store_true", help="keep the traces, beside the schemes' configurations")
    what = "do not print the table, which `pdcode show` prints, too"
    command.add_argument("--no-table", action="store_true", help=what)
    command.set_defaults(function=compare, alone="compare")


def compare(options: argparse.Namespace) -> int:
    """Run the comparison; print, draw and write it."""
    arguments.ensure_in_range(options, link=(1, 1e18, "1 to 1e18"))
    arguments.ensure_virtual(options, "cost", "link", "processes")
    from ..api import configs
    from ..studies import tournament
    from ..studies.comparison import Comparison
    from ..studies.comparison_file import ensure_savable
    from ..studies.trial import Journal
    from ..studies.tuning import Tuning
    from ..util.processes import Pool
    from . import guard

    output = Path(options.output or Path("results") / f"{Path(options.config).stem}.compare.h5")
    ensure_savable(output)
    if options.figure:
        style.ensure_figure_can_be_drawn(options.figure)
    for path in filter(None, (options.stragglers, options.cost, options.rates)):
        guard.probe_in_subprocess(path)
    rates = (options.rates, Comparison.load(options.rates)) if options.rates else None
    link = [] if options.link is None else [f"link.bandwidth={options.link!r}"]
    settings = configs.overrides([*options.set, *link], options.workers)
    files = {"stragglers": options.stragglers, "cost": options.cost}
    limits = {"target": options.target, "seconds": options.seconds}
    request = tournament.ComparisonRequest(
        options.config, options.schemes, settings, options.seeds, options.clock, **limits, **files
    )
    prepared = tournament.prepare(request, output.with_suffix(""))
    for line in prepared.notes:
        print_line(line)
    tune, journal = Tuning(options.tune) if options.tune else None, Journal(output.with_suffix(".journal"))
    how: dict[str, Any] = {"tune": tune, "rates": rates, "keep": options.keep, "journal": journal}
    with Pool(options.processes) as pool:
        comparison = tournament.perform(prepared, options.command, pool, print_line, **how)
    comparison.save(output)
    journal.remove()
    if not options.no_table:
        print_line("")
        comparison.show()
    print_line(f"repeat a run: {prepared.trial(prepared.candidates[0], prepared.seeds[0])}")
    print_line(f"comparison: {output}")
    if options.figure:
        style.save(comparison.plot(), options.figure)
        print_line(f"figure: {options.figure}")
    return 0
