"""The SLURM that the tests of this folder submit their jobs to, and their emulated hosts."""

from collections.abc import Iterator

import lab as emulated
import pytest
from rig import Slurm, start


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """A cluster of one node; started once, for all tests."""
    with start() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def lab() -> Iterator[emulated.Lab]:
    """Four hosts besides h0, at 100 Mbit/s in both directions; started once, for all tests."""
    with emulated.start(4, up="100mbit", down="100mbit") as hosts:
        yield hosts
