"""The main job, small, over real MPI."""

import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from launches import Run, launcher, run_all
from outcomes import faults_of

from pdcode import Trace, problems
from pdcode.__main__ import main

MODES = ["async", "all", "first", "captured"]
DECODERS = ["adjoint", "least_squares", "tracking"]
CASES = {
    "default": [],
    "gradient descent": [
        "scheme.name=uncoded", "problem.batch=0", "problem.dtype=float64", "problem.l2=0.01",
        "update.mode=all", "stop.updates=25", "problem.kind=softmax",
    ],
    "two rows a task": ["code.rows_per_task=2"],
    **{
        mode: [f"update.mode={mode}", "stragglers.kind=shifted-exponential", "stragglers.mean_s=0.002"]
        for mode in MODES
    },
    **{
        decoder: ["memory.kind=none", f"decoder.kind={decoder}", "optimizer.rate=0.02", "update.mode=all"]
        for decoder in DECODERS
    },
}  # fmt: skip
ALONE = {  # with one worker
    "whole basis": [
        "code.rows_per_task=8", "decoder.kind=least_squares", "memory.kind=none", "problem.batch=0",
        "problem.dtype=float64", "update.mode=all", "stop.updates=10",
    ],
    "exchange": ["downlink.kind=exchange", "downlink.check=2"],
    "nan": ['faults.events=[{kind="nan", worker=0, task=5}]', "stop.updates=1000000"],
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((500, 12))
    with h5py.File(folder / "data.h5", "w") as file:
        file["x"], file["y"] = x, x @ rng.standard_normal((12, 1))
    read = [
        f'problem={{kind="least-squares", data="{folder / "data.h5"}", batch=0}}',
        'code={family="net", blocks=4, weight=4}', "optimizer.rate=0.3", "trace.progress_s=0.05",
        "stop={loss=1e-3, seconds=20}",
    ]  # fmt: skip
    return run_all(folder, 4, CASES | {"data in a file": read})


def kept_laws(trace: Trace) -> None:
    """What holds in every trace."""
    arrivals = trace.arrivals
    assert trace.finished
    assert (np.diff(arrivals["t_recv_ns"]) >= 0).all()
    for worker in np.unique(arrivals["worker"]):
        mine = arrivals["worker"] == worker
        assert (np.diff(arrivals["version"][mine]) > 0).all()
        assert (arrivals["task"][mine] == np.arange(mine.sum())).all()
    for earlier, later in [
        ("t_dispatch_ns", "t_start_ns"),
        ("t_start_ns", "t_compute_ns"),
        ("t_compute_ns", "t_send_ns"),
        ("t_send_ns", "t_recv_ns"),
        ("t_recv_ns", "t_decoded_ns"),
    ]:
        assert (arrivals[later] >= arrivals[earlier]).all(), (earlier, later)
    used = arrivals["status"] == 0
    assert (arrivals["staleness"] == arrivals["applied_version"] - arrivals["version"])[used].all()
    assert trace.updates["n_used"].sum() == used.sum()


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_runs_to_its_end(runs: dict[str, Run], mode: str) -> None:
    done = runs[mode]
    assert done.returncode == 0, done.stderr
    trace = Trace(done.path)
    kept_laws(trace)
    assert trace.updates["version"][-1] == 60
    assert set(trace.arrivals["worker"]) == {0, 1, 2, 3}
    assert trace.progress["loss"][-1] < trace.progress["loss"][0]
    assert re.search(r"update \d+ +epoch \S+ +loss +\S+ +accuracy +\S+ +\d+ arrivals/s", done.stdout)
    assert "stopped: 60 updates" in done.stdout


def test_payloads_are_small(runs: dict[str, Run]) -> None:
    done = runs["two rows a task"]
    assert done.returncode == 0, done.stderr
    attributes = Trace(done.path).attributes
    whole = 10 * 17 * 4  # the output layer
    coded = 16 * 65 * 4  # the hidden layer, 8 blocks of 2 rows or of 9 columns
    padding = 64 * 3 + 2 * 7 * 16 * 4  # sections, and the ragged last block of the input axis
    assert attributes["payload_bytes"] <= coded * 2 / 8 + whole + padding
    assert set(Trace(done.path).arrivals["bytes_up"]) == {
        attributes["payload_bytes"] + attributes["header_bytes"]
    }


def test_full_batches_of_all_workers_are_gradient_descent(runs: dict[str, Run]) -> None:
    """Shards of unequal size, uncoded, synchronous: the same θ as the descent on the whole data on one
    processor."""
    done = runs["gradient descent"]
    assert done.returncode == 0, done.stderr
    problem = problems.create(
        {"kind": "softmax", "data": "digits", "l2": 0.01, "dtype": "float64", "batch": 0}
    )
    trace = Trace(done.path)
    assert trace.attributes["rows"] == problem.rows
    products = 2 * 2 * problem.size * (problem.rows // 4)  # scores and gradient of a worker's rows
    assert products < trace.attributes["task_flops"] < 1.5 * products
    theta = problem.initial(3)
    for _ in range(25):
        theta -= 0.2 * problem.gradient(theta, np.arange(problem.rows))
    np.testing.assert_allclose(trace.theta, theta, rtol=1e-9, atol=1e-12)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    return run_all(tmp_path_factory.mktemp("alone"), 1, ALONE)


def test_least_squares_of_a_whole_basis_is_gradient_descent(alone: dict[str, Run]) -> None:
    """Every worker holds all rows' mean only if shards are alike; with one worker and all k codewords a task
    the decoding is exact."""
    done = alone["whole basis"]
    assert done.returncode == 0, done.stderr
    problem = problems.create(
        {"data": "digits", "hidden": [16], "dtype": "float64", "batch": 0}, blocks=[8, 1]
    )
    theta = problem.initial(3)
    for _ in range(10):
        theta -= 0.2 * problem.gradient(theta, np.arange(problem.rows))
    np.testing.assert_allclose(Trace(done.path).theta, theta, rtol=1e-9, atol=1e-12)


def test_one_worker_has_nobody_to_send_to(alone: dict[str, Run]) -> None:
    assert alone["exchange"].returncode == 0, alone["exchange"].stderr


def test_a_run_without_a_payload_fit_for_use_is_a_failure(alone: dict[str, Run]) -> None:
    done = alone["nan"]
    assert done.returncode == 1
    assert "stopped: diverged: every payload of update 5 was refused" in done.stdout
    trace = Trace(done.path)
    assert trace.finished
    assert faults_of(trace) == ["refused", "stop"]
    assert trace.progress["version"][-1] == 5


@pytest.mark.parametrize("decoder", DECODERS)
def test_decoders_without_memory(runs: dict[str, Run], decoder: str) -> None:
    done = runs[decoder]
    assert done.returncode == 0, done.stderr
    trace = Trace(done.path)
    kept_laws(trace)
    assert trace.progress["loss"][-1] < trace.progress["loss"][0]


@pytest.mark.system
def test_sixty_four_ranks(run: object, trace_path: Path) -> None:
    done = run("workers.count=63", "stop.updates=130", alone=True)
    assert done.returncode == 0, done.stderr
    trace = Trace(trace_path)
    kept_laws(trace)
    assert len(np.unique(trace.arrivals["worker"])) == 63


def test_under_a_launcher_its_ranks_count(run: object, trace_path: Path) -> None:
    mpirun, extra = launcher(3)
    done = run(launcher=tuple(mpirun), **extra)
    assert done.returncode == 0, done.stderr
    assert set(Trace(trace_path).arrivals["worker"]) == {0, 1}


def test_data_in_a_file_that_workers_read_themselves(runs: dict[str, Run]) -> None:
    done = runs["data in a file"]
    assert done.returncode == 0, done.stderr
    assert Trace(done.path).progress["loss"][-1] <= 1e-3


def test_show_and_its_figure(runs, tmp_path, capsys):
    figure = tmp_path / "figure.png"
    assert main(["show", str(runs["default"].path), "--figure", str(figure)]) == 0
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert "worker" in capsys.readouterr().out
