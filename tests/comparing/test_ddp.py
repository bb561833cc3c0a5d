"""`pdcode bench ddp` without PyTorch: what ranks draw, how they stop, what is measured and refused."""

from __future__ import annotations

import io
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from pdcode import problems, stragglers
from pdcode.__main__ import main
from pdcode.comparing import ddp, entrants, race, table
from pdcode.comparing.ddp_rank import Board, descend, sharded
from pdcode.comparing.file import Comparison
from pdcode.config import load as configfile
from pdcode.config.tables import Config
from pdcode.planning.goal import Goal
from pdcode.trace import Recorder
from pdcode.training.setup import prepare
from pdcode.util.errors import InputError
from pdcode.virtual.simulation import Simulation

JOB = """
[problem]
hidden = [16]
batch = 16
l2 = 1e-2
[code]
blocks = [8, 1]
weight = 2
rows_per_task = 2
[memory]
kind = "worker"
[optimizer]
rate = 0.5
[workers]
count = 5
[stragglers]
kind = "shifted-exponential"
shift_s = 0.002
mean_s = 0.004
slow = [3]
slowdown = 10.0
[stop]
loss = 1.0
updates = 4
"""


def made(wanted: str, *overrides: str) -> list[entrants.Entrant]:
    return entrants.entrants(configfile.parse(JOB), overrides, Path(), wanted, ddp.ALIASES)


def config(wanted: str = "ddp", *overrides: str) -> Config:
    return made(wanted, *overrides)[0].config


@pytest.mark.parametrize("shards", ["shuffled", "contiguous"])
@pytest.mark.parametrize("batch", [16, 0])
def test_ranks_draw_the_rows_and_mini_batches_of_workers(shards: str, batch: int) -> None:
    given = config("ddp", "stop={updates=20}", f"problem.shards={shards}", f"problem.batch={batch}")
    assert given.stop.updates == 4  # as many payloads as 20 asynchronous updates use
    components = prepare(given)
    Simulation(given, components).run(Recorder())
    theta = problems.create(given.problem).initial(given.seed)
    ranks = [sharded(given, rank)[1:] for rank in range(given.workers.count)]
    for update in range(4):
        mean = np.mean(
            [weight * rows.gradient(theta, drawn.draw(update)) for rows, drawn, weight in ranks], axis=0
        )
        theta -= np.float32(given.optimizer.rate) * mean
    np.testing.assert_allclose(components.state.theta, theta, rtol=0, atol=2e-6)


def test_entrants_of_ddp_have_the_common_optimizer_and_their_own() -> None:
    nesterov = "/optimizer.momentum=0.9/optimizer.nesterov=true"
    plain, momentum, power = made(f"ddp,ddp{nesterov},ddp:powersgd/scheme.options={{rank=2}}")
    assert (plain.config.scheme.name, plain.rate, plain.config.optimizer.momentum) == ("allreduce", 0.5, 0)
    assert (momentum.config.optimizer.momentum, momentum.config.optimizer.nesterov) == (0.9, True)
    assert power.config.scheme.options.rank == 2
    assert [ddp.compresses(each.name) for each in (plain, momentum, power)] == [False, False, True]


@pytest.mark.parametrize("seed", range(3))
def test_all_ranks_stop_after_the_same_update(seed: int, tmp_path: Path) -> None:
    workers, path = 4, str(tmp_path / "board")
    board = Board(path, workers, 3, np.dtype("f4"))
    board.head["end"] = -1
    together, counts = threading.Barrier(workers, timeout=20), [-1] * workers

    def work(rank: int) -> None:
        mine = Board(path, workers, 3, np.dtype("f4"))
        model = SimpleNamespace(save=lambda theta: theta.fill(1), optimizer=None)
        loss = SimpleNamespace(backward=together.wait)
        optimizer = SimpleNamespace(zero_grad=lambda: None, step=lambda: None)
        delays = stragglers.Delays(config().stragglers.make(seed, workers), rank)
        counts[rank] = descend(mine, rank, lambda update: loss, optimizer, delays, model)

    ranks = [threading.Thread(target=work, args=(rank,)) for rank in range(workers)]
    for rank in ranks:
        rank.start()
    time.sleep(0.05 * (1 + seed))
    board.head["stop"] = 1
    for rank in ranks:
        rank.join(20)
    assert counts[0] > 0
    assert len({*counts}) == 1
    assert board.head["full"] == 1  # the first copy, which nobody has measured
    assert board.head["version"] == 1
    np.testing.assert_array_equal(board.theta, 1)


