"""Codes in HDF5 files: their own, and traces."""

from __future__ import annotations

import io
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..util.errors import InputError, reason, sound
from .code import Code

DENSE = 1 << 20  # elements up to which `save` adds the dense matrix for other readers
SCHEMA, SCHEMA_VERSION = "pdcode-code", 1


def save(code: Code, target: Any) -> None:
    """What `Code.save` does."""
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


def _write(code: Code, group: Any) -> None:
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
    """An option's value as JSON has it."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return str(value) if isinstance(value, os.PathLike) else repr(value)


def load(source: Any) -> Code:
    """What `Code.load` does."""
    import h5py

    if not isinstance(source, h5py.Group):
        with sound(source), _opened(source) as file:
            return load(file)
    about = source.attrs
    blocks = about.get("blocks", source["matrix"].shape[1] if "matrix" in source else None)
    if not {"supports", "values"} <= set(source) or "family" not in about or blocks is None:
        raise InputError(f"{source.file.filename}: {source.name} is not a code of pdcode")
    return Code(
        source["supports"][()],
        source["values"][()],
        int(blocks),
        str(about["family"]),
        int(about.get("seed", 0)),
        json.loads(about.get("options", "{}")),
        tuple(json.loads(about.get("notes", "[]"))),
    )


def load_all(path: str | os.PathLike[str]) -> dict[str, Code]:
    """Read all codes of a file: the one that `Code.save` wrote, or those of a trace, by ascending k.

    Returns
    -------
    dict
        Name of the group → code.

    Raises
    ------
    InputError
        If the file is not HDF5, or holds no code.
    """
    with sound(path), _opened(path) as file:
        if file.attrs.get("schema") == SCHEMA:
            return {"/": load(file)}
        codes = file.get("code", {})
        if not len(codes):
            trace = file.attrs.get("schema") == "pdcode-trace"
            what = "every layer is sent whole" if trace else "neither a code nor a trace of pdcode"
            raise InputError(f"{path}: holds no code: {what}")
        return {f"/code/{k}": load(codes[k]) for k in sorted(codes, key=int)}


def _opened(path: Any) -> Any:
    """The file, which may be the trace of a run that goes on."""
    from ..trace import opening

    return opening.read(Path(path))
