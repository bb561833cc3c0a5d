"""The roster's transitions: its docstring is the table, and runs with all kinds of faults keep to it."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pdcode
from pdcode.training import roster
from pdcode.training.roster import BUSY, DEAD, IDLE, LEFT, MISSING, OVERDUE, STOPPED, TRANSITIONS, Roster

EVENTS = """[
    {kind="kill", worker=0, at_s=0.1}, {kind="join", worker=0, at_s=0.15}, {kind="exit", worker=1, task=9},
    {kind="stop", worker=2, at_s=0.05, for_s=0.1}, {kind="hang", worker=2, task=20, for_s=0.05},
    {kind="slow", worker=3, at_s=0.02, factor=50.0}, {kind="drop", worker=5, at_s=0.05, share=0.5},
    {kind="cut", worker=6, at_s=0.1, for_s=0.1}, {kind="kill", worker=7, at_s=0.2}]"""


def test_the_docstring_is_the_table() -> None:
    rows = [
        re.split(r"\s{2,}", line) for line in roster.__doc__.splitlines() if re.match(r"[A-Z]{4,} ", line)
    ]
    table = {
        getattr(roster, name): {getattr(roster, word) for word in re.findall(r"[A-Z]{4,}", " ".join(states))}
        for name, _, *states in rows
    }
    assert table == {state: {*states} for state, states in TRANSITIONS.items()}


@pytest.mark.parametrize("mode", ["async", "first", "all"])
def test_replies_and_tasks_are_transitions_of_the_table(
    mode: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of compiled calls; tests/conftest.py sees to the others, in all tests."""
    seen = set()

    def watch(name: str) -> None:
        method = getattr(Roster, name)

        def watched(self: Roster, first: object, *others: object) -> int:
            worker = getattr(first, "worker", first)
            before = self.states[worker]
            done = method(self, first, *others)
            seen.add((before, self.states[worker]))
            return done

        monkeypatch.setattr(Roster, name, watched)

    for name in ("answered", "sent", "become"):
        watch(name)
    job = {"workers": {"count": 8}, "problem": {"hidden": [16], "batch": 16}, "stop": {"seconds": 0.5}}
    settings = [f"update.mode={mode}", f"faults.events={EVENTS}"]
    pdcode.simulate(job, output=tmp_path / "trace.h5", set=settings, progress=False)
    assert {(IDLE, BUSY), (BUSY, IDLE), (DEAD, IDLE)} <= seen
    assert all(after in TRANSITIONS[before] for before, after in seen)


@given(st.lists(st.sampled_from([IDLE, BUSY, OVERDUE, MISSING, STOPPED, DEAD, LEFT]), min_size=2, max_size=6))
def test_a_transition_that_is_not_in_the_table_is_found(path: list[int]) -> None:
    """By the check that all tests have."""
    one = Roster(1)
    one.states[0] = path[0]
    for before, after in pairwise(path):
        if after not in TRANSITIONS[before]:
            with pytest.raises(AssertionError):
                one.become(0, after)
            return
        one.become(0, after)
    assert one.states == [path[-1]]