def descent(losses: list[float]) -> ddp.Descent:
    points = np.array([(10 * i, 1e9 * i, loss, 0.5) for i, loss in enumerate(losses)])
    problem, last = problems.create(config().problem), len(losses) - 1
    compute_ns = np.full(5, 1_000_000)
    return ddp.Descent(
        problem, points, 10 * last, last, last + 0.5, compute_ns, problem.initial(1), failed=False
    )


def test_a_run_of_ddp_is_measured_and_shown_as_others_are() -> None:
    goal, pair = Goal("loss", 1.0), made("ddp,ddp:powersgd")
    limits = race.Limits(9.0, 0.1)
    run = ddp.DDPRace(pair, [7], goal, "mpi", limits, Path("made"), ddp.Ranks(5))
    cells = [run.cell(entrant, 7) for entrant in run.entrants]
    assert str(cells[1]) == (
        "pdcode bench ddp made/ddp-powersgd.toml --schemes ddp:powersgd --seeds 1 --tune 0 --set seed=7"
    )
    results = [ddp.measure(descent([2.5, 2.0, 0.5]), cell) for cell in cells]
    (plain, curves), (power, _) = results
    assert plain.seconds == pytest.approx(1.5)  # halfway in ln
    assert (plain.stop_s, plain.job_s, plain.updates, plain.samples) == (2, 2.5, 20, 20 * 5 * 16)
    assert plain.busy == pytest.approx(0.01)
    size = 16 * 65 + 10 * 17
    assert plain.bytes_up == plain.bytes_down == 20 * 2 * 4 * 4 * size
    assert curves["bytes"].tolist() == [0, plain.bytes_up, 2 * plain.bytes_up]
    assert power.bytes_up == 20 * 2 * 4 * 4 * (4 * (16 + 64) + 16 + 160 + 10)  # 16 × 10 is not shortened
    missed, _ = ddp.measure(descent([2.5, 2.0]), cells[0])
    assert missed.outcome(goal).reached is False
    text = io.StringIO()
    compared = Comparison(run.names, run.configs, [7], "mpi", goal, [[plain], [power]], [[curves], [curves]])
    table.show(compared, Console(file=text, width=200))
    assert "ddp:powersgd" in text.getvalue()


@pytest.mark.parametrize(
    ("wanted", "override", "message"),
    [
        ("ddp/link.bandwidth=1e6", "seed=1", "link.bandwidth: has no effect on DDP"),
        ("ddp", "optimizer.kind=adam", "optimizer.kind: 'adam': DDP is measured with 'sgd'"),
        ("ddp", "faults.nan_worker=1", "faults.nan_worker: 1: DDP has no injected faults"),
    ],
)
def test_refuses_what_ddp_would_not_do(wanted: str, override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ddp.check(made(wanted, override))


def test_says_how_to_get_torch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.chdir(tmp_path)
    assert main(["bench", "ddp"]) == 2
    assert capsys.readouterr().err == (
        "pdcode: bench ddp: needs torch; `make .venv/extra-torch` installs it\n"
    )


def test_only_the_bench_knows_ddp(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "job.toml"
    path.write_text(JOB)
    assert main(["compare", str(path), "--schemes", "ddp", "-o", str(tmp_path / "made.h5")]) == 2
    assert "scheme.name" in capsys.readouterr().err
