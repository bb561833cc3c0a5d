"""Placement of the training data: which rows a worker has, and how it gets them before its first task."""

import numpy as np

from .. import problems
from ..config import Config
from ..problems import Problem
from ..util.errors import InputError


class Placement:
    """Placement of one shard of the training rows at each worker.

    Parameters
    ----------
    config : Config
    shards : int
        Number of shards of the training rows.
    parts : int
        Number of parts of a shard, ``scheme.options.parts``.
    """

    def __init__(self, config: Config, shards: int, parts: int = 1) -> None:
        self.config, self.shards, self.parts = config, shards, parts

    def total_rows(self, data: problems.DataSource) -> int:
        """Return the number of training rows of all shards together.

        Raises
        ------
        InputError
            If there are too few rows for these shards.
        """
        workers = self.config.workers.count
        if data.rows < self.shards > workers:
            raise InputError(
                f"workers.count: {workers} workers need {self.shards} shards with these options of scheme "
                f"'{self.config.scheme.name}', more than the {data.rows} training rows of problem.data"
            )
        rows = data.total_rows(self.shards)
        if self.parts > rows // self.shards:
            raise InputError(
                f"scheme.options.parts: {self.parts} are more than the {rows // self.shards} rows of a shard"
            )
        return rows

    def inspect_data(self, data: problems.DataSource) -> None:
        """Read, before `Scheme.state`, what rank 0 needs to know about the data."""
        return

    def seed_secrets(self) -> None:
        """Draw random numbers that workers must not know, from the operating system instead of the seed.

        Called before `worker_data` if workers are other processes. Results must not depend on these numbers.
        """
        return

    def worker_data(self, data: problems.DataSource, worker: int) -> dict[str, np.ndarray]:
        """Return the arrays that rank 0 sends to a worker, by name."""
        return data.shard(worker, self.shards)

    def build_problem(self, arrays: dict[str, np.ndarray], worker: int) -> Problem:
        """Build the worker's problem from the arrays of `worker_data`."""
        dataset = problems.receive(self.config.problem, arrays, worker, self.shards)
        return Problem.from_dataset(self.config.problem, dataset, self.config.code.blocks)
