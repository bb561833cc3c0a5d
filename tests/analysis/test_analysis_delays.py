"""The delays of a run in words."""

from typing import Any

import msgspec
import pytest

from pdcode.analysis.description import delays
from pdcode.config import StragglersTable, legacy

EXPECTED: list[tuple[dict[str, Any], str]] = [
    ({"kind": "none", "slow": [1], "slowdown": 2.0}, "none injected"),
    (
        {"kind": "shifted-exponential", "shift_s": 0.002, "mean_s": 0.003, "slow": [7], "slowdown": 10.0},
        "shifted-exponential: 2.00 ms plus an exponential one of mean 3.00 ms; 10× that for worker 7",
    ),
    (
        {"kind": "pareto", "shift_s": 0.005, "shape": 1.5, "dead": [1, 2]},
        "pareto: at least 5.00 ms, with a tail of shape 1.5; workers 1 and 2 never answer",
    ),
    (
        {"kind": "bimodal", "shift_s": 0.001, "extra_s": 0.1, "probability": 0.05},
        "bimodal: 1.00 ms plus 100 ms in 5 % of the tasks",
    ),
    (
        {"kind": "lognormal", "median_s": 0.01, "sigma": 0.5},
        "lognormal: a lognormal one of median 10.0 ms and sigma 0.5",
    ),
    (
        {"kind": "markov", "extra_s": 0.05, "enter": 0.01, "leave": 0.1},
        "markov: 50.0 ms in spells of 10 tasks, 9.09 % of all",
    ),
    ({"kind": "slow-set", "shift_s": 0.1}, "slow-set: 100 ms"),
    (
        {"kind": "slow-set", "slow": [0, 2], "slowdown": 3.0, "dead": [1]},
        "slow-set: none; 3× the task's compute time in all for workers 0 and 2; worker 1 never answers",
    ),
    (
        {"kind": "heterogeneous", "shift_s": 0.1, "slowdown": 3.0},
        "heterogeneous: 100 ms for worker 0, up to 3× that for the last",
    ),
    (
        {"kind": "heterogeneous", "slowdown": 3.0},
        "heterogeneous: none for worker 0, up to 3× the task's compute time in all for the last",
    ),
    (
        {"kind": "trace", "path": "run.h5", "draw": "replay"},
        "trace: those recorded in run.h5, in their order",
    ),
    ({"kind": "trace", "path": "run.h5"}, "trace: those recorded in run.h5, at random"),
]


@pytest.mark.parametrize(("table", "text"), EXPECTED, ids=[table["kind"] for table, _ in EXPECTED])
def test_every_kind_is_told_with_what_it_takes(table: dict[str, Any], text: str) -> None:
    old = dict.fromkeys(("shift_s", "mean_s", "extra_s"), 0.0)  # traces before had the keys of all kinds
    assert delays(old | table) == text
    assert delays(msgspec.to_builtins(legacy.read_kind(StragglersTable, old | table))) == text


def test_a_long_list_of_workers_is_cut_and_no_table_is_no_news() -> None:
    assert delays({"kind": "slow-set", "dead": list(range(100))}).endswith("15 and 84 more never answer")
    assert delays({}) == ""
