"""Every experiment runs, but for what others import, and what has tests of its own."""

import runpy
import subprocess
import sys

import descents  # noqa: F401 (of tests/support, which is put back)
import pytest
from paths import ROOT

FOLDER = ROOT / "experiments"
OTHERS = "descents", "quasigroup", "validation", "validation_table", "ablation", "validate"
OWN_TESTS = ("schemes_map",)
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in OTHERS)
LOADED = """
import runpy, sys
for script in sys.argv[2:]:
    sys.path[0] = sys.argv[1]
    runpy.run_path(script)
"""


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name not in OWN_TESTS])
def test_it_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process: the imports of another would take longer than most of them."""
    script = str(FOLDER / f"{name}.py")
    monkeypatch.setattr(sys, "argv", [script, "--quick"])
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.delitem(sys.modules, "descents")
    runpy.run_path(script, run_name="__main__")


def test_scripts_find_their_modules_without_the_paths_of_tests() -> None:
    scripts = [str(FOLDER / f"{name}.py") for name in SCRIPTS]
    command = [sys.executable, "-c", LOADED, str(FOLDER), *scripts]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
