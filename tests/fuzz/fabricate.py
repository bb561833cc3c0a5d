"""Fabricated traces and comparisons: each part is one that a run could have written, the whole is absurd."""

import json
import random
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import damage
import h5py
import inputs
import numpy as np

from pdcode.config import load as configfile
from pdcode.config.write import to_toml
from pdcode.trace.schema import TABLES

HOSTILE = "\x1b]0;x\x07\x1b[31m\r\n\u202e"
VALUES = (
    0, 1, -1, 2, 3, 255, 1000, 10**6, 10**9, 10**15, 2**40, 2**60, 2**62, 2**63 - 1, -(2**40), -(2**63),
    0.5, -0.0, 1e-300, 1e300, np.nan, np.inf, -np.inf,
)  # fmt: skip
PLUGIN = "import os\nos._exit(99)\n"  # ends the process if it is imported


def trace(source: random.Random, path: Path) -> str:
    """Fabricate a trace from another one."""
    if not source.randrange(5):
        return damage.hdf5(source, path)
    ways: dict[Callable[[random.Random, h5py.File], str], int] = {
        column: 6, swapped: 2, rows: 3, workers: 2, texts: 2, configuration: 8, counters: 1,
        damage.attribute: 2,
    }  # fmt: skip
    said = []
    with h5py.File(path, "r+", locking=False) as file:
        for way in source.choices([*ways], [*ways.values()], k=source.choice([1, 1, 2, 3])):
            try:
                said.append(f"{way.__name__} {way(source, file)}")
            except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
                said.append(f"{way.__name__} {error!r:.60}")
    return "; ".join(said)


def _tables(file: h5py.File) -> list[str]:
    return [name for name in (*TABLES, "workers") if name in file]


def column(source: random.Random, file: h5py.File) -> str:
    """Change a whole column: shift, scale, permute, or replace its values."""
    table = file[source.choice(_tables(file))]
    name = source.choice(sorted(key for key in table if table[key].dtype.kind in "iuf"))
    data = table[name]
    kept, value = data[()], source.choice(VALUES)
    random_ = np.random.default_rng(source.randrange(2**32))
    makers: dict[str, Callable[[], Any]] = {
        "all": lambda: np.full(len(kept), value),
        "shifted": lambda: kept + value,
        "scaled": lambda: kept * value,
        "negated": lambda: -kept,
        "permuted": lambda: random_.permutation(kept),
        "reversed": lambda: kept[::-1],
        "drawn": lambda: random_.integers(-3, 2 ** source.choice([2, 8, 30, 62]), len(kept)),
        "one": lambda: np.where(np.arange(len(kept)) == source.randrange(len(kept) + 1), value, kept),
    }
    way = source.choice([*makers])
    with np.errstate(all="ignore"):
        data[...] = np.asarray(makers[way]()).astype(data.dtype)
    return f"{data.name} {way} {value}"


def swapped(source: random.Random, file: h5py.File) -> str:
    """Swap two columns."""
    table = file[source.choice(_tables(file))]
    one, other = source.sample(sorted(key for key in table if table[key].dtype.kind in "iuf"), 2)
    table[one][...], table[other][...] = table[other][()], table[one][()]
    return f"{table.name}: {one} and {other}"


