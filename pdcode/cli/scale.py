"""`pdcode bench scale`: schemes with increasing numbers of workers, and the limits of rank 0."""

import argparse
from pathlib import Path
from typing import Any

from ..util.errors import InputError, expected
from ..util.output import print_line
from . import arguments

ABOUT = "presets and the main rivals with 8 to 65,536 workers on the virtual clock, and the limits of rank 0"


def add_parser(benches: Any) -> None:
    """Add the bench to the parser."""
    bench = benches.add_parser(
        "scale",
        help=ABOUT,
        description=f"{ABOUT[0].upper()}{ABOUT[1:]}. Each number of workers is a comparison, as of `pdcode "
        "compare`, in a file of its own; existing files are not computed again. The figure is scale.png "
        "beside them. Exit codes: 0 done, 1 failure, 2 bad input.",
    )
    option = bench.add_argument
    option("--workers", metavar="N,N,…", default="8,64,512,4096,65536", help="default: 8,64,512,4096,65536")
    what = "numbers of ranks over which θ is sharded (default: 1)"
    option("--coordinators", metavar="N,N,…", default="1", help=what)
    option("--link", default="1G", help="bit/s of each link: 100G, 1G, 100M or 10M (default: 1G)")
    option("--schemes", metavar="A,B,…", help="as of compare; default: presets and the main rivals")
    option("--seeds", type=int, default=1, metavar="N", help="runs per candidate (default: 1)")
    option("--tune", type=int, default=5, metavar="N", help="runs that choose a learning rate (default: 5)")
    arguments.add_processes(bench)
    option("--cost", metavar="FILE", help="[machine] as TOML; default: measured, once per folder")
    option("-o", "--output", metavar="FOLDER", default="results/scale", help="default: results/scale")
    bench.set_defaults(function=run, alone="bench scale")


def run(options: argparse.Namespace) -> int:
    """Run the comparisons, print their tables and draw the figure."""
    from ..analysis import style
    from ..session.setup import MAX_WORKERS
    from ..studies import scale_bench
    from ..studies.schemes_bench import LINKS
    from ..util.processes import cores

    arguments.ensure_in_range(options)
    if options.link not in LINKS:
        raise InputError(f"--link: {expected(options.link, LINKS)}")
    folder = Path(options.output)
    bench = scale_bench.ScaleBench(
        arguments.numbers(options.workers, "--workers", 2, MAX_WORKERS),
        arguments.numbers(options.coordinators, "--coordinators", 1, 1024),
        options.link,
        options.schemes or ",".join(scale_bench.SCHEMES),
        options.seeds,
        options.tune,
        folder,
    )
    figure = str(folder / "scale.png")
    style.ensure_figure_can_be_drawn(figure)
    cost = Path(options.cost) if options.cost else scale_bench.find_costs(folder, print_line)
    scale_bench.perform(bench, cost, options.command, options.processes or cores(), print_line)
    found = scale_bench.points(bench)
    scale_bench.show(bench, found)
    style.save(scale_bench.draw(found), figure)
    print(f"figure: {figure}")
    return 0
