"""Damage of HDF5 files, and datasets that claim more than the file holds, or are in other files."""

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


LINKS = 16  # that a name may lead through


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
    ensure_sources(data, where)
    if data.is_virtual:
        return
    if data.chunks:
        ensure_fits(key, f"a chunk of {name}", math.prod(data.chunks) * data.dtype.itemsize)
        chunks = math.prod(-(-length // chunk) for length, chunk in zip(data.shape, data.chunks, strict=True))
        with damage(where):
            written = data.id.get_num_chunks()
        if written < chunks:
            raise InputError(f"{where} has {written} of {chunks} chunks; the others were never written")
    elif data.size and not data.external and not data.id.get_storage_size():
        raise InputError(f"{where} was never written")


def ensure_sources(data: h5py.Dataset, where: str, links: int = LINKS) -> None:
    """Refuse a dataset whose data are in other files of which one is missing, or is no file.

    Raises
    ------
    InputError
        Of a pipe, too: HDF5 would wait for it for ever.
    """
    with damage(where):
        sources, pieces = data.virtual_sources() if data.is_virtual else [], data.external or []
    for name, _, _ in pieces:
        _there(data.file, name, "HDF5_EXTFILE_PREFIX", where)
    for source in sources:
        name, there = source.dset_name.replace("%b", "0"), None
        if source.file_name == ".":
            there = _follow(data.file, name, where, links - 1)
        elif path := _there(data.file, source.file_name.replace("%b", "0"), "HDF5_VDS_PREFIX", where):
            there = _follow_in(path, name, where, links - 1)
        if not there:
            inside = f"{source.dset_name!r} in {source.file_name!r}"
            raise InputError(f"{where} is a virtual dataset, and its source {inside} is missing")


def ensure_files(file: h5py.File, name: str, where: str) -> None:
    """Refuse a name that leads through links to what is no file, as `ensure_sources` does.

    What is missing or damaged is left to whoever reads it.
    """
    try:
        _follow(file, name, where, LINKS)
    except InputError:
        raise
    except (OSError, KeyError, RuntimeError, ValueError, TypeError):
        return


def _follow(place: h5py.Group, name: str, where: str, links: int) -> bool:
    """Follow a name through links; return whether there is something."""
    import h5py

    place = place.file if name.startswith("/") else place
    parts = [part for part in name.split("/") if part not in ("", ".")]
    for number, part in enumerate(parts, 1):
        key, rest = part.encode("utf-8", "surrogateescape"), "/".join(parts[number:])
        if not links or not isinstance(place, h5py.Group) or not place.id.links.exists(key):
            return False
        if place.id.links.get_info(key).type == h5py.h5l.TYPE_HARD:
            place = place[key]
            continue
        value = place.id.links.get_val(key)
        *file, name = [os.fsdecode(each) for each in (value if isinstance(value, tuple) else [value])]
        if not file:
            return _follow(place, f"{name}/{rest}", where, links - 1)
        path = _there(place.file, file[0], "HDF5_EXT_PREFIX", where)
        return path is not None and _follow_in(path, f"/{name}/{rest}", where, links - 1)
    if isinstance(place, h5py.Dataset):
        ensure_sources(place, where, links)
    return True


def _follow_in(path: Path, name: str, where: str, links: int) -> bool:
    import h5py

    with suppress(OSError), h5py.File(path, "r") as file:
        return _follow(file, name, where, links)
    return False


def _there(file: h5py.File, name: str, prefix: str, where: str) -> Path | None:
    """Return the path of another file where HDF5 looks for it; None if it is missing."""
    for folder in (os.environ.get(prefix, ""), Path(file.filename).parent, ""):
        path = Path(folder, name)
        if not (why := not_a_file(path)):
            return path
        if path.exists():
            raise InputError(f"{where} refers to {str(path)!r}: {why}")
    return None
