"""Epochs: the training rows of payloads that were used, as an end of runs and in what is printed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from interrupted import built, interrupted
from outcomes import assert_replays, refused

import pdcode
from pdcode.__main__ import main
from pdcode.config.load import resolve
from pdcode.session import checkpoint
from pdcode.trace.schema import APPLIED
from pdcode.virtual.timing_only import ensure_timeable

JOB: dict[str, Any] = {"problem": {"kind": "softmax", "data": "digits", "batch": 16}, "stop": {"epochs": 1.5}}
UNCODED = {"scheme": {"name": "uncoded"}}
# Messages of a payload, and training rows of a task.
SCHEMES: dict[str, tuple[dict[str, Any], int, int]] = {
    "at every arrival": ({"scheme": {"preset": "default"}}, 1, 16),
    "rounds": ({"update": {"mode": "all"}}, 1, 16),
    "the first": ({"update": {"mode": "first", "count": 3}}, 1, 16),
    "two rounds": ({"scheme": {"name": "powersgd"}}, 2, 16),
    "parts": ({"scheme": {"name": "streaming"}}, 4, 16),
    "local steps": ({"scheme": {"name": "local"}}, 1, 128),
    "replicated rows": ({"scheme": {"name": "cyclic"}}, 1, 32),
    "sums": ({"update": {"mode": "all"}, "reduce": {"kind": "allreduce"}, **UNCODED}, 1, 16),
}  # fmt: skip


@pytest.mark.every(2)
@pytest.mark.parametrize("case", SCHEMES)
def test_a_run_ends_with_the_update_that_completes_the_epochs(case: str, tmp_path: Path, capsys: Any) -> None:
    tables, messages, rows = SCHEMES[case]
    trace = pdcode.simulate({**JOB, **tables}, workers=5, output=tmp_path / "a.h5")
    last, total = trace.updates.rows, trace.attributes["rows"]
    applied = trace.arrivals["applied_version"][np.isin(trace.arrivals["status"], APPLIED)]
    counts = np.array([np.count_nonzero(applied < version) for version in (last - 1, last)])
    passes = counts * rows / (messages * total)
    assert passes[0] < 1.5 <= passes[1]
    said = capsys.readouterr().out
    assert f"epochs; loss {trace.progress['loss'][-1]:.4g}" in said
    assert f"after {last:,} updates ({passes[1]:.1f} epochs) in " in said
    assert_replays(tmp_path / "a.h5", capsys)


def test_lines_and_show_have_them(tmp_path: Path, capsys: Any) -> None:
    trace = pdcode.simulate({**JOB, **SCHEMES["rounds"][0]}, workers=5, output=tmp_path / "a.h5")
    assert "s  update 0       epoch 0.0    loss " in capsys.readouterr().out
    assert main(["show", str(trace.path)]) == 0
    assert "; 1.5 epochs" in capsys.readouterr().out.replace("\n", " ")


def test_a_resumed_run_counts_on(tmp_path: Path) -> None:
    config = resolve(JOB, ["workers.count=3", "scheme.name=uncoded", f"trace.path={tmp_path}/t.h5"])
    done = interrupted(config)
    found = checkpoint.find(config)
    assert found is not None
    resumed = built(found.resumed_config(config))
    found.restore(resumed.stateful, resumed.components.config)
    begun = resumed.monitor.epochs(resumed.coordinator)
    assert 0 < begun < 0.2
    assert resumed.coordinator.run(resumed.monitor) == "1.5 epochs"
    assert resumed.coordinator.version == done.coordinator.version
    assert resumed.monitor.epochs(resumed.coordinator) == done.monitor.epochs(done.coordinator)


def test_a_part_of_an_epoch_is_enough_and_0_is_none(tmp_path: Path) -> None:
    few = pdcode.simulate(JOB, workers=2, set={"stop.epochs": 0.01}, output=tmp_path / "a.h5", progress=False)
    assert few.updates.rows == 1
    with refused("stop.epochs: "):
        pdcode.simulate(JOB, workers=2, set={"stop.epochs": 0}, output=tmp_path / "b.h5", progress=False)


def test_without_gradients_the_general_loop_counts_them(tmp_path: Path) -> None:
    tables = {**JOB, **UNCODED, "update": {"mode": "all"}}
    trace = pdcode.simulate(tables, workers=5, timing_only=True, output=tmp_path / "a.h5", progress=False)
    assert trace.updates.rows == -(-1.5 * trace.attributes["rows"] // 80)
    with refused("stop.epochs: the timing-only loop counts updates; give stop.updates"):
        ensure_timeable(resolve(tables))
