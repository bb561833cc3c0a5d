"""Export of traces to the formats of other tools: a format is a module, and a line of `FORMATS`."""

from __future__ import annotations

import importlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..util.errors import Failure, InputError, expected, reason
from ..util.output import ensure_writable
from ..util.packages import pip_install

if TYPE_CHECKING:
    from ..trace.reader import TraceReader

MOST = 1_000_000  # events of a file, by default


class Format(NamedTuple):
    """A format: a module of this package, imported on use, and what is known without it."""

    module: str  # has ``write(request) -> str``, which describes what it has written
    suffix: str  # of files, or of a folder, that are of this format unless another is given
    library: str  # that it needs, of the extra `export`
    description: str
    takes: str = ""  # argument of `export` that it has: events, table
    folder: bool = False
    replaces: bytes = b"\0"  # begin of its files, which it replaces; by default none


FORMATS = {
    "perfetto": Format("perfetto", ".pftrace", "perfetto", "a timeline for ui.perfetto.dev", "events"),
    "otf2": Format("otf2", ".otf2", "otf2", "a folder for Vampir and Scalasca", "events", folder=True),
    "pipit": Format("pipit", "", "pyarrow", "CSV or Parquet with the columns of Pipit's events", "events"),
    "goal": Format("goal", ".goal", "", "a schedule for LogGOPSim and ATLAHS", "events"),
    "parquet": Format("tables", ".parquet", "pyarrow", "a table with units and attributes", "table"),
    "csv": Format("tables", ".csv", "pyarrow", "a table as text", "table"),
    "tensorboard": Format("tensorboard", "", "tensorboard", "a folder of scalars", folder=True),
    "prometheus": Format(
        "prometheus", ".prom", "prometheus_client", "goodput, for the textfile collector",
        replaces=b"# HELP pdcode_",
    ),
}  # fmt: skip


def export(
    trace: TraceReader,
    path: str | os.PathLike[str],
    to: str | None = None,
    table: str | None = None,
    events: int | None = None,
) -> str:
    """Write a run in the format of another tool; see `Trace.export`."""
    from ..trace.schema import DIMENSIONS
    from .request import Request

    path = Path(path)
    where, implied = f"-o {path}", {each.suffix: name for name, each in FORMATS.items() if each.suffix}
    to = to or implied.get(path.suffix)
    if to not in FORMATS:
        known = f"{where}: expected --to, or a name that ends in {', '.join(implied)}"
        raise InputError(known if to is None else f"--to: {expected(to, FORMATS)}")
    chosen = FORMATS[to]
    for name, value in (("table", table), ("events", events)):
        if value is not None and chosen.takes != name:
            takers = ", ".join(each for each, described in FORMATS.items() if described.takes == name)
            raise InputError(f"--{name} {value}: valid only with --to {takers}")
    if table is not None and table not in DIMENSIONS:
        raise InputError(f"--table: {expected(table, DIMENSIONS)}")
    if events is not None and events < 0:
        raise InputError(f"--events {events}: expected 0 or more")
    if path.exists() and not _replaceable(path, chosen):
        raise InputError(f"{where}: exists already; choose another name")
    existed = path.exists()
    try:
        importlib.import_module(chosen.library or "pdcode")
    except ImportError as error:
        package = chosen.library.replace("_", "-")
        raise Failure(f"--to {to}: needs the package {package}: {pip_install(package)}") from error
    ensure_writable(path / "x" if chosen.folder else path, where)
    module = importlib.import_module(f".{chosen.module}", __name__)
    try:
        made = module.write(Request(trace, path, to, table or "arrivals", MOST if events is None else events))
    except BaseException as error:  # also Ctrl-C: no half of a file stays
        if not existed:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise Failure(f"{where}: cannot write: {reason(error)}") from None
        raise
    return str(made)


def _replaceable(path: Path, chosen: Format) -> bool:
    """Return whether a file or folder is empty, or a file of a format that replaces its own."""
    if path.is_dir():
        return chosen.folder and not any(path.iterdir())
    with path.open("rb") as file:
        return not chosen.folder and file.read(len(chosen.replaces)) in (b"", chosen.replaces)
