"""Files of a header and binary contents, whole or not there: written beside and renamed, with a digest.

A file that is replaced is kept as the older generation, so that one of them is whole whenever a process or a
machine stops. A reader learns of a torn, truncated or changed file from its size or its digest.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from .errors import InputError, not_a_file, reason

MAGIC = b"pdcode checked 1"
SIZES = struct.Struct("<QQ")  # bytes of the header, and of the whole file
DIGEST = 32
OLDER = ".older"

Header = TypeVar("Header")


def _hash(content: bytes = b"") -> Any:
    from hashlib import blake2b  # with all of OpenSSL, which most ranks do not need

    return blake2b(content, digest_size=DIGEST)


def older(path: Path) -> Path:
    """Return the path of a file's older generation."""
    return path.with_name(path.name + OLDER)


def write(path: Path, header: Any, contents: Sequence[bytes]) -> None:
    """Write a file and put it in place of one that is there, which becomes the older generation.

    Parameters
    ----------
    path : Path
    header : msgspec.Struct
    contents : sequence of bytes

    Raises
    ------
    OSError
        If it cannot be written; what was there is as it was.
    """
    head = msgspec.msgpack.encode((header, [len(each) for each in contents]))
    size = len(MAGIC) + SIZES.size + len(head) + sum(map(len, contents)) + DIGEST
    new = path.with_name(f"{path.name}.new")
    digest = _hash()
    try:
        with new.open("wb", buffering=0) as file:
            for part in (MAGIC + SIZES.pack(len(head), size) + head, *contents):
                digest.update(part)
                _put(file.fileno(), part)
            _put(file.fileno(), digest.digest())
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


def _put(descriptor: int, part: bytes) -> None:
    """Write all bytes."""
    view = memoryview(part)
    while view:
        view = view[os.write(descriptor, view) :]


def read(path: Path, kind: type[Header], contents: bool = True) -> tuple[Header, list[bytes]]:
    """Read a file that `write` wrote.

    Parameters
    ----------
    path : Path
    kind : type
        Type of the header.
    contents : bool
        Whether to read the contents, too; without them the digest is not compared.

    Raises
    ------
    InputError
        If the file is missing, or is not whole; the message names it.
    """
    if why := not_a_file(path):
        raise InputError(f"{path}: {why}")
    try:
        with path.open("rb") as file:
            length = os.fstat(file.fileno()).st_size
            start = file.read(len(MAGIC) + SIZES.size)
            if not start.startswith(MAGIC):
                raise InputError(f"{path}: not a file of pdcode's checkpoints")
            if len(start) < len(MAGIC) + SIZES.size or SIZES.unpack_from(start, len(MAGIC))[1] != length:
                raise InputError(f"{path}: it is not whole: it has {length} bytes")
            size = SIZES.unpack_from(start, len(MAGIC))[0]
            if size > length:
                raise InputError(f"{path}: damaged: a header of {size} bytes")
            head = file.read(size)
            rest = file.read() if contents else b""
    except OSError as error:
        raise InputError(f"{path}: {reason(error)}") from None
    if contents and _hash(start + head + rest[:-DIGEST]).digest() != rest[-DIGEST:]:
        raise InputError(f"{path}: damaged: its digest is another one")
    try:
        header, sizes = msgspec.msgpack.decode(head, type=tuple[kind, list[int]])  # type: ignore[valid-type]
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise InputError(f"{path}: damaged: {error}") from None
    if min(sizes, default=0) < 0 or sum(sizes) != length - len(start) - size - DIGEST:
        raise InputError(f"{path}: damaged: its contents are of other sizes")
    found, at = [], 0
    for each in sizes if contents else ():
        found.append(rest[at : at + each])
        at += each
    return header, found
