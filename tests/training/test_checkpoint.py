"""Checkpoints on disk: which is taken, and what becomes of one that somebody has changed."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from interrupted import built, interrupted

from pdcode.config.load import resolve
from pdcode.config.tables import Config
from pdcode.training import checkpoint
from pdcode.training.checkpoint import Coordinates
from pdcode.util import checked
from pdcode.util.errors import InputError

JOB = ["problem.hidden=[8]", "code.blocks=[4, 1]", "code.weight=2", "workers.count=3", "stop.updates=20"]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    path = tmp_path_factory.mktemp("checkpoints") / "t.h5"
    config = resolve({}, [*JOB, f"trace.path={path}"])
    interrupted(config)
    return config


def test_it_is_found_and_fits(config: Config) -> None:
    found = checkpoint.find(config)
    assert found is not None
    run = built(found.goes_on(config))
    found.restore(run.kept, run.components.config)
    assert run.coordinator.arrivals == 9
    assert run.coordinator.version == found.header.version


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("optimizer.rate=0.5", "optimizer.rate: 0.5, and 0.1 in the checkpoint"),
        ("seed=2", "seed: 2, and 1 in the checkpoint"),
        ("workers.count=4", "workers.count: 4, and 3 in the checkpoint"),
        ("memory.kind=none", "memory.kind: .none., and .worker."),
    ],
)
def test_one_of_another_configuration_is_refused_by_key(config: Config, change: str, named: str) -> None:
    with pytest.raises(InputError, match=named):
        checkpoint.find(resolve({}, [*JOB, f"trace.path={config.trace.path}", change]))


def test_stop_and_trace_may_differ(config: Config) -> None:
    other = resolve({}, [*JOB, f"trace.path={config.trace.path}", "stop.updates=50", "trace.flush_s=3.0"])
    found = checkpoint.find(other)
    assert found is not None
    assert found.goes_on(other).stop.updates == 50


def nodes(tree: Any) -> list[tuple[list[Any], int]]:
    """List the places of a tree of lists and dicts, as containers and keys."""
    found = []
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, each in items:
        found.append((tree, key))
        found += nodes(each)
    return found


VALUES = [
    None, -1, 2**62, 1e300, "x", b"x", [], {}, ["plain", 7], ["array", 0, "<f4", [1]],
    ["array", 10**9, "<f4", [1]], ["array", 0, "|O", [1]], ["list", [["same"]]],
    ["object", {"__class__": ["plain", 1]}, "Votes"], ["record", "Order", []],
    ["map", [["a"]], [["same"]]], ["events", [["plain", 1]]], ["same"],
]  # fmt: skip


@given(data=st.data())
def test_a_changed_one_is_refused_and_executes_nothing(config: Config, data: st.DataObject) -> None:
    path = checkpoint.folder_of(config.trace.path) / "coordinator"
    header, contents = checked.read(path, Coordinates)
    places = nodes(header.tree)
    container, key = places[data.draw(st.integers(0, len(places) - 1))]
    container[key] = data.draw(st.sampled_from(VALUES))
    found = checkpoint.Found(path, header, contents, [])
    run = built(config)
    child = os.fork()  # a crash ends this process alone
    if not child:
        code = 1
        try:
            with np.errstate(all="ignore"):
                found.restore(run.kept, run.components.config)
            code = 0
        except InputError:
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
