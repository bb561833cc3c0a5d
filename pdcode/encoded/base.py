"""Codes over the data of a linear model: workers compute on encoded rows, which rank 0 sends once.

Unlike a code over gradients, such a code needs the model's structure. Rank 0 has all data: it encodes them,
and decodes the results of workers into the exact gradient.
"""

import os
from collections.abc import Callable
from functools import cached_property
from typing import ClassVar

import numpy as np

from .. import problems
from ..config import Config, NetworkTable, Tables
from ..config.requirements import Need, Needs, none_of, one_of, unrounded
from ..problems import Dataset, NetworkProblem, Problem
from ..problems.compiled import build_network
from ..problems.matrix import Csr
from ..problems.samples import Statistics
from ..schemes.base import NOT_SUMMED, Scheme
from ..schemes.placement import Placement
from ..util.errors import InputError


class EncodedProblem(NetworkProblem):
    """A linear model, with a worker's encoded data, by name, instead of rows."""

    encoded: dict[str, np.ndarray]


class EncodedRows(Placement):
    """Placement of encoded data: rank 0 has all rows, and sends each worker its encoded data.

    `encode(worker)` returns the encoded data by name, and `draw(count)` random bytes.
    """

    whole: Dataset  # all rows; at rank 0 only
    total: int  # number of training rows

    def __init__(self, config: Config, encode: Callable[[int], dict[str, np.ndarray]]) -> None:
        super().__init__(config, 1)
        self._encode = encode
        self.draw: Callable[[int], bytes] = np.random.default_rng(config.seed).bytes

    def total_rows(self, data: problems.DataSource) -> int:
        return data.whole.rows

    def inspect_data(self, data: problems.DataSource) -> None:
        assert isinstance(data.whole, Dataset)  # see `EncodedScheme.requires`
        self.whole, self.total = data.whole, data.whole.rows
        if isinstance(self.whole.x, Csr):
            raise InputError(
                f"problem.data: {self.config.problem.data!r} is sparse; scheme '{self.config.scheme.name}' "
                "needs dense rows"
            )

    def seed_secrets(self) -> None:
        self.draw = os.urandom

    def worker_data(self, data: problems.DataSource, worker: int) -> dict[str, np.ndarray]:
        whole = self.whole
        sizes = [whole.rows, whole.features, whole.outputs, whole.classes or 0]
        return {"sizes": np.array(sizes, np.int64), **self._encode(worker)}

    def build_problem(self, arrays: dict[str, np.ndarray], worker: int) -> Problem:
        table, (self.total, features, outputs, classes) = self.config.problem, map(int, arrays["sizes"])
        assert isinstance(table, NetworkTable)  # see `requires`
        network = build_network(table, features, outputs, classes or None, self.config.code.blocks)
        nothing = np.empty((0, features + 1), table.dtype), np.empty((0, outputs), table.dtype)
        known = Statistics(np.arange(classes) if classes else None)
        problem = EncodedProblem(table, Dataset(nothing, nothing, known), network)
        problem.encoded = {name: array for name, array in arrays.items() if name != "sizes"}
        return problem


DECODES = "steps once it can decode"


class EncodedScheme(Scheme):
    """Scheme whose workers compute on encoded data; a subclass defines how they are encoded."""

    unused: ClassVar[tuple[str, ...]] = ("code", "memory", "decoder", "downlink")
    tables: ClassVar[Tables] = {
        "code": {"family": "uncoded", "blocks": 1, "rotate": False},
        "memory": {"kind": "none"},
        "update": {"mode": "captured", "fraction": 1.0, "late": "waste"},
    }
    requires: ClassVar[Needs] = {
        "problem.kind": Need(
            lambda kind, config: not (kind.deep or kind.latent),
            "a linear model, such as 'softmax'",
            "codes the data of linear models",
            of_kind=True,
        ),
        "problem.sampling": one_of("replacement", why="draws the rows of all workers together"),
        "problem.shards": none_of(
            "replicated",
            "common",
            "contiguous",
            needed="'auto' or 'shuffled'",
            why="encodes all rows at rank 0",
        ),
        "reduce.kind": one_of("star", why=NOT_SUMMED),
        "update.late": one_of("waste", why="decodes results at one θ"),
        "update.mode": one_of("captured", why=DECODES),
        "update.fraction": one_of(1.0, why=DECODES),
        "update.clip": one_of("none", why="cannot decode scaled results"),
        "optimizer.staleness": one_of("constant", why="has no stale results"),
        "wire.dtype": unrounded("amplifies rounding errors"),
    }

    @cached_property
    def placement(self) -> EncodedRows:
        return EncodedRows(self.config, self.encode)

    def encode(self, worker: int) -> dict[str, np.ndarray]:
        """Return the worker's encoded data, by name."""
        raise NotImplementedError
