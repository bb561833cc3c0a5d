"""The benchmark of DDP without PyTorch: what ranks draw, how they stop, what is measured and refused."""

import re
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import ddp
from benchmarks.__main__ import main as run_benchmarks
from benchmarks.ddp_rank import DDPJob, RankResult, SharedBoard, load_shard, train
from pdcode import problems, stragglers
from pdcode.__main__ import main
from pdcode.config import Config
from pdcode.config import load as configfile
from pdcode.schemes import delay_model
from pdcode.studies.candidate import Candidate
from pdcode.studies.comparison import Comparison
from pdcode.studies.goal import Goal
from pdcode.studies.limits import Limits
from pdcode.studies.named_candidates import named_candidates
from pdcode.util.errors import Failure, InputError

JOB = """
problem = {hidden = [16], batch = 16, l2 = 1e-2}
code = {blocks = [8, 1], weight = 2, rows_per_task = 2}
memory = {kind = "worker"}
optimizer = {rate = 0.5}
workers = {count = 5}
stragglers = {kind = "shifted-exponential", shift_s = 0.002, mean_s = 0.004, slow = [3], slowdown = 10.0}
[stop]
loss = 1.0
updates = 4
"""


def made(wanted: str, *overrides: str) -> list[Candidate]:
    return named_candidates(configfile.parse(JOB), overrides, Path(), wanted, ddp.ALIASES)


def config(wanted: str = "ddp", *overrides: str) -> Config:
    return made(wanted, *overrides)[0].config


class Threads:
    """Ranks in threads of this process, which add gradients, wrong by a share `off`, up in numpy."""

    def __init__(self, folder: Path, off: float = 0.0) -> None:
        self._folder, self._factor = folder, 1 + off

    def job(self, config: Config, hook: str) -> DDPJob:
        return DDPJob(config, str(self._folder / f"{time.time_ns()}"), "", hook)

    def start(self, job: DDPJob) -> list[Future[RankResult]]:
        workers = job.config.workers.count
        self._together = threading.Barrier(workers, timeout=200)
        self._gradients = [np.empty(0)] * workers
        executor = ThreadPoolExecutor(workers)
        return [executor.submit(self._work, job, rank) for rank in range(workers)]

    def _work(self, job: DDPJob, rank: int) -> RankResult:
        scheme, problem, batches, weight = load_shard(job.config, rank)
        board, theta = job.board(problem), problem.initial(job.config.seed)

        def forward(update: int) -> SimpleNamespace:
            gradient = problem.gradient(theta, batches.draw(update))
            self._gradients[rank] = self._factor * weight * gradient
            return SimpleNamespace(backward=self._together.wait)

        def step() -> None:
            theta[:] -= job.config.optimizer.rate * np.mean(self._gradients, axis=0)
            self._together.wait()

        optimizer = SimpleNamespace(zero_grad=lambda: None, step=step)
        model = SimpleNamespace(save=lambda copy: np.copyto(copy, theta))
        self._together.wait()
        delays = stragglers.WorkerDelays(delay_model(scheme.config), rank)
        update = train(board, rank, forward, optimizer, delays, model)
        return RankResult(rank, update, time.perf_counter_ns() - int(board.head["start_ns"]), theta)


@pytest.mark.parametrize("shards", ["shuffled", "contiguous"])
@pytest.mark.parametrize("batch", [16, 0])
def test_ranks_draw_the_rows_and_mini_batches_of_workers(shards: str, batch: int, tmp_path: Path) -> None:
    """As is checked before each bench: after the same updates θ is pdcode's."""
    given = made("ddp", "stop={updates=20}", f"problem.shards={shards}", f"problem.batch={batch}")
    (found,) = ddp.self_check(given, Threads(tmp_path))
    assert re.fullmatch(r"After 5 updates θ of ddp equals θ of allreduce to \de-0[78]\.", found)
    with pytest.raises(Failure, match=r"ddp: θ after 5 updates is off by 0\.0"):
        list(ddp.self_check(given, Threads(tmp_path, off=0.01)))


def test_a_run_ends_at_the_target(tmp_path: Path) -> None:
    given = config("ddp", "stop={loss=1.5, seconds=60.0}", "trace.progress_s=0.01", "problem.data=digits")
    run = ddp.train(given, Threads(tmp_path))
    assert run.points[-1, 2] <= 1.5 < run.points[:-1, 2].min()
    assert (run.points[-1, 0], 1e-9 * run.points[-1, 1]) == (run.updates, run.stop_s)
    assert run.stop_s <= run.job_s < run.stop_s + 1
    assert not run.failed


def test_a_dead_worker_holds_all_up_until_the_limit_of_time(tmp_path: Path) -> None:
    given = config("ddp", "stop={loss=0.01, seconds=0.2}", "stragglers.dead=[2]")
    run = ddp.train(given, Threads(tmp_path))
    assert (run.stop_s, run.job_s, len(run.points)) == (0.2, 0.2, 1)


