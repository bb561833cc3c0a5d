"""Readers of npz and svmlight files."""

import math
import zipfile
import zlib

import numpy as np

from ..config import ProblemTable
from ..util import npz
from ..util.errors import InputError
from ..util.memory import ensure_fits
from .formats import existing_path
from .matrix import Array, Csr
from .samples import Samples, quoted_name

MAX_FEATURES = 2**31 - 2  # features, as columns are int32 and the last one is the bias


def read_npz(table: ProblemTable) -> Samples:
    """Read inputs and targets from the arrays of an npz file that the table names."""
    path = existing_path("data", table.data)
    if not zipfile.is_zipfile(path):
        raise InputError(f"problem.data: {table.data!r} is not an npz file, a zip archive of arrays")
    try:
        with npz.open_npz(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            for key, name in (("inputs", table.inputs), ("targets", table.targets)):
                if name not in names:
                    raise missing_array(key, name, table, names)
            return Samples(_array(table, "inputs", archive), _array(table, "targets", archive))
    except InputError:
        raise
    except npz.ERRORS as error:
        raise InputError(f"problem.data: {table.data!r} cannot be read as npz: {error}") from error


def _array(table: ProblemTable, key: str, archive: zipfile.ZipFile) -> Array:
    """Read an array, after checks of the size and type that its header claims."""
    name = table.inputs if key == "inputs" else table.targets
    member, shape, dtype = npz.read_header(archive, name)
    if dtype.hasobject:
        raise InputError(f"problem.{key}: {quoted_name(table, key)} holds Python objects, not real numbers")
    size = 2 * math.prod(shape) * dtype.itemsize  # it is copied
    ensure_fits(f"problem.{key}", f"{quoted_name(table, key)} of shape {shape}", size)
    return npz.read_array(archive, member)


def read_svmlight(table: ProblemTable) -> Samples:
    """Read sparse inputs and targets; targets that are all integers may serve as classes."""
    from sklearn.datasets import load_svmlight_file

    path = existing_path("data", table.data)
    try:
        matrix, targets = load_svmlight_file(str(path), dtype=np.float64)
    except (OSError, EOFError, ValueError, OverflowError, zlib.error) as error:
        raise InputError(f"problem.data: {table.data!r} cannot be read as svmlight: {error}") from error
    if 0 in matrix.shape:
        raise InputError(f"problem.data: {table.data!r} has shape {matrix.shape}, not (rows, features)")
    width = matrix.shape[1]
    if width > MAX_FEATURES:
        raise InputError(f"problem.data: {table.data!r} has {width} features, more than {MAX_FEATURES}")
    x = Csr(matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), matrix.data, width)
    return Samples(x, _exact_integers(targets))


def missing_array(key: str, name: str, table: ProblemTable, names: list[str]) -> InputError:
    """Return the InputError for an array that is missing in a file."""
    present = ", ".join(sorted(names)[:20] + ["…"] * (len(names) > 20)) or "nothing"
    return InputError(f"problem.{key}: no {name!r} in {table.data!r}, which holds {present}")


def _exact_integers(targets: Array) -> Array:
    """Convert targets to integers if that is exact: the format does not distinguish classes from reals."""
    with np.errstate(invalid="ignore"):
        integers = targets.astype(np.int64)
    return integers if np.array_equal(integers, targets) else targets
