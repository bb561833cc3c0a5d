"""`pdcode plan`."""

from __future__ import annotations

import argparse
import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..analysis import style
from ..mpi import launch
from ..util.errors import InputError, within
from ..util.output import say

MOST_SEED = 2**63 - 1 - 10**6  # the search, the tuning and the descents have seeds of their own


def add(commands: Any) -> None:
    """Add the command to the parser's."""
    command = commands.add_parser(
        "plan",
        help="search for a faster scheme in virtual time, and write it as a configuration",
        description="Search for the scheme, code, memory, wire, updates and step size that reach the target "
        "of a configuration soonest, by descents on the virtual clock under its workers, stragglers, machine "
        "and link, or under those of a recorded run. Prints the best beside the configuration itself, and "
        "writes the first as a configuration for `pdcode run`. Exit codes: 0 done, "
        "1 nothing reached the target, 2 bad input.",
    )
    command.add_argument("config", metavar="CONFIG", help="TOML file, such as jobs/digits.toml")
    command.add_argument(
        "--trace",
        metavar="TRACE",
        help="plan under the delays, the machine and the link of this recorded run",
    )
    command.add_argument(
        "--target", type=float, metavar="LOSS", help="training loss to reach (instead of the one of [stop])"
    )
    command.add_argument(
        "-n", "--workers", type=int, metavar="WORKERS", help="number of workers (instead of workers.count)"
    )
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a key, such as link.bandwidth=1e6; may be repeated",
    )
    command.add_argument(
        "--candidates",
        type=int,
        default=24,
        metavar="N",
        help="how many to begin with (%(default)s); the presets and the uncoded schemes are among them, even "
        "if they are more",
    )
    command.add_argument(
        "--seeds", type=int, metavar="N", help="descents of each finalist (5), or of each cell's schemes (2)"
    )
    command.add_argument(
        "--eta", type=float, default=3.0, metavar="η", help="each rung keeps 1/η of them (%(default)g)"
    )
    command.add_argument(
        "--seconds",
        type=float,
        metavar="S",
        help="virtual time that the configuration itself may take to the target (as [stop] says)",
    )
    command.add_argument("--processes", type=int, metavar="N", help="processes (one a core)")
    command.add_argument(
        "-o", "--output", metavar="TOML", help="where to write the first (results/<name>.plan.toml)"
    )
    command.add_argument(
        "--map",
        action="store_true",
        help="instead, which of the presets and uncoded schemes is first, and by what factor, over "
        "bandwidths and delays",
    )
    command.add_argument("--figure", metavar="PNG", help="of --map (results/<name>.map.png)")
    command.add_argument(
        "--bandwidths", metavar="B,B,…", help="of --map, bytes/s of rank 0's link (1e5,1e6,1e7,1e8,1e9)"
    )
    command.add_argument(
        "--severities",
        metavar="S,S,…",
        help="of --map, multiples of the configuration's delays, 0 for none (0,0.25,1,4,16; of a trace's "
        "0,1,2,4,8); where there are none, means of exponential delays in compute times of a gradient",
    )
    command.set_defaults(function=plan)


def plan(options: argparse.Namespace) -> int:
    """Search, or draw the map."""
    launch.alone("plan")
    check(options)
    return chart(options) if options.map else best(options)


