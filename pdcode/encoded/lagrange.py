"""Lagrange coded computing: gradients that are polynomials of the data, from results of any workers.

Yu, Li, Raviv, Mousavi Kalan, Soltanolkotabi and Avestimehr, "Lagrange coded computing: optimal design for
resiliency, security, and privacy", AISTATS 2019 (PMLR 89). The data are cut into K parts and coded over n
workers; each evaluates a polynomial of total degree d on a coded part (`data_blocks`). With (K + T -
1) d + S + 2A + 1 ≤ n rank 0 needs no results of S stragglers, corrects A Byzantine workers' results, and T
colluding workers learn nothing about the data. Where n < K d - 1 and T = 0, replicated parts tolerate more: S
+ 2A ≤ ⌊n/K⌋ - 1. The paper computes in a finite field; here p is 2⁶¹ - 1 or 2³¹ - 1. Its example is
least-squares regression, with d = 2.

Ours: real numbers instead of a field, where privacy would need noise, and is refused; fixed point with a
bound on overflow; an approximation of the logistic loss's gradient (such polynomials are usual: So, Güler and
Avestimehr, "CodedPrivateML", IEEE J. Sel. Areas Inf. Theory 2021); mini-batches, which are the same row
numbers of each part; and the location of wrong results. Targets are coded, too.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
from msgspec import Meta

from ..coding import flops
from ..coding.memory import PayloadEncoder
from ..coding.state import State
from ..config import Candidates, Config, Count, Positive, Real, Table
from ..config.requirements import KeyNeeds, one_of
from ..problems import Problem
from ..schemes.base import Work
from ..schemes.common import builders
from ..transport.layout import Layout
from ..transport.messages import Reply
from ..transport.units import Unit
from ..util.errors import InputError
from ..util.rng import BatchSampler
from .base import EncodedProblem, EncodedScheme
from .data_blocks import DataBlockCode, FieldLagrangeCode, RealLagrangeCode, ReplicationCode
from .field_code import product, residues, uniform
from .lagrange_state import LagrangeState, PolynomialEncoder, ValueBound
from .polynomials import (
    BoundContext,
    FixedPoint,
    LeastSquaresPolynomial,
    LogisticApproximation,
    Polynomial,
    degree,
)

MODULAR = {31: 2.0, 61: 6.0}
"""Time of a multiplication and an addition modulo a prime, by its bits, relative to floating point numbers,
with data in cache; in the benchmark `kernels` the data exceed the cache."""


class Design(NamedTuple):
    """Numbers of a Lagrange code: n, K, S, A, T and d."""

    workers: int
    parts: int
    stragglers: int
    liars: int
    colluders: int
    degree: int

    @property
    def copies(self) -> bool:
        """Whether parts are copied instead of coded."""
        return self.colluders == 0 and self.workers < self.parts * self.degree - 1

    @property
    def spare(self) -> int:
        """Number of workers beyond those needed; negative if workers are missing."""
        tolerated = self.stragglers + 2 * self.liars
        if self.copies:
            return self.workers // self.parts - 1 - tolerated
        return self.workers - (self.parts + self.colluders - 1) * self.degree - tolerated - 1

    @property
    def terms(self) -> int:
        """Largest K + T, if parts are coded."""
        return (self.workers - self.stragglers - 2 * self.liars - 1) // self.degree + 1

    def feasible(self) -> list[str]:
        """Return, for each number, the largest value that is feasible with the others unchanged."""
        most = {
            "parts": (self.workers // (self.stragglers + 2 * self.liars + 1), self.terms - self.colluders),
            "stragglers": (self.stragglers + self.spare,),
            "liars": (self.liars + self.spare // 2,),
            "colluders": (self.terms - self.parts, 0),
        }
        feasible = []
        for key, numbers in most.items():
            for number in sorted(numbers, reverse=True):
                if number >= (key == "parts") and self._replace(**{key: number}).spare >= 0:
                    feasible.append(f"{key} = {number}")
                    break
        return feasible


class Lagrange(EncodedScheme):
    """Lagrange coded computing."""

    name = "lagrange"
    summary = "polynomials of coded data, decoded from enough results, with Byzantine workers"

    class Options(Table):
        """Keys of ``[scheme] options``."""

        parts: Positive | None = None  #: parts of the data, K; none: the largest possible number
        stragglers: Count = 1  #: workers that are not waited for, S
        liars: Count = 0  #: Byzantine workers, A
        colluders: Count = 0  #: colluding workers that learn nothing, T; in a field only
        #: real numbers, or fixed point numbers modulo a prime: exact, and private
        arithmetic: Literal["real", "field"] = "real"
        prime: Literal["2^31-1", "2^61-1"] = "2^61-1"  #: in a field: its number of elements
        data_bits: Annotated[int, Meta(ge=0, le=40)] = 12  #: in a field: fractional bits of data
        theta_bits: Annotated[int, Meta(ge=0, le=40)] = 16  #: in a field: fractional bits of θ
        #: with problem.kind "logistic": degree of the polynomial that approximates σ(z), odd
        sigmoid: Annotated[int, Meta(ge=1, le=31)] = 1
        range: Real = 5.0  #: with problem.kind "logistic": largest score |z| for the approximation of σ

        candidates: ClassVar[Candidates] = {"stragglers": (1, 2, 3)}
        effective: ClassVar[KeyNeeds] = {
            ("sigmoid", "range"): {"problem.kind": one_of("logistic")},
            ("prime", "data_bits", "theta_bits"): {"scheme.options.arithmetic": one_of("field")},
        }
        requires: ClassVar[KeyNeeds] = {
            "colluders": {"scheme.options.arithmetic": one_of("field", why="would learn from real numbers")},
            "arithmetic": {"problem.dtype": one_of("float64", why="has residues of eight bytes")},
        }

    @classmethod
    def check(cls, config: Config) -> None:
        super().check(config)
        options = config.scheme.options
        if options.sigmoid % 2 == 0:
            raise InputError(
                f"scheme.options.sigmoid: {options.sigmoid} is even: σ(z) - ½ is odd, and is approximated no "
                f"better than by degree {options.sigmoid - 1}"
            )
        cls(config).design  # noqa: B018

    def polynomial(self) -> Polynomial:
        """Return the polynomial whose values add up to the gradient of the sum of losses."""
        kind, options = self.config.problem.kind, self.options
        if kind == "least-squares":
            return LeastSquaresPolynomial()
        if kind == "logistic":
            return self._approximation(options.theta_bits)
        raise InputError(
            f"problem.kind: '{kind}': scheme '{self.name}' has polynomials for 'least-squares' and 'logistic'"
        )

    def _approximation(self, theta_bits: int) -> LogisticApproximation:
        """Return the approximation of the logistic loss's gradient.

        Raises InputError if there is none, or θ has too few bits for it.
        """
        options, field = self.options, self.options.arithmetic == "field"
        exact = LogisticApproximation(options.sigmoid, options.range)
        rounded = LogisticApproximation(options.sigmoid, options.range, theta_bits if field else None)
        if not np.isfinite(exact.error):
            raise InputError(
                f"scheme.options.range: no polynomial of degree {options.sigmoid} can be computed for "
                f"|z| ≤ {options.range:g}"
            )
        if rounded.error > 2 * exact.error:
            raise InputError(
                f"scheme.options.theta_bits: {theta_bits} are too few for the coefficients of a polynomial "
                f"of degree {options.sigmoid}: its error is {rounded.error:.2g}, not {exact.error:.2g}"
            )
        return rounded

    def _has_enough_bits(self, theta_bits: int) -> bool:
        """Return whether the constants of the polynomial can be rounded to these fractional bits."""
        try:
            return self.config.problem.kind != "logistic" or bool(self._approximation(theta_bits))
        except InputError:
            return False

    @cached_property
    def design(self) -> Design:
        """The code's numbers; an InputError for too few workers names feasible numbers."""
        options = self.options
        late, liars, colluders = options.stragglers, options.liars, options.colluders
        polynomial = self.polynomial()
        try:
            degree_ = degree(polynomial)
        except InputError as error:
            raise InputError(f"scheme.name: '{self.name}': {error}") from error
        design = Design(self.workers, options.parts or 1, late, liars, colluders, degree_)
        if options.parts is None:
            design = design._replace(parts=max(1, design.terms - colluders))
        if design.spare < 0:
            raise InputError(
                f"scheme.options.parts: {self.workers} workers are too few for parts = {design.parts} at "
                f"degree {design.degree}, stragglers = {late}, liars = {liars} and colluders = "
                f"{colluders}; feasible with the others unchanged: "
                f"{', or '.join(design.feasible()) or 'nothing'}"
            )
        return design

    @cached_property
    def point(self) -> FixedPoint | None:
        """Representation of numbers modulo a prime; None: real numbers."""
        options = self.options
        if options.arithmetic == "real":
            return None
        return FixedPoint({"2^31-1": 31, "2^61-1": 61}[options.prime], options.data_bits, options.theta_bits)

    @cached_property
    def code(self) -> DataBlockCode:
        """The code over the parts."""
        design, prime = self.design, None if self.point is None else self.point.prime
        sizes = design.workers, design.parts, design.liars
        if design.copies:
            return ReplicationCode(*sizes, prime)
        if prime is None:
            return RealLagrangeCode(*sizes, design.degree, self.config.seed)
        return FieldLagrangeCode(*sizes, design.colluders, design.degree, prime)

    # Data.

    @property
    def rows_per_part(self) -> int:
        """Number of rows of a part; the last one is filled up with zeros."""
        return -(-self.placement.total // self.design.parts)

    @property
    def rows_per_task(self) -> int:
        """Number of coded rows that a task takes."""
        return -(-self.config.problem.batch // self.design.parts) or self.rows_per_part

    @cached_property
    def data_parts(self) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and targets of the parts, (K, rows, inputs) and (K, rows, outputs); at rank 0.

        Modulo a prime they are integers, float64.
        """
        x, y = self.placement.whole.x, self.placement.whole.y
        assert isinstance(x, np.ndarray)
        parts = []
        for array in (x, y[:, None] if y.ndim == 1 else y):
            filled = np.zeros((self.design.parts * self.rows_per_part, array.shape[1]), x.dtype)
            sent = array if self.point is None else self.point.integers(array, self.point.data)
            filled[: len(array)] = sent
            parts.append(filled.reshape(self.design.parts, self.rows_per_part, -1))
        return parts[0], parts[1]

    @cached_property
    def encoder_input(self) -> list[np.ndarray]:
        """Inputs and targets, the parts and then the random numbers, as rows of a matrix; at rank 0."""
        matrices = []
        for parts in self.data_parts:
            rows = parts.reshape(len(parts), -1)
            if self.point is not None:
                prime = self.point.prime
                random = uniform(self.design.colluders * rows.shape[1], prime, self.placement.draw)
                rows = np.concatenate([residues(rows, prime), random.reshape(-1, rows.shape[1])])
            matrices.append(rows)
        return matrices

    def encode(self, worker: int) -> dict[str, np.ndarray]:
        generator, coded = self.code.generator[worker : worker + 1], []
        for rows in self.encoder_input:
            part = generator @ rows if self.point is None else product(generator, rows, self.point.prime)
            coded.append(part.astype(rows.dtype, copy=False).reshape(self.rows_per_part, -1))
        return {"x": coded[0], "y": coded[1]}

    # The run.

    def value_bound(self) -> ValueBound:
        """Return the bound of sums: over all parts modulo a prime, else of one worker's result."""
        rows, growth = self.rows_per_task, 1.0
        if self.point is None:
            growth = float(np.abs(self.code.generator).sum(axis=1).max())
        else:
            rows *= self.design.parts
        sizes = []
        for parts in self.data_parts:
            magnitudes = np.abs(parts.reshape(-1, parts.shape[2]), dtype=np.float64)
            most = growth * magnitudes.max(axis=0, keepdims=True)
            exact = self.point is not None and not self.config.problem.batch
            sizes.append((most, magnitudes.sum(axis=0, keepdims=True) if exact else rows * most))
        return ValueBound(self.polynomial(), sizes[0], sizes[1], rows, self.point)

    def layouts(
        self, problem: Problem, weights: Sequence[int], body_bytes: int | None = None
    ) -> list[Layout]:
        return [Layout([Unit(0, problem.size, 1)], [1], [1], problem.dtype)]

    def state(self, problem: Problem) -> State:
        (layout,), rows = self.layouts(problem, ()), self.rows_per_task
        state = LagrangeState(
            builders.initial_theta(self.config, problem),
            self.optimizer(problem),
            layout,
            problem,
            self.code,
            self.value_bound(),
            self.rows_per_part / (rows * self.placement.total),
        )
        state.policy = self.policy()
        if problem.drawn and (excess := state.overflow()):
            raise InputError(f"{excess}{self.suggest_bits(problem)}")
        return state

    def suggest_bits(self, problem: Problem) -> str:
        """Return the options with which sums at the first θ fit into the field, for a message."""
        assert self.point is not None
        value_bound, rows = self.value_bound(), self.rows_per_task * self.design.parts
        theta = problem.layers[0].weights(builders.initial_theta(self.config, problem))
        for prime, bits in (("", self.point.bits), (" and prime = '2^61-1'", 61)):
            for fewer in range(max(self.point.data, self.point.theta)):
                own = FixedPoint(bits, max(0, self.point.data - fewer), max(0, self.point.theta - fewer))
                if not self._has_enough_bits(own.theta):
                    continue
                scale = 2.0 ** (own.data - self.point.data)
                x, y = (
                    (scale * most + 0.5, scale * total + 0.5 * rows)
                    for most, total in (value_bound.x, value_bound.y)
                )
                largest = value_bound._replace(x=x, y=y, point=own).sum_bound(theta).most.max()
                if largest < own.prime / 2:
                    return f"; data_bits = {own.data} and theta_bits = {own.theta}{prime} fit at the first θ"
        return ""

    def encoders(
        self, problem: Problem, worker: int, rows: int, replies: Sequence[Reply]
    ) -> Sequence[PayloadEncoder]:
        assert isinstance(problem, EncodedProblem)
        (reply,), (layer,) = replies, problem.layers
        count = 0 if self.config.problem.batch == 0 else self.rows_per_task
        drawn = BatchSampler(self.config.seed, 0, self.rows_per_part, count)  # the same rows at all workers
        coded = problem.encoded
        return [PolynomialEncoder(self.polynomial(), coded["x"], coded["y"], layer, drawn, self.point, reply)]

    def work(self, problem: Problem, layouts: Sequence[Layout], number: int, shard: int) -> Work:
        (layer,), context = problem.layers, BoundContext(self.rows_per_task)
        inputs, outputs = layer.inputs + 1, layer.outputs
        x, y = (context.data(ones, ones) for ones in (np.ones((1, inputs)), np.ones((1, outputs))))
        self.polynomial()(x, y, context.constant(np.ones((outputs, inputs))))
        cost = 1.0 if self.point is None else MODULAR[self.point.bits]
        message = flops.message_flops(self.config, problem, layouts[number])
        return Work(cost * context.flops + message, self.rows_per_task)
