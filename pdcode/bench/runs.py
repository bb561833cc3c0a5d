"""Real runs over MPI for benchmarks, in their own processes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ..config import load as configfile
from ..config.tables import Config
from ..mpi import launch
from ..trace.reader import Trace

LONGEST_S = 120.0  # timeout of a run


def configured(text: str, overrides: Sequence[str], trace: Path) -> tuple[Config, list[str]]:
    """Return the configuration of TOML text and overrides, and the arguments of `pdcode` that run it.

    The text is written to a file beside the trace.
    """
    path = trace.with_suffix(".toml")
    path.write_text(text, encoding="utf-8")
    overrides = [*overrides, f"trace.path={json.dumps(str(trace))}"]
    arguments = ["run", str(path)]
    for override in overrides:
        arguments += ["--set", override]
    return configfile.load(path, overrides)[0], arguments


def run_over_mpi(text: str, overrides: Sequence[str], trace: Path) -> tuple[Config, Trace]:
    """Run a configuration over MPI on this machine, and return it with its trace.

    Raises
    ------
    RuntimeError
        If the run fails; the message has its output.
    """
    config, arguments = configured(text, overrides, trace)
    command, environment = launch.command(config.workers.count, arguments)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LONGEST_S)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return config, Trace(trace)
