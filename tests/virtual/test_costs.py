"""The cost model: flops of a task, and [machine] and [link] from traces of runs whose costs are known."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdcode.coding.flops import task_flops
from pdcode.config import Config, LinkTable, MachineTable
from pdcode.config.load import resolve
from pdcode.fitted import ELEMENTWISE
from pdcode.kernels import blas, passes
from pdcode.problems.counts import POINTWISE
from pdcode.session import setup
from pdcode.transport.layout import buffer
from pdcode.transport.messages import Reply, Task
from pdcode.transport.wires import wire_format
from pdcode.util.errors import InputError
from pdcode.util.touches import flops_per_touch
from pdcode.virtual import costs

SMALL: dict[str, Any] = {
    "problem": {"data": "digits", "hidden": [12], "batch": 8},
    "code": {"blocks": [4, 1], "weight": 2, "rows_per_task": 2},
    "stop": {"updates": 1},
    "memory": {"kind": "none"},
    "workers": {"count": 2},
}
SPARSE = {
    "kind": "logistic", "data": "synthetic", "density": 0.25, "features": 40, "samples": 60, "batch": 8,
    "hidden": None,  # as SMALL's has no effect
}  # fmt: skip
TOUCH = flops_per_touch(1)  # of small arrays
MACHINE = MachineTable(flops_per_s=2e8, task_s=3e-4, arrival_s=6e-5, dispatch_s=2e-5, update_s=9e-5)
LINK = LinkTable(latency_s=4e-4, bandwidth=1e9, broadcast="star")


def made(**tables: Any) -> tuple[Config, setup.Components]:
    """A configuration, tables over those of SMALL, and rank 0's parts."""
    config = resolve({name: {**SMALL.get(name, {}), **tables.get(name, {})} for name in {*SMALL, *tables}})
    return config, setup.prepare(config)


def flops(**tables: Any) -> int:
    _, made_of = made(**tables)
    return made_of.flops()


def test_flops_of_a_coded_derivative_are_those_of_the_formula() -> None:
    forward = 2 * 8 * (65 * 12 + 13 * 10) + POINTWISE * 8 * (12 + 10)
    backward = 2 * 8 * 12 * 10
    encode, product = 2 * 8 * 2 * 2 * 3, 2 * 8 * (2 * 3) * 65  # r = 2, w = 2, b = 3 of 12 units, m = 65
    whole = 2 * 8 * 13 * 10
    sent = 2 * 3 * 65 + 13 * 10
    assert flops() == forward + backward + encode + product + whole + TOUCH * sent
    rounding = TOUCH + ELEMENTWISE * wire_format("int8").flops
    assert flops(wire={"dtype": "int8"}) - flops() == rounding * sent


def test_flops_of_a_memory_are_those_of_the_whole_gradient_and_of_taking_codewords_out() -> None:
    forward = 2 * 8 * (65 * 12 + 13 * 10) + POINTWISE * 8 * (12 + 10)
    backward, gradient = 2 * 8 * 12 * 10, 2 * 8 * (12 * 65 + 13 * 10)
    size, sent = 12 * 65 + 13 * 10, 2 * 3 * 65 + 13 * 10
    blocks = 2 * 2 * 3 * 65 + 13 * 10
    touches = TOUCH * (3 * size + blocks + 2 * sent)  # checked and added; taken out, written and checked
    assert flops(memory={"kind": "worker"}) == forward + backward + gradient + touches
    assert flops(memory={"kind": "difference"}) - flops(memory={"kind": "worker"}) == TOUCH * 4 * size


