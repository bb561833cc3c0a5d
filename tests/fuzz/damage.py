"""Damage to files, drawn from a source of random numbers."""

import copy
import gzip
import json
import random
import struct
from collections.abc import Callable, Sequence
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
    """Damage an HDF5 file: its attributes, datasets, links, configuration, or bytes."""
    return one_of({attribute: 4, dataset: 6, link: 4, configuration: 2, content: 6}, source, path)


def one_of(ways: dict[Callable[[random.Random, Any], str], int], source: random.Random, path: Path) -> str:
    """Damage an HDF5 file in one of some ways, way -> weight."""
    chosen = source.choices([*ways], [*ways.values()])[0]
    if chosen is content:
        return content(source, path)
    with h5py.File(path, "r+", locking=False) as file:
        try:
            return f"{chosen.__name__} {chosen(source, file)}"
        except (OSError, ValueError) as error:  # such as a link of a name that is there
            return f"{chosen.__name__} {error}"


def members(file: h5py.File, *kinds: type) -> list[str]:
    """List the names of the objects of some types in the whole file: a walk through each would take long."""
    if (whole := Path(file.filename).name) not in _members:
        found: list[tuple[str, type]] = []
        file.visititems(lambda name, each: found.append((name, type(each))))
        _members[whole] = sorted(found, key=lambda each: each[0])
    return [name for name, kind in _members[whole] if kind in kinds]


_members: dict[str, list[tuple[str, type]]] = {}  # by the name of the whole file


def attribute(source: random.Random, file: h5py.File) -> str:
    """Set an attribute to another value, or delete it."""
    groups = members(file, h5py.Group)
    place = file[source.choice(groups)] if groups and source.randrange(2) else file
    place = place if len(place.attrs) else file
    key = source.choice(sorted(place.attrs) or ["schema"])
    if not source.randrange(10):
        del place.attrs[key]
        return f"{place.name} {key} deleted"
    value = source.choice(values())
    place.attrs[key] = value
    return f"{place.name} {key} = {value!r:.60}"


def dataset(source: random.Random, file: h5py.File) -> str:
    """Change elements, type, shape or claimed size of a dataset, or delete it."""
    data = file[source.choice(members(file, h5py.Dataset))]
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
    """Replace a dataset or group by a link, by something else, or by another one of the file; or add one."""
    name, other = source.choices(members(file, h5py.Dataset, h5py.Group), k=2)
    if not source.randrange(8):
        group = file[source.choice(["/", *members(file, h5py.Group)])]
        added = source.choice(["x", "17", "-1", "0", "⁷", b"\xff", "deep/" * 500 + "x"])
        group[added] = source.choice([h5py.SoftLink("/nowhere"), 3, file[other]])
        return f"{added!r:.20} added to {group.name}"
    was, whole = file[name], Path(file.filename).name
    there, kept = was[:1] if isinstance(was, h5py.Dataset) and was.ndim else np.zeros(1), file[other]
    del file[name]
    makers: dict[str, Callable[[], Any]] = {
        "loop": lambda: h5py.SoftLink(name),
        "nowhere": lambda: h5py.SoftLink("/not/there"),
        "missing file": lambda: h5py.ExternalLink("missing.h5", "/x"),
        "itself": lambda: h5py.ExternalLink(whole, name),
        "another file": lambda: h5py.ExternalLink(f"../{whole}", name),
        "no HDF5": lambda: h5py.ExternalLink("/etc/passwd", "/"),
        "device": lambda: h5py.ExternalLink("/dev/zero", "/"),
        "pipe": lambda: h5py.ExternalLink("../pipe", "/"),
        "group": lambda: None,
        "number": lambda: 1,
        "named type": lambda: np.dtype("f8"),
        "other": lambda: kept,
        "references": lambda: np.array([file.ref, file.ref], h5py.ref_dtype),
    }
    for where in ("missing.h5", "../pipe", f"../{whole}", ".", "/etc/passwd"):
        makers[f"virtual, of {where}"] = lambda where=where: _virtual(there, where, other)
        makers[f"bytes of {where}"] = lambda where=where: (
            len(there) * 4,
            "f8",
            {"external": [(where, 0, 99)]},
        )
    for kind in (
        *(h5py.regionref_dtype, h5py.vlen_dtype("i8"), h5py.enum_dtype({"a": 1})),
        *("(2,)f8", h5py.string_dtype(length=3), "f2"),
    ):
        makers[f"elements {kind}"] = lambda kind=kind: (2, kind, {})
    for options in ({"compression": "lzf"}, {"scaleoffset": 3}, {"chunks": (1,), "compression": "gzip"}):
        makers[f"{options}"] = lambda options=options: (500, "i8", {**options, "fillvalue": 7})
    way = source.choice([*makers])
    made = makers[way]()
    if made is None:
        file.create_group(name)
    elif isinstance(made, h5py.VirtualLayout):
        file.create_virtual_dataset(name, made)
    elif isinstance(made, tuple):
        file.create_dataset(name, made[:1], made[1], **made[2])
    else:
        file[name] = made
    return f"{name} {way}" + (f" {other}" if way == "other" else "")


