"""Every experiment runs, but for what others import, and what has tests of its own."""

import runpy
import sys

import descents  # noqa: F401 (that of tests/support, which is put back)
import pytest
from paths import ROOT

FOLDER = ROOT / "experiments"
OTHERS = "descents", "quasigroup", "validation", "validation_table", "ablation", "validate", "schemes_map"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in OTHERS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_it_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process: the imports of another would take longer than most of them."""
    script = str(FOLDER / f"{name}.py")
    monkeypatch.setattr(sys, "argv", [script, "--quick"])
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.delitem(sys.modules, "descents")
    runpy.run_path(script, run_name="__main__")
