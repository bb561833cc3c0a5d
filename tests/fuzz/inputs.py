"""What users write: configurations, data, recorded delays, spot traces, tables of settings."""

import gzip
import io
import json
import os
import random
import re
import struct
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import damage
import h5py
import numpy as np
import pyarrow
import pyarrow.parquet
from scipy import sparse

from pdcode import faults, problems
from pdcode.config import StragglersTable, kinds, settings
from pdcode.config import load as configfile
from pdcode.config.write import to_toml

TABLES: dict[str, list[str]] = {  # of whole configurations: every kind of a table in one of them
    "lwpd": ["stragglers={kind='markov', extra_s=0.01, enter=0.1, leave=0.5}", "code.family=auto"],
    "matched": ["code.family=matched", "memory.kind=difference", "optimizer.kind=adam", "update.mode=first"],
    "energy": ["code.family=energy", "decoder.kind=mmse", "memory.kind=none", "stragglers={kind='slow-set'}"],
    "topk": ["scheme.name=topk", "problem.kind=softmax", "stragglers={kind='heterogeneous'}"],
    "local": ["scheme.name=local", "problem.data=synthetic", "problem.density=0.5", "update.mode=all"],
    "cyclic": ["scheme.name=cyclic", "problem.kind=logistic", "problem.data=breast-cancer"],
    "frc": ["scheme.name=frc", "wire.dtype=bfloat16"],
    "bernoulli": ["scheme.name=bernoulli", "problem.kind=least-squares", "problem.data=diabetes"],
    "expander": ["scheme.name=expander", "scheme.options.degree=3"],
    "dsag": ["scheme.name=dsag", "scheme.options.parts=2", "problem.batch=0"],
    "powersgd": ["scheme.name=powersgd", "update.mode=first"],
    "demo": ["scheme.name=demo", "update.mode=first", "memory.keep=0.5"],
    "sparseloco": ["scheme.name=sparseloco", "update.mode=first", "memory.keep=0.5"],
    "sgc": ["scheme.name=sgc", "scheme.options.stragglers=2", "problem.batch=0"],
    "mds": ["scheme={name='mds',options={start=0.5,arriving=9}}", "problem.kind=logistic"],
    "byzantine": [
        "scheme={name='byzantine',options={liars=1,stragglers=1}}",
        *("problem.kind=least-squares", "problem.data=diabetes"),
    ],
    "lagrange": [
        *("scheme.name=lagrange", "problem.kind=least-squares", "problem.data=diabetes"),
        *("problem.dtype=float64", "scheme.options={arithmetic='field',colluders=1}"),
    ],
    "residual": ["memory.kind=none", "decoder.kind=residual", "update.mode=captured", "stragglers={}"],
    "peeling": ["memory.kind=none", "decoder.kind=peeling", "wire.dtype=int8", "problem.shards=replicated"],
    "tracking": ["memory.kind=coordinator", "downlink.kind=codewords", "trace.arrivals=sampled"],
}
WORDS = [
    *(name for group in kinds.KINDS for name in kinds.names(group)),
    *(
        "digits",
        "breast-cancer",
        "diabetes",
        "synthetic",
        "async",
        "all",
        "first",
        "captured",
        "use",
        "waste",
    ),
    *("full", "codewords", "int8", "float16", "float64", "float32", "output", "input", "replicated", "units"),
    *("net", "hadamard", "uncoded", "random", "cyclic", "optimized", "steiner", "repetition", "sgd", "adam"),
    *("default", "starved", "shards", "regression", "classification", "star", "inverse", "spin", "sampled"),
]
NUMBERS = (
    -1, 0, 1, 2, 3, 7, 100, 2**31 - 1, 2**31, 2**63 - 1, 2**63, 10**30, -0.5, 0.0, 0.5, 1.0, 1e300, 1e-300,
)  # fmt: skip
TEXTS = "", "x", "auto", "units", "none", "net", "\0", "a" * 300, "a.npz", "..", "/", "é", "a\nb", "'", '"'
PIECES = (
    "[" * 2000, "{a=" * 2000, "9" * 5000, "a." * 50_000, "a.a.", "[[a]]\n", "[code]\n", "#", "=", "''", '"""',
    "inf", "-nan", "0x", "1_0", "\\u0000", "\ufeff", "'k y' = 1\n", "k = 1\n" * 1000, "1979-05-27T07:32:00Z",
    ",", "]", "\r", "key = 'value'\n" * 100_000,
)  # fmt: skip
OF_TOML = tuple(map(str.encode, PIECES))
OF_TEXT = (
    b"9" * 20, b"9" * 5000, b"9:1 ", b"9000000000000000000:2 ", b"2147483648:1", b"-1:3", b"1:nan", b"qid:3 ",
    b"#", b"\n", b"\n\n", b"\r", b"\0", b"1e999 ", b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\0", b"1:1 1:1 ",
    b"x" * 10_000, b",", b"," * 5000, b"nan", b"inf", b"-1", b"-0", b"1_0", b"\xef\xbb\xbf", b'"', b"'", b" ",
    b"\t", "⁷".encode(), "٣".encode(), "\u2028".encode(), b"add", b"remove", b"1e308", b"0x1p3", b"k=v",
)  # fmt: skip


