"""Traces: every event of a run in one HDF5 file. Nothing here imports h5py before a file is opened."""

from __future__ import annotations

from .reader import Trace
from .writer import Writer

__all__ = ["Trace", "Writer"]
