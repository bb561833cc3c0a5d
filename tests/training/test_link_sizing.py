"""The share of a layer that a task sends follows rank 0's link, by itself, and is a number in the trace."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from pdcode import Trace
from pdcode.__main__ import main
from pdcode.automatic import keys as auto_keys
from pdcode.automatic import link_sizing
from pdcode.config import Config
from pdcode.config import load as configfile
from pdcode.schemes import make_scheme
from pdcode.session import setup
from pdcode.transport.speeds import Speeds
from pdcode.util.errors import InputError
from pdcode.virtual.simulation import Simulation

AUTO = ["scheme.preset=default", "code.rows_per_task=auto", "workers.count=4", "stop.updates=20"]


def resolved(*settings: str) -> Config:
    return configfile.resolve({}, [*AUTO, *settings])


def prepared(*settings: str) -> setup.Components:
    return setup.prepare(resolved(*settings))


def chosen(*settings: str) -> float | None:
    return prepared(*settings).config.code.share


def bandwidth_for(share_: float, use: float = 0.9, *settings: str) -> float:
    """The bandwidth at which a share uses the link for a part of the time."""
    components = prepared(*settings)
    config = components.config
    fixed = config.with_keys(code={"share": share_})
    scheme = make_scheme(fixed)
    state = scheme.state(components.problem)
    speeds = link_sizing.configured_speeds(scheme, components.problem, state.layouts, components.total_rows)
    return config.link.bandwidth * link_sizing.link_load(scheme, state, speeds).busiest / use


def test_the_choice_is_the_largest_share_that_the_link_carries() -> None:
    assert chosen("link.bandwidth=1e12") == 1 / 8
    for each, smaller in ((1 / 8, 1 / 16), (1 / 16, 1 / 32), (1 / 32, 1 / 32)):
        limit = bandwidth_for(each)
        assert chosen(f"link.bandwidth={1.001 * limit}") == each
        assert chosen(f"link.bandwidth={0.999 * limit}") == smaller
    assert chosen("link.bandwidth=1") == 1 / 32


def test_delays_are_not_known_before() -> None:
    slow = f"link.bandwidth={0.5 * bandwidth_for(1 / 8)}"
    plain = prepared(slow)
    delayed = prepared(slow, "stragglers.kind=shifted-exponential", "stragglers.mean_s=0.01")
    assert delayed.config.code == plain.config.code != prepared().config.code
    assert delayed.notes == plain.notes


def test_without_relayed_payloads_only_replies_count() -> None:
    components = prepared("downlink.kind=full")
    scheme, state, n = components.scheme, components.state, 4
    speeds = Speeds(1e6, 1e6, np.full(n, 0.01))
    used = link_sizing.link_load(scheme, state, speeds)
    assert used.egress == 0
    assert used.ingress == pytest.approx(n * components.layout.reply_bytes / 1e6 / 0.01)


def test_a_smaller_share_is_not_taken_where_it_frees_nothing() -> None:
    """So many workers' payloads are longer than θ, which they get instead."""
    assert chosen("link.bandwidth=1e6", "workers.count=400") == 1 / 8


def test_a_tree_carries_what_leaves_together() -> None:
    first = ["workers.count=12", "update.mode=first", "downlink.kind=codewords"]
    star = bandwidth_for(1 / 8, 0.9, *first)
    tree = bandwidth_for(1 / 8, 0.9, *first, "link.broadcast=tree")
    assert tree < 0.5 * star
    relayed = "downlink.kind=codewords"
    one_by_one = bandwidth_for(1 / 8, 0.9, relayed)
    assert bandwidth_for(1 / 8, 0.9, relayed, "link.broadcast=tree") == one_by_one


@pytest.mark.parametrize("bandwidth", ["1e5", "1e6"])
def test_a_prediction_is_what_a_simulation_finds(bandwidth: str) -> None:
    """Where the link is not full, and no worker waits."""
    slow = ["machine.task_s=0.5", "machine.arrival_s=0", "stop.updates=400"]
    components = prepared(*slow, f"link.bandwidth={bandwidth}")
    scheme, state = components.scheme, components.state
    speeds = link_sizing.configured_speeds(scheme, components.problem, state.layouts, components.total_rows)
    used = link_sizing.link_load(scheme, state, speeds)
    _, result = Simulation(components).run()
    assert result.ingress_ns / result.length_ns == pytest.approx(used.ingress, rel=0.2)
    assert result.egress_ns / result.length_ns == pytest.approx(used.egress, rel=0.2)


def test_a_measured_pace_decides_instead() -> None:
    components = prepared("link.bandwidth=1e12")
    assert components.config.code.share == 1 / 8
    components = components.rebuild(Speeds(1e3, 1e3, np.full(4, 0.01)))
    assert components.config.code.share == 1 / 32
    assert components.layout.rows[0] == 2  # of 64
    (note,) = components.notes
    assert "measured: in 1 kB/s, 8 kbit/s, out" in note
    components = components.rebuild(Speeds(1e12, 1e12, np.full(4, 0.01)))
    assert components.config.code.share == 1 / 8


def test_workers_adopt_it_and_a_trace_has_a_number(tmp_path: Path) -> None:
    components = prepared("link.bandwidth=1")
    assert components.config.code.rows_per_task is None
    (note,) = components.notes
    assert note.startswith(
        "code.share 0.03125 and memory.lookahead 0.05 (code.rows_per_task 'auto'): with 1/8 of a gradient "
        "the busiest link needs "
    )
    assert note in components.remarks()
    facts = msgspec.msgpack.decode(msgspec.msgpack.encode(components.facts))
    assert auto_keys.with_resolved(resolved("link.bandwidth=1"), facts["resolved"]) == components.config
    path = tmp_path / "t.virtual.h5"
    job = tmp_path / "job.toml"
    job.write_text("")
    overrides = [*AUTO, "link.bandwidth=2e5", f"trace.path={tmp_path / 't.h5'}"]
    assert main(["simulate", str(job), *(word for each in overrides for word in ("--set", each))]) == 0
    assert Trace(path).config["code"]["share"] == 0.03125
    assert Trace(path).config["code"]["rows_per_task"] is None
    assert main(["replay", str(path)]) == 0


def test_an_auto_of_a_preset_gives_way_where_all_is_sent(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(
        "import numpy\nstart = numpy.zeros(1)\ndata = numpy.ones(40)\n"
        "def square(theta, x):\n    r = theta[0] - x\n    return r @ r / len(x), 2 * r.mean(keepdims=True)\n"
    )
    names = {"function": "square", "start": "start", "data": "data"}
    problem = {key: f"{tmp_path}/one.py:{name}" for key, name in names.items()}
    job = {
        "problem": {"kind": "function", **problem},
        "scheme": {"preset": "default"},
        "stop": {"updates": 20},
    }
    components = setup.prepare(configfile.resolve(job))
    assert components.config.code.rows_per_task is None
    assert "tasks send whole gradients, as code.family 'uncoded'" in "\n".join(components.remarks())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["code.blocks=1"], "leave every layer uncoded"),
        (["code={family='uncoded',blocks=1,rotate=false,rows_per_task='auto'}"], "leave every layer uncoded"),
        (["code.share=0.5"], "code.share: 0.5 is another form of code.rows_per_task"),
        (["scheme.name=topk"], "code.rows_per_task: 'auto' has no effect"),
        (["code.rows_per_task=most"], "code.rows_per_task"),
    ],
)
def test_where_it_means_nothing_it_is_refused(settings: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        setup.prepare(configfile.resolve({}, ["code.rows_per_task=auto", "stop.updates=20", *settings]))