def _virtual(rows: np.ndarray, where: str, name: str) -> h5py.VirtualLayout:
    layout = h5py.VirtualLayout((10, *rows.shape[1:]), rows.dtype if rows.dtype.kind in "iuf" else "f8")
    layout[:] = h5py.VirtualSource(where, name, layout.shape)
    return layout


def configuration(source: random.Random, file: h5py.File) -> str:
    """Change or delete a key of the resolved configuration of a trace, or damage a code's options."""
    key = next((key for key in ("config_resolved", "options", "notes") if key in file.attrs), None)
    if key is None:
        return attribute(source, file)
    tree = json.loads(file.attrs[key])
    what = mutate(source, tree)
    file.attrs[key] = json.dumps(tree)
    return f"{key}: {what}"


OF_JSON = (
    None, True, -1, 0, 1, 3, 10**6, 10**9, 2**63, 10**30, 0.5, 1e300, float("nan"), "", "x", "trace", "\0",
    "\ud800", [], {}, [1, 2], ["a"], {"a": 1}, [[[]]],
)  # fmt: skip


def mutate(source: random.Random, tree: Any, others: Sequence[Any] = OF_JSON) -> str:
    """Change or delete one value in a tree of dicts and lists."""
    holder, key = chosen(source, tree)
    if key is None:
        return "unchanged"
    if not source.randrange(6):
        del holder[key]
        return f"{key} deleted"
    value = source.choice([*others, holder[source.choice(list(indices(holder)))]])
    holder[key] = copy.deepcopy(value)
    return f"{key} = {value!r:.60}"


def chosen(source: random.Random, tree: Any) -> tuple[Any, Any]:
    """Choose a place at some depth of a tree, as a container and a key; the key is None if it is empty."""
    holder, key = tree, None
    while keys := list(indices(tree)):
        holder, key = tree, source.choice(keys)
        tree = holder[key]
        if not source.randrange(8):
            break
    return holder, key


def indices(tree: Any) -> Any:
    return list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()


LIMITS = (
    0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1,
)  # fmt: skip


def content(source: random.Random, path: Path, words: tuple[bytes, ...] = ()) -> str:
    """Damage the bytes of a file, or those that gzip has packed; `words` are what may be put in."""
    before = path.read_bytes()
    packed = path.suffix == ".gz" and source.randrange(4)
    bytes_ = bytearray(gzip.decompress(before) if packed else before)
    ways = [flip, flip, number, cut, double, swap, truncate]
    way: Callable[..., str] = source.choice([*ways, *[word] * 6] if words else ways)
    said = way(source, bytes_, words) if way is word else way(source, bytes_)
    path.write_bytes(gzip.compress(bytes_, 1) if packed else bytes_)
    return f"{way.__name__} {said}"


def position(source: random.Random, data: bytearray) -> int:
    """Choose a byte: in most cases one that is not 0, in many one of the first."""
    if not source.randrange(3):
        return source.randrange(min(len(data), 64))
    places = [source.randrange(len(data)) for _ in range(8)]
    return next((each for each in places if data[each] or not source.randrange(8)), places[0])


def piece(source: random.Random, data: bytearray) -> tuple[int, int]:
    start = position(source, data)
    return start, start + min(source.choice([1, 2, 4, 8, 30, 300, 3000]), len(data) - start)


def flip(source: random.Random, data: bytearray) -> str:
    """Change some bytes."""
    places = [position(source, data) for _ in range(source.choice([1, 1, 1, 2, 4, 16]))]
    for each in places:
        data[each] ^= source.randint(1, 255)
    return ", ".join(map(str, places[:4]))


def number(source: random.Random, data: bytearray) -> str:
    """Write a binary number at a limit, such as a size or a count."""
    start, value = position(source, data), source.choice(LIMITS)
    form = source.choice(["<B", "<H", "<I", "<Q", ">H", ">I", ">Q"])
    size = struct.calcsize(form)
    data[start : start + size] = struct.pack(form, value % 2 ** (8 * size))[: len(data) - start]
    return f"{value} as {form} at {start}"


def cut(source: random.Random, data: bytearray) -> str:
    """Take a piece out."""
    start, stop = piece(source, data)
    del data[start:stop]
    return f"{start}:{stop}"


def double(source: random.Random, data: bytearray) -> str:
    """Put a copy of a piece somewhere else, once or many times."""
    start, stop = piece(source, data)
    times = source.choice([1, 1, 1, 3, 1000])
    at = position(source, data)
    data[at:at] = data[start:stop] * times
    return f"{start}:{stop} × {times} at {at}"


def swap(source: random.Random, data: bytearray) -> str:
    """Write a piece over another one."""
    start, stop = piece(source, data)
    at = position(source, data)
    data[at : at + stop - start] = data[start:stop]
    return f"{start}:{stop} at {at}"


def truncate(source: random.Random, data: bytearray) -> str:
    """Cut the end off."""
    del data[source.randrange(len(data)) :]
    return f"to {len(data)}"


def word(source: random.Random, data: bytearray, words: tuple[bytes, ...]) -> str:
    """Put a word in, or write it over something."""
    start, chosen = position(source, data), source.choice(words)
    data[start : start + source.choice([0, 0, 1, 4, 30])] = chosen
    return f"{chosen!r:.30} at {start}"
