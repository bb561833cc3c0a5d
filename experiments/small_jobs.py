"""Small jobs: preset "auto", local steps of gradients of equal length, and tuned plain rivals, in ms."""

import argparse
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from pdcode.studies import heldout
from pdcode.studies import heldout_jobs as jobs
from pdcode.studies.comparison import Comparison
from pdcode.studies.heldout_jobs import LOGISTIC, LOSS, SOFTMAX, Job, classes, make, regression, shipped
from pdcode.studies.tournament import ComparisonRequest, perform_once
from pdcode.studies.tuning import Tuning
from pdcode.util.processes import Pool

OURS = "lwpd:auto", "local:four-steps", "local:eight-steps", "lwpd:ring", "lwpd:default"
NESTEROV = "optimizer.momentum=0.9/optimizer.nesterov=true/optimizer.average=true"
RIVALS = {
    "local steps": f"local/reduce.kind=allreduce/{NESTEROV}",
    "top-k": "topk/downlink.kind=exchange/optimizer.average=true",
    "all-reduce": f"uncoded:all/reduce.kind=allreduce/{NESTEROV}",
}
BUDGET = 12  # runs by which a rival is tuned


def part(name: str, rows: int, seed: int, **how: bool) -> jobs.Rows:
    """Draw rows of a table of scikit-learn."""
    x, y = shipped(name, **how)
    chosen = np.random.default_rng(seed).permutation(len(y))[:rows]
    return x[chosen], y[chosen]


def texts(seed: int, rows: int, vocabulary: int, topics: int) -> jobs.Rows:
    """Draw counts of words, a sparse matrix, of texts on a topic each."""
    from scipy.sparse import csr_matrix

    random = np.random.default_rng(seed)
    y, common = random.integers(0, topics, rows), 1 / np.arange(1, vocabulary + 1)
    of_topics, common = random.dirichlet(np.full(vocabulary, 0.1), topics), common / common.sum()
    counts = [random.multinomial(80, 0.25 * of_topics[each] + 0.75 * common) for each in y]
    return csr_matrix(np.array(counts, np.float64)), y


def network(*hidden: int, **keys: int) -> dict[str, object]:
    """Return the keys of a network."""
    return {"kind": "mlp", "hidden": [*hidden], **keys}


JOBS = {
    "few-a": Job(
        partial(classes, 80, 10, n_informative=6, n_classes=3, random_state=201), network(16, batch=4),
        (LOSS, 0.01), 6, "1G", "slow"),
    "few-b": Job(
        partial(make, "moons", 120, noise=0.1, random_state=202), network(24, batch=4), (LOSS, 0.06), 8,
        "100M", "late"),
    "few-c": Job(
        partial(make, "circles", 100, noise=0.08, factor=0.5, random_state=203), network(16, batch=8),
        (LOSS, 0.05), 5),
    "few-d": Job(
        partial(classes, 100, 12, n_informative=6, random_state=204), network(32, batch=4), (LOSS, 0.02), 10,
        "100M", "slow"),
    "few-e": Job(
        partial(part, "breast_cancer", 100, 205), network(16, batch=4), (LOSS, 0.01), 4, "100G", "half"),
    "few-f": Job(partial(part, "wine", 120, 206), network(12, batch=4), (LOSS, 0.01), 6),
    "few-g": Job(partial(part, "iris", 140, 207), network(24, 16, batch=4), (LOSS, 0.04), 8, "1G", "slow"),
    "logistic-a": Job(partial(part, "breast_cancer", 500, 212), LOGISTIC, (LOSS, 0.07), 8, "1G", "slow"),
    "logistic-b": Job(
        partial(classes, 1500, 15, n_informative=8, random_state=213), LOGISTIC, (LOSS, 0.35), 12),
    "texts-a": Job(partial(texts, 215, 1500, 800, 6), SOFTMAX, (jobs.ACCURACY, 0.97), 12, "100M", "slow"),
    "texts-b": Job(partial(texts, 216, 3000, 1500, 10), SOFTMAX, (jobs.ACCURACY, 0.97), 20, "100M"),
    "texts-c": Job(partial(texts, 217, 2000, 1000, 5), SOFTMAX, (LOSS, 0.05), 16, "1G", "late"),
    "real-a": Job(
        partial(make, "friedman1", 450, noise=3, random_state=218), network(32), (LOSS, 4.5), 16),
    "real-b": Job(
        partial(regression, 400, 12, n_informative=8, noise=60, random_state=219), network(32), (LOSS, 1700),
        12),
    "real-c": Job(
        partial(part, "diabetes", 300, 220, scaled=False), network(16), (LOSS, 1250), 8, "1G", "slow"),
}  # fmt: skip
"""Jobs for development; none is one of `pdcode bench heldout`."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one job")
    given = parser.parse_args()
    chosen, budget = (["few-c"], 1) if given.quick else ([*JOBS], BUDGET)
    jobs.JOBS.update(JOBS)
    names = [*OURS, *RIVALS.values()]
    print("job, workers, link, delays:", ", ".join([*OURS, *RIVALS]))
    with TemporaryDirectory() as scratch, Pool(1 if given.quick else None) as pool:
        folder = Path(scratch if given.quick else "results/small")  # an interrupted command resumes
        folder.mkdir(parents=True, exist_ok=True)
        for name in chosen:
            file = folder / f"{name}.h5"
            config = heldout.write_job(name, folder)
            request = ComparisonRequest(
                str(config), ",".join(names), [], given.seeds, "virtual", lenient=True
            )
            perform_once(file, request, "small_jobs", pool, str, tune=Tuning(budget, untuned=OURS))
            rows = {row.candidate: row for row in Comparison.load(file).rows}
            times = []
            for each in names:
                missed = f" ({rows[each].missed} missed)" if rows[each].missed else ""
                times.append(f"{1e3 * rows[each].time.mean:.3g}{missed}")
            job = JOBS[name]
            print(f"{name} {job.workers} {job.link} {job.delays}:", ", ".join(times), flush=True)


if __name__ == "__main__":
    main()
