"""Mini-batch times of training jobs on Alibaba's PAI (cluster-trace-gpu-v2020, mini-batch-time)."""

from collections.abc import Sequence

import numpy as np

from .job import Grid, Importer, Job, in_turn, numbers, only, table

UNIT_S = 1e-3  # the times are normalised to 0 to 1,000; their unit is not published


def read(paths: Sequence[str]) -> Job:
    """Read the samples of a job: at each time the duration of each worker's current mini-batch.

    They are the own work of a step in which all workers wait for all. A worker that was sampled twice has
    the last value. Times at which fewer than half of the workers were sampled, as at the end, are left out.
    """
    path = only(paths, "the file of a job, such as job_1_norm.csv")
    columns = table(path, ("worker", "time", "batch_time_norm"))
    times = numbers(path, columns, "batch_time_norm")
    grid = Grid(path, numbers(path, columns, "time", int), numbers(path, columns, "worker", int))
    work_s = UNIT_S * grid(times)
    few = 2 * np.isnan(work_s).sum(axis=1) > work_s.shape[1]
    work_s[few] = np.nan
    job = in_turn(path, grid.hosts(), "Alibaba's PAI", work_s)
    job.notes.append("normalised times, taken as ms; a step for each time at which workers were sampled")
    job.notes += [f"{few.sum():,} times of few workers are left out"] if few.any() else []
    return job


PAI = Importer("pai", "mini-batch times of Alibaba's PAI: CSV", read)
