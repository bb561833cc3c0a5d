"""Real runs to measure: a configuration, started over MPI in processes of its own, and the trace that it
leaves."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ..config import load as configfile
from ..config.tables import Config
from ..mpi import launch
from ..trace.reader import Trace

LONGEST_S = 120.0  # a run that takes longer hangs


def configured(text: str, overrides: Sequence[str], trace: Path) -> tuple[Config, list[str]]:
    """Return the configuration that TOML text and overrides make, and the command line by which `pdcode` runs it.

    The text is written beside the trace.
    """
    path = trace.with_suffix(".toml")
    path.write_text(text, encoding="utf-8")
    overrides = [*overrides, f"trace.path={json.dumps(str(trace))}"]
    arguments = ["run", str(path)]
    for override in overrides:
        arguments += ["--set", override]
    return configfile.load(path, overrides)[0], arguments


def run_over_mpi(text: str, overrides: Sequence[str], trace: Path) -> tuple[Config, Trace]:
    """Run it over MPI on this machine, and wait for the end.

    Raises
    ------
    RuntimeError
        If the run fails, with what it printed.
    """
    config, arguments = configured(text, overrides, trace)
    command, environment = launch.command(config.workers.count, arguments)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LONGEST_S)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return config, Trace(trace)
