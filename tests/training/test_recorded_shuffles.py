"""Shuffles in a trace: who got which rows, how, and in how many bytes, checked by another decoder."""

from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest

from pdcode import simulate
from pdcode.analysis import tables
from pdcode.analysis.account import account as analyse
from pdcode.config.load import resolve
from pdcode.session.setup import prepare
from pdcode.shuffling.plans import CyclePlan
from pdcode.shuffling.senders import deal_of
from pdcode.trace.reader import TraceReader

WORKERS = 5
JOB = [
    "problem.data=digits", "shuffle.every=4", f"workers.count={WORKERS}", "stop.updates=40",
    "scheme.preset=first", "stragglers.kind=shifted-exponential", "stragglers.mean_s=0.001",
]  # fmt: skip
ROWS, XORS, BROADCAST, EXCHANGED = range(4)
KINDS = {
    "uncoded": (["shuffle.kind=uncoded"], {ROWS}),
    "coded": (["shuffle.kind=coded"], {ROWS, XORS}),
    "chain": (["shuffle.kind=coded", "link.broadcast=chain"], {ROWS, BROADCAST}),
    "exchange": (["shuffle.kind=exchange"], {ROWS, EXCHANGED}),
}


def delivered(row: dict[str, Any], owners: Any, content: list[np.ndarray], held: set[int]) -> bytes:
    """Return the units of a row of shuffles; add to `held` the rows that a worker can tell by them."""
    worker, base, epoch = row["worker"], row["base"], row["epoch"]
    old = owners(base) if base >= 0 else np.full_like(owners(epoch), -1)
    wanted = np.flatnonzero((owners(epoch) == worker) & (old != worker))
    if row["kind"] in (ROWS, EXCHANGED):
        if row["kind"] == EXCHANGED:
            wanted = wanted[np.argsort(old[wanted], kind="stable")]
        held |= {*wanted.tolist()}
        return b"".join(content[each].tobytes() for each in wanted)
    plan = CyclePlan(old, owners(epoch), WORKERS)
    chosen = range(plan.load) if row["kind"] == BROADCAST else plan.needed(worker).tolist()
    pairs = [(int(plan.left[each]), int(plan.right[each])) for each in chosen]
    while solved := [b if a in held else a for a, b in pairs if (a in held) != (b in held)]:
        held |= {*solved}
    return b"".join((content[a] ^ content[b]).tobytes() for a, b in pairs)


@pytest.mark.parametrize("name", KINDS)
def test_a_trace_shows_that_all_rows_were_delivered(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, kinds = KINDS[name]
    simulate({}, set=[*JOB, *own], output=tmp_path / "a.h5", progress=False)
    trace = TraceReader(tmp_path / "a.h5")
    config = resolve({}, [*JOB, *own])
    arrays = prepare(config).source.whole.train
    owners = deal_of(config, len(arrays[0])).owners
    packed = (b"".join(row.tobytes() for row in each) for each in zip(*arrays, strict=True))
    content = [np.frombuffer(each, np.uint8) for each in packed]
    table = {key: trace.shuffles[key].tolist() for key in trace.shuffles}
    rows = [dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True)]
    assert {row["kind"] for row in rows} <= kinds
    assert max(kinds) in {row["kind"] for row in rows}
    held = [{*np.flatnonzero(owners(0) == worker).tolist()} for worker in range(WORKERS)]
    epoch = [0] * WORKERS
    for row in rows:
        worker = row["worker"]
        assert epoch[worker] == row["base"] < row["epoch"] == row["version"] // config.shuffle.every
        units = delivered(row, owners, content, held[worker])
        assert row["units"] * content[0].nbytes == len(units)
        assert row["digest"] == crc32(units)
        needed = {*np.flatnonzero(owners(row["epoch"]) == worker).tolist()}
        assert needed <= held[worker]
        held[worker], epoch[worker] = needed, row["epoch"]
    assert max(epoch) == 9
    account = analyse(trace)
    assert account is not None
    assert 0 < account.by_part["rows"] < account.length_ns
    tables.show(trace)
    assert "rows reshuffled 9 times: " in capsys.readouterr().out
    assert trace.arrivals["bytes_down"].max() > max(row["bytes"] for row in rows) > 0
