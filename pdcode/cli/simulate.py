"""`pdcode simulate`: a run on the virtual clock, in one process or distributed over MPI ranks."""

from __future__ import annotations

import argparse
import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..mpi import launch
from ..util import signals
from ..util.errors import InputError, within
from ..util.output import print_line
from .run import check_writable

if TYPE_CHECKING:
    from ..config.tables import Config
    from ..trace import Trace, TraceWriter
    from ..training.monitor import Print
    from ..training.setup import Components
    from ..virtual.result import Result
    from ..virtual.simulation import Simulation

VIRTUAL = ".virtual.h5"


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "simulate",
        help="run a configuration on the virtual clock",
        description="Run a configuration on the virtual clock: the coordinator of `pdcode run` with virtual "
        "workers, whose task times follow [machine], [link] and [stragglers]. Payloads are computed, by this "
        "process or, under mpirun, by all ranks. Exit codes: 0 done, 1 failure, 2 bad input.",
    )
    command.add_argument("config", metavar="CONFIG", help="TOML file, such as jobs/digits.toml")
    command.add_argument(
        "-n", "--workers", type=int, metavar="WORKERS", help="number of workers (instead of workers.count)"
    )
    command.add_argument(
        "-o", "--output", metavar="TRACE", help="HDF5 file to write (instead of trace.path's .virtual.h5)"
    )
    command.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a key; may be repeated"
    )
    command.add_argument(
        "--stragglers",
        metavar="FILE",
        help="replay delays from FILE: a trace, or a workers × rounds matrix (CSV, HDF5) in seconds (total "
        "task times with --set stragglers.times=task). With a trace, costs are fitted unless --cost is given",
    )
    command.add_argument(
        "--cost", metavar="FILE", help="read [machine] and [link] from a TOML file, or fit them to a trace"
    )
    command.add_argument(
        "--timing-only",
        action="store_true",
        help="simulate arrival times only, without gradients (not with policies or faults that need them)",
    )
    command.set_defaults(function=simulate)


def simulate(options: argparse.Namespace) -> int:
    """Simulate a run and print its summary."""
    launch.ensure_mpi(os.environ)
    config, text = load_config(options)
    place = launch.place(os.environ)
    if place is None or place[1] == 1:
        return alone(config, text, options)
    return spread(config, text, options)


def load_config(options: argparse.Namespace) -> tuple[Config, str]:
    """Load the configuration with the overrides of the options.

    Raises
    ------
    InputError
        Naming file, key and value.
    """
    import msgspec

    from ..config import load as configfile
    from ..trace import opening
    from ..virtual import costs

    read = [name for name in (options.stragglers, options.cost) if name is not None]
    for name in read:
        opening.survive(name)
    overrides, recorded = [], recorded_run(options.stragglers)
    if options.stragglers is not None:
        # Replay each worker's delays in order if all are recorded; else draw blocks of them.
        kept = "all" if recorded is None else recorded.attributes.get("arrivals", "all")
        draw = "replay" if kept == "all" else "block"
        path = json.dumps(options.stragglers, ensure_ascii=False)
        overrides.append(f'stragglers={{kind = "trace", path = {path}, draw = "{draw}"}}')
    overrides += options.set
    if options.workers is not None:
        overrides.append(f"workers.count={options.workers}")
    if options.output is not None:
        overrides.append(f"trace.path={json.dumps(options.output, ensure_ascii=False)}")
    config, text = configfile.load(options.config, overrides)
    if options.output is None:
        path = str(Path(config.trace.path).with_suffix("")) + VIRTUAL
        config = msgspec.structs.replace(config, trace=msgspec.structs.replace(config.trace, path=path))
    written = Path(config.trace.path)
    for name in read:
        if Path(name).resolve() in (written.resolve(), opening.previous(written).resolve()):
            raise InputError(f"{name}: an input file cannot be overwritten by the trace; use -o")
    if options.cost is not None:
        config = costs.load(options.cost, config)
    elif recorded is not None:
        config = costs.load(options.stragglers, config, base="low")
    return config, text


def recorded_run(path: str | None) -> Trace | None:
    """Open a file of delays if it is a trace, and read what the prediction is compared with at the end."""
    from ..trace import Trace, opening

    if path is None or not opening.is_trace(Path(path)):
        return None
    trace = Trace(path)
    if trace.config:
        dict(trace.progress)
    return trace


