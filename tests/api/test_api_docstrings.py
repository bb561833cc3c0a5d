"""The examples in docstrings are true."""

import ast
import doctest
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT

import pdcode

FOLDERS = "pdcode", "packings/pdcode_packings", "examples", "experiments", "benchmarks", "docs"
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


HERE = [pdcode.simulate, pdcode.Calibration, pdcode.calibrate, pdcode.codes.design]
OVER_MPI = [pdcode.run, pdcode.compare]  # tried by tests/mpi/test_api.py


def test_no_other_docstring_has_an_example() -> None:
    found = set()
    for path in (each for name in FOLDERS for each in (ROOT / name).rglob("*.py")):
        if ">>>" not in (text := path.read_text(encoding="utf-8")):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, DOCUMENTED) and ">>>" in (ast.get_docstring(node) or ""):
                found.add((path.relative_to(ROOT).with_suffix(""), getattr(node, "name", "")))
    tried = {(Path(*each.__module__.split(".")), each.__name__) for each in [*HERE, *OVER_MPI]}
    assert found == tried


@pytest.mark.parametrize("target", HERE)
def test_examples(target: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (example,) = doctest.DocTestFinder(recurse=False).find(target)
    assert example.examples
    assert doctest.DocTestRunner().run(example).failed == 0
