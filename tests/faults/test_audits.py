"""Audits: rank 0 recomputes a share of the tasks, and names workers whose payloads are wrong."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from outcomes import assert_replays, refused

import pdcode
from pdcode import Trace
from pdcode.__main__ import main
from pdcode.config import load as configfile
from pdcode.kernels import decode
from pdcode.session import setup
from pdcode.transport.layout import buffer
from pdcode.transport.messages import Reply, Task

pytestmark = pytest.mark.usefixtures("read_at_once")

JOB: dict[str, Any] = {
    "problem": {"hidden": [16], "batch": 16},
    "optimizer": {"rate": 0.05},
    "workers": {"count": 6},
    "stragglers": {"kind": "shifted-exponential", "shift_s": 0.002, "mean_s": 0.003},
    "stop": {"updates": 60},
}
CODED = "code.blocks=[8,1]", "memory.kind=worker"
HONEST = {  # schemes, and memories, formats and downlinks of two of them
    **{name: [f"scheme.name={name}"] for name in (
        "bernoulli", "cyclic", "demo", "dsag", "expander", "frc", "local", "mindflayer", "randomk", "rennala",
        "ringmaster", "robust", "sag", "shadowheart", "signsgd", "topk", "uncoded", "unequal",
    )},
    "memory": [*CODED, "memory.lookahead=0.2"],
    "no-memory": ["code.blocks=[8,1]", "memory.kind=none"],
    "tracking": ["code.blocks=[8,1]", "memory.kind=coordinator"],
    "matched": [*CODED, "code.family=matched", "wire.dtype=int8"],
    "whitened": [*CODED, "code.whiten=norm", "code.centre=true", "wire.dtype=int2"],
    "relayed": [*CODED, "downlink.kind=codewords"],
    "exchanged": [*CODED, "downlink.kind=exchange"],
    "averaged": ["scheme.name=uncoded", "problem.batch=0", "optimizer.kind=adam", "optimizer.rate=0.001"],
}  # fmt: skip


def run(path: Path, *settings: str) -> Trace:
    return pdcode.simulate(JOB, output=path, set=settings, progress=False)


def found(trace: Trace) -> list[tuple[int, str]]:
    faults = trace.faults
    return [*zip(faults["worker"].tolist(), faults["kind"].tolist(), strict=True)]


def events(*each: str) -> str:
    return f"faults.events=[{', '.join(f'{{worker=4, task=0, {keys}}}' for keys in each)}]"


@pytest.mark.parametrize("case", HONEST)
def test_no_honest_worker_is_named(tmp_path: Path, case: str) -> None:
    trace = run(tmp_path / "a.h5", "faults.audit=1", *HONEST[case])
    counters = trace.counters
    assert counters["audited"] == counters["arrivals"] > 60
    assert counters["wrong"] == 0
    assert "wrong" not in trace.faults["kind"]


@pytest.mark.parametrize("case", ["memory", "relayed", "matched", "uncoded", "cyclic"])
def test_a_worker_whose_bits_flip_is_named_and_no_other(tmp_path: Path, case: str, capsys: Any) -> None:
    path = tmp_path / "a.h5"
    lies = "faults.audit=0.5", events("kind='corrupt', share=0.3")
    trace = run(path, *HONEST[case], "stop.updates=200", "update.clip=median", *lies)
    assert found(trace).count((4, "wrong")) == 1  # the first time only
    assert {worker for worker, kind in found(trace) if kind == "wrong"} == {4}
    assert 0.2 < trace.counters["wrong"] / (trace.arrivals["worker"] == 4).sum() / 0.5 < 0.4
    assert_replays(path, capsys)


def test_the_end_of_a_run_states_the_outcome_and_the_price(tmp_path: Path, capsys: Any) -> None:
    sets = [f"{table}.{key}={value}" for table in ("problem", "stop") for key, value in JOB[table].items()]
    words = ["simulate", "jobs/digits.toml", "-o", str(tmp_path / "a.h5"), "--set", "code.blocks=[8,1]"]
    words += [word for each in (*sets, "faults.audit=0.25") for word in ("--set", each)]
    assert main([*words, "--set", events("kind='lie'")]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("audited"))
    counters = Trace(tmp_path / "a.h5").counters
    audited, wrong = int(counters["audited"]), int(counters["wrong"])
    of_all, price, outcome = line.replace(";", ",").split(", ")
    assert of_all == f"audited {audited} of {int(counters['arrivals'])} tasks"
    assert price == f"at a price of {audited + wrong} tasks of rank 0"
    assert outcome == f"wrong: {wrong} of {wrong} of worker 4"


def test_a_tolerance_passes_rounding_errors_and_no_lies(tmp_path: Path) -> None:
    small = events("kind='lie', how='scale', value=1.0001")
    sets = "faults.audit=0.5", "scheme.name=uncoded"
    assert run(tmp_path / "a.h5", *sets, small).counters["wrong"] > 0
    assert run(tmp_path / "b.h5", *sets, small, "faults.audit_tolerance=1e-3").counters["wrong"] == 0
    large = events("kind='lie', how='scale', value=1.01")
    assert run(tmp_path / "c.h5", *sets, large, "faults.audit_tolerance=1e-3").counters["wrong"] > 0


def test_rank_0_does_not_blame_others_for_what_it_computes_otherwise_itself(tmp_path: Path) -> None:
    (tmp_path / "noisy.py").write_text(
        "import numpy as np\nnoise = np.random.default_rng()\n"
        "start, data = np.zeros(2), (np.ones((40, 2)), np.ones(40))\n"
        "def loss(theta, x, y):\n    errors = x @ theta - y\n"
        "    gradient = x.T @ errors / len(x) + 1e-3 * noise.standard_normal(2)\n"
        "    return 0.5 * np.mean(errors**2), gradient\n"
    )
    keys = {"function": "loss", "data": "data", "start": "start"}
    problem = {"kind": "function"} | {key: f"{tmp_path / 'noisy.py'}:{name}" for key, name in keys.items()}
    job = JOB | {"problem": problem, "faults": {"audit": 0.5}, "scheme": {"name": "uncoded"}}
    trace = pdcode.simulate(job, output=tmp_path / "a.h5", progress=False)
    assert found(trace) == [(-1, "wrong")]


def test_audited_tasks_leave_nothing_of_a_gradient_out() -> None:
    """What was sent and what is left are all gradients together, with audits and without."""
    totals = []
    for share in (0, 1):
        config = configfile.resolve(JOB, [*CODED, f"faults.audit={share}"])
        made = setup.prepare(config)
        layout, total = made.layout, np.zeros(made.problem.size)
        reply = Reply(layout, buffer(layout.buffer_bytes)[0])
        worker = setup.worker_builder(config, made)(0, [reply])
        message = Task([layout], buffer(layout.task_bytes)[0])
        for task in range(3):
            message.write(0, task, 0, made.state.order(0, task), 0)
            message.read()
            worker.perform(message)
            for unit, pair, payload in zip(layout.units, message.codewords, reply.payloads, strict=True):
                part = np.zeros(unit.length, payload.dtype)
                decode.adjoint_decode(part, *pair, payload, 1.0)
                total[unit.offset : unit.offset + unit.length] += part
        totals.append(total + worker.encoders[0].residual)
    np.testing.assert_allclose(totals[1], totals[0], atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["scheme.name=powersgd"], "scheme 'powersgd' has several messages an update"),
        (["scheme.name=sgc"], "scheme 'sgc' has tasks with more than θ"),
        (
            ["scheme.name=diloco"],
            "payloads of scheme 'diloco' with memory.kind 'none' depend on earlier tasks",
        ),
        ([CODED[0], "memory.kind=difference"], "memory.kind 'difference' depend on earlier tasks"),
        (["scheme.name=uncoded", "reduce.kind=allreduce", "update.mode=all"], "reduce.kind: 'allreduce'"),
        ([*CODED, "reduce.bits=8"], "reduce.bits: 8 does not go with faults.audit 0.01"),
        (["scheme.name=uncoded", "shuffle.kind=uncoded"], "shuffle.kind: 'uncoded'"),
        (["faults.audit=0", "faults.audit_tolerance=0.1"], "faults.audit_tolerance: 0.1 has no effect"),
        (["faults.audit=2"], "faults.audit"),
    ],
)
def test_tasks_that_rank_0_cannot_recompute_are_refused(settings: list[str], words: str) -> None:
    with refused(words):
        setup.prepare(configfile.resolve(JOB, ["faults.audit=0.01", *settings]))