@pytest.mark.parametrize(
    ("tables", "touches"),
    [
        ({"memory": {"kind": "worker"}}, 3),
        ({"memory": {"kind": "difference"}}, 3),
        ({"memory": {"kind": "worker"}, "optimizer": {"kind": "sign"}}, 6),
        ({"memory": {"kind": "difference"}, "optimizer": {"kind": "muon"}}, 6),
        ({"memory": {"kind": "worker"}, "scheme": {"name": "powersgd"}}, 3),
        ({"memory": {"kind": "worker"}, "scheme": {"name": "dion"}}, 6),
    ],
)
def test_flops_of_look_ahead_are_a_pass_and_more_where_steps_have_a_length(tables, touches):
    ahead = {**tables, "memory": {**tables["memory"], "lookahead": 0.2}}
    if "scheme" in tables:  # without a code
        tables, ahead = (
            each | {"code": {"blocks": 1, "weight": None, "rows_per_task": None}} for each in (tables, ahead)
        )
    assert flops(**ahead) - flops(**tables) == TOUCH * touches * (12 * 65 + 13 * 10)


@pytest.mark.parametrize("memory", ["none", "worker"])
@pytest.mark.parametrize("hidden", [[48], [64, 32]])
def test_flops_are_those_of_the_products_that_a_worker_makes(memory, hidden, monkeypatch):
    """Counted where they are called: beside products of matrices there is little else."""
    blocks = [16] * len(hidden) + [1]
    config, made_of = made(
        problem={"hidden": hidden, "batch": 128},
        memory={"kind": memory},
        code={"blocks": blocks, "weight": 4},
    )
    counted, matmul = [0], np.matmul

    def count(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> np.ndarray:
        counted[0] += 2 * a.shape[-2] * a.shape[-1] * b.shape[-1]
        return matmul(a, b, out)

    monkeypatch.setattr(blas, "Product", lambda *matrices: passes.Call(count, *matrices))
    layout = made_of.layout
    worker = setup.worker_builder(config, made_of)(0, [Reply(layout, buffer(layout.reply_bytes)[0])])
    order = Task([layout], buffer(layout.task_bytes)[0])
    order.write(0, 0, 0, made_of.state.order(0, 0), 0)
    order.read()
    worker.perform(order)
    total = made_of.flops()
    assert 0 < counted[0] <= total <= 1.1 * counted[0]


def test_flops_of_sparse_inputs_go_by_their_entries() -> None:
    common: dict[str, Any] = {"code": {"blocks": 1, "weight": None, "rows_per_task": None}, "problem": SPARSE}
    _, made_of = made(**common)
    x = made_of.problem.dataset.x
    entries = np.count_nonzero(x.toarray()) / len(x)
    assert 8 < entries < 14  # a quarter of 40, and the bias
    expected = 8 * (2 * entries + POINTWISE) + 2 * 8 * entries + TOUCH * 41
    assert made_of.flops() == round(expected)
    assert flops(**common | {"problem": SPARSE | {"density": 1.0}}) > 2 * expected


def test_flops_grow_with_codewords_and_with_the_shard_where_batches_are_all_of_it() -> None:
    by_rows = [flops(code={"rows_per_task": r}) for r in (1, 2, 4)]
    assert by_rows == sorted(set(by_rows))
    config, made_of = made(problem={"batch": 0})
    by_shard = [task_flops(config, made_of.problem, made_of.layout, shard) for shard in (100, 200)]
    assert 1.9 < by_shard[1] / by_shard[0] < 2
    half = task_flops(config, made_of.problem, made_of.layout, made_of.problem.rows // 2)
    assert made_of.flops() == half  # two workers


def test_replicas_of_theta_cost_flops() -> None:
    relayed = {"downlink": {"kind": "codewords"}}
    assert flops(**relayed, update={"mode": "all"}) > flops(update={"mode": "all"})
    alone = flops(**relayed, update={"mode": "async"})  # a payload is its step, in one pass
    assert flops(update={"mode": "async"}) < alone < flops(**relayed, update={"mode": "all"})


def test_rank_0_is_charged_by_elements_and_not_by_bytes() -> None:
    """A payload in two bits has as many elements; θ is copied into tasks unless workers have a replica."""
    exchanged = {"downlink": {"kind": "exchange"}, "memory": {"kind": "worker"}, "update": {"mode": "async"}}
    _, exact = made(**exchanged)
    config, rounded = made(**exchanged, wire={"dtype": "int2"})
    assert rounded.layout.payload_bytes < exact.layout.payload_bytes / 8
    assert rounded.arrival_flops > exact.arrival_flops > 0
    replica = flops(**exchanged) - flops(**exchanged | {"downlink": {"kind": "full"}})
    assert replica == config.workers.count * exact.arrival_flops  # one price
    _, whole = made()
    assert whole.dispatch_flops == TOUCH * 2 * whole.problem.size
    assert rounded.dispatch_flops < whole.dispatch_flops / 10
    charged, machine = costs.charged(config, rounded).machine, config.machine
    assert charged.arrival_s - machine.arrival_s == pytest.approx(rounded.arrival_flops / machine.flops_per_s)
    several = config.with_keys(machine={"coordinators": 4})
    fourth = costs.charged(several, rounded).machine.arrival_s - machine.arrival_s
    assert fourth == pytest.approx((charged.arrival_s - machine.arrival_s) / 4)


@given(st.floats(1, 1e12), st.floats(1, 1e3))
def test_a_touch_takes_longer_in_larger_arrays_up_to_a_bound(size: float, more: float) -> None:
    assert TOUCH <= flops_per_touch(size) <= flops_per_touch(size * more) <= 3 * TOUCH


def test_a_net_relayed_in_whole_matrices_costs_a_replica_a_fifth_more_than_blocks_in_turn() -> None:
    relayed = {"downlink": {"kind": "codewords"}, "update": {"mode": "async"}, "wire": {"dtype": "int2"}}

    def replica(**code: Any) -> int:
        tables = {"code": {"blocks": 8, "rows_per_task": 4, "rotate": True, **code}}
        return flops(**tables, **relayed) - flops(**tables, **relayed | {"downlink": {"kind": "full"}})

    net, turn, drawn = (
        replica(**code)
        for code in (
            {"family": "net", "weight": 4},
            {"family": "uncoded", "weight": None},
            {"family": "random", "weight": 4},
        )
    )
    assert turn < net < drawn
    assert net - turn < (drawn - turn) / 10


def test_time_of_a_task_is_its_fixed_part_and_its_flops_at_the_rate() -> None:
    config, made_of = made(machine={"task_s": 1e-3, "flops_per_s": 1e6})
    expected = 1e6 + 1e3 * made_of.flops()
    assert costs.times_ns(config.machine, made_of.flops()) == round(expected)


def test_tasks_take_no_longer_than_any_clock_holds() -> None:
    config, made_of = made(machine={"flops_per_s": 1.0})
    for task_s, rate, expected in ((1e9, 1.0, 10**18), (0.0, 1e300, 1)):  # … but some, so that time goes on
        slow = config.with_keys(machine={"task_s": task_s, "flops_per_s": rate})
        assert costs.times_ns(slow.machine, made_of.flops()) == expected
    with pytest.raises(InputError, match=r"machine\.task_s"):
        resolve({**SMALL, "machine": {"task_s": 1e9}})
    with pytest.raises(InputError, match=r"machine\.flops_per_s: .*1e-300"):
        resolve({**SMALL, "machine": {"flops_per_s": 1e-300}})


def test_keys_of_a_file_replace_those_of_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "costs.toml"
    path.write_text("[link]\nlatency_s = 1e-3\nhalf_duplex = true\n")
    config = resolve({"link": {"bandwidth": 1e6, "latency_s": 2.0}, "machine": {"task_s": 1.0}})
    loaded = costs.load(str(path), config)
    assert loaded.link == LinkTable(bandwidth=1e6, latency_s=1e-3, half_duplex=True)
    assert loaded.machine == config.machine


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[link]\nspeed = 1\n", "link.speed: unknown key"),
        ("[machine]\ntask_s = -1\n", "machine.task_s"),
        ("[problem]\nbatch = 8\n", "problem: a file of costs"),
        ("= 1", "not TOML"),
    ],
)
def test_a_bad_file_of_costs_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "costs.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        costs.load(str(path), Config())
    assert str(path) in str(caught.value)
