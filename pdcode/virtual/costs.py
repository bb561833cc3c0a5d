"""What a run costs on the virtual clock.

The model: a task takes a worker ``task_s + flops / flops_per_s``, whatever the delays of its stragglers add.
A message of so many bytes takes ``bytes / bandwidth`` of rank 0's link and ``latency_s`` to get there; rank 0
spends ``arrival_s`` on each arrival, ``update_s`` on each update and ``dispatch_s`` on each task that it
sends. Not in the model: that ranks may share cores; the measuring of the loss, which takes rank 0 5 % of its
time at the most; and that a worker which has waited long notices its task up to 1 ms late where ranks
outnumber cores.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec

from ..config import load as configfile
from ..config.tables import LARGEST, Config, LinkTable, MachineTable
from ..stragglers.records import is_hdf5
from ..trace.reader import Trace
from ..training.setup import prepare
from ..util.errors import InputError
from .calibration import Base, config_of, fit

__all__ = ["fit", "load", "time_ns"]


def time_ns(machine: MachineTable, flops: float) -> int:
    """Compute time of so many flops in a task, in ns: ``task_s + flops / flops_per_s``.

    It is 1e9 s at the most, as delays are, and 1 ns at the least, so that time goes on.
    """
    return max(1, round(1e9 * min(machine.task_s + flops / machine.flops_per_s, LARGEST)))


def load(path: str, config: Config, base: Base = "median") -> Config:
    """A configuration with the costs of a file.

    Parameters
    ----------
    path : str
        A TOML file with no other tables than ``[machine]`` and ``[link]``, whose keys replace the
        configuration's; or the trace of a run, which is HDF5 whatever its name, to which both are fitted.
    config : Config
    base : {"median", "low"}
        See `times`.

    Raises
    ------
    InputError
        Naming file and key.
    """
    if is_hdf5(Path(path)):
        machine, link = _fitted(path, base)
        return msgspec.structs.replace(config, machine=machine, link=link)
    given, text = configfile.load(path)
    tables = tomllib.loads(text)
    for name in tables.keys() - {"machine", "link"}:
        raise InputError(f"{path}: {name}: a file of costs has the tables machine and link only")
    machine, link = (
        msgspec.structs.replace(
            getattr(config, name), **{key: getattr(getattr(given, name), key) for key in tables.get(name, {})}
        )
        for name in ("machine", "link")
    )
    return msgspec.structs.replace(config, machine=machine, link=link)


def _fitted(path: str, base: Base) -> tuple[MachineTable, LinkTable]:
    """The costs of a run, by its trace."""
    trace = Trace(path)
    return fit(trace, prepare(config_of(trace), path, check=False).flops(), base)
