"""Small jobs of other programs, as files of the formats that are imported."""

import gzip
import itertools
import json
import pickle
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from paths import ROOT
from pyarrow import parquet

from pdcode.config import kinds

DATA = ROOT / "tests/data"
PHASES = "loading", "forward", "backward", "between steps"
BAMBOO = "0,add,a\n0,add,b\n120000,remove,a\n300000,add,c\n360000,add,d\n"
SKYPILOT = json.dumps({"metadata": {"gap_seconds": 60}, "data": [2, 2, 1, 1, 1, 2, 3]})
LINKS = "worker,step,work_s,link_s\n" + "".join(
    f"{name},{step},1,{2 if name == 'b' else 0.5}\n" for step in range(40) for name in "abc"
)


def profile(rank: int, first: int, clock_us: float, steps: int = 30, gap: range = range(0)) -> dict[str, Any]:
    """Return the profile of a rank on a GPU: two buckets are reduced, the first one while computing goes on.

    A step is 100 µs of computing, 200 of rank 2 from step 15 on, and 20 µs of reducing. Steps of the gap were
    not profiled.
    """
    events: list[dict[str, Any]] = []

    def add(cat: str, name: str, begin: float, end: float, tid: int = 1, **args: Any) -> None:
        span = {"ts": begin + clock_us, "dur": end - begin, "pid": 0, "tid": tid}
        events.append({"ph": "X", "cat": cat, "name": name, **span, "args": args})

    now = 0.0
    for step in range(steps):
        slow = step >= 15
        own, end = (200.0 if slow and rank == 2 else 100.0), now + (220.0 if slow else 120.0)
        if step >= first and step not in gap:
            for cat in ("user_annotation", "gpu_user_annotation"):
                add(cat, f"ProfilerStep#{step - first}", now, end)
            for bucket in range(2):
                told = {"Collective name": "allreduce", "Process Group Name": "0", "dtype": "Float"}
                numbers = {"Seq": 10 + 2 * step + bucket, "In msg nelems": 50}
                add("cpu_op", "record_param_comms", now + 5 + bucket, now + 6, **told, **numbers)
            add("kernel", "gemm", now, now + own, 7)
            add("kernel", "ncclDevKernel_AllReduce_Sum_f32_RING_LL", now + 0.6 * own, end - 10, 8, **told)
            add("kernel", "ncclDevKernel_AllReduce_Sum_f32_RING_LL", end - 10, end, 8, **told)
        now = end
    who = {"backend": "nccl", "rank": rank, "world_size": 3}
    return {"distributedInfo": who, "host_name": f"gpu{rank}", "traceEvents": events}


def phased(rank: int, slow: str) -> dict[str, Any]:
    """Return the profile of a rank on a CPU: a phase of rank 1 takes 100 µs in each of 30 steps.

    If `slow` is no phase, each of them takes three times as long.
    """
    events: list[dict[str, Any]] = []

    def add(name: str, begin: float, end: float, cat: str = "user_annotation", tid: int = 1) -> None:
        span = {"ts": begin, "dur": end - begin, "pid": 0, "tid": tid}
        events.append({"ph": "X", "cat": cat, "name": name, **span})

    usual = dict(zip(PHASES, (20.0, 10.0, 30.0, 5.0), strict=True))
    late = usual | {slow: 100.0} if slow in PHASES else {name: 3 * time for name, time in usual.items()}
    own, length = late if rank == 1 else usual, sum(late.values()) + 7
    for step in range(30):
        begin, end = length * step, length * (step + 1)
        loaded = begin + own["between steps"] + own["loading"]
        passed = loaded + own["forward"]
        ready = passed + own["backward"]
        add("enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__", loaded - own["loading"], loaded)
        add("DistributedDataParallel.forward", loaded, loaded + 2)
        for first, last in ((passed, passed + 3), (ready - 4, ready)):  # Python is between them
            add("autograd::engine::evaluate_function: AddmmBackward0", first, last, "cpu_op")
        add("gloo:all_reduce", ready - 2, end, tid=2)
        add(f"ProfilerStep#{step}", begin, end)
    return {"distributedInfo": {"rank": rank, "world_size": 3}, "traceEvents": events}


