"""Descents by sums over a noisy channel."""

from pathlib import Path

import numpy as np
import pytest
from descents import Rows

from pdcode.__main__ import main
from pdcode.choice.preset import prepare_ranks
from pdcode.config import load as configfile
from pdcode.session.setup import prepare
from pdcode.util.errors import InputError
from pdcode.virtual.simulation import Simulation

JOB = [
    "scheme.name=uncoded", "update.mode=all", "problem.hidden=[16]", "problem.batch=8", "optimizer.rate=0.3",
    "workers.count=8", "stop.updates=10", "seed=1",
]  # fmt: skip
CHANNEL = ["reduce.kind=channel", "reduce.bits=4"]


def simulated(*overrides: str) -> tuple[Simulation, Rows, np.ndarray]:
    simulation, rows = Simulation(prepare(configfile.resolve({}, [*JOB, *overrides]))), Rows()
    descent, _ = simulation.run(rows)
    return simulation, rows, descent.coordinator.theta


@pytest.mark.parametrize("send", ["together", "separately"])
def test_without_noise_theta_is_that_of_exact_sums(send: str) -> None:
    common = "reduce.bits=8", "workers.count=3", "stop.updates=2"  # a trellis of 256 states takes long
    exact = simulated("reduce.kind=allreduce", *common)[2]
    found = simulated("reduce.kind=channel", "reduce.snr=100", f"reduce.send={send}", *common)[2]
    assert found.tobytes() == exact.tobytes()


def test_analog_sums_have_the_noise_of_the_channel() -> None:
    exact, quiet, loud = (
        simulated("stop.updates=1", *more)[2]
        for more in (
            ["reduce.kind=allreduce"],
            *(["reduce.kind=channel", "reduce.send=analog", f"reduce.snr={snr}"] for snr in (40, 20)),
        )
    )
    errors = [float(np.linalg.norm(each - exact)) for each in (quiet, loud)]
    assert errors[1] == pytest.approx(10 * errors[0], rel=0.01)


def test_a_law_of_sums_decodes_where_a_group_code_fails() -> None:
    common = [*CHANNEL, "reduce.snr=14", "reduce.uses=2"]
    shares = []
    for code in ("quasi-group", "group"):
        state = simulated(*common, f"reduce.code={code}")[0].components.state
        shares.append(state.errors / state.symbols)
    assert 2 * shares[0] < shares[1]


def test_separate_senders_take_as_many_times_the_uses() -> None:
    at_once, apart = (
        simulated(*CHANNEL, f"reduce.send={send}", "link.bandwidth=1e5", "link.latency_s=0", "reduce.snr=40")
        for send in ("together", "separately")
    )
    uses = at_once[0].components.exchanged[0]
    assert uses == -(-at_once[0].components.layout.payload_size // 64) * 65
    ends_ns = [run[1].updates[0]["t_ns"] - run[1].arrivals[0]["t_send_ns"] for run in (at_once, apart)]
    assert ends_ns[1] - ends_ns[0] == pytest.approx(2 * 7e4 * uses, rel=0.5)


def test_it_replays(tmp_path: Path) -> None:
    path = tmp_path / "t.virtual.h5"
    settings = [argument for each in (*JOB, *CHANNEL) for argument in ("--set", each)]
    (tmp_path / "job.toml").write_text("", encoding="utf-8")
    assert (
        main(["simulate", str(tmp_path / "job.toml"), *settings, "--set", f"trace.path={tmp_path / 't.h5'}"])
        == 0
    )
    assert main(["replay", str(path)]) == 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["reduce.send=analog"], "reduce.bits"),
        (["reduce.span=3", "reduce.bits=8"], "reduce.span"),
    ],
)
def test_what_does_not_go_together_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        configfile.resolve({}, [*JOB, *CHANNEL, *overrides])


def test_it_is_refused_over_mpi() -> None:
    config = configfile.resolve({}, [*JOB, *CHANNEL])
    with pytest.raises(InputError, match=r"reduce\.kind: 'channel' is on the virtual clock alone"):
        prepare_ranks(config, "job.toml")
