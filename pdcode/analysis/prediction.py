"""The output of `pdcode simulate`: results on the virtual clock, and their comparison with a recorded run."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..config import Config
from ..trace.reader import TraceReader
from ..util.formats import counted, duration, number, percent, reached, size
from ..virtual.result import Result
from . import statistics


def lines(result: Result, path: Path, recorded: TraceReader | None) -> Iterator[str]:
    """Yield lines on a simulation, whose trace is at `path`, and its comparison with a recorded run."""
    yield from summary(result.config, result)
    if recorded is not None:
        yield compared(TraceReader(path), recorded, result.config)


def summary(config: Config, result: Result) -> Iterator[str]:
    """Yield lines with the results; times are virtual."""
    stop = config.stop
    for key, level in (("loss", stop.loss), ("accuracy", stop.accuracy)):
        if level is not None:
            yield f"{key} {level:g}: {reached(1e9 * result.above_s, 1e9 * result.target_s)}"
    comparable = result.used and math.isfinite(result.oracle_s)  # infinite beyond the clock's range
    oracle = f", {result.multiple:.2f}× the oracle's {duration(1e9 * result.oracle_s)}" if comparable else ""
    median = f", the median one {duration(1e9 * result.update_s)}" if result.updates else ""
    updates = f"{counted(result.updates, 'update')}{median}"
    yield f"virtual time {duration(1e9 * result.seconds)}{oracle}; {updates}"
    wasted = f", {percent(result.wasted, result.arrivals)} % wasted" if result.wasted else ""
    loads = (
        f"; rank 0 was busy {percent(result.processor, 1)} % of the time, its link received "
        f"{percent(result.ingress, 1)} % and sent {percent(result.egress, 1)} %"
    )
    traffic = f"{size(result.bytes_up)} up, {size(result.bytes_down)} down"
    of_rank_0 = "" if config.reduction.workers_step else loads
    yield f"{counted(result.arrivals, 'arrival')}{wasted}; {traffic}{of_rank_0}"


def compared(predicted: TraceReader, recorded: TraceReader, config: Config) -> str:
    """Compare the predicted time to the target with the recorded one, both interpolated between measurements.

    The target is the configuration's or, without one, the lowest loss that both runs reached.
    """
    if not (predicted.progress.rows and recorded.progress.rows):
        return f"no loss was recorded in {recorded.path} for comparison with the prediction"
    if measured(predicted) != measured(recorded):
        return f"the losses recorded in {recorded.path} belong to another problem"
    key, level = "loss", config.stop.loss
    if level is None and config.stop.accuracy is not None:
        key, level = "accuracy", config.stop.accuracy
    if level is None:
        level = max(float(np.min(trace.progress["loss"])) for trace in (predicted, recorded))
    sign = -1.0 if key == "accuracy" else 1.0
    ours_ns, theirs_ns = (
        statistics.crossing(each["t_ns"], sign * each[key], sign * level, each["version"])
        for each in (predicted.progress, recorded.progress)
    )
    factor = ours_ns / theirs_ns if 0 < theirs_ns < math.inf else math.nan
    times = f": {factor:.2f} times as long" if math.isfinite(factor) else ""
    return (
        f"{key} {number(level)}, interpolated between measurements: predicted {reached(ours_ns, ours_ns)}, "
        f"recorded {reached(theirs_ns, theirs_ns)} in {recorded.path}{times}"
    )


def measured(trace: TraceReader) -> dict[str, object]:
    """Return the keys of the problem that determine its loss."""
    others = "axis", "batch", "shards", "frozen_seed"
    given = ((key, value) for key, value in trace.table("problem").items() if key not in others)
    return {key: value for key, value in given if value and value != "refuse"}  # as keys that are not there
