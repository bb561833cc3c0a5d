"""`pdcode.jacobian`: ranks of a program evaluate the differences of scipy's optimizers at rank 0."""

import pytest
from launches import on_ranks
from outcomes import refused
from paths import ROOT

import pdcode

PROGRAM = str(ROOT / "tests" / "mpi" / "programs" / "jacobian.py")


@pytest.mark.every(3)
@pytest.mark.parametrize("wrong", ["nothing", "points", "start"])
def test_scipy_gets_derivatives_from_other_ranks(wrong: str) -> None:
    done = on_ranks(3, PROGRAM, wrong)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    expected = {f"after {rank}" for rank in range(3)}
    if wrong == "start":  # fails on all ranks, which go on
        expected |= {f"{rank} the evaluation at the start has failed" for rank in range(3)}
    else:
        expected |= {"True", "jac: it has been closed"}
        expected |= {"the Jacobian is not known: a key of [stop] has ended its run"}
        expected |= {"same", "[3.  0.7 0.5] 1"} if wrong == "nothing" else set()
    assert {*lines} == expected


class One:
    size, rank = 1, 0


def test_a_rank_alone_is_refused() -> None:
    with refused("comm: 1 rank; at least 2 are needed"):
        pdcode.jacobian(lambda x: x, One())
