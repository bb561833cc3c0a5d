"""Readers of npz, npy and svmlight files."""

import io
import math
import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..config import NetworkTable
from ..util import npz
from ..util.errors import InputError, short_repr
from ..util.memory import ensure_fits
from .coding import Coding, Samples, ensure_no_nul
from .formats import existing_path
from .matrix import Array, Csr
from .tables import as_list, coded_inputs, missing_name, numbers

MAX_FEATURES = 2**31 - 2  # features, as columns are int32 and the last one is the bias
SPARSE = {"data", "format", "shape"}  # arrays of every file of scipy.sparse.save_npz
ABSENT = ".absent"  # ends the name of the array that tells which targets are missing
CODED = ("columns", "categories", "category_columns")  # arrays "x.columns" …: names and texts of "x"


def read_npz(table: NetworkTable, required: bool = True) -> Samples:
    """Read inputs and targets from an npz file: arrays, columns, or a sparse matrix that scipy wrote."""
    path = existing_path("data", table.data)
    if not zipfile.is_zipfile(path):
        raise InputError(f"problem.data: {table.data!r} is not an npz file, a zip archive of arrays")
    try:
        with npz.open_npz(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]

            def array(key: str, name: str) -> Array:
                if name not in names:
                    raise missing_name(key, name, table, names)
                member, shape, dtype = npz.read_header(archive, name)
                _check(f"problem.{key}", f"{name!r} in {table.data!r}", shape, dtype)
                return npz.read_array(archive, member)

            if table.exclude:
                raise InputError(
                    f"problem.exclude: {table.data!r} has no columns; problem.inputs names arrays"
                )
            y, targets = None, as_list(table.targets, "y")
            sparse = {*names} >= SPARSE and table.inputs is None
            if table.labels is not None:
                y = _read_npy(table.labels, "labels")
            elif sparse and required and targets[0] not in names:
                raise InputError(f"problem.labels: not given, and {table.data!r} has no targets")
            elif required or {*targets} <= {*names}:
                y = array("targets", targets[0])
                if len(targets) > 1:
                    where = f"problem.targets: {table.data!r}"
                    y = np.column_stack([numbers(array("targets", each), where, each) for each in targets])
            if sparse:
                return Samples(
                    _sparse({each: array("data", each) for each in names if each not in targets}), y
                )
            mask, absent = targets[0] + ABSENT, None
            if y is not None and mask in names:
                absent = array("targets", mask)
                if (absent.dtype, absent.shape) != (bool, y.shape[:1]):
                    what = f"{absent.dtype} of shape {absent.shape}, not bool of shape {y.shape[:1]}"
                    raise InputError(f"problem.targets: {mask!r} in {table.data!r} is {what}")
            if isinstance(table.inputs, list):
                chosen = {name: array("inputs", name) for name in table.inputs}
                x, categories = coded_inputs(chosen, f"problem.inputs: {table.data!r}")
                return Samples(x, y, None, tuple(table.inputs), categories, absent)
            name = table.array("inputs")
            x = array("inputs", name)
            extra = {key: array("inputs", f"{name}.{key}") for key in CODED if f"{name}.{key}" in names}
            if not extra:
                return Samples(x, y, absent=absent)
            try:
                coding = Coding.from_arrays(extra)
            except ValueError:
                coding = Coding()
            ensure_no_nul(coding.columns, f"problem.inputs: {table.data!r}")
            if (len(coding.columns),) != x.shape[1:] or not coding.fits(x):
                raise InputError(f"problem.inputs: names of {name!r} in {table.data!r} do not fit it")
            return Samples(x, y, None, coding.columns, coding.categories, absent)
    except InputError:
        raise
    except npz.ERRORS as error:
        raise InputError(f"problem.data: {table.data!r} cannot be read as npz: {error}") from error


