"""Every experiment runs, but for what others import, and what has tests of its own."""

import subprocess
import sys

import pytest
from paths import ROOT

OTHERS = "descents", "quasigroup", "validation", "validation_table", "ablation", "validate"
SCRIPTS = sorted(path.stem for path in (ROOT / "experiments").glob("*.py") if path.stem not in OTHERS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_it_runs(name: str) -> None:
    command = [sys.executable, str(ROOT / "experiments" / f"{name}.py"), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
