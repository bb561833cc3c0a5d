"""What is not imported: packages that take long to load, and MPI, which only ranks need."""

import subprocess
import sys

import pytest

CASES = {
    "help": (
        """
import pdcode, pdcode.__main__ as command
try:
    command.main(["run", "--help"])
except SystemExit:
    pass
""",
        {"mpi4py", "numpy", "h5py", "multiprocessing"},
    ),
    "codes": (
        "import pdcode.__main__ as command; assert command.main(['codes', 'list']) == 0",
        {"mpi4py.MPI", "matplotlib", "h5py"},
    ),
    "traces": ("import pdcode.trace.reader, pdcode.trace.writer", {"h5py", "pandas"}),
    "runs of plans and comparisons": ("import pdcode.studies.trial", {"scipy", "matplotlib", "pandas"}),
    "figures": ("from pdcode.analysis import plots", {"matplotlib"}),
    "delays of a CSV file": (
        """
from pathlib import Path
from tempfile import TemporaryDirectory
from pdcode.config import StragglersTable
from pdcode.stragglers import WorkerDelays
with TemporaryDirectory() as folder:
    path = Path(folder, "a.csv")
    path.write_text("1,2\\n3,4\\n")
    WorkerDelays(StragglersTable.of({"kind": "trace", "path": str(path)}).make(1, 2), 0).delay_ns(0, 0)
""",
        {"h5py"},
    ),
    "a worker's problem": (
        """
import numpy as np
from pdcode import problems
table = problems.as_table({"kind": "softmax", "data": "digits", "hidden": [4]})
random = np.random.default_rng(0)
x, y = random.standard_normal((8, 5)).astype(np.float32), (np.arange(8) % 2).astype(np.int32)
arrays = {"x": x, "y": y, "test_x": x[:0], "test_y": y[:0], "values": np.arange(2)}
problem = problems.Problem.from_dataset(table, problems.receive(table, arrays, 0, 2), 2)
problem.coded_derivative(problem.initial(0), None, [[[1.0, 0.5]]])
""",
        {"scipy", "sklearn", "h5py", "mpi4py", "mlxtend", "matplotlib"},
    ),
}


@pytest.mark.parametrize("what", CASES)
def test_what_takes_long_to_load_is_not_imported(what: str) -> None:
    code, heavy = CASES[what]
    code += f"\nimport sys\nprint({heavy} & {{*sys.modules}}, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200)
    assert (done.returncode, done.stderr) == (0, "set()\n")
