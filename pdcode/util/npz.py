"""Arrays of npz files, whose sizes are checked before memory is allocated for them. Nothing is unpickled."""

from __future__ import annotations

import lzma
import math
import os
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.lib import format as npy

# what zipfile and numpy raise for damaged files
DAMAGE = (
    OSError, EOFError, ValueError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error,
    lzma.LZMAError, struct.error, tokenize.TokenError,
)  # fmt: skip


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[zipfile.ZipFile]:
    """Open an npz file, without numpy's warnings of headers that Python 2 wrote."""
    with zipfile.ZipFile(path) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield archive


def claimed(archive: zipfile.ZipFile, name: str) -> tuple[zipfile.ZipInfo, tuple[int, ...], np.dtype]:
    """Return the archive's member that is an array of this name, and the shape and type that it claims.

    Raises
    ------
    ValueError, and others of `DAMAGE`
        If the member has less than it claims, or is no array.
    """
    member = archive.getinfo(f"{name}.npy" if f"{name}.npy" in archive.namelist() else name)
    with archive.open(member) as file:
        version = npy.read_magic(file)
        header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
        if header is None:
            raise ValueError(f"version {version} of the format of arrays")
        shape, _, dtype = header(file)
    size = math.prod(shape) * dtype.itemsize
    if size > member.file_size and not dtype.hasobject:
        raise ValueError(f"{name!r} is cut off: shape {shape} needs {size} bytes of {member.file_size}")
    return member, shape, dtype


def array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """Read an array; one of Python objects is refused with a ValueError."""
    with archive.open(member) as file:
        return np.asarray(npy.read_array(file, allow_pickle=False))
