"""The virtual clock's benchmark: what it runs, and what it says without SimPy."""

import sys

import pytest

from benchmarks import events
from pdcode.config import UpdateTable
from pdcode.util.errors import InputError
from pdcode.virtual.timing_only import TimingOnly


def test_says_how_to_get_simpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "simpy", None)
    with pytest.raises(InputError, match=r"needs simpy; `make .venv/extra-bench` installs it"):
        events.run()


def test_its_model_uses_the_link_at_the_load_that_it_names() -> None:
    config = events.model_config(200, UpdateTable.of({}), 40_000)
    task_ns = round(1e9 * events.TASK_S)
    times = TimingOnly(config, task_ns, events.BYTES, 0, events.BYTES).run()
    cycle_s = config.stragglers.mean_s + events.TASK_S + 2 * events.LATENCY_S  # without the turns on the link
    bound = config.workers.count * events.BYTES / events.BANDWIDTH / cycle_s
    assert 0.5 * bound < times.ingress_ns / times.length_ns < bound
