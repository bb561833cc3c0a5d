"""Loads of random shuffles of rows, decoded bit for bit, beside the bound of index coding.

python experiments/shuffling_loads.py SHUFFLES WORKERS ROWS_PER_WORKER …
"""

import sys

import numpy as np

from pdcode.codes.shuffling import CyclePlan, least_feedback, wanted


def main(shuffles: int, workers: int, sizes: list[int]) -> None:
    """Print, for each number of rows of a worker, means over the shuffles as fractions of the rows moved."""
    random = np.random.default_rng(1)
    for rows in sizes:
        old = np.repeat(np.arange(workers), rows)
        data = random.integers(0, 256, (len(old), 4), np.uint8)
        moved = coded = bound = equal = 0
        for _ in range(shuffles):
            new = random.permutation(old)
            plan = CyclePlan(old, new, workers)
            sent = data[plan.left] ^ data[plan.right]
            for worker in range(workers):
                held = np.flatnonzero(old == worker)
                got = plan.decode(worker, data[held], held, sent[plan.needed(worker)])
                assert (got == data[plan.received(worker)]).all()
                assert np.array_equal(
                    np.sort(plan.received(worker)), np.flatnonzero((new == worker) & (old != worker))
                )
            least = plan.uncoded - least_feedback(wanted(old, new, workers))
            moved, coded, bound, equal = (
                moved + plan.uncoded, coded + plan.load, bound + least, equal + (least == plan.load)
            )  # fmt: skip
        print(
            f"K = {workers}, N/K = {rows}, {shuffles} shuffles bit-exact: coded/uncoded {coded / moved:.4f}, "
            f"bound/uncoded {bound / moved:.4f}, coded over bound {coded / bound - 1:.2%}, "
            f"equal in {equal / shuffles:.0%}; coded {coded / shuffles / len(old):.4f} N",
            flush=True,
        )


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), [int(each) for each in sys.argv[3:]])
