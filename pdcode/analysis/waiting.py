"""The job of a recorded run, simulated under its delays as if rank 0 waited for all workers."""

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..api import simulation
from ..choice.preset import prepare
from ..session.run import close_trace, open_trace
from ..trace.reader import TraceReader
from ..util.errors import Failure, InputError
from ..util.threads import one_thread
from ..virtual.simulation import Simulation
from . import what_if
from .gain import Gain, level_of, time_s

LONGEST = 100  # simulated time over the time of the run, at most
MOST_FLOPS = 1e11  # of a simulation: some seconds
GRADIENT = 3  # work of a gradient over the work of a loss


@contextmanager
def gain(trace: TraceReader) -> Iterator[Gain | None]:
    """Provide a run beside the same job waiting for all; None if it does so, or cannot be simulated."""
    with tempfile.TemporaryDirectory(prefix="pdcode-") as folder:
        yield _gain(trace, Path(folder) / "waiting.h5")


def _gain(trace: TraceReader, path: Path) -> Gain | None:
    level = level_of(trace)
    if level is None or trace.is_script or not trace.arrivals.rows:
        return None
    if trace.table("update").get("mode") == "all" or trace.config.get("plugins"):  # only a user may run these
        return None
    seconds = LONGEST * time_s(trace, level)
    if not seconds > 0:
        return None
    try:
        config = what_if.Change(("update.mode=all",)).config(trace)
        updates = _most_updates(trace, getattr(config.problem, "evaluate", math.inf))
        config = config.with_keys(
            stop={"loss": level, "accuracy": None, "seconds": seconds, "updates": updates, "epochs": None},
            trace={"path": str(path), "arrivals": "all", "checkpoint_s": None} | what_if.EXACT,
        )
        made = Simulation(prepare(config, str(trace.path), check=False))
        attributes = {"clock": "virtual", "numerics": True, "task_ns": made.task_ns.max()}
        writer = open_trace(made.config, "", made.components, made.fleet, **attributes)
        with np.errstate(all="ignore"), one_thread():  # the monitor checks the loss
            descent, result = made.run(writer)
        close_trace(writer, descent, simulation.clock_counters(result))
    except (Failure, InputError):
        return None
    found = Gain(trace, TraceReader(path), level)
    return found if found.known else None


def _most_updates(trace: TraceReader, evaluate: float) -> int:
    """Return how many updates can be simulated, with the loss of `evaluate` rows, at most, after each."""
    known = trace.attributes
    measured = min(float(known.get("rows", math.inf)), evaluate) / max(1.0, float(known.get("task_rows", 1)))
    work = float(known.get("task_flops", math.inf)) * (trace.worker_count + measured / GRADIENT)
    return max(1, int(MOST_FLOPS / max(1.0, work)))