def test_candidates_of_ddp_have_the_common_optimizer_and_their_own() -> None:
    nesterov = "/optimizer.momentum=0.9/optimizer.nesterov=true"
    power_of_2 = "ddp:powersgd/scheme.options={rank=2}"
    plain, momentum, power, coded = made(f"ddp,ddp{nesterov},{power_of_2},ddp:coded/optimizer.rate=0.2")
    assert (plain.config.scheme.name, plain.rate, plain.config.optimizer.momentum) == ("allreduce", 0.5, 0)
    assert (momentum.config.optimizer.momentum, momentum.config.optimizer.nesterov) == (0.9, True)
    assert power.config.scheme.options.rank == 2
    assert (coded.config.scheme.name, coded.rate) == ("allreduce", 0.2)
    hooks = [ddp.hook_of(each.name) for each in (plain, momentum, power, coded)]
    assert hooks == ["", "", "powersgd", "coded"]


@pytest.mark.parametrize("seed", range(3))
def test_all_ranks_stop_after_the_same_update(seed: int, tmp_path: Path) -> None:
    workers, path = 4, str(tmp_path / "board")
    board = SharedBoard(path, workers, 3, np.dtype("f4"))
    board.head["end"] = -1
    together, counts = threading.Barrier(workers, timeout=200), [-1] * workers

    def work(rank: int) -> None:
        mine = SharedBoard(path, workers, 3, np.dtype("f4"))
        model = SimpleNamespace(save=lambda theta: theta.fill(1), optimizer=None)
        loss = SimpleNamespace(backward=together.wait)
        optimizer = SimpleNamespace(zero_grad=lambda: None, step=lambda: None)
        delays = stragglers.WorkerDelays(config().stragglers.make(seed, workers), rank)
        counts[rank] = train(mine, rank, lambda update: loss, optimizer, delays, model)

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


def descent(losses: list[float], gathered: float = 0.0) -> ddp.DDPRun:
    points = np.array([(10 * i, 1e9 * i, loss, 0.5) for i, loss in enumerate(losses)])
    problem, last = problems.create(config().problem), len(losses) - 1
    compute_ns = np.full(5, 1_000_000)
    return ddp.DDPRun(
        problem, points, 10 * last, last, last + 0.5, compute_ns, problem.initial(1), False, gathered
    )


def test_a_run_of_ddp_is_measured_and_shown_as_others_are() -> None:
    goal, names = Goal("loss", 1.0), made("ddp,ddp:powersgd,ddp:coded")
    limits, ranks = Limits(9.0, 0.1), ddp.DDPRanks(5)
    runs = ddp.DDPTournament(names, [7], goal, "mpi", limits, Path("made"), ranks=ranks)
    trials = [runs.trial(candidate, 7) for candidate in runs.candidates]
    assert str(trials[1]) == (
        "python -m benchmarks ddp made/ddp-powersgd.toml --schemes ddp:powersgd --seeds 1 --tune 0 "
        "--set seed=7"
    )
    plain, power, coded = (
        ddp.measure(descent([2.5, 2.0, 0.5], 100.0 * (number == 2)), trial)
        for number, trial in enumerate(trials)
    )
    assert plain.seconds == pytest.approx(1.5)  # halfway in ln
    assert (plain.stop_s, plain.job_s, plain.updates, plain.samples) == (2, 2.5, 20, 20 * 5 * 16)
    assert plain.busy == pytest.approx(0.01)
    size = 16 * 65 + 10 * 17
    assert plain.bytes_up == plain.bytes_down == 20 * 2 * 4 * 4 * size
    assert plain.curves["bytes"].tolist() == [0, plain.bytes_up, 2 * plain.bytes_up]
    assert power.bytes_up == 20 * 2 * 4 * 4 * (4 * (16 + 64) + 16 + 160 + 10)  # 16 × 10 is not shortened
    assert coded.bytes_up == coded.bytes_down == 20 * 5 * 4 * 100  # 5 ranks to 4 others
    assert not ddp.measure(descent([2.5, 2.0]), trials[0]).reached
    compared = Comparison(runs.names, [""] * 3, [7], "mpi", goal, [[plain], [power], [coded]])
    assert "ddp:powersgd" in compared._repr_html_()


@pytest.mark.parametrize(
    ("wanted", "override", "message"),
    [
        ("ddp/link.bandwidth=1e6", "seed=1", "link.bandwidth: has no effect on DDP"),
        ("ddp", "optimizer.average=true", "optimizer.average: True has no effect on DDP"),
        ("ddp", 'optimizer.proximal={kind="l1", weight=0.1}', "optimizer.proximal: DDP has no proximal"),
        ("ddp", 'faults.events=[{kind="nan", worker=1, task=0}]', "DDP has no injected faults"),
    ],
)
def test_refuses_what_ddp_would_not_do(wanted: str, override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ddp.check(made(wanted, override))


def test_a_misspelt_hook_is_suggested() -> None:
    with pytest.raises(InputError, match=r"got 'ddp:codec'\); did you mean 'ddp:coded'"):
        made("ddp:codec")


def test_says_how_to_get_torch(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.chdir(tmp_path)
    assert run_benchmarks(["ddp"]) == 2
    assert capsys.readouterr().err == (
        "pdcode: benchmarks ddp: needs torch; `make .venv/extra-torch` installs it\n"
    )


def test_only_the_bench_knows_ddp(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "job.toml"
    path.write_text(JOB)
    assert main(["compare", str(path), "--schemes", "ddp", "-o", str(tmp_path / "made.h5")]) == 2
    assert "scheme.name" in capsys.readouterr().err
