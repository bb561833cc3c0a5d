"""The batch scripts of jobs/ in a real SLURM."""

import os
import signal
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from paths import JOBS
from rig import Slurm, wait

from pdcode import Trace

CONFIG = """\
seed = 3
[problem]
kind = "softmax"
data = "digits"
[code]
blocks = 4
weight = 2
[workers]
count = {workers}
[stop]
updates = {updates}
seconds = 30.0
"""

pytestmark = pytest.mark.timeout(390)


def submit(slurm: Slurm, folder: Path, script: str, *words: str, ranks: int, **environ: str) -> str:
    """Submit a script of jobs/ from a folder, in which its output is OUTPUT; return the job's id."""
    options = "--parsable", f"--ntasks={ranks}", "--output=output", "--job-name=job"
    own = {"PDCODE_VENV": sys.prefix} | environ
    return slurm.command("sbatch", *options, str(JOBS / script), *words, cwd=folder, **own)


def printed(slurm: Slurm, folder: Path) -> str:
    """What jobs in a folder have printed, for messages."""
    files = sorted(each for each in folder.iterdir() if each.name.startswith(("output", "pdcode-")))
    return "\n".join(each.read_text(errors="replace") for each in files) + slurm.logs()


def ranks(job: str) -> dict[int, int]:
    """Process id of each rank of a job."""
    found = {}
    for process in Path("/proc").glob("[0-9]*/environ"):
        try:
            variables = dict(each.partition("=")[::2] for each in process.read_text().split("\0"))
        except OSError:
            continue
        rank = variables.get("OMPI_COMM_WORLD_RANK", variables.get("PMIX_RANK"))
        if variables.get("SLURM_JOB_ID") == job and rank is not None:
            found[int(rank)] = int(process.parent.name)
    return found


@pytest.mark.parametrize(("launcher", "tasks"), [("srun", 5), ("mpirun", 2)])
def test_a_job_trains_and_its_folder_says_how(slurm, tmp_path, launcher, tasks):
    config = CONFIG.format(workers=8, updates=1000)
    (tmp_path / "my job.toml").write_text(config)
    words = ("my job.toml", "--set", "optimizer.rate=0.05")
    own = {"PDCODE_LAUNCHER": launcher, "SBATCH_EXCLUSIVE": "exclusive"}
    job = submit(slurm, tmp_path, "train.sbatch", *words, ranks=tasks, **own)
    assert wait(lambda: "arrivals/s" in printed(slurm, tmp_path), 100), printed(slurm, tmp_path)
    cores = [os.sched_getaffinity(process) for _, process in sorted(ranks(job).items())]
    assert slurm.finished(job, within_s=200) == "COMPLETED", printed(slurm, tmp_path)

    assert len(cores) == tasks
    if tasks <= len(os.sched_getaffinity(0)):  # then rank 0 has one of its own
        assert len(cores[0]) == 1
        assert not cores[0] & set().union(*cores[1:])
    folder = tmp_path / "results" / f"pdcode-{job}"
    trace = Trace(folder / "my job.h5")
    assert trace.finished
    assert trace.config["optimizer"]["rate"] == 0.05
    assert set(np.unique(trace.arrivals["worker"])) == set(range(tasks - 1))
    assert (folder / "my job.toml").read_text() == config
    record = (folder / "my job.job").read_text()
    assert "optimizer.rate=0.05" in record.partition("\n")[0]
    assert f"JobId={job} " in record
    assert trace.attributes["git_commit"][:40] == (folder / "my job.revision").read_text()[:40]


def test_an_array_has_a_trace_for_each_row(slurm: Slurm, tmp_path: Path) -> None:
    """`pdcode submit` counts the rows and the ranks."""
    (tmp_path / "job.toml").write_text(CONFIG.format(workers=2, updates=20))
    rows = [(seed, mode) for mode in ("async", "all") for seed in (1, 2, 3)]
    table = ["seed,update.mode,stragglers.slow", *(f'{seed},{mode},"[0, 1]"' for seed, mode in rows)]
    (tmp_path / "table.csv").write_text("\n".join(table))
    delays = ("--set", "stragglers.kind=shifted-exponential", "--set", "stragglers.mean_s=0.001")
    words = ("submit", "job.toml", "--array", "table.csv", *delays)
    pdcode = (sys.executable, "-P", "-m", "pdcode")
    said = slurm.command(*pdcode, *words, "--", "--time=5", cwd=tmp_path, PDCODE_LAUNCHER="mpirun")
    job = said.rpartition(" ")[2]
    assert slurm.finished(job, within_s=200) == "COMPLETED", printed(slurm, tmp_path)

    traces = [Trace(tmp_path / "results" / f"pdcode-{job}" / f"job-{row}.h5") for row in range(1, 7)]
    assert [(trace.config["seed"], trace.config["update"]["mode"]) for trace in traces] == rows
    assert all(trace.finished and trace.config["workers"]["count"] == 2 for trace in traces)


