"""Reader of MNIST's IDX format, gzipped or not."""

import gzip
import math
import os
import zlib
from pathlib import Path

import numpy as np

from ..config import NetworkTable
from ..util.errors import InputError, short_repr
from ..util.memory import MAX_COMPRESSION, ensure_fits
from .coding import Samples
from .formats import existing_path
from .matrix import Array

# third byte of the magic number -> type of the numbers, big-endian
TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
GZIP = b"\x1f\x8b"


def read_images_and_labels(table: NetworkTable, required: bool = True) -> Samples:
    """Read images and their labels; bytes 0 … 255 become 0 … 1.

    The file of labels is the table's `labels`, or the file whose name has "labels" and "idx1" in place of
    "images" and "idx3".
    """
    path = existing_path("data", table.data)
    images = read_idx(path, "data")
    x = images.astype(np.float32) / (255 if images.dtype == np.uint8 else 1)
    if not (required or table.labels):
        return Samples(x, None)
    labels = existing_path("labels", table.labels) if table.labels else _labels_path(path)
    return Samples(x, read_idx(labels, "labels"))


def read_idx(path: Path, key: str = "data") -> Array:
    """Read the array in an IDX file; `key` of [problem] names the file in messages."""
    name = f"problem.{key}: {str(path)!r}"
    try:
        with path.open("rb") as raw, gzip.open(raw) if raw.peek(2)[:2] == GZIP else raw as file:
            magic = file.read(4)
            if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in TYPES or not 0 < magic[3] <= 64:
                raise InputError(
                    f"{name} is not an IDX file: its magic number is {magic.hex(' ') or 'missing'}"
                )
            dtype, lengths = np.dtype(TYPES[magic[2]]), file.read(4 * magic[3])
            if len(lengths) < 4 * magic[3]:
                raise InputError(f"{name} is truncated in its header")
            shape = tuple(int(length) for length in np.frombuffer(lengths, ">u4"))
            expected = math.prod(shape) * dtype.itemsize
            what = f"{str(path)!r} of shape {short_repr(shape)}"
            ensure_fits(f"problem.{key}", what, 2 * expected)  # a copy
            most = os.fstat(raw.fileno()).st_size * (1 if file is raw else MAX_COMPRESSION)
            content = file.read(expected) if expected <= most else b""
            if len(content) < expected or file.read(1):
                what = "cut off" if len(content) < expected else "too long"
                raise InputError(f"{name} is {what}: shape {short_repr(shape)} needs {expected} bytes")
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{name} cannot be read: {error}") from error
    return np.frombuffer(content, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def _labels_path(images: Path) -> Path:
    """Return the path of the labels that belong to a file of images."""
    name = images.name.replace("images", "labels").replace("idx3", "idx1")
    if name == images.name:
        raise InputError(f"problem.labels: not given, and cannot be derived from the name {images.name!r}")
    return existing_path("labels", images.with_name(name))
