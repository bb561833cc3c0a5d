"""`pdcode bench ddp`: PyTorch's DistributedDataParallel beside runs of pdcode on the same job and machine."""

import argparse
from pathlib import Path
from typing import Any

from ..util.output import print_line
from . import arguments

RUNS, SEEDS, TARGET = 7, 3, 0.1
ABOUT = "time to a target of PyTorch's DDP over gloo and of pdcode, with the same job and delays"


def add_parser(benches: Any) -> None:
    """Add the bench to the parser."""
    bench = benches.add_parser(
        "ddp",
        help=ABOUT,
        example="jobs/digits.toml -n 8 --seeds 3",
        description=f"{ABOUT[0].upper()}{ABOUT[1:]}. PyTorch's DistributedDataParallel, plain, with its "
        "PowerSGD hook or with pdcode's, trains the same network from the same θ on the same mini-batches, "
        "and each rank has the injected delays of the worker of its number. Runs alternate, seed by seed; "
        "nothing else should run on the machine. Needs the extra `torch`. Exit codes: 0 done, 1 failure, "
        "also if DDP's θ after a few updates, which is compared first, differs from pdcode's, 2 bad input.",
    )
    option = bench.add_argument
    arguments.add_job(bench, "problem.batch=16", " for all", "jobs/digits.toml")
    what = (
        "candidates, separated by commas: those of `pdcode compare`, and `ddp`, `ddp:powersgd` and "
        "`ddp:coded` (pdcode.torch.ddp.Coded, which needs a rate of its own), with /KEY=VALUE for keys to "
        "change, such as ddp/optimizer.momentum=0.9/optimizer.nesterov=true or "
        "ddp:powersgd/scheme.options={rank=2} (default: yours,allreduce,ddp,ddp:powersgd)"
    )
    option("--schemes", metavar="A,B,…", default="yours,allreduce,ddp,ddp:powersgd", help=what)
    option("--seeds", type=int, default=SEEDS, metavar="N", help=f"runs of each (default: {SEEDS})")
    rate = bench.add_mutually_exclusive_group()
    what = f"choose each learning rate first, by N runs with another seed (default: {RUNS}; 0: do not)"
    rate.add_argument("--tune", type=int, default=RUNS, metavar="N", help=what)
    rate.add_argument("--rates", metavar="FILE", help="read the learning rates from an earlier comparison")
    arguments.add_target(bench, f"default: that of [stop], else {TARGET}")
    arguments.add_seconds(bench, "")
    option("-o", "--output", metavar="FILE", help="HDF5 file (default: results/<name>.ddp.h5)")
    bench.set_defaults(function=run, alone="bench ddp")


def run(options: argparse.Namespace) -> int:
    """Check DDP against pdcode, tune, run and print; write the comparison for `pdcode show`."""
    from ..studies import ddp

    least = 0 if options.tune == 0 else 3
    arguments.ensure_in_range(options, tune=(least, 99, "0, or 3 to 99"))
    ddp.ensure_torch()
    from ..api import configs
    from ..config import load as configfile
    from ..studies import tournament
    from ..studies.comparison import Comparison
    from ..studies.comparison_file import ensure_savable
    from ..studies.learning_rates import rate_of
    from ..studies.tuning import Tuning
    from ..util.processes import Pool

    output = Path(options.output or Path("results") / f"{Path(options.config).stem}.ddp.h5")
    ensure_savable(output)
    rates = (options.rates, Comparison.load(options.rates)) if options.rates else None
    settings, target = configs.overrides(options.set, options.workers), options.target
    stop = configfile.load(options.config, settings)[0].stop
    if target is None and stop.loss is None and stop.accuracy is None:
        target = TARGET
    limits = {"target": target, "seconds": options.seconds}
    request = tournament.ComparisonRequest(
        options.config, options.schemes, settings, options.seeds, "mpi", **limits, aliases=ddp.ALIASES
    )
    prepared = tournament.prepare(request, output.with_suffix(""))
    ddp.check(prepared.candidates)
    with ddp.DDPRanks(prepared.candidates[0].config.workers.count) as ranks, Pool(1) as pool:
        runs = ddp.DDPTournament(**vars(prepared), ranks=ranks)
        runs.notes.extend(ddp.describe_setup(runs))
        for line in runs.notes:
            print_line(line)
        for line in ddp.self_check(runs.candidates, ranks):
            print_line(line)
            runs.notes.append(line)
        tuned = Tuning(options.tune, with_knobs=False) if options.tune and not rates else None
        compared = tournament.perform(runs, options.command, pool, print_line, tune=tuned, rates=rates)
    chosen = zip(compared.names, compared.read_configs(str(output)), strict=True)
    taken = (f"{name} {rate_of(each):g}" for name, each in chosen if not each.scheme.is_auto)
    compared.notes.append(f"Rates: {', '.join(taken)}.")
    compared.save(output)
    print_line("")
    compared.show()
    print_line("repeat a run:")
    for candidate in runs.candidates:
        print_line(f"  {runs.trial(candidate, runs.seeds[0])}")
    print_line(f"comparison: {output}")
    return 0
