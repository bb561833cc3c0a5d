"""Reading and writing of codes in HDF5 files, including traces."""

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from ..trace import contents, opening
from ..trace.contents import damaged
from ..trace.reader import code_groups
from ..trace.schema import SCHEMA as TRACE
from ..trace.schema import Attribute
from ..util.errors import InputError
from ..util.output import ensure_replaceable, ensure_writable, write_file

DENSE = 1 << 20  # elements up to which `save` adds the dense matrix, for other readers
SCHEMA, SCHEMA_VERSION = "pdcode-code", 1
UNIT = 1e-6  # largest deviation of a codeword's norm from 1
ARRAYS = {"matrix", "supports", "values"}
ATTRIBUTES = {
    "schema_version": Attribute(int, 1),
    "family": Attribute(str),
    "blocks": Attribute(int, 1, 2**31 - 1),
    "seed": Attribute(int, -(2**63)),
    "options": Attribute(str),
    "notes": Attribute(str),
}


def save(code: Any, target: Any) -> None:
    """Write a code to a file or an open group; see `Code.save`."""
    import h5py

    if isinstance(target, h5py.Group):
        return _write(code, target)
    path, content = Path(target), io.BytesIO()
    ensure_savable(path)
    with h5py.File(content, "w") as file:  # in memory: HDF5 crashes when it writes to a full disk
        _write(code, file)
    write_file(path, content.getbuffer(), "the code")


def ensure_savable(path: Path) -> None:
    """Raise an InputError if a path cannot be written, or has a file other than a code."""
    ensure_writable(path, str(path))
    ensure_replaceable(path, str(path), "a code", lambda path: opening.schema(path) == SCHEMA)


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
        return _read(source, f"{source.file.filename}: {source.name}")
    with opening.open_for_reading(Path(source)) as file:
        return _read(file, f"{source}: /")


def load_all(path: str | os.PathLike[str]) -> dict[str, dict[str, Any]]:
    """Read the arguments of `Code` for all codes of a file; see `Code.load_all`."""
    with opening.open_for_reading(Path(path)) as file:
        schema = contents.attributes(file, str(path)).get("schema")
        if schema == SCHEMA:
            return {"/": _read(file, f"{path}: /")}
        groups = code_groups(file, str(path)) if "code" in contents.names(file, str(path)) else []
        found = {f"/code/{k}": _read(group, f"{path}: /code/{k}", k) for k, group in groups}
    if not found:
        what = "every layer is sent uncoded" if schema == TRACE else "neither a code nor a trace of pdcode"
        raise InputError(f"{path}: holds no code: {what}")
    return found


def _read(group: Any, where: str, blocks: int | None = None) -> dict[str, Any]:
    """Read and check the arguments of `Code`; a trace gives the number of blocks as the group's name."""
    about, present = contents.attributes(group, where), {*contents.names(group, where)}
    if not {"supports", "values"} <= present or "family" not in about:
        raise InputError(f"{where} is not a code of pdcode")
    contents.check_version(about, SCHEMA_VERSION, where)
    contents.check_attributes(about, ATTRIBUTES, where, "attribute")
    data = {name: contents.dataset(group, name, where) for name in sorted(ARRAYS & present)}
    shapes, kinds = ({name: getattr(each, key) for name, each in data.items()} for key in ("shape", "dtype"))
    shape, flat = shapes["supports"], any(len(each) != 2 for each in shapes.values())
    if flat or shape != shapes["values"] or kinds["supports"].kind + kinds["values"].kind != "if":
        raise damaged(where, ", ".join(f"{name} {kinds[name]} {shapes[name]}" for name in sorted(data)))
    blocks = about.get("blocks", blocks if "matrix" not in data else shapes["matrix"][-1])
    if blocks is None or shapes.get("matrix", (shape[0], blocks)) != (shape[0], blocks):
        raise damaged(where, f"{blocks} blocks, and a matrix of shape {shapes.get('matrix')}")
    supports, values = (contents.array(data[name], where) for name in ("supports", "values"))
    if not (supports.size and 0 <= supports.min() <= supports.max() < blocks and shape[1] <= blocks):
        raise damaged(where, f"codewords do not fit {blocks} blocks")
    with np.errstate(over="ignore"):
        norms = np.linalg.norm(values, axis=1)
    if (wrong := ~(np.abs(norms - 1) <= UNIT)).any():  # also nan
        row = int(wrong.argmax())
        raise damaged(where, f"codeword {row} has norm {norms[row]:.6g}, not 1")
    options, notes = (contents.parse_json(about.get(key, "[]"), where, key) for key in ("options", "notes"))
    texts = isinstance(notes, list) and all(isinstance(note, str) for note in notes)
    if not texts or not isinstance(options or {}, dict):
        raise damaged(where, f"options or notes are {options!r:.60} and {notes!r:.60}")
    return {
        "indices": supports,
        "values": values,
        "blocks": blocks,
        "family": about["family"],
        "seed": about.get("seed", 0),
        "options": options or {},
        "notes": tuple(notes),
    }