def operations(ranks: int = 2, stages: int = 3, count: int = 8, slow: float = 2.0) -> dict[str, list[Any]]:
    """Return the operations of a pipeline in which stage 0 of rank 1 computes `slow` times as long.

    Elsewhere forward passes take 1 s, backward passes 2 s; data moves at once.
    """
    rows: list[tuple[Any, ...]] = []
    for step in (3, 7):
        ends = np.zeros((ranks, stages))
        for rank in range(ranks):
            done: dict[tuple[str, int, int], float] = {}
            clock, left = ends[rank], {stage: one_by_one(stage, stages, count) for stage in range(stages)}
            while any(left.values()):
                for stage, todo in left.items():
                    while todo:
                        kind, number = todo[0]
                        peer, begin = stage + (-1 if kind == "forward" else 1), clock[stage]
                        if 0 <= peer < stages:
                            if (kind, peer, number) not in done:
                                break
                            sent = done[kind, peer, number]
                            waited = max(0.0, sent - begin)
                            rows.append((rank, stage, step, f"{kind}-recv", begin, waited, number))
                            rows.append((rank, peer, step, f"{kind}-send", sent, 0.0, number))
                            begin += waited
                        own = (1.0 if kind == "forward" else 2.0) * (slow if (rank, stage) == (1, 0) else 1.0)
                        rows.append((rank, stage, step, f"{kind}-compute", begin, own, number))
                        clock[stage] = done[kind, stage, number] = begin + own
                        todo.pop(0)
        for (rank, stage), end in np.ndenumerate(ends):
            reduced = ends[:, stage].max()
            rows.append((rank, stage, step, "grads-reduce-scatter", end, reduced - end, 0))
            rows.append((rank, stage, step, "optimizer-clip-main-grad", reduced, ends.max() - reduced, 0))
            rows.append((rank, stage, step, "optimizer", ends.max(), 0.0, 0))
    names = "dp_rank", "stage", "step", "optype", "start_ts", "duration", "seq_id"
    return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))


def one_by_one(stage: int, stages: int, count: int) -> list[tuple[str, int]]:
    """Return the schedule of a stage: forward passes to fill the pipeline, then both in turn."""
    warm = min(count, stages - 1 - stage)
    order = [("forward", number) for number in range(warm)]
    for number in range(count):
        order += [("forward", number + warm)] * (number + warm < count) + [("backward", number)]
    return order


def session(path: Path, events: Callable[[int, int], Any], columns: str = "", strategy: str = "ddp") -> str:
    """Write the database of a session of TraceML: 4 ranks, 30 steps."""
    with closing(sqlite3.connect(path)) as database, database:
        run = database.execute
        names = "global_rank, hostname, step, events_json"
        named = "id INTEGER PRIMARY KEY, global_rank INTEGER, hostname TEXT, step INTEGER, events_json TEXT"
        run(f"CREATE TABLE step_time_samples ({columns or named})")
        run("CREATE TABLE runtime_environment (id INTEGER PRIMARY KEY, training_strategy TEXT)")
        run("INSERT INTO runtime_environment(training_strategy) VALUES (?)", (strategy,))
        for step, rank in itertools.product(range(30 if not columns else 0), range(4)):
            made = events(step, rank)
            row = rank, f"node{rank}", 100 + step, made if isinstance(made, str) else json.dumps(made)
            run(f"INSERT INTO step_time_samples({names}) VALUES (?, ?, ?, ?)", row)
    return str(path)


def phases(forward: float, backward: float, loading: float = 1.0, clock: str = "cpu_ms") -> dict[str, Any]:
    """Return a row's events, times in ms: the step is as long as its phases and 3 ms of others."""
    known = {"dataloader_next": loading, "forward_time": forward, "backward_time": backward}
    known["step_time"] = forward + backward + 3
    return {f"_traceml_internal:{name}": {"cuda:0": {clock: value}} for name, value in known.items()}


def samples(folder: Path) -> list[Path]:
    """Write a job of each format, after which a file is called, and after the rank if each has one."""
    for rank in range(3):
        shutil.copy(DATA / f"kineto.{rank}.json.gz", folder / f"kineto_{rank}.json.gz")
        shutil.copy(DATA / f"flight.{rank}.json.gz", folder / f"flight-recorder_{rank}.json.gz")
    shutil.copy(DATA / "pai.csv", folder)
    dump = json.loads(gzip.decompress((folder / "flight-recorder_1.json.gz").read_bytes()))
    (folder / "flight-recorder_1.json.gz").unlink()
    (folder / "flight-recorder_1").write_bytes(pickle.dumps(dump, 2))
    for name, text in {"csv.csv": LINKS, "spot.csv": BAMBOO, "spot.json": SKYPILOT}.items():
        (folder / name).write_text(text)
    session(folder / "traceml.db", lambda step, rank: phases(20, 40))
    parquet.write_table(pyarrow.table(operations()), folder / "bytedance.parquet")
    return sorted(path for path in folder.iterdir() if format_of(path) in kinds.KINDS["importers"])


def format_of(path: Path) -> str:
    """Return the format of a file of `samples`."""
    return re.split("[._]", path.name)[0]
