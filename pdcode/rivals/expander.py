"""Codes of a random regular graph, an expander: approximate gradients for little work.

The graph is connected, and keyed by the seed. ``worker = "vertex"``: a worker sends the mean gradient of its
d neighbours' shards, U = A/d with the adjacency matrix A. Raviv, Tandon, Dimakis and Tamo, "Gradient coding
from cyclic MDS codes and expander graphs", ICML 2018, weigh the payloads of all but s workers by n/(n - s)
and show that U then decodes to the vector of ones up to (λ/d)·√(ns/(n - s)), where λ is the second largest
absolute eigenvalue of A; the optimal weights, used here, have at most that error. ``worker = "edge"``: the
2n/d vertices are shards, and a worker sends the sum of the two at its edge. Glasgow and Wootters,
"Approximate gradient coding with optimal decoding", IEEE J. Sel. Areas Inf. Theory 2021.
"""

from functools import cached_property
from typing import Literal

import numpy as np

from ..config import Config, Positive, Table
from ..families.graph import nearest_degrees, regular_graph
from ..util.errors import InputError
from .data_code import DataCode


class Expander(DataCode):
    """The code of a regular graph: approximate, better the more workers arrive, exact if all do."""

    name = "expander"
    summary = "gradients of a few shards by a random regular graph; rank 0 decodes the sum approximately"

    class Options(Table):
        """Keys of ``[scheme] options``."""

        #: degree of the graph, d, at least 2; none: the first of 3, 4 and 2 that is possible
        degree: Positive | None = None
        worker: Literal["vertex", "edge"] = "vertex"  #: what a worker is in the graph

    @classmethod
    def check(cls, config: Config) -> None:
        super().check(config)
        cls.size(config)

    @staticmethod
    def size(config: Config) -> tuple[int, int]:
        """Return the number of vertices of the graph, and its degree; refuse options without such a graph."""
        options, workers = config.scheme.options, config.workers.count
        edges = options.worker == "edge"
        for degree in (3, 4, 2) if options.degree is None else (options.degree,):
            vertices, rest = divmod(2 * workers, degree) if edges else (workers, 0)
            if not rest and degree in nearest_degrees(vertices, degree):
                return vertices, degree
        size = f"{workers} {'edges' if edges else 'vertices'}"
        raise InputError(f"scheme.options.degree: {options.degree}: no such regular graph has {size}")

    @cached_property
    def matrix(self) -> np.ndarray:
        vertices, degree = self.size(self.config)
        a, b = regular_graph(vertices, degree, self.config.seed).T
        U = np.zeros((self.workers, vertices))
        if self.options.worker == "edge":
            workers = np.arange(self.workers)
            U[workers, a] = U[workers, b] = 1
        else:
            U[a, b] = U[b, a] = 1 / degree
        return U
