"""`pdcode.run` and `pdcode.plan`: what is refused before anything starts, and commands in child processes."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

import pdcode
from pdcode.api import command

pytestmark = pytest.mark.slow

CONFIG: dict[str, Any] = {
    "problem": {"kind": "softmax", "data": "digits", "batch": 16},
    "workers": {"count": 2},
    "stop": {"updates": 40, "seconds": 60.0},
}


def test_bad_input_that_only_the_command_finds(tmp_path: Path) -> None:
    bad = {**CONFIG, "problem": {"kind": "softmax", "data": str(tmp_path / "absent.npz")}}
    with pytest.raises(pdcode.InputError) as raised:
        pdcode.run(bad, output=tmp_path / "a.h5", progress=False)
    assert str(raised.value).startswith("problem.data: ")  # not the name of a temporary file
    path = tmp_path / "job.toml"
    path.write_text('[problem]\ndata = "absent.npz"\n[stop]\nupdates = 1\n', encoding="utf-8")
    with pytest.raises(pdcode.InputError) as raised:
        pdcode.run(path, output=tmp_path / "a.h5", progress=False)
    assert str(raised.value).startswith(f"{path}: problem.data: ")


def test_under_a_launcher_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "0")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "3")
    with pytest.raises(pdcode.InputError, match="start the script without a launcher"):
        pdcode.run(CONFIG)


def test_a_plan_is_a_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Only the overrides make it valid: there are 2 workers.
    config = {**CONFIG, "stop": {"loss": 1.9, "seconds": 5.0}, "update": {"mode": "first", "count": 3}}
    best = pdcode.plan(config, workers=4, candidates=2, seeds=1, processes=1, output=tmp_path / "best.toml")
    assert "plan: " in capsys.readouterr().out
    head, *rows = best.ranking
    assert {len(row) for row in rows} == {len(head)}  # also without an interval, as with one seed
    assert best._repr_html_().count("</td>") == len(head) * len(rows)
    assert best == tomllib.loads((tmp_path / "best.toml").read_text(encoding="utf-8"))
    trace = pdcode.simulate(best, output=tmp_path / "a.h5", progress=False)
    assert trace.summary()["target"] == "loss 1.9"
    with pytest.raises(pdcode.InputError, match="--candidates 1: expected 2"):
        pdcode.plan(config, workers=4, candidates=1, progress=False)


def test_what_a_command_says_beside_its_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(pdcode.InputError, match=r"^absent.h5: no such file$"):
        command.run_command(["show", "absent.h5"])
    command.run_command(["--version"])
    assert capsys.readouterr() == (f"pdcode {pdcode.__version__}\n", "")
