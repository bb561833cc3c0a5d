"""Reading of npz and npy files: sizes are checked before memory is allocated, and nothing is unpickled."""

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
from typing import IO

import numpy as np
from numpy.lib import format as npy

ERRORS = (  # of zipfile and numpy for damaged files
    OSError, EOFError, ValueError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error,
    lzma.LZMAError, struct.error,
)  # fmt: skip


@contextmanager
def open_npz(path: str | os.PathLike[str]) -> Iterator[zipfile.ZipFile]:
    """Open an npz file, without numpy's warnings about headers that Python 2 wrote."""
    with zipfile.ZipFile(path) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield archive


def read_header(archive: zipfile.ZipFile, name: str) -> tuple[zipfile.ZipInfo, tuple[int, ...], np.dtype]:
    """Return the member with the array of this name, and the array's shape and type.

    One of `ERRORS` is raised if the member is not an array, or shorter than its shape requires.
    """
    member = archive.getinfo(f"{name}.npy" if f"{name}.npy" in archive.namelist() else name)
    with archive.open(member) as file:
        return member, *read_npy_header(file, name, member.file_size)


def read_npy_header(file: IO[bytes], name: str, size: int) -> tuple[tuple[int, ...], np.dtype]:
    """Return shape and type of the array in an npy file of `size` bytes; errors as for `read_header`."""
    version = npy.read_magic(file)
    header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if header is None:
        raise ValueError(f"version {version} of the format of arrays")
    try:
        shape, _, dtype = header(file)
    except (*ERRORS, SyntaxError, TypeError, KeyError, tokenize.TokenError):  # of numpy's own parser
        raise ValueError(f"the header of {name!r} is damaged") from None
    needed = math.prod(shape) * dtype.itemsize
    if needed > size and not dtype.hasobject:
        raise ValueError(f"{name!r} is cut off: shape {shape} needs {needed} bytes of {size}")
    return shape, dtype


def read_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """Read an array; a ValueError is raised if its elements are Python objects."""
    with archive.open(member) as file:
        return np.asarray(npy.read_array(file, allow_pickle=False))
