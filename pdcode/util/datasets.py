"""Damage of HDF5 files, and datasets that claim more than the file holds."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import InputError
from .memory import ensure_fits

if TYPE_CHECKING:
    import h5py


@contextmanager
def damage(where: str) -> Iterator[None]:
    """Report errors of h5py as damage; the block must only call h5py."""
    try:
        yield
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, OverflowError, MemoryError) as error:
        raise damaged(where, " ".join(str(error.args[0] if error.args else error).split())) from None


def damaged(where: str, what: str) -> InputError:
    """Return the InputError for a damaged file."""
    return InputError(f"{where}: damaged: {what}")


def ensure_written(data: h5py.Dataset, key: str, name: str) -> None:
    """Refuse a dataset with parts that were never written or are elsewhere: HDF5 reads zeros there.

    Parameters
    ----------
    data : h5py.Dataset
    key, name : str
        Key of the configuration, and the dataset's name, for the message.

    Raises
    ------
    InputError
        If a part is missing, or a chunk does not fit into memory.
    """
    where = f"{key}: {name}"
    if data.is_virtual:
        for source in data.virtual_sources():
            if gone := _gone(data, source.file_name, source.dset_name):
                raise InputError(f"{where} is a virtual dataset, and its source {gone} is missing")
    elif data.chunks:
        ensure_fits(key, f"a chunk of {name}", math.prod(data.chunks) * data.dtype.itemsize)
        chunks = math.prod(-(-length // chunk) for length, chunk in zip(data.shape, data.chunks, strict=True))
        with damage(where):
            written = data.id.get_num_chunks()
        if written < chunks:
            raise InputError(f"{where} has {written} of {chunks} chunks; the others were never written")
    elif data.size and not data.external and not data.id.get_storage_size():
        raise InputError(f"{where} was never written")


def _gone(data: h5py.Dataset, file_name: str, dataset: str) -> str:
    """Return the name of the source of a virtual dataset if it cannot be opened; empty if it can."""
    import h5py

    inside, here = f"{dataset!r} in {file_name!r}", Path(data.file.filename).parent
    if file_name == ".":
        return "" if dataset in data.file else inside
    for folder in (os.environ.get("HDF5_VDS_PREFIX", ""), here, ""):  # where HDF5 looks
        with suppress(OSError), h5py.File(Path(folder, file_name.replace("%b", "0")), "r") as file:
            return "" if dataset.replace("%b", "0") in file else inside
    return inside
