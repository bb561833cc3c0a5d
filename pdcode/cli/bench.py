"""`pdcode bench`: measurements against the limits of the machine."""

from __future__ import annotations

import argparse
import os
from importlib import import_module
from typing import Any

from ..mpi import launch
from . import ddp, scale, schemes

BENCHES = {
    "kernels": "time of each kernel against its limit (copy bandwidth, numpy's GEMM), measured alternately",
    "decoders": "time per arrival and per gradient of each decoder, against its limit",
    "messages": "arrivals per second through rank 0 over MPI, against a bare mpi4py loop",
    "tasks": "time of a digits task on the virtual clock, and of a relayed arrival at a replica",
    "events": "arrivals per second of the timing-only virtual clock, against SimPy and a bare heap",
    "clocks": "real runs against predictions of the virtual clock; exit code 1 if one is off by a tenth",
    "machine": "fit [machine] and [link] to this machine, as TOML for the virtual clock",
}


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "bench",
        help="measure pdcode against its limits on this machine",
        description="Measure parts of pdcode against their limits on this machine, in the same run.",
    )
    benches = command.add_subparsers(title="benches", required=True, metavar="BENCH")
    for name, about in BENCHES.items():
        bench = benches.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
        bench.set_defaults(function=run, bench=name, settings=[])
        if name == "clocks":
            bench.add_argument(
                "--set",
                dest="settings",
                action="append",
                metavar="KEY=VALUE",
                help="override a key, such as link.bandwidth=1.25e7 on a link of 100 Mbit/s; may be repeated",
            )
    schemes.add_parser(benches)
    scale.add_parser(benches)
    ddp.add_parser(benches)


def run(options: argparse.Namespace) -> int:
    """Run a bench, the module of its name; start mpirun if it needs MPI and no launcher is present."""
    if options.bench == "messages":
        launch.ensure_mpi(os.environ)
        if launch.place(os.environ) is None:
            from ..mpi.supervisor import Supervisor

            return Supervisor(*launch.command(1, options.argv)).run()
    done: int = import_module(f"..bench.{options.bench}", __package__).run(*options.settings)
    return done
