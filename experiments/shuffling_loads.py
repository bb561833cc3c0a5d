"""Loads of random shuffles of rows, decoded bit for bit, beside the bound of index coding.

python experiments/shuffling_loads.py SEED SHUFFLES WORKERS ROWS_PER_WORKER …
"""

import sys

import numpy as np

from pdcode.shuffling.plans import CyclePlan, wanted


def least_feedback(counts: np.ndarray) -> int:
    """Compute the least weight of a set of arcs that meets every cycle, by dynamic programming over subsets.

    The wanted rows less this weight are a lower bound on the broadcasts of a shuffle.

    Parameters
    ----------
    counts : ndarray of int, shape (K, K)
        Weights of the arcs; K up to about 20.
    """
    workers = len(counts)
    subsets = np.arange(1 << workers)
    members = subsets[:, None] >> np.arange(workers) & 1
    sizes, back = members.sum(axis=1), members @ counts.T  # back[S, v]: weight of the arcs from v to S
    best = np.zeros(1 << workers, np.int64)
    for size in range(1, workers + 1):
        of_size = subsets[sizes == size]
        least = np.full(len(of_size), np.iinfo(np.int64).max)
        for last in range(workers):
            has = members[of_size, last] == 1
            rest = of_size[has] ^ 1 << last
            least[has] = np.minimum(least[has], best[rest] + back[rest, last])
        best[of_size] = least
    return int(best[-1])


def main(seed: int, shuffles: int, workers: int, sizes: list[int]) -> None:
    """Print, for each number of rows of a worker, means over the shuffles as fractions of the rows moved."""
    random = np.random.default_rng(seed)
    for rows in sizes:
        old = np.repeat(np.arange(workers), rows)
        data = random.integers(0, 256, (len(old), 4), np.uint8)
        loads, bounds = [], []
        for number in range(shuffles):
            new = random.permutation(old)
            plan = CyclePlan(old, new, workers)
            sent = plan.encode(data.__getitem__)
            for worker in range(workers):
                got = plan.decode(worker, data.__getitem__, sent[plan.needed(worker)])
                wants = plan.received(worker)
                assert (got == data[wants]).all()
                assert np.array_equal(np.sort(wants), np.flatnonzero((new == worker) & (old != worker)))
            loads.append((plan.uncoded, plan.load))
            if workers <= 12 or number % 50 == 0:  # it takes 2^K steps
                bounds.append((plan.load, plan.uncoded - least_feedback(wanted(old, new, workers))))
        uncoded, coded = np.mean(loads, axis=0)
        own, bound = np.mean(bounds, axis=0)
        equal = np.mean([load == least for load, least in bounds])
        print(
            f"K = {workers}, N/K = {rows}, {shuffles} decoded: coded/uncoded {coded / uncoded:.4f}, "
            f"{coded / len(old):.4f} N; {own / bound - 1:.2%} above the bound of {len(bounds)} shuffles, "
            f"equal in {equal:.0%}",
            flush=True,
        )


if __name__ == "__main__":
    if "--quick" in sys.argv:
        main(1, 3, 4, [8])
    else:
        main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), [int(each) for each in sys.argv[4:]])
