"""Reading of HDF5 files that may be damaged: every call of h5py that reads a trace or a code is here.

Errors of h5py and unexpected types are reported as damage (`InputError`). So are datasets that claim more
bytes than the file holds, before memory is allocated for them. `where` names the file in messages.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from ..util.datasets import damaged, errors_as_damage
from ..util.errors import InputError
from ..util.memory import MAX_COMPRESSION
from .schema import Attribute

if TYPE_CHECKING:
    import h5py

SPARE = 1 << 20  # bytes that a dataset with any stored data may claim


def attributes(place: h5py.HLObject, where: str) -> dict[str, Any]:
    """Return the attributes of a group or file as Python types; text must be UTF-8."""
    with errors_as_damage(where):
        found = place.attrs  # a new object each time
        raw = {key: found[key] for key in found}
    plain = {
        key: value.tolist() if isinstance(value, np.ndarray | np.generic) else value
        for key, value in raw.items()
    }
    for key, value in plain.items():
        if not all(_is_text(each) for each in (key, *(value if isinstance(value, list) else [value]))):
            raise damaged(where, f"attribute {key!a} is not UTF-8 text")
    return plain


def attribute(place: h5py.HLObject, name: str, where: str) -> Any:
    """Return one attribute as h5py reads it; None if it is missing."""
    with errors_as_damage(where):
        return place.attrs.get(name)


def _is_text(value: Any) -> bool:
    """Return whether a value is valid text, or no text; h5py decodes invalid bytes as surrogates."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return False
    return True


def check_attributes(
    values: Mapping[str, Any], expected: Mapping[str, Attribute], where: str, what: str
) -> None:
    """Refuse attributes of other types or values than expected; any may be missing."""
    for key, attribute in expected.items():
        if key in values and not attribute.fits(values[key]):
            raise damaged(where, f"{what} {key} is {values[key]!r:.60}")


def check_version(values: Mapping[str, Any], newest: int, where: str) -> None:
    """Refuse a file of a newer schema, which could look damaged."""
    if isinstance(version := values.get("schema_version"), int) and version > newest:
        raise InputError(f"{where}: has schema version {version}; this pdcode reads up to {newest}")


def parse_json(text: str, where: str, what: str) -> Any:
    """Parse JSON text."""
    try:
        content = json.loads(text)
        json.dumps(content, ensure_ascii=False).encode()  # an escape may be an unpaired surrogate
    except (ValueError, RecursionError) as error:
        raise damaged(where, f"{what}: {error}") from None
    return content


def names(group: h5py.Group, where: str) -> list[str]:
    """List the members of a group."""
    with errors_as_damage(where):
        members = list(group)
    if not all(isinstance(name, str) and _is_text(name) for name in members):  # h5py may return bytes
        raise damaged(where, f"names in {group.name} are not UTF-8 text: {members!a:.60}")
    return members


def _member(parent: h5py.Group, name: str, where: str) -> Any:
    """Return the member of this name; None if it is missing or a soft or external link.

    Links are not followed: they may lead to other files, and HDF5 blocks forever on a named pipe.
    """
    import h5py

    with errors_as_damage(where):
        key = name.encode()
        if not parent.id.links.exists(key) or parent.id.links.get_info(key).type != h5py.h5l.TYPE_HARD:
            return None
        with suppress(KeyError):  # h5py's low-level interface takes a quarter of the time of `Group.get`
            member = h5py.h5o.open(parent.id, key)
            if isinstance(member, h5py.h5d.DatasetID):
                return h5py.Dataset(member, readonly=True)
            return h5py.Group(member) if isinstance(member, h5py.h5g.GroupID) else member
    return None


def group(parent: h5py.Group, name: str, where: str) -> h5py.Group:
    """Return the group of this name."""
    import h5py

    member = _member(parent, name, where)
    if not isinstance(member, h5py.Group):
        raise damaged(where, f"{name} is not a group")
    return member


def dataset(parent: h5py.Group, name: str, where: str, what: str = "") -> h5py.Dataset:
    """Return the dataset of this name, whose elements are numbers, truth values or text.

    Its size is checked against the bytes in the file. `what` describes the dataset in messages.
    """
    import h5py

    what = what or name
    member = _member(parent, name, where)
    if not isinstance(member, h5py.Dataset):
        raise damaged(where, f"{what} is {'missing' if member is None else 'not a dataset'}")
    with errors_as_damage(where):
        shape, dtype, how = member.shape, member.dtype, member.id.get_create_plist()
        size = h5py.h5i.get_file_id(member.id).get_filesize()
        held = min(member.id.get_storage_size(), size)  # the first may be wrong, too
        packed = how.get_nfilters() > 0 and member.compression is not None
        virtual = how.get_layout() == h5py.h5d.VIRTUAL or how.get_external_count() > 0
        plain = dtype.kind in "biufS" or h5py.check_string_dtype(dtype) is not None
    if shape is None or not plain or virtual:
        raise damaged(where, f"{what} is {dtype} {shape}")
    size = dtype.itemsize
    for length in shape:
        size *= length  # Python's integers do not overflow
    if size > held * (MAX_COMPRESSION if packed else 1) + SPARE * bool(held):
        raise damaged(where, f"{what} claims {size} bytes, but the file holds {held}")
    return member


def array(data: h5py.Dataset, where: str, rows: slice | None = None) -> np.ndarray:
    """Read a dataset, or some of its rows."""
    with errors_as_damage(where):
        content = data[()] if rows is None else data[rows]
    return np.asarray(content)


def datasets(place: h5py.Group, where: str, depth: int = 3) -> Iterator[h5py.Dataset]:
    """Read all attributes of a group and its subgroups, and yield their readable datasets."""
    import h5py

    with suppress(InputError):
        attributes(place, where)
    members: list[str] = []
    with suppress(InputError):
        members = names(place, where)
    for name in members:
        with suppress(InputError):
            member = _member(place, name, where)
            if not isinstance(member, h5py.Group):
                yield dataset(place, name, where)
            elif depth:
                yield from datasets(member, where, depth - 1)
