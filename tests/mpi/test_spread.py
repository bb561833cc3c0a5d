"""Simulations whose workers are spread over ranks: the same traces as in one process, and no hang."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from launches import on_ranks
from paths import SUPPORT

from pdcode import Trace

PROGRAM = Path(__file__).parent / "programs" / "spread.py"
RANKS = 3
COMMON = [
    "seed=5", "problem.hidden=[16]", "problem.batch=8", "code.blocks=[8, 1]", "code.weight=4",
    "workers.count=10", "optimizer.rate=0.1", "stragglers.kind=shifted-exponential",
    "stragglers.mean_s=0.002", "stop.updates=60", "trace.progress_s=0.01",
]  # fmt: skip
WHOLE = 'code={family="uncoded",blocks=1,rotate=false}'
CASES = {
    "async": ["wire.dtype=int8", "memory.kind=worker", "code.rows_per_task=3"],
    "relay": [
        "update.mode=first", "update.count=4", "update.late=waste", "memory.kind=worker",
        "optimizer.momentum=0.5", "downlink.kind=codewords", "downlink.check=5", "wire.dtype=float16",
    ],
    "matched": ["code.family=matched", "code.rows_per_task=[2, 1]", "memory.kind=difference"],
    "refused": ["memory.kind=coordinator", 'faults.events=[{kind="nan", worker=4, task=2}]'],
    "topk": ["scheme.name=topk", WHOLE, "scheme.options.share=0.1", "wire.dtype=int8"],
    "local": ["scheme.name=local", WHOLE, "scheme.options.steps=3", "update.mode=first"],
    "cyclic": ["scheme.name=cyclic", WHOLE, "scheme.options.stragglers=3"],
    "frc": ["scheme.name=frc", WHOLE, "scheme.options.stragglers=4"],
    "bernoulli": ["scheme.name=bernoulli", WHOLE],
    "expander": ["scheme.name=expander", WHOLE, "scheme.options.worker=edge"],
    "sag": ["scheme.name=sag", WHOLE, "scheme.options.parts=2"],
    "dsag": ["scheme.name=dsag", WHOLE, "scheme.options.parts=3", "problem.batch=0"],
    "sgc": ["scheme.name=sgc", WHOLE, "scheme.options.stragglers=3", "problem.batch=4"],
    "lagrange": [
        "problem={kind='logistic',data='breast-cancer',dtype='float64',batch=8,standardise=true}", WHOLE,
        "scheme={name='lagrange',options={arithmetic='field',colluders=1,data_bits=8}}",
    ],
    "rounds": [
        f'plugins=["{SUPPORT / "clipped.py"}"]', "scheme.name=clipped", WHOLE, "update.mode=first",
    ],
    "reshuffled": ["shuffle.kind=coded", "shuffle.every=5", "link.broadcast=multicast"],
    "few": ["workers.count=2"],
    # Messages that MPI does not send before they are waited for, both ways, from workers without number.
    "long": [
        "problem.hidden=[512]", "code.blocks=1", "code.weight=1", "update.mode=all", "workers.count=40",
        "stop.updates=4", "optimizer.kind=adam", "optimizer.rate=0.01",
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Traces of all cases, with 1 and 3 ranks."""
    folder = tmp_path_factory.mktemp("spread")
    config = folder / "job.toml"
    config.write_text("", encoding="utf-8")
    for ranks in (1, RANKS):
        lists = []
        for name, overrides in CASES.items():
            sets = [word for override in [*COMMON, *overrides] for word in ("--set", override)]
            lists.append([str(config), "-o", str(folder / f"{name}.{ranks}.h5"), *sets])
        # Two tasks under way to a rank at the most, so that rank 0 must wait for a place again and again.
        done = on_ranks(ranks, str(PROGRAM), "2", json.dumps(lists), timeout_s=200)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.system
@pytest.mark.parametrize("case", CASES)
def test_traces_are_the_same_on_1_and_on_3_ranks(folder: Path, case: str) -> None:
    alone, spread = Trace(folder / f"{case}.1.h5"), Trace(folder / f"{case}.{RANKS}.h5")
    for table in ("arrivals", "updates", "progress", "faults", "workers"):
        ours, theirs = getattr(spread, table), getattr(alone, table)
        assert len(ours) == len(theirs) > 0
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=f"{table}/{name}")
    np.testing.assert_array_equal(spread.theta, alone.theta)
    assert spread.counters == alone.counters
    assert spread.finished


@pytest.mark.system
def test_cases_do_what_they_are_for(folder: Path) -> None:
    traces = {name: Trace(folder / f"{name}.{RANKS}.h5") for name in CASES}
    assert traces["async"].arrivals["staleness"].max() > 0
    assert (traces["relay"].arrivals["status"] == 1).any()
    assert len(set(traces["relay"].arrivals["bytes_down"])) > 3
    assert (traces["refused"].arrivals["status"] == 3).sum() > 3
    for name, trace in traces.items():
        assert np.isfinite(trace.theta).all()
        assert len(set(trace.arrivals["worker"])) == {"few": 2, "long": 40}.get(name, 10)
    long = traces["long"].arrivals
    assert min(long["bytes_up"].min(), long["bytes_down"].min()) > 100_000


def simulate(tmp_path: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    """``pdcode simulate`` on all ranks."""
    config = tmp_path / "job.toml"
    config.write_text("", encoding="utf-8")
    settings = [f"trace.path={tmp_path}/trace.h5", *COMMON, *overrides]
    sets = [word for setting in settings for word in ("--set", setting)]
    return on_ranks(2, "-m", "pdcode", "simulate", str(config), *sets)


def test_an_exception_in_a_worker_of_another_rank_ends_the_job(tmp_path: Path) -> None:
    done = simulate(tmp_path, 'faults.events=[{kind="raise", worker=5, task=3}]', "stop.updates=1000000")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "rank 1 failed" in done.stderr
    assert "InjectedFault: worker 5 raises at task 3, as [faults] asks" in done.stderr
    assert "virtual worker 5, task 3" in done.stderr
    assert done.stderr.count("Traceback") == 1
    assert not Trace(tmp_path / "trace.virtual.h5").finished


@pytest.mark.parametrize(
    "override",
    ["problem.data=nowhere.npz", "trace.path=/proc/nowhere/trace.h5"],
    ids=["all ranks find it", "one rank does"],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path, override: str) -> None:
    done = simulate(tmp_path, override)
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "pdcode: " in line]
    assert f"{tmp_path / 'job.toml'}: {override.partition('=')[0]}: " in line
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "trace.virtual.h5").exists()


def test_what_only_another_rank_finds_is_said(tmp_path: Path) -> None:
    config = tmp_path / "job.toml"
    config.write_text("", encoding="utf-8")
    own = ["-m", "pdcode", "simulate", str(config), "-o", str(tmp_path / "a.h5"), "--set", "stop.updates=5"]
    other = [":", "-n", "1", sys.executable, *own, "--set", "problem.data=nowhere.npz"]
    done = on_ranks(1, *own, *other)
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "pdcode: " in line]
    assert f"{config}: problem.data: " in line
