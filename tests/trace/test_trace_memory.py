"""The memory of a process that writes a long trace."""

import os
from pathlib import Path

import numpy as np
import traces

BATCH = 100_000


def resident() -> int:
    """Memory of this process, bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_memory_does_not_grow_with_the_trace(tmp_path: Path) -> None:
    writer = traces.writer(tmp_path / "a.h5")
    columns = {"worker": 0, "status": 0, "captured": 0.5, "loss": 1.0}
    others = {
        name: np.arange(BATCH)
        for name in traces.columns([traces.row()])
        if name not in columns and name not in ("round", "part")
    }
    writer.extend("arrivals", BATCH, columns | others)
    start = resident()
    for _ in range(5):
        writer.extend("arrivals", BATCH, columns | others)
    grown = resident() - start
    writer.close()
    assert (tmp_path / "a.h5").stat().st_size > 6 * BATCH * 120
    assert grown < 16 << 20  # HDF5's own chunk caches would take 8 MiB a column
