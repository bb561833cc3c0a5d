"""The HDF5 file of a comparison."""

from __future__ import annotations

import io
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from ..config import Config, legacy
from ..config import load as configfile
from ..trace import contents, opening
from ..trace.schema import Attribute
from ..util.errors import InputError, prefix_errors, reason
from ..util.output import ensure_replaceable, ensure_writable
from ..util.version import __version__
from .goal import Goal
from .measurement import COLUMNS, CURVES, LATER, Curves, Measured

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


@dataclass(frozen=True)
class Comparison:
    """A comparison: what was run, and what came out.

    Attributes
    ----------
    names : list of str
        The entrants.
    configs : list of str
        Their configurations, TOML.
    seeds : list of int
    clock : {"virtual", "mpi"}
    goal : Goal or None
        Target of the runs.
    measured : list of list of Measured
        Figures by entrant and seed.
    curves : list of list of Curves
        Measurements of each run.
    command : str
        The command that made it.
    config : str
        TOML text of the user's configuration.
    notes : list of str
        Sentences on how it was made.
    """

    names: list[str]
    configs: list[str]
    seeds: list[int]
    clock: str
    goal: Goal | None
    measured: list[list[Measured]]
    curves: list[list[Curves]]
    command: str = ""
    config: str = ""
    notes: list[str] = field(default_factory=list)

    def read_configs(self, where: str) -> list[Config]:
        """Read the configurations of the entrants.

        Raises
        ------
        InputError
            If one cannot be read; the message names the file, `where`.
        """
        with prefix_errors(where):
            try:
                tables = [configfile.parse(text) for text in self.configs]
            except ValueError as error:
                raise InputError(f"damaged: a configuration is not TOML: {error}") from None
            return [legacy.read(each) for each in tables]

    @property
    def title(self) -> str:
        """Heading of the table."""
        clock = "on the virtual clock" if self.clock == "virtual" else "over MPI"
        return f"{len(self.names)} schemes {clock}" + (f", to {self.goal}" if self.goal else "")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the comparison.

        Raises
        ------
        InputError
            If the file cannot be written.
        """
        import h5py

        content = io.BytesIO()
        with h5py.File(content, "w") as file:  # in memory: HDF5 crashes when it writes to a full disk
            goal = self.goal
            file.attrs.update(
                schema=SCHEMA,
                schema_version=SCHEMA_VERSION,
                created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                creator=f"pdcode {__version__}",
                clock=self.clock,
                command=self.command,
                config=self.config,
                goal=json.dumps(None if goal is None else [goal.kind, goal.level, goal.source]),
                names=json.dumps(self.names),
                notes=json.dumps(self.notes),
                seeds=np.array(self.seeds, np.int64),
            )
            for key in COLUMNS:
                values = [[getattr(each, key) for each in row] for row in self.measured]
                file[f"runs/{key}"] = np.array(values, np.float64)
            for place, name in enumerate(self.names):
                group = file.create_group(f"schemes/{place}")
                group.attrs.update(name=name, config=self.configs[place])
                for seed, curves in zip(self.seeds, self.curves[place], strict=True):
                    for key in CURVES:
                        group[f"{seed}/{key}"] = curves[key]
        try:
            Path(path).write_bytes(content.getbuffer())
        except OSError as error:
            raise InputError(f"{path}: cannot write the comparison: {reason(error)}") from None

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a comparison.

        Raises
        ------
        InputError
            If the file is none, or damaged.
        """
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
            there = [key for key in COLUMNS if key not in LATER or key in contents.names(runs, where)]
            columns = {key: _array(runs, key, where, shape) for key in there}
            for key in COUNTS:
                if not ((columns[key] >= 0) & (columns[key] < 2**63)).all():
                    raise contents.damaged(where, f"{key} is not a count")
            schemes = contents.group(file, "schemes", where)
            curves, configs = [], []
            for place in range(len(names)):
                group = contents.group(schemes, str(place), where)
                configs.append(str(contents.attributes(group, where).get("config", "")))
                curves.append([_curves(contents.group(group, str(seed), where), where) for seed in seeds])
        measured = [
            [
                _measured({key: float(columns[key][place, number]) for key in there})
                for number in range(len(seeds))
            ]
            for place in range(len(names))
        ]
        return cls(
            names, configs, seeds, about.get("clock", "virtual"), _goal(goal, where), measured, curves,
            about.get("command", ""), about.get("config", ""), notes,
        )  # fmt: skip


def is_comparison(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file is a comparison."""
    return opening.schema(Path(path)) == SCHEMA


def ensure_savable(path: Path) -> None:
    """Refuse a file that cannot be written, or where another file is.

    Raises
    ------
    InputError
        Naming the file.
    """
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


def _measured(values: dict[str, float]) -> Measured:
    failed = bool(values.pop("failed"))
    return Measured(**values, failed=failed)


def _goal(value: Any, where: str) -> Goal | None:
    if value is None:
        return None
    if not (isinstance(value, list) and len(value) == 3 and value[0] in ("loss", "accuracy")):
        raise contents.damaged(where, f"goal is {value!r:.60}")
    kind, level, source = value
    if type(level) not in (int, float) or not isinstance(source, str):
        raise contents.damaged(where, f"goal is {value!r:.60}")
    return Goal(kind, level, source)
