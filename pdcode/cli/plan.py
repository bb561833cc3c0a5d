"""`pdcode plan`: search for a faster configuration."""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..analysis import style
from ..mpi import launch
from ..util.errors import InputError
from ..util.output import print_line
from . import arguments

if TYPE_CHECKING:
    from ..studies.search import Environment


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "plan",
        help="search for a faster scheme in virtual time, and write it as a configuration",
        description="Search for the scheme, code, memory, wire format, updates and learning rate that reach "
        "the target of a configuration soonest, by simulated runs with its workers, stragglers, machine and "
        "link, or with those of a recorded run. Prints a ranking that includes the configuration itself, and "
        "writes the best as a configuration for `pdcode run`. Exit codes: 0 done, 1 no candidate reached the "
        "target, 2 bad input.",
    )
    option = command.add_argument
    arguments.add_job(command, "link.bandwidth=1e6")
    option("--trace", metavar="TRACE", help="plan with the delays, machine and link of this recorded run")
    arguments.add_target(command)
    what = "initial candidates (default: 24); presets and uncoded schemes are always included"
    option("--candidates", type=int, metavar="N", help=what)
    what = "runs per finalist (default: 5), or with --map per scheme and cell (default: 2)"
    option("--seeds", type=int, metavar="N", help=what)
    what = "each rung of the search keeps 1/η of its candidates (default: 3)"
    option("--eta", type=float, metavar="η", help=what)
    arguments.add_seconds(command, ", else about 100000 arrivals")
    arguments.add_processes(command)
    what = "TOML file for the best configuration (default: results/<name>.plan.toml)"
    option("-o", "--output", metavar="TOML", help=what)
    what = "compare presets and uncoded schemes over a grid of bandwidths and delays instead of searching"
    option("--map", action="store_true", help=what)
    option("--figure", metavar="PNG", help="figure of --map (default: results/<name>.map.png)")
    what = "bandwidths of --map: bytes/s of rank 0's link (default: 1e5,1e6,1e7,1e8,1e9)"
    option("--bandwidths", metavar="B,B,…", help=what)
    what = (
        "delays of --map: multiples of the configuration's delays, 0 for none (default: 0,0.25,1,4,16; with "
        "--trace 0,1,2,4,8); without [stragglers]: mean exponential delay, in gradient compute times"
    )
    option("--severities", metavar="S,S,…", help=what)
    command.set_defaults(function=plan)


def plan(options: argparse.Namespace) -> int:
    """Run the search, or with ``--map`` draw the map."""
    launch.alone("plan")
    check_options(options)
    return draw_map(options) if options.map else find_best(options)


def check_options(options: argparse.Namespace) -> None:
    """Refuse numbers out of range, and options of the other mode."""
    arguments.ensure_in_range(
        options,
        candidates=(2, 10_000, "2 to 10000"),
        eta=(math.nextafter(1, 2), 100, "a number above 1 and at most 100"),
        target=(-sys.float_info.max, sys.float_info.max, "a loss"),
    )
    searching, mapping = ("candidates", "eta", "seconds", "output"), ("figure", "bandwidths", "severities")
    for name in searching if options.map else mapping:
        value = getattr(options, name)
        if value is not None:
            raise InputError(f"--{name} {value}: valid only {'without' if options.map else 'with'} --map")


def find_best(options: argparse.Namespace) -> int:
    """Search, print the ranking and write the best configuration."""
    from ..studies import plan_file as best
    from ..studies import plan_table as report
    from ..studies import search
    from ..util.processes import Pool

    environment = load_environment(options)
    goal, trace = environment.goal, environment.trace
    path = best.output_path(options.config, options.output)
    size = options.candidates or 24, options.seeds or 5, options.eta or 3.0, options.seconds
    with Pool(options.processes) as pool:
        found = search.search(environment, pool, print_line, *size)
    row = found.rows[0]
    reached = row.missed < len(row.outcomes)
    if reached:  # before printing, which may fail on a closed pipe
        command = shlex.join(["pdcode", *options.argv])
        config = best.best_config(found, environment, options.seconds)
        best.write_plan(path, config, best.comments(found, goal, command))
    print_line("")
    report.show(found.rows, found.seeds, found.rungs)
    if not reached:
        print_line(f"no candidate reached {goal}: no plan was written")
        return 1
    if trace is not None:
        recorded_s = goal.seconds(trace)
        when = f"after {report.seconds(recorded_s)}" if math.isfinite(recorded_s) else "never"
        own, best_one = (
            f"{'more than ' if entry.missed else ''}{report.seconds(entry.time.mean)}"
            for entry in (found.own, row)
        )
        print_line(
            f"recorded in {trace.path}: {goal} {when}\n"
            f"predicted with its delays: {own} for your own configuration, {best_one} for number 1\n"
        )
    print_line(f"plan: {path} (pdcode run {shlex.quote(str(path))})")
    return 0


def load_environment(options: argparse.Namespace) -> Environment:
    """Load configuration, trace and target, and print the target."""
    from ..api import configs
    from ..studies import search
    from ..training.setup import shared_delays
    from . import guard

    if options.trace is not None:
        guard.probe_in_subprocess(options.trace)
    overrides = configs.overrides(options.set, options.workers)
    environment = search.load_environment(options.config, overrides, options.trace, options.target)
    goal, user = environment.goal, environment.user
    under = "" if options.trace is None else f", delays and costs of {options.trace}"
    print_line(f"target: {goal} ({goal.source}); {user.workers.count} workers{under}")
    for line in shared_delays(environment.config):
        print_line(line)
    other = "accuracy" if goal.kind == "loss" else "loss"
    if getattr(user.stop, other) is not None:
        print_line(f"stop.{other} is ignored: a plan has one target")
    return environment


def draw_map(options: argparse.Namespace) -> int:
    """Compare the schemes over a grid of bandwidths and delays; print and draw the map."""
    from ..studies import chart, survey
    from ..util.processes import Pool

    figure = options.figure or str(Path("results") / f"{Path(options.config).stem}.map.png")
    style.ensure_figure_can_be_drawn(figure)
    environment = load_environment(options)
    config, kind = environment.config, environment.config.stragglers.kind
    severities = survey.RECORDED if kind == "trace" else survey.SEVERITIES
    grid = survey.Grid(
        numbers("bandwidths", options.bandwidths, survey.BANDWIDTHS, 1.0),
        numbers("severities", options.severities, severities, 0.0),
    )
    seeds = range(config.seed, config.seed + (options.seeds or 2))
    with Pool(options.processes) as pool:
        cells, names = survey.survey_cells(environment, grid, seeds, pool, print_line)
    none = kind == "none"
    axis = "mean delay, × compute time of a gradient" if none else "delays, × those of the configuration"
    title = f"Fastest to {environment.goal}, and by what factor; {config.workers.count} workers"
    print_line("")
    chart.show(cells, grid, title, axis)
    style.save(chart.draw_map(cells, grid, names, title, axis), figure)
    print_line(f"figure: {figure}")
    return 0


def numbers(name: str, text: str | None, default: Sequence[float], least: float) -> list[float]:
    """Parse and sort the comma-separated numbers of an option."""
    if text is None:
        return list(default)
    try:
        values = sorted({float(part) for part in text.split(",")})
    except ValueError:
        raise InputError(f"--{name} {text}: expected numbers, such as 1e6,1e8") from None
    if not all(least <= value <= 1e18 for value in values):
        raise InputError(f"--{name} {text}: expected numbers from {least:g} to 1e18")
    return values
