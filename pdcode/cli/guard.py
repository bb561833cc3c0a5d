"""Guard against HDF5 files on which HDF5's library crashes, or does not end."""

from __future__ import annotations

from pathlib import Path

from ..config.tables import KINDS, Config
from ..stragglers.records import is_hdf5
from ..trace import opening
from ..util.errors import not_a_file

LARGEST = 1 << 26  # bytes of a file of data that is read twice


def survive(config: Config) -> None:
    """Read the HDF5 files that a configuration names in forked processes first; not large files of data.

    Raises
    ------
    InputError
        If that is the end of such a process.
    """
    for name in KINDS:
        table = getattr(config, name)
        for path in (Path(getattr(table, key) or "") for key in table.paths):
            if not_a_file(path) or not is_hdf5(path):
                continue
            if name != "problem" or path.stat().st_size <= LARGEST:
                opening.survive(path)
