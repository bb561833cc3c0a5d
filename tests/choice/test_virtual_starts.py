"""The start of a run with very many workers: refused soon, and soon interrupted."""

import signal
from typing import Any

import pytest

from pdcode.__main__ import main
from pdcode.choice.preset import prepare
from pdcode.config.load import resolve
from pdcode.kernels import rounds
from pdcode.util import signals
from pdcode.virtual import timing_only


@pytest.mark.parametrize(
    ("workers", "keys", "line"),
    [
        (2000, [], "2000 workers are more than the 1438 training rows"),
        (100_000, [], "100000 is more than the 65536 workers"),
        (100_000, ["problem.shards=replicated"], "100000 is more than the 65536 workers"),
    ],
)
def test_too_many_workers_are_refused_before_presets_are_compared(
    workers: int, keys: list[str], line: str, tmp_path: Any, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.setattr("pdcode.choice.preset.prepare", lambda *given: pytest.fail("presets are compared"))
    (tmp_path / "job.toml").write_text('problem = { kind = "softmax" }\nstop = { updates = 50 }\n')
    command = ["run", str(tmp_path / "job.toml"), "-n", str(workers), "--dry-run"]
    assert main([*command, *(word for key in keys for word in ("--set", key))]) == 2
    assert line in capsys.readouterr().err


def test_a_signal_ends_the_comparison_of_presets(monkeypatch: Any) -> None:
    """After few arrivals of many workers."""
    calls: list[int] = []
    run = rounds.Rounds.run

    class Raising(rounds.Rounds):
        def run(self, most: int = 1 << 40) -> int:
            calls.append(most)
            if len(calls) == 2:
                signal.raise_signal(signal.SIGTERM)
            return run(self, most)

    monkeypatch.setattr(rounds, "Rounds", Raising)
    config = resolve(
        {"scheme": {"name": "lwpd"}}, ["workers.count=60000", "problem.shards=replicated", "stop.updates=50"]
    )
    with pytest.raises(KeyboardInterrupt), signals.handled(signals.as_keyboard_interrupt()):
        prepare(config)
    assert max(calls) * 60_000 <= timing_only.BUFFER_ROWS * timing_only.FEW
    assert len(calls) == 2
