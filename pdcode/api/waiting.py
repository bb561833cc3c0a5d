"""The job of a recorded run, simulated under its delays as if rank 0 waited for all workers."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..analysis.gain import Gain, level_of, time_s
from ..trace.reader import TraceReader
from ..training.session import close_trace, open_trace
from ..util.errors import Failure, InputError
from ..util.threads import one_thread
from ..virtual import choice
from ..virtual.simulation import Simulation
from . import simulation, what_if

LONGEST = 100  # simulated time over that of the run, at most


@contextmanager
def gain(trace: TraceReader) -> Iterator[Gain | None]:
    """Provide a run beside the same job waiting for all; None if it does so, or cannot be simulated."""
    with tempfile.TemporaryDirectory(prefix="pdcode-") as folder:
        yield _gain(trace, Path(folder) / "waiting.h5")


def _gain(trace: TraceReader, path: Path) -> Gain | None:
    level = level_of(trace)
    if level is None or trace.is_script or not trace.arrivals.rows or trace.first_preset:
        return None
    if trace.table("update").get("mode") == "all" or trace.config.get("plugins"):  # only a user may run these
        return None
    work = float(trace.attributes.get("task_flops", 0)) * trace.worker_count
    updates = int(what_if.MOST_FLOPS / work) if work else 0
    seconds = LONGEST * time_s(trace, level)
    if not (updates and seconds):
        return None
    try:
        config = what_if.recorded_config(trace, ["update.mode=all"]).with_keys(
            stop={"loss": level, "accuracy": None, "seconds": seconds, "updates": updates},
            trace={"path": str(path), "arrivals": "all", "checkpoint_s": None},
        )
        components = choice.prepare(config, str(trace.path), check=False)
        made = Simulation(components.config, components)
        attributes = {"clock": "virtual", "numerics": True, "task_ns": made.task_ns.max()}
        writer = open_trace(components.config, "", components, made.fleet, **attributes)
        with np.errstate(all="ignore"), one_thread():  # the monitor checks the loss
            descent, result = made.run(writer)
        close_trace(writer, descent, simulation.clock_counters(result))
    except (Failure, InputError):
        return None
    return Gain(trace, TraceReader(path), level)
