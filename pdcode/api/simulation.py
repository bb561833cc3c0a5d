"""A simulation with a trace and a summary, for `pdcode simulate` and `pdcode.simulate`."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..choice.preset import prepare
from ..config import Config, kinds
from ..problems import DataSource
from ..session import checkpoint
from ..session.checkpoint import Checkpoint, CheckpointWriter
from ..session.monitor import Print, Report, ignore
from ..session.run import check_writable, close_trace, open_trace, run_identity
from ..session.setup import Components, check_count
from ..stragglers.trace import Recorded, load_records
from ..trace import opening
from ..trace.reader import TraceReader
from ..trace.writer import TraceWriter
from ..util import signals
from ..util.errors import InputError, prefix_errors
from ..util.formats import counted, duration
from ..virtual import costs, timing_only
from ..virtual.executor import NullExecutor
from ..virtual.fleet import VirtualRanks
from ..virtual.result import Result
from ..virtual.simulation import Simulation, simulate_timing, task_times_ns
from . import configs

VIRTUAL = ".virtual.h5"


@dataclass(frozen=True)
class Request:
    """A simulation to run."""

    loaded: configs.LoadedConfig
    recorded: TraceReader | None  # the run whose delays are replayed
    timing_only: bool
    found: Checkpoint | None = None
    resume: bool = False
    report: Report = ignore  # gets the fraction of the simulation that is done
    starting: Callable[[], AbstractContextManager[None]] = nullcontext  # context of the start

    @property
    def ended(self) -> bool:
        """Whether the run to be resumed has ended."""
        return self.resume and self.found is None and checkpoint.is_finished(self.loaded.config.trace.path)


def load(
    given: configs.ConfigLike,
    settings: Sequence[str],
    output: str | None = None,
    stragglers: str | None = None,
    cost: str | None = None,
    timing_only: bool = False,
    resume: bool = False,
) -> Request:
    """Read a configuration with settings ``KEY=VALUE``, and delays and costs of other files.

    Without `output` the trace is written to the configuration's path with another extension. With `resume`, a
    checkpoint beside it is read.
    """
    inputs = [file for file in (stragglers, cost) if file is not None]
    delays: list[str] = []
    recorded = open_recorded(stragglers)
    if stragglers is not None:
        # Replay each worker's delays in order if all are recorded, otherwise draw blocks of them.
        arrivals = "all" if recorded is None else recorded.attributes.get("arrivals", "all")
        draw = "replay" if arrivals == "all" else "block"
        delays = configs.overrides({"stragglers": {"kind": "trace", "path": stragglers, "draw": draw}})
    loaded = configs.read(given, [*delays, *settings])
    config = loaded.config
    if output is None:
        path = str(Path(config.trace.path).with_suffix("")) + VIRTUAL
        config = config.with_keys(trace={"path": path})
    written = Path(config.trace.path)
    for file in inputs:
        if Path(file).resolve() in (written.resolve(), opening.previous(written).resolve()):
            raise InputError(f"{file}: an input file cannot be overwritten by the trace; use -o")
    if recorded is not None:
        config = costs.under_delays(recorded, config)
    if cost is not None:
        config = costs.load(cost, config, settings)
    elif stragglers is not None and recorded is not None:
        config = costs.load(stragglers, config, settings, base="low")
    if resume and timing_only:
        raise InputError("--resume: a run of --timing-only has no checkpoints")
    if config.faults and (resume or config.trace.checkpoint_s is not None):
        raise InputError("trace.checkpoint_s: a simulation with [faults] takes no checkpoints")
    found = checkpoint.find(config) if resume else None
    return Request(loaded._replace(config=config), recorded, timing_only, found, resume)


def open_recorded(path: str | None) -> TraceReader | None:
    """Open a file of delays if it is a trace, and read the progress for the comparison at the end."""
    if path is None or not opening.is_trace(Path(path)):
        return None
    trace = TraceReader(path)
    if trace.config:
        dict(trace.progress)
    return trace


def simulate(request: Request, print_line: Print, source: DataSource | None = None) -> Result:
    """Simulate in this process; the data are read unless `source` is given."""
    config, text, name = request.loaded
    if request.found is not None:
        config = request.found.resumed_config(config)
    with prefix_errors(name):
        if request.timing_only:
            config = without_numeric_stops(config)
            timing_only.check_captured(config)
        quick = request.timing_only and timing_only.is_timeable(config)
        (timing_only.ensure_timeable if quick else check_count)(config)
    with request.starting():
        components = prepare(config, name, source)
    config = components.config
    if request.timing_only and components.problem.model.deferred:
        raise InputError("--timing-only: what a search evaluates next depends on the values so far")
    if quick and not timing_only.uses_plain_policy(components):
        quick = False
        with prefix_errors(name):
            check_count(config)
    check_writable(config.trace.path, name, config.stragglers.reads)
    if warning := warn_of_no_delay(config, components):
        print_line(warning)
    if quick:
        trace, result = simulate_times(config, text, components, print_line, request.report)
    else:
        executor = NullExecutor(components.layouts) if request.timing_only else None
        with np.errstate(all="ignore"):  # the monitor checks the loss
            trace, result = run_traced(Simulation(components, executor), request, print_line)
    report(trace, result, request, print_line)
    return result


def warn_of_no_delay(config: Config, components: Components) -> str:
    """Return a warning if most recorded tasks are shorter than a task computes here, and so have no delay."""
    table = config.stragglers
    if not isinstance(table, Recorded) or table.times != "task":
        return ""
    compute_ns = float(task_times_ns(config, components).max())
    fraction = float(np.mean(load_records(table).delays_s <= 1e-9 * compute_ns))
    if fraction <= 0.5:
        return ""
    return (
        f"stragglers.path: {fraction:.0%} of the recorded tasks take no longer than a task computes here, "
        f"{duration(compute_ns)}, and so have no delay; [machine] or the times may need another scale"
    )


def without_numeric_stops(config: Config) -> Config:
    """Remove stop criteria that need numerics; refuse faults that do, and runs without another criterion."""
    for each in config.faults.injected:
        if each.numeric:
            raise InputError(f"faults.events: kind '{each.kind}': there are no payloads without numerics")
    config = config.with_keys(stop={"loss": None, "accuracy": None}, trace={"checkpoint_s": None})
    if not config.stop.ends:
        raise InputError("stop.updates: without numerics, updates or seconds must end the run")
    return config


def simulate_times(
    config: Config, text: str, components: Components, print_line: Print, report: Report
) -> tuple[TraceWriter, Result]:
    """Simulate with the timing-only loop."""
    for line in components.remarks():
        print_line(line)
    task_ns = task_times_ns(config, components).max()
    attributes = {"clock": "virtual", "numerics": False, "task_ns": task_ns}
    fleet = VirtualRanks(config.workers.count)
    trace = open_trace(config, text, components, fleet, print_line=print_line, **attributes)
    with ExitStack() as stack:
        result = simulate_timing(
            config,
            components,
            trace,
            lambda run: stack.enter_context(signals.handled(signals.interrupts(run))),
            print_line,
            report,
        )
        names = ("arrivals", "used", "wasted", "bytes_up", "bytes_down")
        trace.close(counters=clock_counters(result) | {name: getattr(result, name) for name in names})
    print_line(f"stopped: {result.reason}, after {counted(result.updates, 'update')} without numerics")
    print_line(f"trace: {trace.path}")
    return trace, result


def clock_counters(result: Result) -> dict[str, float]:
    """Return the virtual clock's counters for the trace."""
    return {
        "version": result.updates,
        "t_stop_ns": round(1e9 * result.seconds),
        **{name: getattr(result, name) for name in ("processor_ns", "ingress_ns", "egress_ns", "length_ns")},
    }


