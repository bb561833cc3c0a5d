"""Checks of HDF5 datasets before they are read: damage, unwritten chunks, and data in other files."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import InputError, not_a_file
from .memory import ensure_fits

if TYPE_CHECKING:
    import h5py

LINKS = 16  # links, at most, that a name may lead through


@contextmanager
def errors_as_damage(where: str) -> Iterator[None]:
    """Report errors of h5py as damage of the file; the block must only call h5py."""
    try:
        yield
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, OverflowError, MemoryError) as error:
        raise damaged(where, " ".join(str(error.args[0] if error.args else error).split())) from None


def damaged(where: str, what: str) -> InputError:
    """Return the InputError for a damaged file."""
    return InputError(f"{where}: damaged: {what}")


def ensure_written(data: h5py.Dataset, key: str, name: str) -> None:
    """Refuse a dataset with missing data, which HDF5 reads as zeros, or with a chunk that exceeds memory.

    `key` of the configuration and the dataset's `name` are for the message.
    """
    where = f"{key}: {name}"
    ensure_sources(data, where)
    if data.is_virtual:
        return
    if data.chunks:
        ensure_fits(key, f"a chunk of {name}", math.prod(data.chunks) * data.dtype.itemsize)
        chunks = math.prod(-(-length // chunk) for length, chunk in zip(data.shape, data.chunks, strict=True))
        with errors_as_damage(where):
            written = data.id.get_num_chunks()
        if written < chunks:
            raise InputError(f"{where} has {written} of {chunks} chunks; the others were never written")
    elif data.size and not data.external and not data.id.get_storage_size():
        raise InputError(f"{where} was never written")


def ensure_sources(data: h5py.Dataset, where: str, links: int = LINKS) -> None:
    """Refuse a dataset with data in other files if one is missing or not a regular file.

    HDF5 would block forever on a pipe.
    """
    with errors_as_damage(where):
        sources, pieces = data.virtual_sources() if data.is_virtual else [], data.external or []
    for name, _, _ in pieces:
        _locate(data.file, name, "HDF5_EXTFILE_PREFIX", where)
    for source in sources:
        name, exists = source.dset_name.replace("%b", "0"), False
        if source.file_name == ".":
            exists = _follow(data.file, name, where, links - 1)
        elif path := _locate(data.file, source.file_name.replace("%b", "0"), "HDF5_VDS_PREFIX", where):
            exists = _follow_in(path, name, where, links - 1)
        if not exists:
            inside = f"{source.dset_name!r} in {source.file_name!r}"
            raise InputError(f"{where} is a virtual dataset, and its source {inside} is missing")


def ensure_files(file: h5py.File, name: str, where: str) -> None:
    """Refuse a name that leads through links to something that is not a regular file.

    Missing and damaged files are reported when they are read.
    """
    try:
        _follow(file, name, where, LINKS)
    except InputError:
        raise
    except (OSError, KeyError, RuntimeError, ValueError, TypeError):
        return


def _follow(place: h5py.Group, name: str, where: str, links: int) -> bool:
    """Follow a name through links; return whether it exists."""
    import h5py

    place = place.file if name.startswith("/") else place
    steps = [step for step in name.split("/") if step not in ("", ".")]
    for number, step in enumerate(steps, 1):
        key, rest = step.encode("utf-8", "surrogateescape"), "/".join(steps[number:])
        if not links or not isinstance(place, h5py.Group) or not place.id.links.exists(key):
            return False
        if place.id.links.get_info(key).type == h5py.h5l.TYPE_HARD:
            place = place[key]
            continue
        value = place.id.links.get_val(key)
        *file, name = [os.fsdecode(each) for each in (value if isinstance(value, tuple) else [value])]
        if not file:
            return _follow(place, f"{name}/{rest}", where, links - 1)
        path = _locate(place.file, file[0], "HDF5_EXT_PREFIX", where)
        return path is not None and _follow_in(path, f"/{name}/{rest}", where, links - 1)
    if isinstance(place, h5py.Dataset):
        ensure_sources(place, where, links)
    return True


def _follow_in(path: Path, name: str, where: str, links: int) -> bool:
    import h5py

    with suppress(OSError), h5py.File(path, "r") as file:
        return _follow(file, name, where, links)
    return False


def _locate(file: h5py.File, name: str, prefix: str, where: str) -> Path | None:
    """Return the path of another file as HDF5 searches for it; None if it is missing."""
    for folder in (os.environ.get(prefix, ""), Path(file.filename).parent, ""):
        path = Path(folder, name)
        if not (why := not_a_file(path)):
            return path
        if path.exists():
            raise InputError(f"{where} refers to {str(path)!r}: {why}")
    return None
