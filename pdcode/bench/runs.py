"""Real runs over MPI for benchmarks, in their own processes."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ..config import Config
from ..config import load as configfile
from ..config.write import to_value
from ..trace.reader import TraceReader
from ..util.progress import OFF

TIMEOUT_S = 120.0  # timeout of a run


def run_over_mpi(text: str, overrides: Sequence[str], trace: Path) -> tuple[Config, TraceReader]:
    """Run a configuration over MPI on this machine; return it with its trace.

    The text is written to a file beside the trace. A run that fails raises RuntimeError with its output.
    """
    path = trace.with_suffix(".toml")
    path.write_text(text, encoding="utf-8")
    overrides = [*overrides, f"trace.path={to_value(str(trace), 'trace.path')}"]
    config, _ = configfile.load(path, overrides)
    arguments = [word for override in overrides for word in ("--set", override)]
    command = [sys.executable, "-P", "-m", "pdcode", "run", str(path), *arguments]
    environment = os.environ | OFF
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return config, TraceReader(trace)
