"""Readers of npz and svmlight files."""

from __future__ import annotations

import zipfile
import zlib

import numpy as np

from ..config.tables import ProblemTable as Table
from ..util.errors import InputError
from .formats import existing
from .matrix import Array, Csr
from .samples import Samples


def read_npz(table: Table) -> Samples:
    """Read inputs and targets from the arrays of an npz file that the table names."""
    path = existing("data", table.data)
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise InputError(f"problem.data: {table.data!r} is a single array, not an npz file")
        with file:
            for key, name in (("inputs", table.inputs), ("targets", table.targets)):
                if name not in file.files:
                    raise missing(key, name, table, file.files)
            return Samples(file[table.inputs], file[table.targets])
    except InputError:
        raise
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"problem.data: {table.data!r} cannot be read as npz: {error}") from error


def read_svmlight(table: Table) -> Samples:
    """Read sparse inputs and targets; targets that are all integers may serve as classes."""
    from sklearn.datasets import load_svmlight_file

    path = existing("data", table.data)
    try:
        matrix, targets = load_svmlight_file(str(path), dtype=np.float64)
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"problem.data: {table.data!r} cannot be read as svmlight: {error}") from error
    if 0 in matrix.shape:
        raise InputError(f"problem.data: {table.data!r} has shape {matrix.shape}, not (rows, features)")
    x = Csr(matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), matrix.data, matrix.shape[1])
    return Samples(x, _whole(targets))


def missing(key: str, name: str, table: Table, names: list[str]) -> InputError:
    """Return the InputError for an array that is missing in a file."""
    return InputError(
        f"problem.{key}: no {name!r} in {table.data!r}, which holds {', '.join(sorted(names)) or 'nothing'}"
    )


def _whole(targets: Array) -> Array:
    """Convert targets to integers if that is exact: the format does not distinguish classes from reals."""
    with np.errstate(invalid="ignore"):
        integers = targets.astype(np.int64)
    return integers if np.array_equal(integers, targets) else targets
