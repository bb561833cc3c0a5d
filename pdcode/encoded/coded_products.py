"""Base of the schemes whose workers compute two coded products: options, messages, both sides, costs."""

from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar

import numpy as np

from ..coding import flops
from ..coding.memory import PayloadEncoder
from ..coding.state import State
from ..config import Config, Count, Fraction, Table
from ..config.requirements import KeyNeeds, one_of
from ..problems import Problem
from ..schemes.base import Work
from ..schemes.common import builders
from ..transport.layout import Layout
from ..transport.messages import Reply
from ..transport.units import Unit
from ..util.errors import InputError
from .base import EncodedProblem, EncodedScheme
from .coded_data import FIRST_GROUP, CodedData, CoordinateBlocks, DataEncoder, RowGroups
from .product_state import GradientProduct, ProductCode, ProductState, ScoreProduct

ALL_SCORES = "keeps the scores of all rows"
SOME_WEIGHTS = "changes some weights only"


class CodedProducts(EncodedScheme):
    """Two coded products; a subclass defines the ProductCode `code`."""

    steps_by_update = False

    class Options(Table):
        """Keys of ``[scheme] options``."""

        #: fraction of the training rows available at the start; others are sent with tasks of later updates
        start: Fraction = 1.0
        arriving: Count = 0  #: with start < 1: training rows that each update adds, until all are available
        #: inputs whose weights an update changes, in turn: coordinate descent; 0: all
        coordinates: Count = 0

        requires: ClassVar[KeyNeeds] = {
            "coordinates": {
                "scheme.options.start": one_of(1.0, why=ALL_SCORES),
                "problem.batch": one_of(0, why=ALL_SCORES),
                "optimizer.kind": one_of("sgd", why=SOME_WEIGHTS),
                "optimizer.momentum": one_of(0.0, why=SOME_WEIGHTS),
                "optimizer.proximal": one_of(None, why=SOME_WEIGHTS),
                "optimizer.weight_decay": one_of(0.0, why=SOME_WEIGHTS),
                "optimizer.vector_decay": one_of(0.0, why=SOME_WEIGHTS),
            }
        }

    @classmethod
    def check(cls, config: Config) -> None:
        super().check(config)
        options = config.scheme.options
        if (options.start < 1) != (options.arriving > 0):
            raise InputError(
                f"scheme.options.arriving: {options.arriving} does not go with start = {options.start:g}: "
                "rows arrive later if and only if the start is less than 1"
            )

    @cached_property
    def code(self) -> ProductCode:
        raise NotImplementedError

    @property
    def width(self) -> int:
        """Number of blocks, k."""
        return int(self.code.generator.shape[1])

    @cached_property
    def groups(self) -> RowGroups:
        """Groups of rows; available after the placement has the data."""
        options, batch = self.options, self.config.problem.batch
        start = None if options.start == 1 else round(options.start * self.placement.total)
        return RowGroups(self.config.seed, self.placement.total, self.width, batch, start, options.arriving)

    def inputs(self, problem: Problem) -> CoordinateBlocks:
        """Return the groups of inputs."""
        return CoordinateBlocks(problem.layers[0].inputs + 1, self.width, self.options.coordinates)

    @cached_property
    def data(self) -> DataEncoder:
        """All rows; at rank 0."""
        x = self.placement.whole.x
        assert isinstance(x, np.ndarray)
        return DataEncoder(x, self.width)

    def encode(self, worker: int) -> dict[str, np.ndarray]:
        rows, columns = self.data.encode(self.code.generator[worker], 0, self.groups.first)
        return {"rows": rows, "columns": columns}

    def layouts(
        self, problem: Problem, weights: Sequence[int], body_bytes: int | None = None
    ) -> list[Layout]:
        groups, inputs, (layer,) = self.groups, self.inputs(problem), problem.layers
        item = problem.dtype.itemsize
        later = groups.count - groups.first
        group = (inputs.inputs + groups.width * inputs.count) * item
        rest = FIRST_GROUP.itemsize + later * group if later else 0
        lengths = groups.max_used * layer.outputs, inputs.per_update * layer.outputs
        heads = problem.size, groups.max_used * groups.width * layer.outputs
        return [
            Layout([Unit(0, length, 1)], [1], [1], problem.dtype, body_bytes=head * item + rest)
            for length, head in zip(lengths, heads, strict=True)
        ]

    def state(self, problem: Problem) -> State:
        config = self.config
        state = ProductState(
            builders.initial_theta(config, problem),
            self.optimizer(problem),
            self.layouts(problem, ()),
            problem,
            self.placement.whole.y,
            self.data,
            self.code,
            self.groups,
            self.inputs(problem),
            config.seed,
        )
        state.policy = self.policy()
        return state

    def encoders(
        self, problem: Problem, worker: int, rows: int, replies: Sequence[Reply]
    ) -> Sequence[PayloadEncoder]:
        assert isinstance(problem, EncodedProblem)
        (layer,), groups, inputs = problem.layers, self.groups, self.inputs(problem)
        encoded = CodedData(problem.encoded, groups)
        first, second = replies
        return [
            ScoreProduct(encoded, layer, groups, inputs, first),
            GradientProduct(encoded, layer, groups, inputs, second),
        ]

    def work(self, problem: Problem, layouts: Sequence[Layout], number: int, shard: int) -> Work:
        groups, inputs, (layer,) = self.groups, self.inputs(problem), problem.layers
        product = groups.max_used * groups.width * inputs.per_update  # multiplications, in either round
        message = flops.message_flops(self.config, problem, layouts[number])
        return Work(2.0 * product * layer.outputs + message, groups.max_used)
