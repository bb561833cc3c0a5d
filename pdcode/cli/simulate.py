"""`pdcode simulate`: a run on the virtual clock, in one process or distributed over MPI ranks."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..launch import launcher
from ..util import progress
from ..util.errors import prefix_errors
from ..util.output import print_line
from . import arguments

if TYPE_CHECKING:
    from ..api.simulation import Request
    from ..session.setup import Components


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "simulate",
        help="run a configuration on the virtual clock",
        example="jobs/digits.toml -n 64 --set link.bandwidth=100Mbit/s",
        description="Run a configuration on the virtual clock: the coordinator of `pdcode run` with "
        "virtual workers, whose task times follow [machine], [link] and [stragglers]. This process, or all "
        "ranks under mpirun, computes the payloads. Exit codes: 0 done, 1 failure, 2 bad input.",
    )
    arguments.add_job(command)
    option = command.add_argument
    what = "HDF5 file to write (instead of trace.path with the extension .virtual.h5)"
    option("-o", "--output", metavar="TRACE", help=what)
    what = (
        "replay delays from FILE: a trace, or a workers × rounds matrix (CSV, HDF5) in seconds (total task "
        "times with --set stragglers.times=task). With a trace, costs are fitted unless --cost is given"
    )
    option("--stragglers", metavar="FILE", help=what)
    what = "read [machine] and [link] from a TOML file, or fit them to a trace"
    option("--cost", metavar="FILE", help=what)
    what = "simulate arrival times only, without gradients (not with policies or faults that need them)"
    option("--timing-only", action="store_true", help=what)
    arguments.add_resume(command)
    what = "print the resolved configuration, the codes and the message sizes, and exit"
    command.add_argument("--dry-run", action="store_true", help=what)
    command.set_defaults(function=simulate)


def simulate(options: argparse.Namespace) -> int:
    """Simulate a run and print its summary."""
    from ..api import configs, simulation
    from . import guard, preview, starting

    launcher.ensure_mpi(os.environ)
    for file in filter(None, (options.stragglers, options.cost)):
        guard.probe_in_subprocess(file)
    settings = configs.overrides(options.set, options.workers, options.output)
    files = options.output, options.stragglers, options.cost
    request = simulation.load(options.config, settings, *files, options.timing_only, options.resume)
    guard.probe_inputs(request.loaded.config)
    if options.dry_run:
        with starting.at_once():
            text = preview.dry_run(options.config, settings, request.loaded.config)
        print(text)
        return 0
    place = launcher.launched_rank(os.environ)
    if request.ended and (place is None or place[1] == 1):
        print_line(f"{request.loaded.config.trace.path}: the run has ended; there is nothing to resume")
        return 0
    stop = request.loaded.config.stop
    what = "simulation" if stop.loss is stop.accuracy is None else "simulation, at most"
    with progress.work(what, 1 if stop.limited else None) as work:
        request = replace(request, report=work.report, starting=starting.at_once)
        if place is not None and place[1] > 1:
            return spread(request)
        return simulation.simulate(request, print_line).code


def spread(request: Request) -> int:
    """Simulate on the ranks of a launcher."""
    if request.timing_only:
        launcher.require_one_process("--timing-only")
    if request.resume or request.loaded.config.trace.checkpoint_s is not None:
        launcher.require_one_process("trace.checkpoint_s")
    from ..api import simulation
    from ..choice.preset import prepare
    from ..launch import siblings
    from ..mpi import spread
    from ..mpi.process import job
    from ..session.run import check_writable
    from ..session.setup import check_count, worker_builder
    from ..virtual.simulation import Simulation

    config, _, name = request.loaded

    def make() -> Components:
        with prefix_errors(name):
            check_count(config)
        components = prepare(config, name)
        if comm.rank == 0:
            check_writable(config.trace.path, name, config.stragglers.reads)
        return components

    with job(named=False) as comm:
        components = spread.collective(make, comm)
        siblings.run_started()
        config = components.config
        mine = components.layouts, config.workers.count, worker_builder(config, components), comm
        if comm.rank:
            spread.serve(*mine)
            return 0
        executor = spread.MPIExecutor(*mine)
        trace, result = simulation.run_traced(Simulation(components, executor), request, print_line)
    simulation.report(trace, result, request, print_line)
    return result.code
