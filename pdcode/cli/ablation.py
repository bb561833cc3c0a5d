"""`pdcode bench ablation`: what each part of the preset `default` is worth."""

import argparse
from pathlib import Path
from typing import Any

from ..util.output import print_line
from . import arguments, schemes

ABOUT = "what each part of the preset `default` is worth on the virtual clock, by problem, link and delays"


def add_parser(benches: Any) -> None:
    """Add the bench to the parser."""
    bench = benches.add_parser(
        "ablation",
        help=ABOUT,
        example="--problems digits --links 1G --seeds 3",
        description=f"{ABOUT[0].upper()}{ABOUT[1:]}. Parts are taken away from the preset one by one, and "
        "added one by one to plain descent. Cells and files are as of `pdcode bench schemes`; existing files "
        "are not computed again. Exit codes: 0 done, 1 failure, 2 bad input.",
    )
    schemes.add_cells(bench, "mnist5k", "1G,100M,10M", "none,persistent")
    what = "a candidate's learning rate is chosen for each problem and link, under the first delays"
    schemes.add_runs(bench, "tune", 5, what, "results/ablation")
    bench.set_defaults(function=run, alone="bench ablation")


def run(options: argparse.Namespace) -> int:
    """Run the comparisons, and print a table for each cell."""
    from ..studies import ablation, schemes_bench
    from ..studies.tuning import Tuning
    from ..util.processes import Pool

    arguments.ensure_in_range(options)
    bench = schemes_bench.SchemesBench(
        *schemes.chosen_cells(options),
        options.seeds,
        Tuning(options.tune, with_knobs=False),
        ablation.candidates(),
        Path(options.output),
        payloads=ablation.MAX_PAYLOADS,
        tune_once=True,
    )
    with Pool(options.processes) as pool:
        schemes_bench.perform(bench, options.command, pool, print_line)
    ablation.show(bench)
    return 0
