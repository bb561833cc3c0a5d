"""Cost model of the virtual clock.

A task takes a worker ``task_s + flops / flops_per_s``, plus its straggler delay. A message occupies rank 0's
link for ``bytes / bandwidth`` and arrives ``latency_s`` later. Rank 0 spends ``arrival_s`` on each arrival,
``update_s`` on each update and ``dispatch_s`` on each task, and the time of what it computes, see `charged`.
Not modelled: cores shared by ranks; evaluation
of the loss, at most 5 % of rank 0's time; and, if ranks outnumber cores, the up to 1 ms after which a
sleeping worker notices a task.
"""

import math
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ..config import MAX_VALUE, Config, FaultsTable, LinkTable, MachineTable
from ..config import load as configfile
from ..session.setup import Components, prepare
from ..stragglers.bases import base_ns, shared_link_ns
from ..stragglers.records import is_hdf5
from ..trace.reader import TraceReader
from ..trace.schema import COSTS
from ..util.errors import InputError
from .calibration import Base, config_of, fit
from .schedule import NEVER_NS, CostModelSchedule, allreduce_s

FASTEST = 1e18  # largest value of the keys for speeds


def times_ns(machine: MachineTable, flops: float | np.ndarray) -> np.ndarray:
    """Return the compute times of tasks in ns, ``task_s + flops / flops_per_s``, int64, as many as `flops`.

    They are at least 1 ns, which keeps the clock advancing, and at most 1e9 s, like delays.
    """
    seconds = np.minimum(machine.task_s + np.atleast_1d(flops).astype(float) / machine.flops_per_s, MAX_VALUE)
    return np.maximum(1, np.rint(1e9 * seconds)).astype(np.int64)


def charged(config: Config, components: Components) -> Config:
    """Return the configuration with what rank 0 computes in the times of ``[machine]``.

    Those are the steps of θ, by round, the reading of payloads and the copies of θ. With several coordinators
    each does its part.
    """
    machine = config.machine
    speed = machine.flops_per_s * (
        1.0 if config.reduce.summed else machine.coordinator_speed * machine.coordinators
    )
    flops = {
        "update_s": components.step_flops / len(components.layouts),
        "arrival_s": components.arrival_flops,
        "dispatch_s": components.dispatch_flops,
    }
    times = {key: min(getattr(machine, key) + each / speed, MAX_VALUE) for key, each in flops.items()}
    return msgspec.structs.replace(config, machine=msgspec.structs.replace(machine, **times))


def cost_model_schedule(config: Config, components: Components) -> CostModelSchedule:
    """Build the schedule of ``[machine]``, ``[link]`` and ``[stragglers]``."""
    task_ns = [task_times_ns(config, components, number) for number in range(len(components.layouts))]
    return config.reduction.schedule(components, task_ns)


def task_times_ns(config: Config, components: Components, number: int = 0) -> np.ndarray:
    """Return the compute time in ns of a task in round `number`, on the average number of rows.

    Shape (1,) if it is the same for all workers, else (n,).
    """
    return times_ns(config.machine, components.flops_by_worker(number))


def processor_ns(config: Config, arrivals: int, bytes_up: float, steps: int) -> int:
    """Return the busy time of rank 0's processor in ns; every task must have been answered."""
    machine = config.machine
    seconds = machine.update_s * steps
    if not config.reduction.workers_step:
        part = bytes_up / machine.coordinators
        seconds += (machine.arrival_s + machine.dispatch_s) * arrivals + part / (
            machine.decode_bandwidth or math.inf
        )
    return min(NEVER_NS, round(1e9 * seconds))  # as the clock


def under_delays(trace: TraceReader, config: Config) -> Config:
    """Return a configuration without the faults that recorded delays include: what the run had, too."""
    had = FaultsTable.of(trace.table("faults")).events
    events = [each for each in config.faults.events if not (each.delays and each in had)]
    return config.with_keys(faults={"events": events})


def load(path: str, config: Config, settings: Sequence[str] = (), base: Base = "median") -> Config:
    """Return a configuration with the costs of a file; `settings` ``KEY=VALUE`` prevail.

    The file is TOML with ``[machine]`` and ``[link]`` only, whose keys replace the configuration's; or a
    trace (HDF5, whatever its name), to which both tables are fitted, with `base` as for `times`. A script's
    trace gives the configuration's tasks, with a step, the time of the script's, and all-reduces of its θ
    the time of the script's reductions.
    """
    prevailing = dict[str, dict[str, Any]](machine={}, link={})
    for (name, *keys), value in map(configfile.parse_override, settings):
        if name in prevailing:
            chosen = keys[:1] or (value if isinstance(value, dict) else ())
            prevailing[name] |= {key: getattr(getattr(config, name), key) for key in chosen}
    if is_hdf5(Path(path)):
        trace = TraceReader(path)
        machine, link = _of_script(trace, config) if trace.is_script else _fitted(trace, base)
        return msgspec.structs.replace(config, machine=machine, link=link).with_keys(**prevailing)
    given, text = configfile.load(path)
    tables = tomllib.loads(text)
    for name in tables.keys() - {"machine", "link"}:
        raise InputError(f"{path}: {name}: a file of costs has the tables machine and link only")
    of_file = {
        name: {key: getattr(getattr(given, name), key) for key in tables.get(name, {})} for name in prevailing
    }
    return config.with_keys(**of_file).with_keys(**prevailing)


def _of_script(trace: TraceReader, config: Config) -> tuple[MachineTable, LinkTable]:
    """Fit the costs of a configuration's problem to the times of a script."""
    components, link_s = prepare(config, check=False), 1e-9 * float(np.median(shared_link_ns(trace)))
    flops = components.flops() + components.step_flops
    sent = allreduce_s(max(2, trace.worker_count), components.layout.gradient_bytes, 0.0, 1.0)  # bytes
    machine = msgspec.structs.replace(
        config.machine, flops_per_s=_limited(flops, 1e-9 * base_ns(trace)), task_s=0.0
    )
    return machine, msgspec.structs.replace(
        config.link, latency_s=0.0, bandwidth=_limited(sent, link_s), half_duplex=False
    )


def _limited(amount: float, seconds: float) -> float:
    """Return the amount per second, within the range of the keys for speeds."""
    return min(FASTEST, max(1.0, amount / max(seconds, 1e-18)))


def _fitted(trace: TraceReader, base: Base) -> tuple[MachineTable, LinkTable]:
    """Fit the costs to the trace of a run.

    Missing flops, and those under other costs than today's, are counted on the data that the trace names.
    """
    flops, of_today = trace.attributes.get("task_flops"), trace.attributes.get("costs", 1) == COSTS
    if flops is not None and of_today:
        return fit(trace, flops, base)
    components = prepare(config_of(trace), str(trace.path), check=False)
    return fit(trace, components.flops(), base, None if of_today else components.coordinator_flops)
