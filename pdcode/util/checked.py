"""Files of a header and binary contents with a digest, which are either complete or absent.

A file is written beside its target and renamed. The replaced file remains as the older generation, so that
one of them is complete whenever a process or machine stops. Size and digest show a truncated or changed file.
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
START = len(MAGIC) + SIZES.size
DIGEST = 32

Header = TypeVar("Header")


def _hash(content: bytes = b"") -> Any:
    from hashlib import blake2b  # loads OpenSSL, which most ranks do not need

    return blake2b(content, digest_size=DIGEST)


def older(path: Path) -> Path:
    """Return the path of a file's older generation."""
    return path.with_name(f"{path.name}.older")


def write(path: Path, header: msgspec.Struct, contents: Sequence[bytes]) -> None:
    """Write a file; one that it replaces becomes the older generation.

    If it cannot be written, an OSError is raised and the existing files are unchanged.
    """
    head = msgspec.msgpack.encode((header, [len(each) for each in contents]))
    size = START + len(head) + sum(map(len, contents)) + DIGEST
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


def _write_all(descriptor: int, segment: bytes) -> None:
    view = memoryview(segment)
    while view:
        view = view[os.write(descriptor, view) :]


def read(path: Path, kind: type[Header], contents: bool = True) -> tuple[Header, list[bytes]]:
    """Read a file that `write` wrote, with a header of type `kind`; refuse a missing or incomplete one.

    Without `contents` only the header is read, and the digest is not compared.
    """
    if why := not_a_file(path):
        raise InputError(f"{path}: {why}")
    try:
        with path.open("rb") as file:
            length = os.fstat(file.fileno()).st_size
            start = file.read(START)
            if not start.startswith(MAGIC):
                raise InputError(f"{path}: not a file of pdcode's checkpoints")
            if len(start) < START or SIZES.unpack_from(start, len(MAGIC))[1] != length:
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
    if min(sizes, default=0) < 0 or sum(sizes) != length - START - size - DIGEST:
        raise InputError(f"{path}: damaged: its contents are of other sizes")
    segments, at = [], 0
    for each in sizes if contents else ():
        segments.append(rest[at : at + each])
        at += each
    return header, segments
