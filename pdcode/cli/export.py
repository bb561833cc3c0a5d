"""`pdcode export`: the weights of a trained model."""

import argparse
from pathlib import Path
from typing import Any

from ..util.errors import InputError, prefix_errors
from ..util.output import ensure_writable, print_line
from . import arguments


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "export",
        help="write the weights of a trained model",
        description="Write the weights that a run has trained to a safetensors file. Of kind 'torch' it is "
        "what the module's load_state_dict reads, with statistics and buffers computed from training rows; "
        "of other kinds the parameters by name. Exit codes: 0 done, 1 failure, 2 bad input.",
    )
    command.add_argument("trace", metavar="TRACE", help="HDF5 file of a run that has ended")
    command.add_argument("--state", metavar="FILE", required=True, help="safetensors file to write")
    arguments.add_plugin(command)
    command.set_defaults(function=export)


def export(options: argparse.Namespace) -> int:
    """Write the weights."""
    from ..api.traces import Trace
    from ..torch import weights
    from . import guard

    path = Path(options.state)
    if path.suffix != ".safetensors":
        raise InputError(f"--state {path}: expected a name that ends in .safetensors")
    arguments.import_plugins(options)
    guard.probe_in_subprocess(options.trace)
    ensure_writable(path, f"--state {path}")
    found = Trace(options.trace).weights()
    with prefix_errors(options.trace):
        weights.write(path, found)
    elements = sum(each.size for each in found.values())
    print_line(f"weights: {path}, {len(found)} arrays, {elements:,} elements")
    return 0
