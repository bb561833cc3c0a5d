"""What runs in one process needs no MPI: clusters' login nodes often have none."""

import subprocess
import sys
from pathlib import Path

from paths import JOBS

PROGRAM = """
import importlib, pkgutil, sys
from pdcode.__main__ import main
from pdcode import Trace, codes, decoders, problems
import pdcode.analysis as analysis, pdcode.cli as cli, pdcode.studies as studies, pdcode.replay as replay

(job,) = sys.argv[1:]
codes.design("net", workers=4, blocks=4, weight=2)
SETS = ["--set", "stop={updates=20}", "--set", "problem.hidden=[8]"]
for words in (
    ["simulate", job, *SETS, "-o", "t.h5"],
    ["show", "t.h5"],
    ["replay", "t.h5"],
    ["run", job, "--dry-run"],
    ["codes", "design", "net", "-n", "4", "-k", "4", "-o", "code.h5"],
    ["codes", "show", "code.h5"],
    ["codes", "list"],
):
    assert main(words) == 0, words
    assert not [name for name in sys.modules if name.startswith("mpi4py")], words
for package in (cli, studies, replay, analysis):
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
assert not [name for name in sys.modules if name.startswith("mpi4py")]
"""


def test_commands_of_one_process_import_no_mpi(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM, str(JOBS / "digits.toml")],
        cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