class Run:
    """An object that ends the process if it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return os._exit, (99,)


def configurations(folder: Path) -> list[Path]:
    """Write whole configurations, with all their keys."""
    for name, keys in TABLES.items():
        config = configfile.resolve({}, ["stop.updates=3", "workers.count=4", *keys])
        (folder / f"{name}.toml").write_text(to_toml(config))
    return [folder / f"{name}.toml" for name in TABLES]


def configuration(source: random.Random, path: Path) -> str:
    """Damage a configuration: one to three values, or its text."""
    if source.randrange(2):
        return damage.content(source, path, OF_TOML)
    tables, said = tomllib.loads(path.read_text()), []
    for _ in range(source.choice([1, 1, 2, 3])):
        holder, key = damage.chosen(source, tables)
        holder[key] = _value(source, holder[key])
        said.append(f"{key} = {holder[key]!r:.40}")
    path.write_text("".join(f"{json.dumps(key)} = {_toml(value)}\n" for key, value in tables.items()))
    return ", ".join(said)


def _value(source: random.Random, old: Any) -> Any:
    """Another value: mostly one of the same type."""
    numbers, texts = source.choice(NUMBERS), source.choice(TEXTS)
    if source.randrange(5) and isinstance(old, bool):
        return not old
    if source.randrange(5) and isinstance(old, (int, float)):
        return source.choice([numbers, old + 1, old * 2, type(old)(old / 2), type(old)(old + 1000)])
    if source.randrange(5) and isinstance(old, str):
        return source.choice([texts, source.choice(WORDS)])
    return source.choice([numbers, texts, True, [], [numbers], [texts], {}, {"a": 1}, [[]], {"kind": texts}])


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def read_configuration(source: random.Random, path: Path) -> None:
    to_toml(configfile.load(path)[0])


def configuration_commands(source: random.Random, path: Path, job: str) -> list[list[str]]:
    cost = ["simulate", job, "--cost", str(path), "-o", str(path.with_suffix(".h5"))]
    return [["run", str(path), "--dry-run"], cost]


def data(folder: Path) -> list[Path]:
    """Write the same small data in each format."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((40, 6)), np.arange(40) % 2
    np.savez(folder / "a.npz", x=x, y=y)
    coded = {"columns": [*"abcdef"], "categories": [*"pq"], "category_columns": [1, 1]}
    named = {f"x.{key}": np.array(values) for key, values in coded.items()}
    np.savez(folder / "coded.npz", x=np.where(np.arange(6) == 1, x > 0, x), y=y, **named)
    np.savez_compressed(folder / "packed.npz", x=x.astype("f4"), y=y / 3)
    matrix = sparse.csr_array(np.where(x > 0, x, 0))
    parts = {name: getattr(matrix, name) for name in ("data", "indices", "indptr", "shape", "format")}
    np.savez(folder / "sparse.npz", **parts, y=y)
    np.save(folder / "a.npy", x)
    np.save(folder / "labels.npy", y.astype("U"))
    frame = pyarrow.table({**{f"column {i}": each for i, each in enumerate(x.T)}, "y": [*"ab"] * 20})
    pyarrow.parquet.write_table(frame, folder / "a.parquet")
    with h5py.File(folder / "a.h5", "w") as file:
        file["x"], file["y"] = x, y
    with h5py.File(folder / "packed.h5", "w", libver="latest") as file:
        file.create_dataset("x", data=x, chunks=(7, 6), maxshape=(None, 6), compression="gzip", shuffle=True)
        file.create_dataset("y", data=y / 3, chunks=(7,), maxshape=(None,), fletcher32=True)
    rows = [
        f"{label} " + " ".join(f"{i + 1}:{v:.3}" for i, v in enumerate(row))
        for label, row in zip(y, x, strict=True)
    ]
    images = b"\0\0\x08\3" + struct.pack(">3I", 40, 2, 3) + bytes(range(240))
    lines = [",".join(frame.column_names), *(",".join(map(str, row.values())) for row in frame.to_pylist())]
    mixed = [
        "a,b,c,y",
        *(f"{a if i % 7 else ''},{'pqr'[i % 3]},{i % 2 > 0},{i % 4}" for i, a in enumerate(x[:, 0])),
    ]
    texts = {"a.svm": "\n".join(rows).encode(), "a.csv": "\n".join(lines).encode()}
    texts["mixed.csv"] = "\n".join(mixed).encode()
    for name, content in {**texts, "a-images-idx3-ubyte": images}.items():
        (folder / name).write_bytes(content)
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))
    labels = b"\0\0\x08\1" + struct.pack(">I", 40) + bytes(y.astype("u1"))
    (folder / "a-labels-idx1-ubyte").write_bytes(labels)
    return [path for path in folder.iterdir() if path.is_file()]


