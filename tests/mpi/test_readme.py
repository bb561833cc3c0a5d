"""What README shows in Python, run."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest
from paths import ROOT


def test_the_examples_of_the_readme(run: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = (ROOT / "jobs" / "digits.toml").read_text(encoding="utf-8")
    done = run("stop.seconds=2.0", job=job, options=("-o", str(tmp_path / "results" / "digits.h5")))
    assert done.returncode == 0, done.stderr
    monkeypatch.chdir(tmp_path)
    failed, tried = doctest.testfile(str(ROOT / "README.md"), module_relative=False, report=True)
    assert tried >= 10
    assert failed == 0
