"""`pdcode export`: a run in the formats of other tools, and the weights of a trained model."""

import argparse
from pathlib import Path
from typing import Any

from ..config import kinds
from ..util.errors import InputError, prefix_errors
from ..util.output import ensure_writable, print_line
from . import arguments


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "export",
        help="write a run for Perfetto, Vampir, Parquet, TensorBoard and others, or its weights",
        example="results/digits.h5 -o digits.pftrace",
        describe=lambda: (
            "Write a run, finished or not, in the format of another tool, or the weights that it has "
            f"trained. Formats: {arguments.described('exporters')}. "
            "Exit codes: 0 done, 1 failure, 2 bad input."
        ),
    )
    option = command.add_argument
    option("trace", metavar="TRACE", help="HDF5 file of a run")
    wanted = command.add_mutually_exclusive_group(required=True)
    what = "file or folder to write in the format of another tool; only an earlier .prom is replaced"
    wanted.add_argument("-o", "--output", metavar="FILE", help=what)
    what = (
        "safetensors file to write: weights of a run that has ended, of kind 'torch' as the module's "
        "load_state_dict reads them, with statistics and buffers computed from training rows; of other kinds "
        "the parameters by name"
    )
    wanted.add_argument("--state", metavar="FILE", help=what)
    what = "format (default: by the suffix)"
    option("--to", metavar="FORMAT", choices=kinds.Names("exporters"), help=what)
    option("--table", metavar="NAME", help="table of parquet and csv (default: arrivals)")
    what = (
        "events at most, of perfetto, otf2, pipit and goal (default: 1000000; 0: any number); of a longer "
        "run, consecutive payloads of a worker are merged, with their total times and bytes, into one group "
        "a worker at least: ten events, or twelve with injected delays"
    )
    option("--events", type=int, metavar="N", help=what)
    arguments.add_plugin(command)
    command.set_defaults(function=export)


def export(options: argparse.Namespace) -> int:
    """Write the run or the weights."""
    from ..api.traces import Trace
    from . import guard

    if options.state:
        return weights(options)
    if options.plugin:
        raise InputError(f"--plugin {options.plugin[0]}: valid only with --state")
    guard.probe_in_subprocess(options.trace)
    text = Trace(options.trace).export(options.output, options.to, table=options.table, events=options.events)
    print_line(f"{options.output}: {text}")
    return 0


def weights(options: argparse.Namespace) -> int:
    """Write the weights."""
    from ..api.traces import Trace
    from ..torch import weights
    from . import guard

    path = Path(options.state)
    if path.suffix != ".safetensors":
        raise InputError(f"--state {path}: expected a name that ends in .safetensors")
    for name in ("to", "table", "events"):
        if getattr(options, name) is not None:
            raise InputError(f"--{name} {getattr(options, name)}: valid only with -o")
    arguments.import_plugins(options)
    guard.probe_in_subprocess(options.trace)
    ensure_writable(path, f"--state {path}")
    found = Trace(options.trace).weights()
    with prefix_errors(options.trace):
        weights.write(path, found)
    elements = sum(each.size for each in found.values())
    print_line(f"weights: {path}, {len(found)} arrays, {elements:,} elements")
    return 0
