"""Export of traces to the formats of other tools: a format is a module with a `Format`."""

from __future__ import annotations

import importlib
import os
import shutil
from pathlib import Path

from ..config import kinds
from ..trace.reader import TraceReader
from ..trace.schema import DIMENSIONS
from ..util.errors import Failure, InputError, expected, reason
from ..util.output import ensure_writable
from ..util.packages import pip_install
from .request import Format as Format
from .request import Request as Request

MOST = 1_000_000  # events of a file, by default


def export(
    trace: TraceReader,
    path: str | os.PathLike[str],
    to: str | None = None,
    table: str | None = None,
    events: int | None = None,
) -> str:
    """Write a run in the format of another tool; see `Trace.export`."""
    path = Path(path)
    where = f"-o {path}"
    if to is None:
        implied = {each.suffix: name for name, each in kinds.members("exporters") if each.suffix}
        to = implied.get(path.suffix)
        if to is None:
            raise InputError(f"{where}: expected --to, or a name that ends in {', '.join(implied)}")
    chosen = kinds.find("exporters", to)
    if chosen is None:
        raise InputError(f"--to: {expected(to, kinds.names('exporters'))}")
    for name, value in (("table", table), ("events", events)):
        if value is not None and chosen.takes != name:
            takers = ", ".join(each for each, kind in kinds.members("exporters") if kind.takes == name)
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
    try:
        made = chosen.write(Request(trace, path, to, table or "arrivals", MOST if events is None else events))
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