def rows(source: random.Random, file: h5py.File) -> str:
    """Cut or repeat the rows of a table."""
    table = file[source.choice([name for name in TABLES if name in file])]
    length = max(len(table[key]) for key in table)
    new = source.choice([0, 1, 2, length // 2, 2 * length, 10 * length + 1, 5000])
    for key in table:
        if table[key].maxshape[0] is None:
            kept = table[key][()]
            table[key].resize(new, 0)
            table[key][...] = np.resize(kept, new)
    return f"{table.name}: {new} rows"


def workers(source: random.Random, file: h5py.File) -> str:
    """Change the number of workers everywhere."""
    new = source.choice([0, 1, 2, 7, 300])
    table = file["workers"]
    for key in list(table):
        kept, attributes = table[key][()], dict(table[key].attrs)
        del table[key]
        values = np.resize(kept, new + 1) if key != "rank" else np.arange(new + 1)
        table.create_dataset(key, data=values, dtype=h5py.string_dtype() if kept.dtype.kind == "O" else None)
        for name in {"units", "description"} & attributes.keys():
            table[key].attrs[name] = attributes[name]
    file.attrs["workers"] = new
    config = json.loads(file.attrs["config_resolved"])
    config["workers"]["count"] = new
    file.attrs["config_resolved"] = json.dumps(config)
    if source.randrange(2):
        file["arrivals/worker"][...] = file["arrivals/worker"][()] % max(1, new)
    return f"{new} workers"


def texts(source: random.Random, file: h5py.File) -> str:
    """Put control characters in a text."""
    places = [file, *(file[name] for name in damage.members(file, h5py.Group))]
    found = [(place, key) for place in places for key in place.attrs if isinstance(place.attrs[key], str)]
    place, key = source.choice(found)
    place.attrs[key] = place.attrs[key] + HOSTILE
    return f"{place.name} {key}"


def counters(source: random.Random, file: h5py.File) -> str:
    """Change a total."""
    place = file["checkpoint"]
    key = source.choice(sorted(place.attrs))
    place.attrs[key] = source.choice(VALUES)
    return f"{key} = {place.attrs[key]}"


def configuration(source: random.Random, file: h5py.File) -> str:
    """Change keys of the configuration, or take tables of others; most are valid by themselves."""
    config = json.loads(file.attrs["config_resolved"])
    said = _absurd(source, config, Path(file.filename))
    file.attrs["config_resolved"] = json.dumps(config)
    if "plugins" in said and source.randrange(2):
        file.attrs["plugin_digests"] = ["0" * 64]
    return said


def _absurd(source: random.Random, config: dict[str, Any], path: Path) -> str:
    way = source.randrange(4)
    if way == 0:
        name = source.choice([*inputs.TABLES])
        other = json.loads(json.dumps(_resolved(name)))
        table = source.choice([*other])
        config[table] = other[table]
        return f"[{table}] of {name}"
    if way == 1:
        config["plugins"] = [source.choice([str(path.parents[1] / "plugin.py"), "plugin.py", "/", "../pipe"])]
        return f"plugins = {config['plugins']}"
    if way == 2:
        near = [str(path), *(str(path.parents[1] / name) for name in ("pipe", "pickled.npz", "plugin.py"))]
        places = "/dev/zero", "/etc/passwd", "/", "", "digits", "../x.h5", f"a{HOSTILE}.npz"
        key, place = source.choice(["data", "stragglers", "code", "trace"]), source.choice([*near, *places])
        config |= {
            "data": {"problem": config["problem"] | {"data": place}},
            "stragglers": {"stragglers": {"kind": "trace", "path": place}},
            "code": {"code": {"family": "file", "path": place}},
            "trace": {"trace": {"path": place}},
        }[key]
        return f"{key} {place!r}"
    said = []
    for _ in range(source.choice([1, 1, 2, 3])):
        holder, key = damage.chosen(source, config)
        if key is not None:
            holder[key] = inputs._value(source, holder[key])
            said.append(f"{key} = {holder[key]!r:.40}")
    return ", ".join(said)


_known: dict[str, Any] = {}


def _resolved(name: str) -> Any:
    if name not in _known:
        keys = ["stop.updates=3", "workers.count=4", *inputs.TABLES[name]]
        _known[name] = tomllib.loads(to_toml(configfile.resolve({}, keys)))
    return _known[name]


def comparison(source: random.Random, path: Path) -> str:
    """Fabricate a comparison from another one."""
    if not source.randrange(5):
        return damage.hdf5(source, path)
    said = []
    with h5py.File(path, "r+", locking=False) as file:
        for _ in range(source.choice([1, 1, 2, 3])):
            place = file[f"schemes/{source.randrange(len(file['schemes']))}"]
            way = source.randrange(4)
            if way == 0:
                data = file[f"runs/{source.choice(sorted(file['runs']))}"]
                data[...] = np.full(data.shape, float(source.choice(VALUES)))
                said.append(f"{data.name} = {data[0, 0]}")
            elif way == 1:
                names = json.loads(file.attrs["names"])
                other = source.choice(["yours", "uncoded", "", HOSTILE, "x" * 999])
                names[source.randrange(len(names))] = other
                file.attrs["names"] = json.dumps(names)
                said.append(f"names = {names!r:.60}")
            else:
                config = tomllib.loads(place.attrs["config"])
                said.append(_absurd(source, config, path))
                place.attrs["config"] = to_toml(config)
    return "; ".join(said)


def surroundings(folder: Path) -> None:
    """Write what is used with fabricated files: rows, a plug-in, an archive that runs code if unpickled."""
    (folder / "rows.csv").write_text(f"{','.join(f'x{number}' for number in range(12))}\n{'1,' * 11}2\n")
    (folder / "plugin.py").write_text(PLUGIN)
    np.savez(folder / "pickled.npz", x=np.array([inputs.Run()], object), y=np.zeros(1))
    shutil.copy(folder / "plugin.py", folder / "other.py")
