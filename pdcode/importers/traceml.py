"""The database of a session of TraceML, whose table has the phases of each rank's steps."""

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from urllib.parse import quote

import msgspec
import numpy as np

from ..util.errors import InputError, shorten
from .job import LONGEST_S, Grid, Importer, Job, content, in_turn, only

TABLE, COLUMNS = "step_time_samples", ("id", "global_rank", "step", "events_json")
EVENTS = {
    "input": "_traceml_internal:dataloader_next",
    "forward": "_traceml_internal:forward_time",
    "backward": "_traceml_internal:backward_time",
    "step": "_traceml_internal:step_time",
}
NEEDED = "backward", "step", "forward"  # the last one with FSDP
CLOCKS = "gpu_ms", "cpu_ms"
MOST_MS = 1e3 * LONGEST_S


class Times(msgspec.Struct):
    """Durations of an event."""

    cpu_ms: float | None = None
    gpu_ms: float | None = None


DECODER = msgspec.json.Decoder(dict[str, dict[str, Times]])


def read(paths: Sequence[str]) -> Job:
    """Read a session.

    A backward pass includes the wait for the slowest rank. So a rank's waiting time is the duration of its
    pass minus the shortest duration of all ranks. With FSDP these durations are of forward and backward pass
    together.
    """
    path = only(paths, "the database of a session")
    if not content(path).startswith(b"SQLite format 3\0"):
        what = "a final summary has averages only" if path.endswith(".json") else "not a database of SQLite"
        raise InputError(f"{path}: {what}; expected a session's file telemetry")
    rows, hosts, sharded = _rows(path)
    if not rows:
        raise InputError(f"{path}: {TABLE}: no row")
    grid = Grid(path, [row[2] for row in rows], [row[1] for row in rows])
    decoded = [_durations(f"{path}, {TABLE}, id {row[0]}", row[3]) for row in rows]
    found = {key: grid([each[key] for each in decoded]) for key in decoded[0]}
    complete = not any(np.isnan(found[key, "gpu_ms"]).any() for key in NEEDED[:2])
    clock = "gpu_ms" if complete else "cpu_ms"
    times = {name: found[name, clock] for name in EVENTS}
    waited = times["backward"] + (times["forward"] if sharded else 0.0)
    if not np.isfinite(waited + times["step"]).any():
        missing = next((name for name in NEEDED if np.isnan(times[name]).all()), "forward")
        raise InputError(f"{path}: {TABLE}: events_json: no {EVENTS[missing]} with {clock}")
    total = times["step"] + np.nan_to_num(times["input"])
    here = np.isfinite(total + waited)
    waited = np.where(here, waited, np.inf)
    with np.errstate(invalid="ignore"):  # of steps without a rank
        work_ms = np.where(here, total - (waited - waited.min(axis=1, keepdims=True)), np.nan)
    names = [hosts.get(int(rank)) or "unknown" for rank in grid.workers]
    least_s = 1e-3 * np.where(here, total, 0.0).max(axis=1)
    job = in_turn(path, names, "TraceML", 1e-3 * np.maximum(0, work_ms), None, least_s)
    job.notes.append(
        f"times of the {clock[:3].upper()}; a rank that is slow in the backward pass itself does not stand "
        "out, as TraceML does not tell slow work from waiting"
    )
    return job


def _rows(path: str) -> tuple[list[tuple[int, int, int, str]], dict[int, str], bool]:
    """Return the table's rows, host names of the ranks, and whether parameters are sharded."""
    try:
        # The last rows of a session that was killed are in the log beside it.
        way = "mode=ro" if os.path.exists(f"{path}-wal") else "mode=ro&immutable=1"
        with closing(sqlite3.connect(f"file:{quote(path)}?{way}", uri=True)) as database:
            run = database.execute
            run("PRAGMA trusted_schema = OFF")
            tables = {name for name, text in run("SELECT name, sql FROM sqlite_master WHERE type = 'table'")
                      if text and text.upper().startswith("CREATE TABLE")}  # fmt: skip
            if TABLE not in tables:
                raise InputError(f"{path}: no table {TABLE}")
            present = {row[1] for row in run(f"PRAGMA table_info({TABLE})")}
            if missing := [name for name in COLUMNS if name not in present]:
                raise InputError(f"{path}: {TABLE}: no column {missing[0]}")
            rows = run(f"SELECT {', '.join(COLUMNS)} FROM {TABLE} ORDER BY id").fetchall()
            for row in rows:
                if not all(isinstance(each, int) and 0 <= each < 2**62 for each in row[:3]):
                    raise InputError(f"{path}, {TABLE}: id, global_rank, step: {shorten(str(row[:3]))}")
            hosts = {}
            if "hostname" in present:
                hosts = {
                    rank: str(host or "") for rank, host in run(f"SELECT global_rank, hostname FROM {TABLE}")
                }
            sharded = False
            if "runtime_environment" in tables:
                last = "SELECT training_strategy FROM runtime_environment ORDER BY rowid DESC LIMIT 1"
                sharded = "fsdp" in str((run(last).fetchone() or ("",))[0]).lower()
            return rows, hosts, sharded
    except (sqlite3.Error, UnicodeDecodeError, OverflowError) as error:
        raise InputError(f"{path}: {shorten(str(error))}") from None


def _durations(place: str, text: object) -> dict[tuple[str, str], float]:
    """Return the durations of a row by event and clock, NaN if they are not known."""
    try:
        events = DECODER.decode(text if isinstance(text, str | bytes) else "")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{place}, events_json: {shorten(str(error))}") from None
    found = {}
    for name, event in EVENTS.items():
        for clock in CLOCKS:
            values = [getattr(each, clock) for each in events.get(event, {}).values()]
            known = [each for each in values if each is not None]
            if wrong := [each for each in known if not 0 <= each <= MOST_MS]:
                raise InputError(f"{place}, {event}, {clock}: {wrong[0]:g} is not from 0 to {MOST_MS:g}")
            found[name, clock] = sum(known) if known else np.nan
    return found


TRACEML = Importer("traceml", "the session database of TraceML: SQLite", read)
