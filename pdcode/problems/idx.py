"""Reader of MNIST's IDX format, gzipped or not."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from ..config.tables import ProblemTable as Table
from ..util.errors import InputError
from .formats import existing
from .matrix import Array
from .samples import Samples

# third byte of the magic number -> type of the numbers, big-endian
TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
GZIP = b"\x1f\x8b"


def read_images_and_labels(table: Table) -> Samples:
    """Read images and their labels; bytes 0 … 255 become 0 … 1.

    The file of labels is the table's `labels`, or the file whose name has "labels" and "idx1" in place of
    "images" and "idx3".
    """
    path = existing("data", table.data)
    images = read_idx(path, "data")
    labels = existing("labels", table.labels) if table.labels else _labels_of(path)
    scale = 255 if images.dtype == np.uint8 else 1
    return Samples(images.astype(np.float32) / scale, read_idx(labels, "labels"))


def read_idx(path: Path, key: str = "data") -> Array:
    """Read the array in an IDX file.

    Parameters
    ----------
    path : Path
        The file.
    key : str
        Key of [problem] that names the file, for messages.

    Raises
    ------
    InputError
        If the file is not IDX, is truncated or too long.
    """
    try:
        content = path.read_bytes()
        if content[:2] == GZIP:
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"problem.{key}: {str(path)!r} cannot be read: {error}") from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in TYPES or content[3] == 0:
        raise InputError(
            f"problem.{key}: {str(path)!r} is not an IDX file:"
            f" its magic number is {content[:4].hex(' ') or 'missing'}"
        )
    dtype, start = np.dtype(TYPES[content[2]]), 4 + 4 * content[3]
    if len(content) < start:
        raise InputError(f"problem.{key}: {str(path)!r} is truncated in its header")
    shape = tuple(int(length) for length in np.frombuffer(content, ">u4", content[3], 4))
    expected = start + math.prod(shape) * dtype.itemsize
    if len(content) != expected:
        what = "cut off" if len(content) < expected else "too long"
        raise InputError(
            f"problem.{key}: {str(path)!r} is {what}: {len(content)} bytes,"
            f" but shape {shape} needs {expected}"
        )
    return np.frombuffer(content, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def _labels_of(images: Path) -> Path:
    """Return the path of the labels that belong to a file of images."""
    name = images.name.replace("images", "labels").replace("idx3", "idx1")
    if name == images.name:
        raise InputError(f"problem.labels: not given, and cannot be derived from the name {images.name!r}")
    return existing("labels", images.with_name(name))
