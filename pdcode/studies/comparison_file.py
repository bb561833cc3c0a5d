"""The HDF5 file of a comparison: written, read, and checked."""

import io
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..trace import contents, opening
from ..trace.schema import Attribute
from ..util.errors import InputError
from ..util.output import ensure_replaceable, ensure_writable, write_file
from ..util.version import __version__
from .goal import Goal
from .measurement import ADDED_COLUMNS, COLUMNS, CURVES, Curves, Measured

SCHEMA, SCHEMA_VERSION = "pdcode-comparison", 1
COUNTS = "updates", "bytes_up", "bytes_down"
ATTRIBUTES = {
    "schema_version": Attribute(int, 1),
    "clock": Attribute(str, values=("virtual", "mpi")),
    "command": Attribute(str),
    "config": Attribute(str),
    "names": Attribute(str),
    "notes": Attribute(str),
    "goal": Attribute(str),
    "seeds": Attribute(list, 0),
}


def write(made: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write the attributes of a comparison; see `Comparison.save`."""
    import h5py

    content = io.BytesIO()
    with h5py.File(content, "w") as file:  # in memory: HDF5 crashes when it writes to a full disk
        goal = made["goal"]
        file.attrs.update(
            schema=SCHEMA,
            schema_version=SCHEMA_VERSION,
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            creator=f"pdcode {__version__}",
            clock=made["clock"],
            command=made["command"],
            config=made["config"],
            goal=json.dumps(None if goal is None else [goal.kind, goal.level, goal.source]),
            names=json.dumps(made["names"]),
            notes=json.dumps(made["notes"]),
            seeds=np.array(made["seeds"], np.int64),
        )
        for key in COLUMNS:
            values = [[getattr(run, key) for run in row] for row in made["measured"]]
            file[f"runs/{key}"] = np.array(values, np.float64)
        for place, name in enumerate(made["names"]):
            group = file.create_group(f"schemes/{place}")
            group.attrs.update(name=name, config=made["configs"][place])
            for seed, run in zip(made["seeds"], made["measured"][place], strict=True):
                for key in CURVES:
                    group[f"{seed}/{key}"] = run.curves[key]
    write_file(Path(path), content.getbuffer(), "the comparison")


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a comparison, and return its attributes by name; see `Comparison.load`."""
    where = str(path)
    with opening.open_for_reading(Path(path)) as file:
        about = contents.attributes(file, where)
        if about.get("schema") != SCHEMA:
            raise InputError(f"{where}: not a comparison of pdcode")
        contents.check_version(about, SCHEMA_VERSION, where)
        contents.check_attributes(about, ATTRIBUTES, where, "attribute")
        names, notes, goal = (
            contents.parse_json(about.get(key, "null"), where, key) for key in ("names", "notes", "goal")
        )
        seeds = about.get("seeds", [])
        if not (_texts(names) and _texts(notes) and names and seeds):
            raise contents.damaged(where, f"names {names!r:.60}, seeds {seeds!r:.60}")
        runs = contents.group(file, "runs", where)
        shape = len(names), len(seeds)
        present = [key for key in COLUMNS if key not in ADDED_COLUMNS or key in contents.names(runs, where)]
        columns = {key: _array(runs, key, where, shape) for key in present}
        for key in COUNTS:
            if not ((columns[key] >= 0) & (columns[key] < 2**63)).all():
                raise contents.damaged(where, f"{key} is not a count")
        schemes = contents.group(file, "schemes", where)
        curves, configs = [], []
        for place in range(len(names)):
            group = contents.group(schemes, str(place), where)
            configs.append(str(contents.attributes(group, where).get("config", "")))
            curves.append([_curves(contents.group(group, str(seed), where), where) for seed in seeds])
    measured: list[list[Measured]] = []
    for place, row in enumerate(curves):
        measured.append([])
        for number, own in enumerate(row):
            values: dict[str, Any] = {key: float(columns[key][place, number]) for key in present}
            measured[-1].append(Measured(**values | {"failed": bool(values["failed"]), "curves": own}))
    texts = {key: str(about.get(key, "")) for key in ("command", "config")}
    return {
        "names": names, "configs": configs, "seeds": seeds, "clock": about.get("clock", "virtual"),
        "goal": _goal(goal, where), "measured": measured, "notes": notes, **texts,
    }  # fmt: skip


def is_comparison(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is a comparison."""
    return opening.schema(Path(path)) == SCHEMA


def ensure_savable(path: Path) -> None:
    """Refuse a file that cannot be written, or where another file is."""
    if not path.suffix:  # the folder of the traces has the name without it
        raise InputError(f"{path}: expected the name of an HDF5 file, such as {path}.h5")
    ensure_writable(path, str(path))
    ensure_replaceable(path, str(path), "a comparison", is_comparison)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _array(group: Any, key: str, where: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
    found = contents.array(contents.dataset(group, key, where), where)
    if found.dtype.kind not in "fi" or found.ndim != (1 if shape is None else len(shape)):
        raise contents.damaged(where, f"{key} is {found.dtype} of shape {found.shape}")
    if shape is not None and found.shape != shape:
        raise contents.damaged(where, f"{key} has shape {found.shape}, not {shape}")
    return found.astype(np.float64)


def _curves(group: Any, where: str) -> Curves:
    curves = {key: _array(group, key, where) for key in CURVES}
    if len({len(values) for values in curves.values()}) > 1:
        raise contents.damaged(where, "curves of different lengths")
    return curves


def _goal(value: Any, where: str) -> Goal | None:
    if value is None:
        return None
    match value:
        case ["loss" | "accuracy" as kind, level, str(source)] if type(level) in (int, float):
            return Goal(kind, level, source)
    raise contents.damaged(where, f"goal is {value!r:.60}")
