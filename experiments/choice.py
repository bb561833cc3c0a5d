"""What preset "auto" takes in cells of `benchmarks.schemes`, over each preset that it chooses from."""

import argparse
import itertools
import math
import sys
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import schemes as bench
from pdcode.studies.tournament import ComparisonRequest, prepare
from pdcode.studies.trial import Journal
from pdcode.util.processes import Pool

PRESETS = "lwpd:default", "lwpd:ring", "lwpd:sharded", "lwpd:first", "lwpd:sharded-first", "topk:whitened"
DELAYS = "none", "exponential", "markov", "persistent", "dead"
SLOW = 'faults={events=[{kind="slow",worker=15,at_s=0.0,factor=10.0}]}'
"""The worker of "persistent", as a fault: the same run, untold."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="digits", choices=bench.PROBLEMS)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--quick", action="store_true", help="one cell, one seed")
    given, lost = parser.parse_args(), list[float]()
    seeds = 1 if given.quick else given.seeds
    limits = (["1G"], ["none"]) if given.quick else (["100G", "1G", "100M"], [*DELAYS, "untold"])
    with TemporaryDirectory() as scratch, Pool(1 if given.quick else None) as pool:
        folder = Path(scratch if given.quick else "results/choice")  # an interrupted command resumes
        folder.mkdir(parents=True, exist_ok=True)
        journal = Journal(folder / "journal")
        for link, delays in itertools.product(*limits):
            law = {"kind": "none"} if delays == "untold" else bench.DELAYS[delays]
            job = bench.write_job(folder, given.network, link, delays, law, bench.WORKERS)
            settings = ["seed=1", "trace.progress_s=0.0005", *[SLOW] * (delays == "untold")]
            schemes = ",".join((bench.AUTO, *PRESETS))
            made = prepare(ComparisonRequest(str(job), schemes, settings, seeds, "virtual"), folder)
            runs = made.run(pool, str, False, journal=journal)
            logs = (fmean(math.log(run.seconds) for run in each) for each in runs)
            times = {name: math.exp(each) for name, each in zip(made.names, logs, strict=True)}
            own, (best, least) = times.pop(made.names[0]), min(times.items(), key=lambda pair: pair[1])
            lost.append(math.log(own / least))
            print(f"{given.network} {link} {delays}: {own:.3g} s, {own / least:.2f} of {best}", flush=True)
    print(f"over the best preset: mean {math.exp(fmean(lost)):.2f}, most {math.exp(max(lost)):.2f}")


if __name__ == "__main__":
    main()
