"""Damage to files, drawn from a source of random numbers."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np


def values() -> list[Any]:
    """List values of many types and ranges, for attributes, elements and whole datasets."""
    numbers = [-1, 0, 1, 2, 7, 1000, 2**31, 2**40, 2**62, -(2**63)]
    reals = [0.5, -0.0, np.nan, np.inf, -np.inf, 1e300, np.float32(3)]
    texts: list[Any] = ["", "text", "1", "ä", np.bytes_(b"\xff\xfe"), "x" * 5000, ["a", "b"]]
    compound = np.array((1, 2.0), [("a", "i4"), ("b", "f8")])
    arrays: list[Any] = [
        np.arange(3), np.zeros((2, 2)), np.zeros(0, int), np.arange(5000), np.array([np.nan, 1.0]),
        [True, False], np.array([[]]), compound, np.array([compound, compound]), np.void(b"opaque"),
    ]  # fmt: skip
    empty = [h5py.Empty("f8"), h5py.Empty("i8"), h5py.Empty(h5py.string_dtype())]
    others: list[Any] = [1j, True, np.uint64(2**64 - 1), np.int8(-3), np.float16(2)]
    return numbers + reals + texts + arrays + empty + others


def hdf5(source: random.Random, path: Path) -> str:
    """Damage an HDF5 file: its attributes, datasets, links, configuration, bytes or length."""
    return one_of({attribute: 4, dataset: 6, link: 2, configuration: 2, flip: 6, truncate: 1}, source, path)


def one_of(ways: dict[Callable[[random.Random, Any], str], int], source: random.Random, path: Path) -> str:
    """Damage an HDF5 file in one of some ways, way -> weight."""
    chosen = source.choices([*ways], [*ways.values()])[0]
    if chosen in (flip, truncate):
        return chosen(source, path)
    with h5py.File(path, "r+", locking=False) as file:
        try:
            return f"{chosen.__name__} {chosen(source, file)}"
        except (OSError, ValueError) as error:  # such as a link of a name that is there
            return f"{chosen.__name__} {error}"


def members(file: h5py.File, kind: type) -> list[Any]:
    """List the objects of a type in a file, in order of name."""
    found: dict[str, Any] = {}
    file.visititems(lambda name, each: found.__setitem__(name, each) if isinstance(each, kind) else None)
    return [found[name] for name in sorted(found)]


def attribute(source: random.Random, file: h5py.File) -> str:
    """Set an attribute to another value, or delete it."""
    places = [place for place in (file, *members(file, h5py.Group)) if len(place.attrs)]
    places += [file] * len(places)  # half of the cases
    place = source.choice(places)
    key = source.choice(sorted(place.attrs))
    if not source.randrange(10):
        del place.attrs[key]
        return f"{place.name} {key} deleted"
    value = source.choice(values())
    place.attrs[key] = value
    return f"{place.name} {key} = {value!r:.60}"


def dataset(source: random.Random, file: h5py.File) -> str:
    """Change elements, type, shape or claimed size of a dataset, or delete it."""
    data = source.choice(members(file, h5py.Dataset))
    name, kept = data.name, data[()]
    way = source.choice(
        ("one", "one", "all", "permuted", "cut", "longer", "huge", "type", "shape", "value", "deleted")
    )
    numeric = np.asarray(kept).dtype.kind in "iuf"
    if way in ("one", "all") and numeric and data.size:
        value = source.choice(
            [-1, 0, 1, 3, 255, 1000, 10**9, 2**40, 2**62, -(2**63), 0.5, np.nan, np.inf, -np.inf, 1e300]
        )
        changed = np.asarray(kept).astype(data.dtype)
        with np.errstate(all="ignore"):
            flat = changed.reshape(-1)
            flat[slice(None) if way == "all" else source.randrange(flat.size)] = np.array(value).astype(
                data.dtype
            )
        data[...] = changed
        return f"{name} {way} = {value}"
    if way == "permuted" and np.ndim(kept) and len(kept):
        data[...] = kept[np.random.default_rng(source.randrange(2**32)).permutation(len(kept))]
        return f"{name} permuted"
    if way in ("cut", "longer", "huge") and data.chunks and data.maxshape[0] is None:
        rows = {"cut": source.randrange(len(data) + 1), "longer": len(data) + source.randint(1, 5000)}
        data.resize(rows.get(way, source.choice([10**7, 2**33, 2**48])), 0)
        return f"{name} {way}: {len(data)} rows"
    del file[name]
    if way == "huge":
        shape = source.choice([(10**12,), (10**12, 4), (2, 10**10), (10**7,)])
        file.create_dataset(name, shape, kept.dtype)
        return f"{name} of {shape}"
    if way == "type":
        kind = source.choice(["i1", "u8", "f4", "f8", "c16", "S3", "?", "i8", ">i4"])
        with np.errstate(all="ignore"):
            file[name] = np.asarray(kept).astype(kind) if numeric else np.zeros(np.shape(kept), kind)
        return f"{name} as {kind}"
    if way == "shape":
        array = np.asarray(kept)
        other = source.choice(
            [array[None], array.reshape(-1), array[..., None], np.zeros((0, 3), array.dtype)]
        )
        file.create_dataset(name, data=other, dtype=h5py.string_dtype() if other.dtype.kind == "O" else None)
        return f"{name} of shape {other.shape}"
    if way == "deleted":
        return f"{name} deleted"
    value = source.choice(values())
    file[name] = value
    return f"{name} = {value!r:.60}"


def link(source: random.Random, file: h5py.File) -> str:
    """Replace a dataset or group by a link, by one of the other type, or by another of the file."""
    each = source.choice(members(file, h5py.HLObject))
    name, data = each.name, isinstance(each, h5py.Dataset)
    other = source.choice(members(file, h5py.HLObject))
    way = source.choice(
        ("loop", "nowhere", "missing file", "itself", "other type", "other", "named type", "added")
    )
    if way == "added":
        group = source.choice([file, *members(file, h5py.Group)])
        group[source.choice(["x", "17", "-1", "0", "⁷"])] = source.choice(
            [h5py.SoftLink("/nowhere"), 3, other]
        )
        return f"added to {group.name}"
    kept = other if way == "other" else None
    del file[name]
    if way == "other type":
        file[name] = 1 if not data else np.zeros(0)
        if data:
            del file[name]
            file.create_group(name)
    elif way == "named type":
        file[name] = np.dtype("f8")
    else:
        file[name] = (
            kept
            or {
                "loop": h5py.SoftLink(name),
                "nowhere": h5py.SoftLink("/not/there"),
                "missing file": h5py.ExternalLink("missing.h5", "/x"),
                "itself": h5py.ExternalLink(Path(file.filename).name, name),
            }[way]
        )
    return f"{name} {way}" + (f" {kept.name}" if kept else "")


def configuration(source: random.Random, file: h5py.File) -> str:
    """Change or delete a key of the resolved configuration of a trace, or damage a code's options."""
    key = next((key for key in ("config_resolved", "options", "notes") if key in file.attrs), None)
    if key is None:
        return attribute(source, file)
    tree = json.loads(file.attrs[key])
    what = mutate_json(source, tree)
    file.attrs[key] = json.dumps(tree)
    return f"{key}: {what}"