def test_a_job_goes_on_when_a_worker_dies(slurm: Slurm, tmp_path: Path) -> None:
    idle = '[stragglers]\nkind = "slow-set"\nshift_s = 0.05\n'
    (tmp_path / "job.toml").write_text(CONFIG.format(workers=8, updates=10**6).replace("30.0", "4.0") + idle)
    job = submit(slurm, tmp_path, "faults.sbatch", "job.toml", ranks=4)
    assert wait(lambda: "arrivals/s" in printed(slurm, tmp_path), 100), printed(slurm, tmp_path)
    os.kill(ranks(job)[2], signal.SIGKILL)
    assert slurm.finished(job, within_s=200) == "COMPLETED", printed(slurm, tmp_path)
    trace = Trace(tmp_path / "results" / f"pdcode-{job}" / "job.h5")
    assert trace.finished
    assert trace.faults["worker"][trace.faults["kind"] == "dead"].tolist() == [1]


STAND_IN = """\
#!/bin/bash
# In place of `python -P -m pdcode run`: with a checkpoint it goes on to its end, else it waits for a signal.
[ "$4" = run ] || exit 0
[ ! -e checkpoint ] || { echo resumed; exit 0; }
trap 'touch checkpoint; exit 75' USR1 TERM
echo started
while :; do sleep 0.05; done
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> str:
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(STAND_IN)
    python.chmod(0o755)
    return str(tmp_path / "venv")


@pytest.mark.parametrize("preempted", [False, True])
def test_a_job_that_is_warned_goes_on_later(slurm, tmp_path, stand_in, preempted):
    """`scancel --batch` signals the script alone, as `--signal=B:` does before the time limit."""
    (tmp_path / "job.toml").touch()
    job = submit(slurm, tmp_path, "train.sbatch", "job.toml", ranks=2, PDCODE_VENV=stand_in)
    output = tmp_path / "output"
    assert wait(lambda: output.exists() and "started" in output.read_text(), 100), printed(slurm, tmp_path)
    if preempted:
        slurm.command("sbatch", "--partition=urgent", "--exclusive", "--wrap=true", cwd=tmp_path)
    else:
        slurm.command("scancel", "--signal=USR1", "--batch", job)
    assert wait(lambda: "resumed" in output.read_text(), 100), printed(slurm, tmp_path)
    assert slurm.finished(job, within_s=200) == "COMPLETED", printed(slurm, tmp_path)
    said = [line for line in output.read_text().splitlines() if not line.startswith("slurmstepd")]
    ours = [] if preempted else [f"job {job}: back into the queue"]
    assert said == ["started", *ours, "resumed"]


def test_a_preempted_run_goes_on_in_the_same_trace(slurm: Slurm, tmp_path: Path) -> None:
    slow = '[stragglers]\nkind = "shifted-exponential"\nshift_s = 0.01\nmean_s = 0.001\n'
    config = CONFIG.format(workers=2, updates=400) + slow + "[trace]\ncheckpoint_s = 0.5\n"
    (tmp_path / "job.toml").write_text(config)
    job = submit(slurm, tmp_path, "train.sbatch", "job.toml", ranks=3)
    began = wait(lambda: " update " in printed(slurm, tmp_path).replace(" update 0 ", ""), 100)
    assert began, printed(slurm, tmp_path)
    slurm.command("sbatch", "--partition=urgent", "--exclusive", "--wrap=true", cwd=tmp_path)
    assert slurm.finished(job, within_s=200) == "COMPLETED", printed(slurm, tmp_path)

    trace = Trace(tmp_path / "results" / f"pdcode-{job}" / "job.h5")
    assert trace.finished
    assert trace.updates["version"].tolist() == list(range(1, 401))
    assert (np.diff(trace.updates["t_ns"]) >= 0).all()
    with h5py.File(trace.path) as file:
        assert {len(column) for column in file["segments"].values()} == {2}


def test_a_job_that_is_cancelled_is_not_requeued(slurm: Slurm, tmp_path: Path, stand_in: str) -> None:
    (tmp_path / "job.toml").touch()
    job = submit(slurm, tmp_path, "train.sbatch", "job.toml", ranks=2, PDCODE_VENV=stand_in)
    output = tmp_path / "output"
    assert wait(lambda: output.exists() and "started" in output.read_text(), 100), printed(slurm, tmp_path)
    slurm.command("scancel", job)
    assert slurm.finished(job, within_s=200) == "CANCELLED", printed(slurm, tmp_path)
    assert "back into the queue" not in output.read_text()
