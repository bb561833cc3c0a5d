"""The header of a trace file: attributes, codes, workers, environment.

All but the clock offsets at the end is written before the first row, because HDF5's SWMR mode allows only
rows.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..util import threads
from ..util.version import __version__
from . import dimensions
from .schema import ARITHMETIC, COSTS, DATA, DIMENSIONS, SCHEMA, SCHEMA_VERSION, WORKERS, Column

if TYPE_CHECKING:
    import h5py

MATRIX_BYTES = 1 << 24  # of a code's matrix; of larger ones a trace has supports and values alone
COMPRESS = 1 << 20  # bytes from which a code's matrix, mostly zeros, is compressed
INSTRUCTIONS = "OPENBLAS_CORETYPE", "MKL_CBWR", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA"
ENVIRONMENT = (*threads.VARIABLES, "SLURM_JOB_ID", "SLURM_JOB_NODELIST")
LIBRARIES = "torch", "jax", "jaxlib", "scipy"  # which a user's model may use
SETS = "AVX512F", "AVX2", "AVX", "SVE", "ASIMD"  # of instructions, from the largest one on


class CodeLike(Protocol):
    """The properties of a `pdcode.codes.Code` that a trace records."""

    @property
    def matrix(self) -> np.ndarray: ...
    @property
    def blocks(self) -> int: ...
    @property
    def indices(self) -> np.ndarray: ...
    @property
    def values(self) -> np.ndarray: ...
    @property
    def family(self) -> str: ...
    @property
    def weight(self) -> int: ...
    @property
    def coherence(self) -> float: ...
    @property
    def seed(self) -> int: ...


def write_header(
    file: h5py.File,
    config_text: str,
    metadata: Mapping[str, Any],
    workers: Sequence[Mapping[str, Any]],
    codes: Iterable[CodeLike],
) -> None:
    """Write everything except the growing tables; `TraceWriter` describes the arguments."""
    rest = dict(metadata)
    environment = rest.pop("environment", None) or {}
    resolved, data = _config_as_json(rest.pop("config", None)), rest.pop("data", {})
    attributes = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "arithmetic": ARITHMETIC,
        "costs": COSTS,
        "run": os.urandom(16).hex(),
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "creator": f"pdcode {__version__}",
        "hostnames": sorted({worker["host"] for worker in workers}),
        "config": config_text,
        "config_resolved": None if resolved is None else json.dumps(resolved),
        "finished": np.False_,
        **rest,
    }
    _set_attributes(file, attributes)
    _set_attributes(file.create_group("environment"), {**_environment(), **environment})
    table = (resolved or {}).get("code") or {"rotate": False}
    rotate = rest.get("rotate", table.get("rotate", True))  # adaptive codes have no such key
    file.create_group("code")  # empty if every layer is sent uncoded
    for code in codes:
        _write_code(file, code, bool(getattr(code, "rotate", rotate)))
    _write_workers(file, workers)
    _write_data(file, data)


def describe_column(dataset: h5py.Dataset, column: Column) -> None:
    """Write a column's units and description as attributes of its dataset.

    h5py's low-level interface takes a third of the time, and these are most of the attributes of a new trace.
    """
    import h5py

    kind, scalar = h5py.h5t.py_create(h5py.string_dtype(), logical=True), h5py.h5s.create(h5py.h5s.SCALAR)
    for name, text in (("units", column.units), ("description", column.description)):
        attribute = h5py.h5a.create(dataset.id, name.encode(), kind, scalar)
        attribute.write(np.array(text, h5py.string_dtype()))


def write_end_offsets(group: h5py.Group, offsets: Sequence[Mapping[str, Any]]) -> None:
    """Add the clock offsets measured after the run to ``/workers``, in the order of its ranks."""
    by_rank = {int(offset["rank"]): offset for offset in offsets}
    ranks = [int(rank) for rank in group["rank"][:]]
    if missing := [rank for rank in ranks if rank not in by_rank]:
        raise ValueError(f"end_offsets has no entry for rank {missing[0]}")
    _write_offsets(group, [by_rank[rank] for rank in ranks], "end_", -1)


def write_checkpoint(
    file: h5py.File, arrays: Mapping[str, np.ndarray], counters: Mapping[str, float]
) -> None:
    """Write ``/checkpoint``: arrays, among them θ as `theta`, and counters as attributes."""
    group = file.create_group("checkpoint")
    group.attrs.update(counters)
    parameters = len(arrays.get("theta", ()))
    for name, array in arrays.items():
        group[name] = array
        axes = ("parameter" if length == parameters else f"size_{length}" for length in array.shape)
        pairs = zip(axes, array.shape, strict=True)
        dimensions.attach(group[name], *(dimensions.make(file, axis, length) for axis, length in pairs))


def _set_attributes(place: h5py.HLObject, attributes: Mapping[str, Any]) -> None:
    written = place.attrs  # a new object each time
    for key, value in attributes.items():
        if value is not None:
            written[key] = value


def _config_as_json(config: Any) -> Any:
    """Convert the resolved configuration (struct, dict or JSON text) to JSON types."""
    import msgspec

    return json.loads(config) if isinstance(config, str) else msgspec.to_builtins(config)


def arithmetic() -> dict[str, str]:
    """Return what the bits of results depend on: versions, threads, and instruction sets."""
    loaded = {name: _version(name) for name in LIBRARIES if name in sys.modules}
    features = np._core._multiarray_umath.__cpu_features__  # type: ignore[attr-defined]
    return {
        "numpy": np.__version__,
        **loaded,
        "threads": str(threads.requested() or 1),
        "instructions": next((each for each in SETS if features.get(each)), platform.machine()),
        **{name: os.environ.get(name, "") for name in INSTRUCTIONS},  # "": the library chooses
    }


@cache
def _version(name: str) -> str:
    """Return the version of an installed package; to find one takes milliseconds."""
    from importlib import metadata

    return metadata.version(name)


def _environment() -> dict[str, str]:
    import h5py

    versions = {"python": platform.python_version(), "h5py": h5py.__version__}
    variables = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    others = {"hdf5": h5py.version.hdf5_version, "platform": platform.platform()}
    return {**versions, **others, **variables, **arithmetic()}


def code_arrays(code: CodeLike) -> dict[str, np.ndarray]:
    """Return the arrays of a code that a trace has."""
    found = {"supports": code.indices, "values": code.values}
    dense = 8 * len(code.indices) * code.blocks <= MATRIX_BYTES
    return {"matrix": np.asarray(code.matrix), **found} if dense else found


def _write_code(file: h5py.File, code: CodeLike, rotate: bool) -> None:
    name, shape = str(code.blocks), (len(code.indices), code.blocks)
    codes = file["code"]
    if name in codes:  # layers with the same number of blocks share a code
        return
    group = codes.create_group(name)
    size = 8 * shape[0] * shape[1]
    packing: dict[str, Any] = {"compression": "gzip", "shuffle": True} if size >= COMPRESS else {}
    row, block = (dimensions.make(group, *pair) for pair in zip(("row", "block"), shape, strict=True))
    entry = dimensions.make(group, "entry", code.indices.shape[1])
    described = {
        "matrix": ((row, block), "row: codeword of unit norm, column: block of the gradient"),
        "supports": ((row, entry), "blocks of each codeword; short codewords are padded with index 0"),
        "values": ((row, entry), "their coefficients; padding is 0"),
    }
    for array_name, array in code_arrays(code).items():
        axes, description = described[array_name]
        dataset = group.create_dataset(array_name, data=array, **packing)
        dimensions.attach(dataset, *axes)
        describe_column(dataset, Column("", "1", description))
    scalars = {name: getattr(code, name) for name in ("family", "weight", "coherence", "seed")}
    _set_attributes(group, {**scalars, "rotate": rotate})


def _write_data(file: h5py.File, data: Mapping[str, Any]) -> None:
    import h5py

    group = file.create_group("data")
    for name, value in data.items():
        if name not in DATA:
            group.attrs[name] = value
            continue
        text = value.dtype.kind == "U"
        dataset = group.create_dataset(
            name, data=value.astype(object) if text else value, dtype=h5py.string_dtype() if text else None
        )
        axis = dimensions.make(group, DATA[name].axis, len(value))
        dimensions.attach(dataset, *[axis] * DATA[name].axes)
        describe_column(dataset, Column("", "1", DATA[name].description))


def _write_workers(file: h5py.File, workers: Sequence[Mapping[str, Any]]) -> None:
    import h5py

    group = file.create_group("workers", track_order=True)
    hosts = np.array([worker["host"] for worker in workers], dtype=object)
    describe_column(group.create_dataset("host", data=hosts, dtype=h5py.string_dtype()), WORKERS["host"])
    _write_column(group, "rank", [worker["rank"] for worker in workers])  # the coordinate, before the others
    _write_offsets(group, workers, "", 0)
    dimensions.attach(group["host"], group[DIMENSIONS["workers"]])


def _write_offsets(group: h5py.Group, rows: Sequence[Mapping[str, Any]], prefix: str, t_ns: int) -> None:
    """Add the columns of one measurement of the clocks; `t_ns` replaces a missing time of measurement."""
    for name in ("clock_offset_ns", "clock_error_ns"):
        _write_column(group, prefix + name, [row[name] for row in rows])
    _write_column(group, f"{prefix}clock_t_ns", [row.get("t_ns", t_ns) for row in rows])


def _write_column(group: h5py.Group, name: str, values: list[int]) -> None:
    dataset = group.create_dataset(name, data=np.array(values, WORKERS[name].dtype))
    describe_column(dataset, WORKERS[name])
    dimensions.attach(dataset, dimensions.make(group, DIMENSIONS["workers"]))
