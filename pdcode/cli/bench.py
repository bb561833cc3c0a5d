"""`pdcode bench`."""

from __future__ import annotations

import argparse
import os
from importlib import import_module
from typing import Any

from ..mpi import launch

BENCHES = {
    "kernels": "each kernel beside its limit (copy bandwidth, numpy's GEMM), measured in turn with it",
    "decoders": "what an arrival and a gradient cost each decoder, and how near its limit that is",
    "messages": "arrivals a second through rank 0's whole path over MPI, beside a bare mpi4py loop",
    "events": "arrivals a second of the virtual clock without numerics, beside SimPy and a bare heap",
    "clocks": "real runs beside predictions of the virtual clock; exit code 1 if one is off by a tenth",
    "machine": "[machine] and [link] of this machine, for the virtual clock, as TOML",
}


def add_parser(commands: Any) -> None:
    """Add the command to the parser's."""
    command = commands.add_parser(
        "bench",
        help="measure pdcode against its limits on this machine",
        description="Measure parts of pdcode beside their limits on this machine, in the same run.",
    )
    benches = command.add_subparsers(title="benches", required=True, metavar="BENCH")
    for name, about in BENCHES.items():
        bench = benches.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
        bench.set_defaults(function=run, bench=name)


def run(options: argparse.Namespace) -> int:
    """Run a bench, the module of its name; start mpirun where one needs it and no launcher did."""
    if options.bench == "messages" and launch.place(os.environ) is None:
        command, environment = launch.command(1, options.argv)
        os.execvpe(command[0], command, environment)
    done: int = import_module(f"..bench.{options.bench}", __package__).run()
    return done