def alone(config: Config, text: str, options: argparse.Namespace) -> int:
    """Simulate in this process."""
    import numpy as np

    from ..training.setup import prepare
    from ..virtual import timing_only
    from ..virtual.executor import NullExecutor
    from ..virtual.simulation import Simulation, check_count

    with within(options.config):
        if options.timing_only:
            config = timed(config)
            timing_only.check_captured(config)
        quick = options.timing_only and timing_only.is_timeable(config)
        (timing_only.ensure_timeable if quick else check_count)(config)
    components = prepare(config, options.config)
    check_writable(config.trace.path, options.config, config.stragglers.reads)
    if quick:
        return report(*times(config, text, components), options)
    simulation = Simulation(
        config, components, NullExecutor(components.layouts) if options.timing_only else None
    )
    with np.errstate(all="ignore"):  # the monitor checks the loss
        trace, result = perform(simulation, text, options, print_line)
    return report(trace, result, options)


def timed(config: Config) -> Config:
    """Remove the stop criteria that need numerics.

    Raises
    ------
    InputError
        If no other remains, or if ``[faults]`` needs payloads.
    """
    import msgspec

    for key in ("raise_worker", "nan_worker"):
        if (worker := getattr(config.faults, key)) is not None:
            raise InputError(f"faults.{key}: worker {worker} computes no payloads without numerics")
    stop = msgspec.structs.replace(config.stop, loss=None, accuracy=None)
    if not stop.ends:
        raise InputError("stop.updates: without numerics, updates or seconds must end the run")
    return msgspec.structs.replace(config, stop=stop)


def times(config: Config, text: str, components: Components) -> tuple[TraceWriter, Result]:
    """Simulate with the timing-only loop in C."""
    from ..training.session import open_trace
    from ..virtual.fleet import VirtualRanks
    from ..virtual.simulation import task_time_ns, without_numerics

    for line in components.remarks():
        print_line(line)
    attributes = {"clock": "virtual", "numerics": False, "task_ns": task_time_ns(config, components)}
    trace = open_trace(config, text, components, VirtualRanks(config.workers.count), **attributes)
    with ExitStack() as stack:
        result = without_numerics(
            config,
            components,
            trace,
            lambda run: stack.enter_context(signals.handled(signals.interrupts(run))),
            print_line,
        )
        names = ("arrivals", "used", "wasted", "bytes_up", "bytes_down")
        trace.close(counters=clocked(result) | {name: getattr(result, name) for name in names})
    print_line(f"stopped: {result.reason}, after {result.updates:,} updates without numerics")
    print_line(f"trace: {trace.path}")
    return trace, result


def clocked(result: Result) -> dict[str, float]:
    """Return the virtual clock's counters, for the trace."""
    return {
        "version": result.updates,
        "t_stop_ns": round(1e9 * result.seconds),
        **{name: getattr(result, name) for name in ("processor_ns", "ingress_ns", "egress_ns", "length_ns")},
    }


def spread(config: Config, text: str, options: argparse.Namespace) -> int:
    """Simulate on the ranks of a launcher."""
    if options.timing_only:
        launch.alone("--timing-only")
    from ..mpi import spread
    from ..mpi.process import job
    from ..training.setup import prepare, worker_builder
    from ..virtual.simulation import Simulation, check_count

    def make() -> Components:
        with within(options.config):
            check_count(config)
        components = prepare(config, options.config)
        if comm.rank == 0:
            check_writable(config.trace.path, options.config, config.stragglers.reads)
        return components

    with job(named=False) as comm:
        components = spread.together(make, comm)
        mine = components.layouts, config.workers.count, worker_builder(config, components), comm
        if comm.rank:
            spread.serve(*mine)
            return 0
        simulation = Simulation(config, components, spread.MPIExecutor(*mine))
        trace, result = perform(simulation, text, options, print_line)
    return report(trace, result, options)


def perform(
    simulation: Simulation, text: str, options: argparse.Namespace, print_line: Print
) -> tuple[TraceWriter, Result]:
    """Run a simulation with a trace."""
    from ..training.session import close_trace, open_trace

    config = simulation.config
    attributes = {"clock": "virtual", "numerics": not options.timing_only, "task_ns": simulation.task_ns}
    trace = open_trace(config, text, simulation.components, simulation.fleet, **attributes)
    with signals.handled(signals.interrupts(simulation.fleet)):
        descent, result = simulation.run(trace, print_line)
        close_trace(trace, descent, clocked(result))
    return trace, result


def report(trace: TraceWriter, result: Result, options: argparse.Namespace) -> int:
    """Print the summary, record the oracle's time in the trace, and return the exit code.

    The trace is complete by now; an interrupt may end this at once.
    """
    from ..analysis import prediction
    from ..trace import Trace

    for line in prediction.summary(result.config, result):
        print_line(line)
    recorded = recorded_run(options.stragglers)
    if recorded is not None and not options.timing_only:
        print_line(prediction.compared(Trace(trace.path), recorded, result.config))
    trace.count({"genie_s": result.genie_s})
    return 1 if result.failed else 0
