"""MDS-coded products: the gradient of a linear model from any k workers, in each of two rounds.

Lee, Lam, Pedarsani, Papailiopoulos and Ramchandran, "Speeding up distributed machine learning using codes",
IEEE Trans. Information Theory 2018: a matrix is cut into k blocks of rows, each of n workers stores one
combination of them, and a product is decoded from the k fastest. The gradient of linear regression takes X θ,
then Xᵀ of the residual; other losses of scores differ only in what rank 0 computes between the rounds. The
paper's code is any MDS code; which real ones there are here is our choice.

Rows k·i … k·i + k - 1 are group i, of which each worker has one combination, instead of one of k blocks of
successive rows: the code is the same, and rows that come later need no new code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.polynomial.chebyshev import chebvander

from ..coding import flops
from ..coding.evaluation import chebyshev_points
from ..coding.memory import Respond
from ..coding.products import (
    AHEAD,
    Data,
    Encoded,
    Gradient,
    Groups,
    Inputs,
    ProductCode,
    ProductState,
    Scores,
)
from ..coding.state import State
from ..config.tables import Config, Count, Fraction, Positive, Table
from ..problems import Problem
from ..problems.partition import Unit
from ..transport.layout import Layout
from ..transport.messages import Reply
from ..util.errors import InputError
from .encoded import EncodedProblem, EncodedScheme

PATTERNS = 200  # sets of results of which condition numbers are told


class CodedProducts(EncodedScheme):
    """Two coded products; a subclass defines the code.

    Attributes
    ----------
    code : ProductCode
    """

    single_round = False

    class Options(Table):
        """Keys of ``[scheme] options``."""

        #: share of the training rows that are there at the start; others come with the tasks of later updates
        start: Fraction = 1.0
        arriving: Count = 0  #: with start < 1: training rows that come with each update, until all are there
        #: inputs whose weights an update changes, in turn: coordinate descent; 0: all
        coordinates: Count = 0

    @classmethod
    def check(cls, config: Config) -> None:
        super().check(config)
        options = config.scheme.options
        if (options.start < 1) != (options.arriving > 0):
            raise InputError(
                f"scheme.options.arriving: {options.arriving} does not go with start = {options.start:g}: "
                "rows come later if and only if not all are there at the start"
            )
        if not options.coordinates:
            return
        if options.start < 1 or config.problem.batch:
            key = "scheme.options.start" if options.start < 1 else "problem.batch"
            raise InputError(f"{key}: coordinate descent keeps the scores of all rows; take all at once")
        optimizer = config.optimizer
        if optimizer.kind != "sgd" or optimizer.momentum or optimizer.proximal is not None:
            raise InputError(
                "optimizer: scheme.options.coordinates changes some weights only; take kind 'sgd', without "
                "momentum and proximal"
            )

    @cached_property
    def code(self) -> ProductCode:
        raise NotImplementedError

    @property
    def width(self) -> int:
        """Number of blocks, k."""
        return int(self.code.words.shape[1])

    @cached_property
    def groups(self) -> Groups:
        """Groups of rows; known once the data are."""
        options, batch = self.options, self.config.problem.batch
        start = None if options.start == 1 else round(options.start * self.total)
        return Groups(self.config.seed, self.total, self.width, batch, start, options.arriving)

    def inputs(self, problem: Problem) -> Inputs:
        """Return the groups of inputs."""
        return Inputs(problem.layers[0].inputs + 1, self.width, self.options.coordinates)

    @cached_property
    def data(self) -> Data:
        """All rows; at rank 0."""
        x = self.whole.x
        assert isinstance(x, np.ndarray)
        return Data(x, self.width)

    def encode(self, worker: int) -> dict[str, np.ndarray]:
        rows, columns = self.data.encode(self.code.words[worker], 0, self.groups.first)
        return {"rows": rows, "columns": columns}

    def layouts(
        self, problem: Problem, weights: Sequence[int], body_bytes: int | None = None
    ) -> list[Layout]:
        groups, inputs, (layer,) = self.groups, self.inputs(problem), problem.layers
        item = problem.dtype.itemsize
        later = groups.count - groups.first
        rest = AHEAD.itemsize + later * (inputs.inputs + groups.width * inputs.count) * item if later else 0
        lengths = groups.most * layer.outputs, inputs.most * layer.outputs
        heads = problem.size, groups.most * groups.width * layer.outputs
        return [
            Layout([Unit(0, length, 1)], [1], [1], problem.dtype, body_bytes=head * item + rest)
            for length, head in zip(lengths, heads, strict=True)
        ]

    def state(self, problem: Problem) -> State:
        config = self.config
        state = ProductState(
            self.initial(problem),
            self.optimizer(problem),
            self.layouts(problem, ()),
            problem,
            self.whole.y,
            self.data,
            self.code,
            self.groups,
            self.inputs(problem),
            config.seed,
        )
        state.policy = self.policy()
        return state

    def responds(
        self, problem: Problem, worker: int, rows: int, replies: Sequence[Reply]
    ) -> Sequence[Respond]:
        assert isinstance(problem, EncodedProblem)
        (layer,), groups, inputs = problem.layers, self.groups, self.inputs(problem)
        encoded = Encoded(problem.encoded, groups)
        first, second = replies
        return [
            Scores(encoded, layer, groups, inputs, first),
            Gradient(encoded, layer, groups, inputs, second),
        ]

    def remarks(self, state: State) -> list[str]:
        conditions = self.code.conditions(PATTERNS)
        return [
            f"any {self.code.needed} of {self.workers} results are enough for {self.width} blocks; condition "
            f"number {np.median(conditions):.2g}, in the worst of {PATTERNS} random sets of results "
            f"{conditions[-1]:.2g}: so much decoding multiplies rounding errors"
        ]

    def samples(self, shard: int) -> int:
        return self.groups.most

    def flops(self, problem: Problem, layouts: Sequence[Layout], number: int, shard: int | None) -> float:
        groups, inputs, (layer,) = self.groups, self.inputs(problem), problem.layers
        if number:
            product = groups.most * groups.width * inputs.most
        else:
            product = groups.most * inputs.most * groups.width
        return 2.0 * product * layer.outputs + flops.message_flops(self.config, problem, layouts[number])


class MDS(CodedProducts):
    """Two MDS-coded products: each round ends with the results of any k workers."""

    name = "mds"
    summary = "gradients of linear models by two coded products, each decoded from any k workers"
    candidates: ClassVar[Mapping[str, Sequence[Any]]] = {}

    class Options(CodedProducts.Options):
        """Keys of ``[scheme] options``."""

        #: number of blocks k; the results of as many workers are enough; none: three quarters of the workers
        blocks: Positive | None = None
        #: the code: "orthonormal": random orthonormal columns; "systematic": the same code, of which k of the
        #: workers have blocks as they are; "chebyshev": values of Chebyshev polynomials, for few workers
        generator: Literal["orthonormal", "systematic", "chebyshev"] = "orthonormal"

    @classmethod
    def check(cls, config: Config) -> None:
        super().check(config)
        blocks, workers = config.scheme.options.blocks, config.workers.count
        if blocks is not None and blocks > workers:
            raise InputError(f"scheme.options.blocks: {blocks} are more than the {workers} workers")

    @cached_property
    def code(self) -> ProductCode:
        n, k = self.workers, self.options.blocks or max(1, 3 * self.workers // 4)
        return ProductCode(generator(self.options.generator, n, k, self.config.seed), k)


def generator(kind: str, n: int, k: int, seed: int) -> np.ndarray:
    """Return G, shape (n, k), of which any k rows are independent.

    Parameters
    ----------
    kind : {"orthonormal", "systematic", "chebyshev"}
    n, k : int
    seed : int
        Key of random columns.
    """
    if kind == "chebyshev":
        return chebvander(chebyshev_points(n), k - 1)
    words: np.ndarray = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, k)))[0]
    if kind == "systematic":
        words = np.linalg.solve(words[:k].T, words.T).T
        words[:k] = np.eye(k)
    return words
