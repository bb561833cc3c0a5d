"""The account of a run's time: it adds up, follows the critical path, and has what rank 0 did besides."""

from pathlib import Path

import numpy as np
import pytest
import traces
from scipy.signal import lfilter
from test_analysis_critical_path import BARRIER

from pdcode import simulate
from pdcode.analysis import charts
from pdcode.analysis.account import PARTS, Account
from pdcode.api.traces import Trace
from pdcode.trace.schema import CHECKPOINT, EVALUATION

DIGITS = {"problem": {"data": "digits", "hidden": [16], "evaluate": 100}, "stop": {"updates": 60}, "seed": 3}
LINK = PARTS.index("link up")
LINK_SHARE = 0.4485  # of steps that are drawn as below: of 2 million
DELAYS = "stragglers={kind='shifted-exponential',shift_s=0.002,mean_s=0.002}"
RUNS = {
    "async": [],
    "all": ["update.mode=all"],
    "first": ["update.mode=first", "update.count=3", "update.late=waste"],
    "to a target": ["stop.loss=1.0", "stop.updates=400"],
    "allreduce": ["scheme.preset=sharded"],
    "tree": [
        "scheme.name=uncoded",
        "update.mode=all",
        "reduce.kind=tree",
        "reduce.bits=8",
        "wire.dtype=float32",
    ],
    "first allreduce": ["scheme.preset=sharded-first"],
    "busy rank 0": ["update.mode=all", "machine.arrival_s=0.003"],
    "slow link": ["update.mode=all", "link.bandwidth=1e6"],
    "exchange": ["downlink.kind=exchange", "update.mode=all"],
    "reshuffled": ["shuffle.kind=coded", "shuffle.every=5"],
    "a death": [
        "problem.shards=replicated",
        "memory.kind=none",
        "faults.events=[{kind='kill',worker=1,task=9}]",
    ],
}


def runs_of(folder: Path, name: str) -> Trace:
    return simulate(
        DIGITS, workers=4, set=[DELAYS, *RUNS[name]], output=folder / "run.h5", progress=False
    )  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_it_adds_up_and_hardly_anything_is_guessed(name: str, tmp_path: Path) -> None:
    trace = runs_of(tmp_path, name)
    found = trace.account()
    run = trace.summary()
    until_s = run["target_s"] if np.isfinite(run["target_s"]) else run["seconds"]
    assert found.length_ns == pytest.approx(1e9 * until_s, abs=1)
    assert found.spent_ns.sum() == pytest.approx(found.length_ns)
    assert (found.spent_ns >= 0).all()
    assert sum(found.by_part.values()) == pytest.approx(found.length_ns)
    assert (
        found.spent_ns[:-1, [PARTS.index(part) for part in ("step", "start", "end", "dispatch")]].sum() == 0
    )
    begins, ends = np.flatnonzero(found.begin_ns == 0), np.flatnonzero(found.end_ns == found.length_ns)
    assert len(begins) == len(ends) == found.chains
    inner = np.delete(np.arange(len(found.begin_ns)), begins)
    assert (found.begin_ns[inner] == found.end_ns[inner - 1]).all()
    assert found.by_part.get("start", 0) + found.by_part.get("end", 0) < 0.1 * found.length_ns


def test_it_has_the_parts_of_the_path(tmp_path: Path) -> None:
    found = made(tmp_path, BARRIER, [(60, 1), (97, 2)], end=100)
    parts = {"compute": 30, "delay": 25, "link up": 12, "decode": 11, "step": 6, "send": 5, "link down": 5}
    assert found.by_part == parts | {"end": 3, "start": 1, "queue": 1, "dispatch": 1}
    assert found.workers == [1, 0]
    assert found.spent_ns.sum(axis=1).tolist() == [34, 55, 11]


def test_pauses_of_rank_0_are_taken_from_what_waited_for_it(tmp_path: Path) -> None:
    # In turn: while a worker computes; within a link up and a step; from the last step on.
    pauses = [(20, 30, CHECKPOINT), (54, 58, EVALUATION), (98, 99, EVALUATION)]
    found = made(tmp_path, BARRIER, [(60, 1), (97, 2)], end=100, pauses=pauses)
    assert "checkpoint" not in found.by_part
    assert found.by_part["evaluation"] == 2 + 1
    assert found.by_part["step"] == 6 - 2
    assert found.by_part["decode"] == 11  # rank 0's own work is no wait
    assert found.spent_ns.sum() == 100


