"""`pdcode plan`: search for a faster configuration."""

from __future__ import annotations

import argparse
import math
import os
import shlex
from typing import TYPE_CHECKING, Any

from ..util.errors import InputError
from ..util.formats import counted, duration
from ..util.output import print_line
from . import arguments

if TYPE_CHECKING:
    from ..studies.candidate import Candidate
    from ..studies.ranking import Row
    from ..studies.search import Environment, SearchResult


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "plan",
        help="search for a faster scheme in virtual time, and write it as a configuration",
        example="jobs/digits.toml --target 0.1 -o best.toml",
        description="Search for the scheme, code, memory, wire format, updates and learning rate that reach "
        "the target of a configuration soonest, by simulated runs with its workers, stragglers, machine and "
        "link, or as in a recorded run. Prints a ranking that includes the configuration itself, and "
        "writes the best as a configuration for `pdcode run`. With --like, for a job of another program: its "
        "recorded times, the loss of a stand-in problem, and what another worker, link or policy changes. "
        "Exit codes: 0 done, 1 no candidate reached the target, 2 bad input.",
    )
    option = command.add_argument
    arguments.add_job(command, "workers.count=16", optional=True)
    option("--trace", metavar="TRACE", help="plan with the delays, machine and link of this recorded run")
    what = "instead of CONFIG: stand-in problem for the job whose times TRACE has, such as a DDP script's"
    option("--like", metavar="CONFIG", help=what)
    what = "time t of P(T ≤ t), the chance to reach the target by then (default with --like: the job's own)"
    option("--deadline", type=arguments.quantity("time"), metavar="S", help=what)
    arguments.add_target(command)
    what = (
        "schemes that the search begins with: your own, the portfolio's in its order, then drawn ones "
        "(default: the portfolio)"
    )
    option("--candidates", type=int, metavar="N", help=what)
    option("--seeds", type=int, metavar="N", help="runs per finalist (default: 5, with --like 20)")
    what = "each rung of the search keeps 1/η of its schemes (default: 4)"
    option("--eta", type=float, metavar="η", help=what)
    arguments.add_seconds(command, ", else about 100000 arrivals")
    arguments.add_processes(command)
    what = "TOML file for the best configuration (default: results/<name>.plan.toml)"
    option("-o", "--output", metavar="TOML", help=what)
    command.set_defaults(function=plan, alone="plan")


def plan(options: argparse.Namespace) -> int:
    """Search, print the ranking and write the best configuration."""
    arguments.ensure_in_range(
        options,
        candidates=(2, 10_000, "2 to 10000"),
        eta=(math.nextafter(1, 2), 100, "a number above 1 and at most 100"),
        deadline=arguments.RANGES["seconds"],
    )
    if (options.config is None) == (options.like is None) or (options.like and options.trace is None):
        raise InputError("plan: expected CONFIG, or --trace TRACE --like CONFIG")
    from ..studies import plan_file, search, what_ifs
    from ..studies.results_table import format_seconds, show_plan
    from ..util.processes import Pool

    environment = load_environment(options)
    goal, trace = environment.goal, environment.trace
    path = plan_file.output_path(options.like or options.config, options.output)
    seeds = options.seeds or (20 if options.like else 5)
    size = options.candidates, seeds, options.eta or 4.0, options.seconds
    changed: list[Row[Candidate]] = []
    deadline_s, source = options.deadline, "--deadline"
    before = os.times()
    with Pool(options.processes) as pool:
        found = search.search(environment, pool, print_line, *size)
        if options.like:
            changed, own_s = what_ifs.perform(environment, found, pool)
        if options.like and deadline_s is None:
            deadline_s, source = own_s, "the job's own time, with its delays in their order"
    used_s = sum(now - then for now, then in zip(os.times()[:4], before[:4], strict=True))
    row = found.rows[0]
    reached = row.missed < len(row.runs)
    if reached:  # before printing, which may fail on a closed pipe
        config = plan_file.best_config(found, environment, options.seconds)
        plan_file.write_plan(path, config, plan_file.comments(found, environment, options.command, path))
    print_line("")
    show_plan(found.rows, found.seeds, found.rungs)
    if deadline_s is not None:
        what_ifs.show([*found.rows, *changed], found.own, deadline_s, source)
    if not reached:
        print_line(f"no candidate reached {goal}: no plan was written")
        return 1
    if trace is not None and not options.like:
        own, best_one = (
            f"{'more than ' if entry.missed else ''}{format_seconds(entry.time.mean)}"
            for entry in (found.own, row)
        )
        print_line(f"recorded in {trace.path}: {goal} {goal.reached(trace)}")
        print_line(f"predicted with its delays: {own} for your own configuration, {best_one} for number 1")
        print_line("")
    print_line(f"{plan_file.price(found)} {format_gain(found, used_s, environment.user.workers.count)}")
    print_line(f"plan: {path} (pdcode run {shlex.quote(str(path))})")
    return 0


def format_gain(found: SearchResult, used_s: float, workers: int) -> str:
    """Describe what the search has cost in processor time, and what the chosen configuration saves."""
    spent = f"They took {duration(1e9 * used_s)} of processor time"
    saved_s = found.own.time.mean - found.rows[0].time.mean
    if found.rows[0].missed:
        return f"{spent}."
    if not saved_s > 0:
        return f"{spent}, and nothing is faster."
    runs = math.ceil(used_s / (saved_s * workers))
    return (
        f"{spent}; a job is shorter by {duration(1e9 * saved_s)} on each of "
        f"{counted(workers, 'worker')}, which pays for the search after {counted(runs, 'job')}."
    )


def load_environment(options: argparse.Namespace) -> Environment:
    """Load configuration, trace and target, and print the target."""
    from ..api import configs
    from ..session.setup import shared_delays
    from ..studies import search
    from ..virtual.costs import FASTEST
    from . import guard

    if options.trace is not None:
        guard.probe_in_subprocess(options.trace)
    overrides = configs.overrides(options.set, options.workers)
    given = options.like or options.config, overrides, options.trace, options.target, bool(options.like)
    environment = search.load_environment(*given)
    if options.like:
        print_line(
            f"times of {options.trace}, a recorded job; loss of {options.like}, a stand-in for what it "
            "trains; “yours” is the job: all-reduces of whole gradients"
        )
        if environment.config.link.bandwidth >= FASTEST:
            print_line(f"{options.trace} has no times of links: messages take none")
    goal, user = environment.goal, environment.user
    under = "" if options.trace is None else f", delays and costs of {options.trace}"
    print_line(f"target: {goal} ({goal.source}); {counted(user.workers.count, 'worker')}{under}")
    for line in shared_delays(environment.config):
        print_line(line)
    other = "accuracy" if goal.kind == "loss" else "loss"
    if getattr(user.stop, other) is not None:
        print_line(f"stop.{other} is ignored: a plan has one target")
    return environment
