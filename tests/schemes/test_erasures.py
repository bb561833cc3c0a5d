"""A refused payload is an erasure: schemes with redundancy decode without it, whoever sends it."""

import numpy as np
import pytest
from descents import Descent

JOB = [
    "problem.kind=least-squares", "problem.data=synthetic", "problem.samples=150", "problem.features=9",
    "problem.batch=0", "problem.dtype=float64", "code.blocks=1", "optimizer.rate=0.02", "stop.updates=5",
    "workers.count=7",
]  # fmt: skip
LAGRANGE = ["scheme.name=lagrange"]
EXACT = {
    "cyclic": ["scheme.name=cyclic"],
    "frc": ["scheme.name=frc", "workers.count=6"],
    "mds": ["scheme.name=mds"],
    "byzantine": ["scheme.name=byzantine"],
    "byzantine-late": ["scheme.name=byzantine", "scheme.options={liars=0,stragglers=1}"],
    "lagrange-liars": [*LAGRANGE, "workers.count=5", "scheme.options={liars=1,parts=2,stragglers=0}"],
    "lagrange-late": LAGRANGE,
    "lagrange-field": [*LAGRANGE, "scheme.options={liars=1,stragglers=0,arithmetic='field'}"],
    "lagrange-private": [*LAGRANGE, "scheme.options={liars=1,stragglers=0,arithmetic='field',colluders=1}"],
    "lagrange-copies": [
        *LAGRANGE, "problem.kind=logistic", "workers.count=12",
        "scheme.options={liars=1,stragglers=0,parts=4,sigmoid=3}",
    ],
}  # fmt: skip
APPROXIMATE = {
    "bernoulli": ["scheme.name=bernoulli"],
    "expander": ["scheme.name=expander"],
    "sgc": ["scheme.name=sgc"],
    "robust": ["scheme.name=robust"],
    "sag": ["scheme.name=sag"],
    "least_squares": ["update.mode=all", "memory.kind=none", "decoder.kind=least_squares"],
}
FAULTS = {
    "nan": "faults.events=[{kind='nan', worker=3, task=0}]",
    "inf": "faults.events=[{kind='lie', how='constant', value=inf, worker=3, task=0}]",
    "mismatch": "seed=1",
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("scheme", [*EXACT, *APPROXIMATE])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_the_descent_needs_nothing_of_a_worker_whose_payloads_are_refused(scheme: str, fault: str) -> None:
    job = [*JOB, *(EXACT | APPROXIMATE)[scheme]]
    made = Descent([*job, FAULTS[fault]], lambda worker, task: 1_000_000 + worker)
    schedule = made.fleet.schedule
    if fault == "mismatch":  # as a reply of another size, over MPI
        following = schedule.next

        def accept_others(limit_ns: int, wakes: bool = False) -> int:
            worker = following(limit_ns, wakes)
            schedule.accepted = worker != 3
            return worker

        schedule.next = accept_others  # type: ignore[method-assign]
    assert made.run() == "enough"
    assert made.coordinator.roster.refused[3] >= 5
    assert sum(made.coordinator.roster.refused) == made.coordinator.roster.refused[3]
    if scheme in EXACT:
        honest = Descent(job, lambda worker, task: 1_000_000 + worker)
        honest.run()
        np.testing.assert_allclose(made.thetas, honest.thetas, rtol=1e-8, atol=1e-10)