def run_traced(simulation: Simulation, request: Request, print_line: Print) -> tuple[TraceWriter, Result]:
    """Run a simulation with a trace."""
    found, before = request.found, None
    run, text, given = run_identity(found), request.loaded.text, request.loaded.config
    following: Simulation | None = simulation
    while following is not None:
        simulation, checkpoints = following, None
        components, fleet, config = simulation.components, simulation.fleet, simulation.config
        attributes = {"clock": "virtual", "numerics": not request.timing_only, "run": run}
        attributes["task_ns"] = simulation.task_ns.max()
        trace = open_trace(config, text, components, fleet, found, before, print_line, **attributes)
        if request.resume or config.trace.checkpoint_s is not None:
            checkpoints = CheckpointWriter(trace.path, run, given, config, print_line)
        with signals.handled(signals.interrupts(fleet)):
            before, result = simulation.run_preset(trace, print_line, found, checkpoints, request.report)
            following, found = simulation.next_simulation(before), None
            if following is None:
                close_trace(trace, before, clock_counters(result))
            else:
                following.fleet.interrupted = fleet.interrupted
    return trace, result


def report(trace: TraceWriter, result: Result, request: Request, print_line: Print) -> None:
    """Print the summary, and add the oracle's time to the trace, which is complete before."""
    recorded = None if request.timing_only else request.recorded
    for line in kinds.find("views", "simulation")(result, trace.path, recorded):
        print_line(line)
    trace.add_counters({"oracle_s": result.oracle_s})
    if result.descent:
        print_line(result.descent.line)
