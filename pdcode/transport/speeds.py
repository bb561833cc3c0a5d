"""Speeds of rank 0's link and of the workers, by which preset, payload sizes and options are chosen."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Speeds:
    """Bandwidths of rank 0's link, and the workers' compute times.

    Measured times are of gradients alone, configured ones of whole tasks; both are without injected delays.
    """

    ingress: float  # bytes per second
    egress: float
    compute_s: np.ndarray  # mean of each worker, float64, shape (n,)
    # Times of some gradients of each worker, in any order, shape (n, m); None: all take the mean.
    samples_s: np.ndarray | None = None