def read_arrays(name: str, key: str) -> dict[str, Array]:
    """Read all arrays of an npz file, in their order in the file; `key` of [problem] names it."""
    path, found = existing_path(key, name), dict[str, Array]()
    if not zipfile.is_zipfile(path):
        raise InputError(f"problem.{key}: {name!r} is not an npz file, a zip archive of arrays")
    try:
        with npz.open_npz(path) as archive:
            for each in archive.namelist():
                array = each.removesuffix(".npy")
                member, shape, dtype = npz.read_header(archive, array)
                _check(f"problem.{key}", f"{array!r} in {name!r}", shape, dtype)
                found[array] = npz.read_array(archive, member)
    except npz.ERRORS as error:
        raise InputError(f"problem.{key}: {name!r} cannot be read: {error}") from None
    return found


def read_matrix(name: str, key: str) -> Array:
    """Read a matrix of numbers from a text, npy or npz file, of one array or scipy's sparse matrix."""
    if name.endswith(".npz"):
        arrays = read_arrays(name, key)
        matrix = next(iter(arrays.values()), np.empty(0))
        if {*arrays} >= SPARSE:
            try:
                found = _sparse(arrays)
            except (ValueError, KeyError) as error:
                raise InputError(f"problem.{key}: {name!r} cannot be read: {error}") from None
            matrix = np.zeros(found.shape)
            matrix[found.row_numbers(), found.columns] = found.data
    elif name.endswith(".npy"):
        matrix = _read_npy(name, key)
    else:
        path = existing_path(key, name)
        try:
            matrix = np.loadtxt(path, ndmin=2)
        except (ValueError, OSError) as error:
            raise InputError(f"problem.{key}: {name!r} is no table of numbers: {error}") from None
    if matrix.ndim != 2 or matrix.dtype.kind not in "buif":
        raise InputError(
            f"problem.{key}: {name!r} holds {matrix.dtype} of shape {matrix.shape}: expected a matrix of "
            f"numbers"
        )
    return matrix


def trained_theta(name: str) -> tuple[Array, tuple[Any, Any] | None]:
    """Read the θ of `problem.init`: the final one of a trace, with axis and blocks, or an npy file."""
    if name.endswith(".npy"):
        return _read_npy(name, "init"), None
    from ..trace.reader import TraceReader  # workers seldom need it

    trace = TraceReader(existing_path("init", name))
    if trace.theta is None:
        raise InputError(f"problem.init: {name!r} has no final theta, as the run has not ended")
    return trace.theta, (trace.config["problem"].get("axis", "auto"), trace.config["code"].get("blocks", 1))


def read_npy(table: NetworkTable, required: bool = True) -> Samples:
    """Read inputs from an npy file, and targets from another, `labels`."""
    x = _read_npy(table.data, "data")
    if table.labels is None and required:
        raise InputError(
            f"problem.labels: not given, and {table.data!r} has inputs alone; name a file of targets"
        )
    return Samples(x, None if table.labels is None else _read_npy(table.labels, "labels"))


def _read_npy(name: str, key: str) -> Array:
    """Read an npy file that a key of [problem] names."""
    path = existing_path(key, name)
    try:
        with path.open("rb") as file:
            _check(f"problem.{key}", repr(name), *npz.read_npy_header(file, name, os.stat(path).st_size))
            file.seek(0)
            return np.asarray(np.lib.format.read_array(file, allow_pickle=False))
    except InputError:
        raise
    except npz.ERRORS as error:
        raise InputError(f"problem.{key}: {name!r} cannot be read as npy: {error}") from error