def test_of_each_payload_a_step_it_is_the_mean_of_the_workers(tmp_path: Path) -> None:
    trace = runs_of(tmp_path, "a death")
    found = trace.account()
    assert found.chains == 4
    gone = found.spent_ns[:, PARTS.index("gone")]
    (died_ns,) = trace.faults["t_ns"][trace.faults["kind"] == "dead"]
    assert gone[1] == pytest.approx((found.length_ns - died_ns) / 4)
    assert gone.sum() == gone[1]
    assert found.spent_ns[0].sum() == pytest.approx(found.length_ns / 4, rel=0.02)


def test_an_interval_is_by_parts_of_the_run(tmp_path: Path) -> None:
    """Where one worker is always the last, its share is certain; among equals each one's is not."""
    sure = traces.script(tmp_path / "sure.h5", np.tile([1.0, 2.0, 1.0], (64, 1)), 0.1)
    random = np.random.default_rng(3).exponential(1.0, (64, 3))
    equal = traces.script(tmp_path / "equal.h5", random, 0.1)
    found = [Trace(each.path).account() for each in (sure, equal)]
    assert found[0].workers == [1]
    assert found[0].deviation_ns[1] < 0.05 * found[0].length_ns
    assert (found[1].deviation_ns[:3] > 0.05 * found[1].length_ns).all()
    assert (found[1].deviation_ns[:3] < 0.4 * found[1].length_ns).all()


def test_the_interval_of_a_part_covers_its_share_in_other_draws() -> None:
    """Steps with a common part that wanders for fewer steps than a block has, of 32."""
    covered, draws, steps = 0, 200, 1280
    for seed in range(draws):
        random = np.random.default_rng(seed)
        logs = lfilter([1.0], [1.0, -0.6], 0.8 * random.standard_normal(100 + steps))[100:]
        work_s = 0.02 * np.exp(0.3 * random.standard_normal((steps, 4))).max(axis=1)
        ends = np.cumsum(np.stack((work_s, 0.02 * np.exp(0.5 * logs)), axis=1).ravel())
        ends_ns = np.rint(1e9 * ends).astype(np.int64)
        part = np.tile([PARTS.index("compute"), LINK], steps)
        found = Account("", 1, np.append(0, ends_ns[:-1]), ends_ns, np.zeros_like(part), part, 4)
        share = found.by_part["link up"] / found.length_ns
        covered += abs(share - LINK_SHARE) <= found.part_deviation_ns[LINK] / found.length_ns
    assert 0.9 <= covered / draws <= 0.99
    assert f"link up {100 * share:.1f} ± " in repr(found)
    whole, _ = charts.accounts(found)
    assert all(each in whole.note for each in found.intervals())


def test_of_a_sample_or_of_no_step_there_is_none(tmp_path: Path) -> None:
    sampled = [DELAYS, "trace.arrivals=sampled", "trace.sample=3"]
    assert (
        simulate(DIGITS, workers=4, set=sampled, output=tmp_path / "a.h5", progress=False).account() is None
    )
    assert made(tmp_path, BARRIER[:2], [], end=50) is None


def made(folder: Path, rows: list[tuple], steps: list[tuple[int, int]], end: int, pauses: tuple = ()):
    """Return the account of a synchronous run with these arrivals, steps (time, version) and pauses."""
    config = traces.CONFIG | {"update": {"mode": "all"}, "stop": {"updates": 2}}
    metadata = traces.METADATA | {"config": config, "workers": 2}
    writer = traces.TraceWriter(folder / "made.h5", traces.TEXT, [traces.code()], metadata, traces.members(2))
    for row in rows:
        writer.arrival(*row)
    for t_ns, version in steps:
        writer.update(version, t_ns, 2, 1.0, 0.1, 0, -1, 0, 0)
    for pause in pauses:
        writer.pause(*pause)
    writer.close(counters={"t_stop_ns": end})
    return Trace(folder / "made.h5").account()
