"""Contents of HDF5 files that may be damaged: every call of h5py that reads a trace or a code is here.

What h5py cannot read is reported as damage; so is what does not have the expected type, and a dataset that
claims more than the file holds, before memory is allocated for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from ..util.datasets import damage, damaged
from ..util.errors import InputError
from ..util.memory import PACKED
from .schema import Attribute

if TYPE_CHECKING:
    import h5py

SPARE = 1 << 20  # bytes that a dataset may claim in any case


def attributes(place: h5py.HLObject, where: str) -> dict[str, Any]:
    """Return the attributes of a group or file as Python types.

    Raises
    ------
    InputError
        If one cannot be read, or is text that is not UTF-8.
    """
    with damage(where):
        raw = {key: place.attrs[key] for key in place.attrs}
    plain = {
        key: value.tolist() if isinstance(value, np.ndarray | np.generic) else value
        for key, value in raw.items()
    }
    for key, value in plain.items():
        if not all(_is_text(each) for each in (key, *(value if isinstance(value, list) else [value]))):
            raise damaged(where, f"attribute {key!a} is not UTF-8 text")
    return plain


def attribute(place: h5py.HLObject, name: str, where: str) -> Any:
    """Return one attribute as h5py has it; None if there is none."""
    with damage(where):
        return place.attrs.get(name)


def _is_text(value: Any) -> bool:
    """Tell whether a value is no text, or text of characters; h5py gives other bytes as surrogates."""
    return not (isinstance(value, str) and any("\ud800" <= sign <= "\udfff" for sign in value))


def check(values: Mapping[str, Any], expected: Mapping[str, Attribute], where: str, what: str) -> None:
    """Refuse attributes of other types or values than expected; any may be missing."""
    for key, attribute in expected.items():
        if key in values and not attribute.fits(values[key]):
            raise damaged(where, f"{what} {key} is {values[key]!r:.60}")


def check_version(values: Mapping[str, Any], newest: int, where: str) -> None:
    """Refuse a file of a newer schema, which may look damaged."""
    if isinstance(version := values.get("schema_version"), int) and version > newest:
        raise InputError(f"{where}: has schema version {version}; this pdcode reads up to {newest}")


def parsed(text: str, where: str, what: str) -> Any:
    """Return the content of JSON text."""
    try:
        content = json.loads(text)
        json.dumps(content, ensure_ascii=False).encode()  # an escape may stand for no character
    except (ValueError, RecursionError) as error:
        raise damaged(where, f"{what}: {error}") from None
    return content


def names(group: h5py.Group, where: str) -> list[str]:
    """List the members of a group."""
    with damage(where):
        found = list(group)
    if not all(isinstance(name, str) and _is_text(name) for name in found):  # else h5py gives bytes
        raise damaged(where, f"names in {group.name} are not UTF-8 text: {found!a:.60}")
    return found


def _member(parent: h5py.Group, name: str, where: str) -> Any:
    """Return what has this name in a group; None if nothing has it, or only a link.

    Links are not followed: they may lead to other files, and HDF5 waits for ever for a named pipe.
    """
    import h5py

    with damage(where):
        key = name.encode()
        hard = parent.id.links.exists(key) and parent.id.links.get_info(key).type == h5py.h5l.TYPE_HARD
        return parent.get(name) if hard else None


def group(parent: h5py.Group, name: str, where: str) -> h5py.Group:
    """Return a group of this name; raise InputError if there is none."""
    import h5py

    found = _member(parent, name, where)
    if not isinstance(found, h5py.Group):
        raise damaged(where, f"{name} is not a group")
    return found


def dataset(parent: h5py.Group, name: str, where: str, what: str = "") -> h5py.Dataset:
    """Return a dataset of this name that the file can hold; raise InputError if there is none.

    The type of its elements is a number, a truth value or text. `what` describes it in messages.
    """
    import h5py

    what = what or name
    found = _member(parent, name, where)
    if not isinstance(found, h5py.Dataset):
        raise damaged(where, f"{what} is {'missing' if found is None else 'not a dataset'}")
    with damage(where):
        shape, dtype = found.shape, found.dtype
        held = min(found.id.get_storage_size(), found.file.id.get_filesize())  # claimed, too, and true
        packed, virtual = found.compression is not None, found.is_virtual or found.external
        plain = dtype.kind in "biufS" or h5py.check_string_dtype(dtype) is not None
    if shape is None or not plain or virtual:
        raise damaged(where, f"{what} is {dtype} {shape}")
    size = dtype.itemsize
    for length in shape:
        size *= length  # Python's integers do not overflow
    if size > held * (PACKED if packed else 1) + SPARE * bool(held):
        raise damaged(where, f"{what} claims {size} bytes, of which the file holds {held}")
    return found


def array(found: h5py.Dataset, where: str, rows: int | None = None) -> np.ndarray:
    """Read a dataset, or its first rows."""
    with damage(where):
        content = found[()] if rows is None else found[:rows]
    return np.asarray(content)


def datasets(place: h5py.Group, where: str, depth: int = 3) -> Iterator[h5py.Dataset]:
    """Read all attributes, and yield all datasets that can be read, of a group and of groups in it."""
    import h5py

    with suppress(InputError):
        attributes(place, where)
    members: list[str] = []
    with suppress(InputError):
        members = names(place, where)
    for name in members:
        with suppress(InputError):
            found = _member(place, name, where)
            if not isinstance(found, h5py.Group):
                yield dataset(place, name, where)
            elif depth:
                yield from datasets(found, where, depth - 1)
