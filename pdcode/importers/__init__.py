"""Importers of other programs' files as traces. Another format is a module of its name, and a line here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .job import Job

FORMATS = {
    "kineto": "profiles of PyTorch, one a rank: JSON, also gzipped",
    "flight-recorder": "dumps of PyTorch's flight recorder, one a rank: JSON or pickle",
    "traceml": "the session database of TraceML: SQLite",
    "pai": "mini-batch times of Alibaba's PAI: CSV",
    "bytedance": "operations of ByteDance's straggler analysis: Parquet",
    "spot": "instances that come and go: Bamboo's CSV or SkyPilot's JSON",
    "csv": "a table with columns worker, step, work_s, and others if known",
}
"""Format -> what its files are."""


def read(name: str, paths: list[str]) -> Job:
    """Read the files of a job.

    Parameters
    ----------
    name : str
        A key of `FORMATS`.
    paths : list of str
        All files of the job, in any order.

    Returns
    -------
    Job
        Its `write` writes the trace.

    Raises
    ------
    InputError
        If a file is not of the format or does not say what is needed; the message names file, place and
        value.
    Failure
        If a package is missing that reads the format.
    """
    job: Job = import_module(f".{name.replace('-', '_')}", __name__).read(paths)
    return job