def check(options: argparse.Namespace) -> None:
    """Refuse numbers that cannot be meant.

    Raises
    ------
    InputError
        Naming option and value.
    """
    for name, least in (("candidates", 2), ("seeds", 1), ("processes", 1), ("workers", 1)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise InputError(f"--{name} {value}: expected {least} or more")
    if not 1 < options.eta <= 100:
        raise InputError(f"--eta {options.eta:g}: expected more than 1, and no more than 100")
    if options.seeds is not None and options.seeds > 1000:
        raise InputError(f"--seeds {options.seeds}: expected 1000 or less")
    if options.seconds is not None and not 0 < options.seconds <= 1e9:
        raise InputError(f"--seconds {options.seconds:g}: expected a time above 0")
    if options.target is not None and not math.isfinite(options.target):
        raise InputError(f"--target {options.target}: expected a loss")
    for name in ("figure", "bandwidths", "severities", "output", "seconds"):
        value = getattr(options, name)
        if value is not None and options.map == (name in ("output", "seconds")):
            raise InputError(f"--{name} {value}: goes {'without' if options.map else 'with'} --map")


def best(options: argparse.Namespace) -> int:
    """Search, print the ranking, write the first."""
    from ..planning import table, winner
    from ..planning.plan import Plan, recorded, search
    from ..util.processes import Pool

    user, ground, goal, trace = setting(options)
    path = winner.place(options.config, options.output)
    plan = Plan(
        ground, goal, options.candidates, options.seeds or 5, options.eta, options.seconds, options.config
    )
    with Pool(options.processes) as pool:
        found = search(plan, pool, say)
    first, own = found.lines[0], found.own
    traces = [options.trace] if options.trace else []
    command = shlex.join(["pdcode", *options.argv])
    reached = first.missed < len(first.outcomes)
    if reached:
        winner.write(
            path,
            winner.config_of(first, user, goal, traces, options.seconds),
            winner.comments(first, own, goal, plan.final_seeds, found.candidates, command),
        )
    say("")
    table.show(found.lines, plan.final_seeds, found.rankings)
    if not reached:
        say(f"\nno candidate reached {goal}: no plan was written")
        return 1
    if trace is not None:
        then = recorded(trace, goal)
        when = f"after {table.seconds(then)}" if math.isfinite(then) else "never"
        guess, planned = (
            f"{'more than ' if line.missed else ''}{table.seconds(line.time.mean)}" for line in (own, first)
        )
        say(
            f"\nrecorded in {trace.path}: {goal} {when}\n"
            f"predicted under its delays: {guess} for your own configuration, {planned} for number 1"
        )
    say(f"\nplan: {path} (pdcode run {shlex.quote(str(path))})")
    return 0


def setting(options: argparse.Namespace) -> tuple[Any, Any, Any, Any]:
    """The user's configuration, the one that is planned for, the goal, and the trace.

    Raises
    ------
    InputError
        Naming file, key and value.
    """
    from ..config import load as configfile
    from ..planning.goal import choose
    from ..planning.plan import measured
    from ..trace.reader import Trace
    from ..virtual.simulation import check_count

    overrides = [*options.set]
    if options.workers is not None:
        overrides.append(f"workers.count={options.workers}")
    user, _ = configfile.load(options.config, overrides)
    trace = None if options.trace is None else Trace(options.trace)
    with within(options.config):
        if user.faults.raise_worker is not None:
            worker = user.faults.raise_worker
            raise InputError(f"faults.raise_worker: worker {worker} would end every descent")
        check_count(user)
        if user.seed > MOST_SEED:
            raise InputError(
                f"seed: {user.seed}: a plan takes the seeds after it, too: {MOST_SEED} at the most"
            )
        goal = choose(user, trace, options.target)
    ground = user if options.trace is None else measured(user, options.trace)
    under = "" if options.trace is None else f", delays and costs of {options.trace}"
    say(f"target: {goal} ({goal.source}); {user.workers.count} workers{under}")
    other = "accuracy" if goal.kind == "loss" else "loss"
    if getattr(user.stop, other) is not None:
        say(f"stop.{other} is left out: the plan is for one target")
    return user, ground, goal, trace


def chart(options: argparse.Namespace) -> int:
    """Run the schemes over the grid, print who is first, draw it."""
    from ..planning import chart, phase
    from ..util.processes import Pool

    figure = options.figure or str(Path("results") / f"{Path(options.config).stem}.map.png")
    style.check(figure)
    _, ground, goal, _ = setting(options)
    kind = ground.stragglers.kind
    default = phase.RECORDED if kind == "trace" else phase.SEVERITIES
    grid = phase.Grid(
        numbers("bandwidths", options.bandwidths, phase.BANDWIDTHS, 1.0),
        numbers("severities", options.severities, default, 0.0),
    )
    seeds = range(ground.seed, ground.seed + (options.seeds or 2))
    with Pool(options.processes) as pool:
        cells, names = phase.survey(ground, goal, grid, seeds, pool, say, options.config)
    unit = "compute time of a gradient" if kind == "none" else "that of the configuration"
    axis = f"mean delay, × {unit}" if kind == "none" else "delays, × those of the configuration"
    title = f"First to {goal}, and by what factor; {ground.workers.count} workers"
    say("")
    chart.show(cells, grid, title, axis)
    chart.draw(cells, grid, names, title, axis, figure)
    say(f"\nfigure: {figure}")
    return 0


def numbers(name: str, text: str | None, default: Sequence[float], least: float) -> list[float]:
    """Numbers of an option, in order, each once.

    Raises
    ------
    InputError
        Naming option and value.
    """
    if text is None:
        return list(default)
    try:
        found = sorted({float(part) for part in text.split(",")})
    except ValueError:
        raise InputError(f"--{name} {text}: expected numbers, such as 1e6,1e8") from None
    if not all(least <= value <= 1e18 for value in found):
        raise InputError(f"--{name} {text}: expected numbers of at least {least:g}")
    return found
