"""A simple table: a row for each worker and step."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .job import LINE, Grid, Importer, Job, in_turn, numbers, only, table


def read(paths: Sequence[str]) -> Job:
    """Read a table.

    Columns ``worker``, ``step`` and ``work_s``; if known ``link_s``, which follows the work, ``wait_s`` for
    others, after which a step ends at the earliest, and ``host``.
    """
    path = only(paths, "a table")
    columns = table(path, ("worker", "step", "work_s"))
    workers: list[Any] = columns["worker"]
    if all(each.isdecimal() and len(each) < 10 for each in workers):
        workers = [*map(int, workers)]
    grid = Grid(path, numbers(path, columns, "step", int), workers, columns[LINE])
    work, wait, link = (
        grid(numbers(path, columns, name)) if name in columns else None
        for name in ("work_s", "wait_s", "link_s")
    )
    assert work is not None
    hosts = names = grid.hosts()
    if "host" in columns:
        found = dict(zip(workers, columns["host"], strict=True))
        hosts = [found[each] for each in grid.workers.tolist()]
    lengths = work + (0.0 if wait is None else wait) + (0.0 if link is None else link)
    job = in_turn(path, hosts, "a table", work, link, np.fmax.reduce(lengths, axis=1))
    if "host" in columns and set(names) != {"unknown"}:
        job.notes.append(f"workers, by number from 0: {', '.join(names)}")
    return job


CSV = Importer("csv", "a table with columns worker, step, work_s, and others if known", read)
