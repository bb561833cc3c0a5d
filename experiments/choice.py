"""The choice of preset "auto" in 60 cells of `bench schemes`, and with constants fitted to other networks."""

import argparse
import itertools
import math
import re
from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryDirectory

from pdcode.studies import schemes_bench as bench
from pdcode.studies.tournament import ComparisonRequest, Tournament, prepare
from pdcode.studies.trial import Journal
from pdcode.util.processes import Pool
from pdcode.virtual import choice

NETWORKS = "mnist5k", "digits", "deep"
FITTED = "ring", "sharded", "first", "sharded-first", "topk:whitened"  # relative to "default"
FACTORS = [0.8 + 0.02 * step for step in range(26)]  # on a constant
Values = dict[str, float]


def tournament(job: Path, names: list[str], seeds: int) -> Tournament:
    """Return the runs of presets, under seeds that no trial of a constant had."""
    schemes = ",".join(name if ":" in name else f"lwpd:{name}" for name in names)
    request = ComparisonRequest(str(job), schemes, ["seed=3002"], seeds, "virtual")
    return prepare(request, job.parent)


def predict(job: Path, near: float) -> Values:
    """Return the predicted times that are near that of the choice, as multiples."""
    config = tournament(job, ["auto"], 1).candidates[0].config
    note = choice.prepare(config).notes[0].partition(" (by ")[0]
    found = {note.split("'")[1]: 1.0}
    found |= {name: float(value) for name, value in re.findall(r"([a-z:-]+) ([\d.e+]+|inf)\b", note)}
    for name in found.keys() & {"ring", "sharded", "orthogonal"}:
        found[name] *= choice.MARGIN
    least = min(found.values())
    return {name: value / least for name, value in found.items() if value <= near * least}


def loss(cells: list[tuple[Values, Values]], factors: Values) -> float:
    """Return the mean logarithm of the time of the choice over that of the best, with other constants."""
    chosen = (min(each, key=lambda name: each[name] * factors.get(name, 1.0)) for each, _ in cells)
    return fmean(math.log(s[name] / min(s.values())) for name, (_, s) in zip(chosen, cells, strict=True))


def fit(cells: list[tuple[Values, Values]]) -> Values:
    """Return the factors of least loss, found one after the other, each as near to 1 as that allows."""
    found: Values = {}
    for name in 3 * FITTED:
        tried = [(round(loss(cells, found | {name: each}), 4), abs(each - 1), each) for each in FACTORS]
        found[name] = min(tried)[2]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--near", type=float, default=1.3, help="longest predicted time, as a multiple")
    parser.add_argument("--quick", action="store_true")
    given, cells = parser.parse_args(), dict[str, tuple[Values, Values]]()
    limits = (["digits"], ["1G"], ["none"]) if given.quick else (NETWORKS, bench.LINKS, bench.DELAYS)
    with TemporaryDirectory() as scratch, Pool(1 if given.quick else None) as pool:
        folder = Path(scratch if given.quick else "results/choice")  # an interrupted command resumes
        folder.mkdir(parents=True, exist_ok=True)
        journal = Journal(folder / "journal")
        for network, link, delays in itertools.product(*limits):
            job = bench.write_job(folder, network, link, delays, bench.DELAYS[delays], bench.WORKERS)
            predicted = predict(job, given.near)
            seeds = given.seeds + (network == "digits")  # whose times differ most
            runs = tournament(job, [*predicted], seeds).run(pool, str, False, journal=journal)
            logs = ([math.log(run.seconds) for run in each] for each in runs)
            times = {name: math.exp(fmean(each)) for name, each in zip(predicted, logs, strict=True)}
            cells[f"{network}-{link}-{delays}"] = predicted, times
            mine = times[next(iter(times))]
            multiples = {name: round(each / mine, 2) for name, each in times.items()}
            print(network, link, delays, f"{mine:.3g} s", multiples)
    lost = [100 * loss([cell], {}) for cell in cells.values()]
    print(f"Lost, in %: mean {fmean(lost):.2f}, median {median(lost):.2f}, most {max(lost):.1f}")
    for network in [] if given.quick else NETWORKS:
        here = [cell for name, cell in cells.items() if name.startswith(network)]
        found = fit([cell for cell in cells.values() if cell not in here])
        print(network, f"{100 * loss(here, {}):.2f}, fitted {100 * loss(here, found):.2f}, factors {found}")


if __name__ == "__main__":
    main()