def mutate_json(source: random.Random, tree: Any) -> str:
    """Change, delete or add one value in a tree of dicts and lists."""
    places = list(nodes(tree))
    if not places:
        return "unchanged"
    holder, key = source.choice(places)
    if not source.randrange(6):
        del holder[key]
        return f"{key} deleted"
    others = [
        None, True, -1, 0, 1, 3, 10**6, 10**9, 2**63, 10**30, 0.5, 1e300, float("nan"), "", "x", "trace",
        "\0", "\ud800",
    ]  # fmt: skip
    value = source.choice(
        [*others, [], {}, [1, 2], ["a"], {"a": 1}, [[[]]], holder[source.choice(list(indices(holder)))]]
    )
    holder[key] = json.loads(json.dumps(value))
    return f"{key} = {value!r:.60}"


def nodes(tree: Any) -> Iterator[tuple[Any, Any]]:
    for key in indices(tree):
        yield tree, key
        yield from nodes(tree[key])


def indices(tree: Any) -> Any:
    return list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()


def flip(source: random.Random, path: Path) -> str:
    """Change some bytes, mostly such as are not 0."""
    content = bytearray(path.read_bytes())
    used = (
        np.flatnonzero(np.frombuffer(bytes(content), np.uint8))
        if source.randrange(5)
        else range(len(content))
    )
    places = [int(used[source.randrange(len(used))]) for _ in range(source.choice([1, 1, 1, 2, 4, 16]))]
    for place in places:
        content[place] ^= source.randint(1, 255)
    path.write_bytes(content)
    return f"flip {', '.join(map(str, places[:4]))}"


def truncate(source: random.Random, path: Path) -> str:
    """Cut the end off."""
    length = source.randrange(path.stat().st_size)
    os.truncate(path, length)
    return f"truncate to {length}"