def data_of(*ends: str) -> Callable[[Path], list[Path]]:
    """Return what writes the data whose files' names end so."""
    return lambda folder: sorted(path for path in data(folder) if path.name.endswith(ends))


def text(source: random.Random, path: Path) -> str:
    return damage.content(source, path, OF_TEXT)


def hdf5(source: random.Random, path: Path) -> str:
    return damage.one_of({damage.dataset: 2, damage.link: 2, damage.content: 3}, source, path)


def delay(source: random.Random, path: Path) -> str:
    return (hdf5 if path.suffix == ".h5" else text)(source, path)


def npz(source: random.Random, path: Path) -> str:
    return (_npz if source.randrange(3) else damage.content)(source, path)


def _npz(source: random.Random, path: Path) -> str:
    """Replace an array: by other values, by another header, or by other text."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = source.choice(list(members))
    if source.randrange(2):
        value = source.choice(
            [each for each in damage.values() if not isinstance(each, h5py.Empty)] + [Run()]
        )
        file = io.BytesIO()
        np.save(file, np.asarray(value), allow_pickle=True)
        members[name], said = file.getvalue(), f"{name} = {value!r:.40}"
    else:
        header = bytes(members[name][10:128])
        shape = source.choice(
            [b"(2000000000,10)", b"(-1,)", b"(40,)", b"(1e9,)", b"()", b"[1]", b"(((((", b"'", b"(40,0)"]
        )
        kind = source.choice(
            [b"'<f8'", b"'O'", b"'<U9'", b"[('a','f4')]", b"'V8'", b"'<f2'", b"'c16'", b"1", b"'zz'"]
        )
        header = re.sub(rb"\([^)]*\)", lambda match: shape if source.randrange(2) else match[0], header)
        header = re.sub(rb"'<..'", lambda match: kind if source.randrange(2) else match[0], header)[
            :118
        ].ljust(118)
        version = source.choice([b"\1\0", b"\1\0", b"\2\0", b"\3\0", b"\7\0"])
        members[name] = members[name][:6] + version + members[name][8:10] + header + members[name][128:]
        said = f"{name} {header.strip()[:60]!r}"
    with zipfile.ZipFile(
        path, "w", source.choices([zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2], [8, 1, 1])[0]
    ) as archive:
        for each, content in members.items():
            archive.writestr(each, content)
    return said


def _keys(source: random.Random, path: Path) -> list[str]:
    keys = [
        f"problem.data={path}",
        f"problem.kind={source.choice(['mlp', 'mlp', 'softmax', 'logistic', 'poisson', 'least-squares'])}",
        f"problem.standardise={source.choice(['true', 'false'])}",
        f"problem.dtype={source.choice(['float32', 'float64'])}",
        f"problem.shards={source.choice(['auto', 'contiguous', 'replicated'])}",
        "workers.count=3",
    ]
    if path.name.endswith((".csv", ".csv.gz", ".npz", ".npy", ".parquet")):
        keys.append(f"problem.missing={source.choice(['refuse', 'mean', 'median', 'drop'])}")
    labels = "labels.npy" if path.suffix == ".npy" else "a-labels-idx1-ubyte" if "idx" in path.name else ""
    return keys + [f"problem.labels={path.parents[1] / labels}"] * bool(labels)


def read_data(source: random.Random, path: Path) -> None:
    table = configfile.resolve({}, _keys(source, path)).problem
    problems.receive(table, problems.load_source(table).shard(1, 3), 1, 3)


def data_commands(source: random.Random, path: Path, job: str) -> list[list[str]]:
    options = [part for key in _keys(source, path) for part in ("--set", key)]
    simulated = ["simulate", job, "-o", str(path.with_suffix(".out.trace")), *options]
    return [["run", job, "--dry-run", *options], simulated]


def delays(folder: Path) -> list[Path]:
    """Write recorded delays, workers × rounds."""
    times = np.random.default_rng(0).exponential(1e-3, (4, 9))
    times[1, 3:] = np.nan
    np.savetxt(folder / "a.csv", times, "%.3g", ",")
    for name, form, options in (("a.h5", None, {}), ("packed.h5", "latest", {"compression": "gzip"})):
        with h5py.File(folder / name, "w", libver=form) as file:
            file.create_dataset("site/delays", data=times, **options)
    return [folder / name for name in ("a.csv", "a.h5", "packed.h5")]


def read_delays(source: random.Random, path: Path) -> None:
    draw, times = source.choice(["bootstrap", "block", "replay"]), source.choice(["delay", "task"])
    table = StragglersTable.of({"kind": "trace", "path": str(path), "draw": draw, "times": times})
    table.make(0, 5).delays_s(np.arange(5), np.zeros(5, int), 3)


def delay_commands(source: random.Random, path: Path, job: str) -> list[list[str]]:
    return [["simulate", job, "--stragglers", str(path), "-o", str(path.with_suffix(".out.trace"))]]


def spot(folder: Path) -> list[Path]:
    (folder / "spot.csv").write_text(
        "0,add,a\n0,add,b\n1000,remove,a\n2000,add,c\n3000,remove,c\n4000,add,d\n"
    )
    return [folder / "spot.csv"]


def _spot_keys(path: Path) -> list[str]:
    return [f"faults.spot={path}", "stop.seconds=2.0", "faults.spot_speed=1000.0"]


def read_spot(source: random.Random, path: Path) -> None:
    config = configfile.resolve({}, _spot_keys(path))
    for worker in range(4):
        faults.of_worker(config, worker)


def spot_commands(source: random.Random, path: Path, job: str) -> list[list[str]]:
    options = [part for key in _spot_keys(path) for part in ("--set", key)]
    return [["simulate", job, "-o", str(path.with_suffix(".h5")), *options]]


def tables(folder: Path) -> list[Path]:
    (folder / "table.csv").write_text('seed,update.mode,"code.blocks"\n1,first,4\n2,,\n3,all,"[4, 1]"\n')
    return [folder / "table.csv"]


def read_table(source: random.Random, path: Path) -> None:
    for row in settings.read(path):
        configfile.resolve({}, row)


def table_commands(source: random.Random, path: Path, job: str) -> list[list[str]]:
    return [["submit", job, "--array", str(path), "--dry-run"]]
