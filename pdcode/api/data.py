"""Data given in Python, in a file that ranks, replays and later commands read."""

import os
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ..config import Config, NetworkTable
from ..problems.coding import Coding, Samples, refuse_missing
from ..problems.files import ABSENT, as_csr
from ..problems.tables import as_list, choose_columns, frame_columns, frame_inputs, labels_or_numbers, numbers
from ..util.errors import Failure, InputError, reason
from ..util.output import ensure_replaceable
from . import configs

Data = Any
"""A pair (X, y) of an array, sparse matrix or data frame and targets; a data frame; None: none are given."""

WRITTEN = re.compile(r"'[^']*\.data\.npz'")
COMMENT = b"data that pdcode was given in Python"


def store(
    given: configs.ConfigLike, settings: Sequence[str], data: Any, path: Path | None = None
) -> list[str]:
    """Write data to `path`, by default beside the trace; return settings with which they are read."""
    if data is None:
        return [*settings]
    config, table = _read(given, settings)
    if table.labels is not None:
        raise InputError(f"problem.labels: {table.labels!r}: the targets are given with `data`")
    path = (path or Path(config.trace.path)).absolute().with_suffix(".data.npz")
    arrays, keys = arrays_of(data, msgspec.structs.replace(table, data="data"))
    write_arrays(path, arrays)
    named = {f"problem.{key}": name for key, name in (keys | {"data": str(path)}).items()}
    return [*settings, *configs.overrides(named)]


@contextmanager
def named(data: Any) -> Iterator[None]:
    """Name data that are given, not the file that `store` wrote, in an `InputError` of the block."""
    try:
        yield
    except InputError as error:
        if data is not None:
            error.args = (WRITTEN.sub("'data'", str(error)),)
        raise


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays to an npz file, unless there is a file that is not pdcode's."""
    ensure_replaceable(path, str(path), "data", _is_ours)
    new = path.with_name(f"{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(new, "w") as archive:
            archive.comment = COMMENT
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, array, allow_pickle=False)
        os.replace(new, path)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise Failure(f"{path}: cannot write the data: {reason(error)}") from None


def own_keys(given: configs.ConfigLike, settings: Sequence[str]) -> dict[str, Any]:
    """Return the keys of [problem] that `store` replaces, with the user's values for frames; None: none."""
    _, table = _read(given, settings)
    return {key: getattr(table, key) or None for key in ("inputs", "targets", "exclude")} | {"data": None}


def _read(given: configs.ConfigLike, settings: Sequence[str]) -> tuple[Config, NetworkTable]:
    config = configs.read(given, [*settings, "problem.data=data.npz"]).config
    if not isinstance(config.problem, NetworkTable):
        raise InputError(f"data: problem.kind '{config.problem.kind}' has rows of its own, by problem.data")
    return config, config.problem


def _is_ours(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return archive.comment == COMMENT


def _as_array(column: Any) -> np.ndarray:
    """Return a column as an array; of whole numbers also where pandas' has missing ones."""
    dtype = getattr(column, "dtype", None)
    whole = getattr(dtype, "kind", "") in ("i", "u") and not isinstance(dtype, np.dtype)
    return np.asarray(column, object if whole and column.isna().any() else None)


def arrays_of(data: Any, table: NetworkTable) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return named arrays of a pair (X, y) or of a data frame, and values of the keys that name them."""
    if table.latent:
        if not isinstance(data, np.ndarray) or data.dtype.hasobject:
            raise InputError(f"data: {type(data).__name__}: expected an array of rows, which are coded")
        return {"x": data}, {"inputs": "x"}
    if isinstance(data, tuple) and len(data) == 2:
        x, y = data
        targets = [str(getattr(y, "name", None) or "y")] if table.targets is None else as_list(table.targets)
        if len(targets) > 1:
            raise InputError(f"problem.targets: {targets}: `data` is a pair, whose targets are one array")
        frame, inputs = x if hasattr(x, "columns") else None, list[str]()
        if frame is not None:
            named = msgspec.structs.replace(table, targets=[])
            inputs, _ = choose_columns(named, [*frame_columns(frame, "data")])
        columns = [_as_array(y)]
    elif hasattr(data, "columns"):
        inputs, targets = choose_columns(table, [*frame_columns(data, "data")])
        x = frame = data
        columns = [_as_array(data[frame_columns(data, "data")[name]]) for name in targets]
    else:
        raise InputError(f"data: {type(data).__name__}: expected a pair (X, y) or a data frame")
    absent: np.ndarray | None = None
    if len(targets) > 1:
        columns = [numbers(each, "data", name) for name, each in zip(targets, columns, strict=True)]
    elif columns[0].ndim == 1:
        columns[0], absent = labels_or_numbers(columns[0], "data", targets[0])
    arrays = dict(zip(targets, columns, strict=True))
    if absent is not None and absent.any():
        arrays[targets[0] + ABSENT] = absent
    keys: dict[str, Any] = {"targets": targets[0] if len(targets) == 1 else targets}
    keys |= {"exclude": []} if table.exclude else {}
    if hasattr(x, "tocsr"):
        if table.inputs is not None:
            raise InputError(f"problem.inputs: {table.inputs!r}: a sparse matrix has no names")
        matrix = as_csr(x)
        parts = {"indptr": matrix.indptr, "indices": matrix.columns, "data": matrix.data}
        return arrays | parts | {"shape": np.array(matrix.shape), "format": np.array("csr")}, keys
    keys["inputs"] = name = "inputs" if "x" in arrays else "x"
    if frame is not None:
        arrays[name], categories, names = frame_inputs(frame, "data", inputs)
        given = Samples(arrays[name], None, None, names, absent=absent)
        coded = Coding(names, categories).arrays()
        arrays |= {f"{name}.{key}": array for key, array in coded.items()}
    else:
        arrays[name] = np.asarray(x)
        given = Samples(np.empty((0, 0)), None, absent=absent)
    if table.missing == "refuse":
        refuse_missing(given, "data", "data", targets[0])
    if objects := [each for each, array in arrays.items() if array.dtype.hasobject]:
        raise InputError(f"data: {objects[0]!r} holds Python objects, not real numbers")
    return arrays, keys
