"""Reading and writing of codes in HDF5 files, including traces."""

from __future__ import annotations

import io
import json
import operator
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..trace import opening
from ..trace.reader import code_groups
from ..trace.schema import SCHEMA as TRACE
from ..util.errors import InputError, reason

DENSE = 1 << 20  # elements up to which `save` adds the dense matrix, for other readers
SCHEMA, SCHEMA_VERSION = "pdcode-code", 1


def save(code: Any, target: Any) -> None:
    """Write a code to a file or an open group; see `Code.save`."""
    import h5py

    if isinstance(target, h5py.Group):
        return _write(code, target)
    path, content = Path(target), io.BytesIO()
    with h5py.File(content, "w") as file:  # in memory: HDF5 crashes when it writes to a full disk
        _write(code, file)
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content.getbuffer())
        os.replace(partial, path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise InputError(f"{path}: cannot write the code: {reason(error)}") from error


def _write(code: Any, group: Any) -> None:
    group.attrs.update(
        schema=SCHEMA,
        schema_version=SCHEMA_VERSION,
        family=code.family,
        blocks=code.blocks,
        seed=code.seed,
        options=json.dumps(dict(code.options), default=_plain),
        notes=json.dumps(code.notes),
    )
    group["supports"], group["values"] = code.indices, code.values
    if len(code) * code.blocks <= DENSE:
        group["matrix"] = code.matrix


def _plain(value: Any) -> Any:
    """Convert an option's value to JSON types."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return str(value) if isinstance(value, os.PathLike) else repr(value)


def read_code(source: Any) -> dict[str, Any]:
    """Read the arguments of `Code` from a file written by `save`, or from an open group."""
    import h5py

    if isinstance(source, h5py.Group):
        return _checked(f"{source.file.filename}: {source.name}", *_read(source))
    with opening.open_for_reading(Path(source)) as file:
        content = _read(file)
    return _checked(f"{source}: /", *content)


def load_all(path: str | os.PathLike[str]) -> dict[str, dict[str, Any]]:
    """Read the arguments of `Code` for all codes of a file; see `Code.load_all`."""
    with opening.open_for_reading(Path(path)) as file:
        schema = file.attrs.get("schema")
        if schema == SCHEMA:
            contents = {"/": _read(file)}
        else:
            contents = (
                {f"/code/{k}": _read(group) for k, group in code_groups(file)} if "code" in file else {}
            )
    if not contents:
        what = "every layer is sent uncoded" if schema == TRACE else "neither a code nor a trace of pdcode"
        raise InputError(f"{path}: holds no code: {what}")
    return {name: _checked(f"{path}: {name}", *parts) for name, parts in contents.items()}


def _read(group: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read the attributes and arrays of a code; a trace gives the number of blocks as the group's name."""
    import h5py

    about, arrays = dict(group.attrs), {name: group.get(name) for name in ("matrix", "supports", "values")}
    datasets = {
        name: data for name, data in arrays.items() if isinstance(data, h5py.Dataset) and data.ndim == 2
    }
    if "matrix" in datasets:
        about.setdefault("blocks", datasets["matrix"].shape[1])
    return about, {name: data[()] for name, data in datasets.items() if name != "matrix"}


def _checked(where: str, about: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Convert attributes and arrays to the arguments of `Code`; raise InputError if they are no code."""
    if len(arrays) < 2 or not {"family", "blocks"} <= about.keys():
        raise InputError(f"{where} is not a code of pdcode")
    supports, values = arrays["supports"], arrays["values"]
    try:
        blocks, seed = operator.index(about["blocks"]), operator.index(about.get("seed", 0))
        options = dict(json.loads(about.get("options", "{}")))
        notes = tuple(json.loads(about.get("notes", "[]")))
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: damaged: {error}") from None
    if supports.shape != values.shape or supports.dtype.kind + values.dtype.kind != "if":
        kinds = f"supports {supports.dtype} {supports.shape}, values {values.dtype} {values.shape}"
        raise InputError(f"{where}: damaged: {kinds}")
    fits = supports.size and 0 <= supports.min() <= supports.max() < blocks and supports.shape[1] <= blocks
    if not (fits and np.isfinite(values).all()):
        raise InputError(f"{where}: damaged: codewords do not fit its {blocks} blocks")
    return {
        "indices": supports,
        "values": values,
        "blocks": blocks,
        "family": str(about["family"]),
        "seed": seed,
        "options": options,
        "notes": notes,
    }
