"""Speeds of rank 0's link and of the workers, by which the size of payloads is chosen."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Speeds:
    """Bandwidths of rank 0's link, and the workers' compute times; configured or measured."""

    ingress: float  # bytes per second
    egress: float
    compute_s: np.ndarray  # mean time of each worker's task without its delay, float64, shape (n,)
    # Times of some tasks of each worker, in any order, shape (n, m); None: all take the mean.
    samples_s: np.ndarray | None = None
