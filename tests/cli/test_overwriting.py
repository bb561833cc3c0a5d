"""No command overwrites a file that pdcode has not made, nor one of another kind."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import traces
from matplotlib.figure import Figure

from benchmarks.__main__ import main as run_benchmarks
from pdcode import codes
from pdcode.__main__ import main
from pdcode.analysis import code_plots
from pdcode.util.errors import InputError

DESIGN = ["codes", "design", "net", "-n", "8", "-k", "4", "-w", "2"]


def user_file(path: Path) -> bytes:
    """Write a file as a user may have; return its content."""
    if path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["x"] = np.arange(5)
    elif path.suffix in (".png", ".svg", ".pdf"):
        drawing = Figure()
        drawing.subplots().plot([1, 2])
        drawing.savefig(path)
    else:
        path.write_text("a letter")
    return path.read_bytes()


@pytest.mark.parametrize("name", ["my.h5", "letter.h5", "trace.h5", "code.png"])
def test_a_code_replaces_only_a_code(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / name
    if name == "trace.h5":
        traces.writer(path).close()
    elif name == "letter.h5":
        path.write_text("a letter")
    else:
        user_file(path)
    before = path.read_bytes()
    assert main([*DESIGN, "-o", str(path)]) == 2
    told = capsys.readouterr()
    assert told.err == f"pdcode: {path}: the existing file is not a code of pdcode; choose another name\n"
    assert told.out == ""
    with pytest.raises(InputError, match="the existing file is not"):
        codes.design("net", 8, 4, 2).save(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("run", "command"), [(main, ["compare", "jobs/digits.toml"]), (run_benchmarks, ["ddp"])]
)
def test_a_comparison_whose_traces_would_take_its_name_is_refused(
    run: Callable[[list[str]], int],
    command: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "compared"
    assert run([*command, "--schemes", "yours,allreduce", "-o", str(path)]) == 2
    assert capsys.readouterr().err == (
        f"pdcode: {path}: expected the name of an HDF5 file, such as {path}.h5\n"
    )
    assert not path.exists()


def test_a_code_replaces_a_code_and_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "net.h5"
    path.touch()
    assert main([*DESIGN, "-o", str(path)]) == 0
    assert main([*DESIGN[:-4], "-k", "8", "-w", "2", "-o", str(path)]) == 0
    assert codes.Code.load(path).blocks == 8
    assert [each.name for each in tmp_path.iterdir()] == ["net.h5"]


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_a_figure_replaces_only_a_figure_of_pdcode(tmp_path, suffix, capsys, monkeypatch):
    path, code = tmp_path / f"a{suffix}", tmp_path / "net.h5"
    before = user_file(path)
    assert main([*DESIGN, "-o", str(code), "--figure", str(path)]) == 2
    assert not code.exists()
    assert f"--figure {path}: the existing file is not a figure of pdcode" in capsys.readouterr().err
    assert path.read_bytes() == before
    path.unlink()
    monkeypatch.setattr(code_plots, "draw", lambda shown: Figure())  # what it shows does not matter
    for _ in range(2):
        assert main([*DESIGN, "--figure", str(path)]) == 0


def test_a_plan_replaces_only_a_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job, path = tmp_path / "job.toml", tmp_path / "plan.toml"
    job.write_text(
        'problem = {kind = "least-squares", data = "synthetic"}\nstop = {loss = 0.1, seconds = 1}\n'
    )
    before = user_file(path)
    assert main(["plan", str(job), "-o", str(path)]) == 2
    assert f"{path}: the existing file is not a plan of pdcode" in capsys.readouterr().err
    assert path.read_bytes() == before
