"""Files of a header and arrays with a digest, which are either complete or absent.

A file is written beside its target and renamed. The replaced file remains as the older generation, so that
one of them is complete whenever a process or machine stops. Size and digest show a truncated or changed file.
"""

import math
import os
import struct
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from .errors import InputError, ensure_file, reason

FORMAT = b"pdcode checked "
MAGIC = FORMAT + b"2"
SIZES = struct.Struct("<QQ")  # bytes of the header, and of the whole file
START = len(MAGIC) + SIZES.size
DIGEST = 32

Header = TypeVar("Header")


def _hash(content: bytes = b"") -> Any:
    from hashlib import blake2b  # loads OpenSSL, which most ranks do not need

    return blake2b(content, digest_size=DIGEST)


def older(path: Path) -> Path:
    """Return the path of a file's older generation."""
    return path.with_name(f"{path.name}.older")


def write(path: Path, header: msgspec.Struct) -> None:
    """Write a file; one that it replaces becomes the older generation.

    The header has a field `state` of plain data and arrays.
    If it cannot be written, an OSError is raised and the existing files are unchanged.
    """
    contents: list[memoryview] = []
    at = 0

    def place(array: np.ndarray) -> dict[str, Any]:
        nonlocal at
        contents.append(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        at += array.nbytes
        return {"dtype": array.dtype.str, "shape": array.shape, "at": at - array.nbytes}

    head = msgspec.msgpack.encode(header, enc_hook=place)
    size = START + len(head) + at + DIGEST
    new = path.with_name(f"{path.name}.new")
    digest = _hash()
    try:
        with new.open("wb", buffering=0) as file:
            for segment in (MAGIC + SIZES.pack(len(head), size) + head, *contents):
                digest.update(segment)
                _write_all(file.fileno(), segment)
            _write_all(file.fileno(), digest.digest())
            os.fsync(file.fileno())
        if path.exists():
            os.replace(path, older(path))
        os.replace(new, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        new.unlink(missing_ok=True)


def _write_all(descriptor: int, segment: Any) -> None:
    view = memoryview(segment)
    while view:
        view = view[os.write(descriptor, view) :]


def read(path: Path, kind: type[Header], arrays: bool = True) -> Header:
    """Read a file that `write` wrote, with a header of type `kind`; refuse a missing or incomplete one.

    Without `arrays` the state lacks them, and the digest is not compared.
    """
    ensure_file(path)
    try:
        with path.open("rb") as file:
            length = os.fstat(file.fileno()).st_size
            start = file.read(START)
            if start.startswith(FORMAT) and not start.startswith(MAGIC):
                raise InputError(f"{path}: written by another version of pdcode, which can resume its run")
            if not start.startswith(MAGIC):
                raise InputError(f"{path}: not a file of pdcode's checkpoints")
            if len(start) < START or SIZES.unpack_from(start, len(MAGIC))[1] != length:
                raise InputError(f"{path}: it is not whole: it has {length} bytes")
            size = SIZES.unpack_from(start, len(MAGIC))[0]
            if size > length:
                raise InputError(f"{path}: damaged: a header of {size} bytes")
            head = file.read(size)
            rest = file.read() if arrays else b""
    except OSError as error:
        raise InputError(f"{path}: {reason(error)}") from None
    if arrays and _hash(start + head + rest[:-DIGEST]).digest() != rest[-DIGEST:]:
        raise InputError(f"{path}: damaged: its digest is another one")
    try:
        header: Any = msgspec.msgpack.decode(head, type=kind)
        if arrays:
            header.state = _with_arrays(header.state, memoryview(rest)[:-DIGEST])
    except (msgspec.MsgspecError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: damaged: {error}") from None
    return header


def _with_arrays(state: Any, contents: memoryview) -> Any:
    """Return a state with arrays, views of the contents, in place of their descriptions."""
    if isinstance(state, list):
        return [_with_arrays(each, contents) for each in state]
    if not isinstance(state, dict):
        return state
    if state.keys() != {"dtype", "shape", "at"}:
        return {key: _with_arrays(each, contents) for key, each in state.items()}
    dtype, shape, at = np.dtype(state["dtype"]), state["shape"], state["at"]
    return np.frombuffer(contents[at : at + dtype.itemsize * math.prod(shape)], dtype).reshape(shape)
