"""Codes in HDF5 files: their own, and traces."""

from __future__ import annotations

import io
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..trace import opening
from ..util.errors import InputError, reason, sound

DENSE = 1 << 20  # elements up to which `save` adds the dense matrix for other readers
SCHEMA, SCHEMA_VERSION = "pdcode-code", 1


def save(code: Any, target: Any) -> None:
    """Write a code to a file or an open group; see `Code.save`."""
    import h5py

    if isinstance(target, h5py.Group):
        return _write(code, target)
    path, made = Path(target), io.BytesIO()
    with h5py.File(made, "w") as file:  # HDF5 itself cannot be asked to write to a full disk
        _write(code, file)
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(made.getbuffer())
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
    """Return an option's value as JSON has it."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return str(value) if isinstance(value, os.PathLike) else repr(value)


def fields(group: Any) -> dict[str, Any]:
    """Read what a group says of a code: the arguments of `Code`.

    Raises
    ------
    InputError
        If it says nothing of one.
    """
    about = group.attrs
    blocks = about.get("blocks", group["matrix"].shape[1] if "matrix" in group else None)
    if not {"supports", "values"} <= set(group) or "family" not in about or blocks is None:
        raise InputError(f"{group.file.filename}: {group.name} is not a code of pdcode")
    return {
        "indices": group["supports"][()],
        "values": group["values"][()],
        "blocks": int(blocks),
        "family": str(about["family"]),
        "seed": int(about.get("seed", 0)),
        "options": json.loads(about.get("options", "{}")),
        "notes": tuple(json.loads(about.get("notes", "[]"))),
    }


def load(path: Any) -> dict[str, Any]:
    """Read the fields of the code that `save` wrote to a file."""
    with sound(path), opening.read(Path(path)) as file:
        return fields(file)


def load_all(path: str | os.PathLike[str]) -> dict[str, dict[str, Any]]:
    """Read the fields of all codes of a file; see `Code.load_all`."""
    with sound(path), opening.read(Path(path)) as file:
        if file.attrs.get("schema") == SCHEMA:
            return {"/": fields(file)}
        codes = file.get("code", {})
        if not len(codes):
            trace = file.attrs.get("schema") == "pdcode-trace"
            what = "every layer is sent whole" if trace else "neither a code nor a trace of pdcode"
            raise InputError(f"{path}: holds no code: {what}")
        return {f"/code/{k}": fields(codes[k]) for k in sorted(codes, key=int)}
