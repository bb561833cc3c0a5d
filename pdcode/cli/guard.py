"""Guard against HDF5 files on which HDF5's library crashes, or does not end."""

from __future__ import annotations

from pathlib import Path

from ..config import Config
from ..stragglers.records import is_hdf5
from ..trace import opening
from ..util.errors import not_a_file

LARGEST = 1 << 26  # bytes of a file of data that is read twice


def survive(config: Config) -> None:
    """Read HDF5 files of data and delays in forked processes first, but for large files of data.

    A code has been read with the configuration.

    Raises
    ------
    InputError
        If that is the end of such a process.
    """
    data, delays = config.problem.data, config.stragglers.reads
    for path in map(Path, filter(None, (data, delays))):
        if not not_a_file(path) and is_hdf5(path) and (path != Path(data) or path.stat().st_size <= LARGEST):
            opening.survive(path)
