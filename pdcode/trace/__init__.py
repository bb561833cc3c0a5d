"""Traces: every event of a run in one HDF5 file. h5py is imported only when a file is opened."""

from .reader import TraceReader
from .recorder import Recorder
from .writer import ResumePoint, TraceWriter

__all__ = ["Recorder", "ResumePoint", "TraceReader", "TraceWriter"]
