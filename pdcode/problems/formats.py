"""Names of bundled data sets, and file formats."""

from __future__ import annotations

import re
from pathlib import Path

from ..config.conditions import FORMATS
from ..config.tables import BUNDLED
from ..config.tables import ProblemTable as Table
from ..util.errors import InputError


def format_of(table: Table) -> str:
    """Return the name of a bundled data set, or the format of a file, by its file name.

    Raises
    ------
    InputError
        If the data are neither a bundled data set nor a file in a known format.
    """
    if table.data in BUNDLED:
        return table.data
    path = Path(table.data)
    for name, pattern in FORMATS.items():
        if re.search(pattern, path.name):
            return name
    if path.is_file():
        raise InputError(
            f"problem.data: {table.data!r} does not end in a known format:"
            " .npz, .h5, .hdf5, -idx3-ubyte, .svm, .svmlight or .libsvm"
        )
    if path.suffix or len(path.parts) > 1:
        raise InputError(f"problem.data: no such file {table.data!r}")
    raise InputError(f"problem.data: {table.data!r} is neither a file nor one of {', '.join(BUNDLED)}")


def existing(key: str, name: str | Path) -> Path:
    """Return the path of an existing file.

    Raises
    ------
    InputError
        If there is no such file.
    """
    path = Path(name)
    if path.is_dir():
        raise InputError(f"problem.{key}: {str(name)!r} is a directory, not a file")
    if not path.is_file():
        raise InputError(f"problem.{key}: no such file {str(name)!r}")
    return path