def _check(key: str, name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Check the size and type that an array's header claims."""
    if dtype.hasobject:
        raise InputError(f"{key}: {name} holds Python objects, not real numbers")
    ensure_fits(key, f"{name} of shape {shape}", 2 * math.prod(shape) * dtype.itemsize)  # it is copied


def _sparse(arrays: dict[str, Array]) -> Csr:
    """Return the matrix of the arrays that `scipy.sparse.save_npz` writes."""
    from scipy import sparse

    shape, kind = arrays["shape"].ravel().tolist(), arrays["format"].item()
    kind = kind.decode(errors="replace") if isinstance(kind, bytes) else kind
    if len(shape) != 2 or not all(isinstance(length, int) and length > 0 for length in shape):
        raise ValueError(f"a sparse matrix of shape {short_repr(tuple(shape))}")
    ensure_fits("problem.data", f"a sparse matrix of shape {short_repr(tuple(shape))}", 8 * sum(shape))
    parts = {"csr": ("indices", "indptr"), "coo": (("row", "col"),), "dia": ("offsets",)}
    parts |= dict.fromkeys(("csc", "bsr"), parts["csr"])
    if kind not in parts:
        raise ValueError(f"a sparse matrix of format {short_repr(kind)}")
    given = (
        tuple(map(arrays.get, part)) if isinstance(part, tuple) else arrays.get(part) for part in parts[kind]
    )
    try:
        matrix = getattr(sparse, f"{kind}_array")((arrays["data"], *given), shape)
        if parts[kind] == parts["csr"]:
            matrix.check_format(full_check=True)
        return as_csr(matrix)
    except (TypeError, LookupError, AttributeError, OverflowError) as error:  # of scipy, for damaged arrays
        raise ValueError(f"a sparse matrix of format {kind}: {error}") from None


def as_csr(matrix: Any) -> Csr:
    """Convert a sparse matrix or array of scipy."""
    matrix = matrix.tocsr()
    if matrix.dtype.kind not in "buif":
        raise InputError(f"problem.data: a sparse matrix holds {matrix.dtype}, not real numbers")
    if matrix.shape[1] > MAX_FEATURES:
        raise InputError(f"problem.data: {matrix.shape[1]} features are more than {MAX_FEATURES}")
    data = matrix.data if matrix.dtype.kind == "f" else matrix.data.astype(np.float64)
    return Csr(matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), data, matrix.shape[1])


def read_svmlight(table: NetworkTable, required: bool = True) -> Samples:
    """Read sparse inputs and targets; targets that are all integers may serve as classes."""
    path = existing_path("data", table.data)
    try:
        matrix, targets = _load_svmlight(str(path))
    except (OSError, EOFError, ValueError, OverflowError, zlib.error) as error:
        why = _bad_line(path) or error
        raise InputError(f"problem.data: {table.data!r} cannot be read as svmlight: {why}") from error
    if 0 in matrix.shape:
        raise InputError(f"problem.data: {table.data!r} has shape {matrix.shape}, not (rows, features)")
    if matrix.shape[1] > MAX_FEATURES:
        raise InputError(
            f"problem.data: {table.data!r} has {matrix.shape[1]} features, more than {MAX_FEATURES}"
        )
    return Samples(as_csr(matrix), _exact_integers(targets))


def _load_svmlight(file: Any) -> tuple[Any, Array]:
    from sklearn.datasets import load_svmlight_file

    matrix, targets = load_svmlight_file(file, dtype=np.float64)
    return matrix, targets


def _bad_line(path: Path) -> str:
    """Describe the first line that is not svmlight; empty if no single line is wrong."""
    import bz2
    import gzip

    def reason(lines: Sequence[bytes]) -> str:
        try:
            _load_svmlight(io.BytesIO(b"".join(lines)))
        except (ValueError, OverflowError) as error:
            return str(error)
        return ""

    openers: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open}
    try:
        with openers.get(path.suffix, open)(path, "rb") as file:
            lines = file.readlines()
    except (OSError, EOFError, zlib.error):
        return ""
    first, last = 0, len(lines)
    while last - first > 1:  # lines before `first` are right, one before `last` is wrong
        middle = (first + last) // 2
        first, last = (first, middle) if reason(lines[first:middle]) else (middle, last)
    why = reason(lines[first:last])
    return (
        f"line {first + 1}, {short_repr(lines[first].decode(errors='replace').strip())}: {why}" if why else ""
    )


def _exact_integers(targets: Array) -> Array:
    """Convert targets to integers if that is exact: the format does not distinguish classes from reals."""
    with np.errstate(invalid="ignore"):
        integers = targets.astype(np.int64)
    return integers if np.array_equal(integers, targets) else targets
