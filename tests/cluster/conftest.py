"""The SLURM that the tests of this folder submit their jobs to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from rig import Slurm, start


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """A cluster of one node; started once, for all tests."""
    with start() as cluster:
        yield cluster
