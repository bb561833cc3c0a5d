"""Optimizers: steps of θ by the decoded gradient, in one pass over each unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from math import sqrt
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from msgspec import Meta

from ..config import Candidates, NonNegative, OptimizerTable, Proximal, Rate, Real
from ..config.requirements import KeyNeeds, given
from ..decoders import Decoder
from ..decoders.summing import SummingDecoder
from ..kernels import optimize, proximal
from ..transport.units import Unit
from ..util.capabilities import Capable
from ..util.errors import InputError
from ..util.stateful import Stateful

if TYPE_CHECKING:
    from ..config import Config
    from ..transport.units import Blocks
    from .proximals import Penalty


NO_MOMENTUM = 0.0, 0.0, 1.0, 0.0
"""Coefficients (d, a, o, k) of a step without a velocity, see `Momentum.coefficients`."""

AVERAGING = 8
"""η of the average of θ: about the last (t + η)/(η + 1) updates count, a ninth of a long run."""


class Optimizer(Stateful, Capable):
    """Optimizer that steps θ in place by the gradient held in one decoder per unit.

    A subclass defines `direction`, and `moments` if it has state. Weight decay and clipping are the same for
    all; the schedule's factor is a part of the damping.

    Parameters
    ----------
    table : OptimizerTable
        The table ``[optimizer]``.
    size : int
        Number of parameters in θ.
    dtype : dtype
        float32 or float64, of θ and of the decoders.
    layers : sequence of Blocks
        Matrices and vectors of θ, for weight decay.
    span : float
        Learning rate of the gradient steps whose sums the decoded vectors are, 1 for gradients; weight decay
        is multiplied by it.

    Attributes
    ----------
    moments : tuple of str
        Names of the state's arrays that have θ's shape; they begin with zeros.
    state : dict of str to ndarray
        State, for traces and the snapshots of replicas: the optimizer's own arrays, not copies.
    adjusts : bool
        Whether steps clip the gradient, or decay θ.
    penalises : bool
        Whether steps end by the proximal operator of a penalty.
    default_damping : bool
        Capability: `damping` is given by ``optimizer.staleness``.
    descends : bool
        Capability: a step is plain gradient descent.
    """

    covers: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "default_damping": ("damping",),
        "descends": ("step", "direction", "_advance"),
    }
    penalises: ClassVar[bool] = False
    default_damping: ClassVar[bool] = True
    descends: ClassVar[bool] = False

    state_names = ("state",)
    moments: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self, table: OptimizerTable, size: int, dtype: Any, layers: Sequence[Blocks] = (), span: float = 1.0
    ) -> None:
        self.table, self.size, self.dtype = table, int(size), np.dtype(dtype)
        self.rate, self._layers, self._span = float(table.rate), layers, span
        self._shrinkage = 1.0  # factor of clipping on the gradient of this step
        self.adjusts = table.decays or table.clip is not None
        self.state = {name: np.zeros(self.size, self.dtype) for name in self.moments}
        self._no_velocity = np.empty(0, self.dtype)
        # Arguments of the last step, and the views planned for them.
        self._theta: np.ndarray | None = None
        self._decoders: Sequence[Decoder] | None = None
        self._plan: list[tuple[Any, ...]] = []

    def damping(self, staleness: float) -> float:
        """Return the step's factor for gradients this many versions old: 1, or 1/(1 + staleness)."""
        return 1.0 if self.table.staleness == "constant" else 1.0 / (1.0 + staleness)

    @property
    def undamped(self) -> bool:
        """Whether `damping` is 1 for all payloads."""
        return self.default_damping and self.table.staleness == "constant"

    def step(
        self,
        theta: np.ndarray,
        units: Sequence[Unit],
        decoders: Sequence[Decoder],
        damping: float = 1.0,
        fraction: float = 1.0,
    ) -> float:
        """Move θ by the decoded gradient.

        Decoders whose next update begins with an empty accumulator are emptied in the same pass: read their
        `gradient` before the step, not after.

        Parameters
        ----------
        theta : ndarray, shape (size,)
            Changed in place.
        units : sequence of Unit
            Segments of θ.
        decoders : sequence of Decoder
            One per unit. Views are planned once; repeated steps should pass the same objects.
        damping : float
            Factor of the learning rate, including `OptimizerTable.factor`.
        fraction : float
            Fraction of a gradient that the decoders hold; penalty, weight decay and the largest norm are
            scaled by it.

        Returns
        -------
        float
            Euclidean norm of the step, without weight decay.
        """
        if theta is not self._theta or decoders is not self._decoders:
            self._bind(theta, units, decoders)
        if self.adjusts:
            self._adjust(theta, damping, fraction)
        return sqrt(self._advance(self.rate * damping))

    def average(self, average: np.ndarray, theta: np.ndarray, update: int) -> None:
        """Move the average of θ towards θ, after an update.

        θ̄ ← θ̄ + (η + 1)/(t + η) · (θ - θ̄), the polynomial-decay averaging of Shamir and Zhang, "Stochastic
        gradient descent for non-smooth optimization: convergence results and optimal averaging schemes", ICML
        2013. Update 1 replaces the θ̄ of the start.

        Parameters
        ----------
        average : ndarray, shape (size,)
            θ̄, changed in place.
        theta : ndarray, shape (size,)
        update : int
            Number t of the update that has led to θ, from 1 on; asynchronous ones, as many as there are
            workers, count as one.
        """
        optimize.average(average, theta, (AVERAGING + 1) / (update + AVERAGING))

    @cached_property
    def _whole(self) -> tuple[list[Unit], list[SummingDecoder]]:
        return [Unit(0, self.size, 1)], [SummingDecoder(1, (self.size,), self.dtype)]

    @property
    def whole_gradient(self) -> np.ndarray:
        """The gradient by which `step_whole` moves θ, shape (size,), to be filled in."""
        return self._whole[1][0].accumulator

    def step_whole(self, theta: np.ndarray, damping: float = 1.0, fraction: float = 1.0) -> float:
        """Move θ by `whole_gradient`; otherwise as `step`."""
        return self.step(theta, *self._whole, damping, fraction)

    def _adjust(self, theta: np.ndarray, damping: float, fraction: float) -> None:
        """Determine the factor of clipping, and decay θ."""
        if self.table.clip is not None:
            self._shrinkage = self._clipping(self.table.clip * fraction)
        if self.table.decays:
            self._decay(theta, self.rate * damping * fraction * self._span)

    def _decay(self, theta: np.ndarray, step: float) -> None:
        """Decay all parameters, matrices in one pass with their biases."""
        decays = self.table.weight_decay, self.table.vector_decay
        weights, vectors = (self.dtype.type(1 - step * decay) for decay in decays)
        for layer in self._layers:
            biases = layer.biases(theta)
            decayed = biases * vectors
            theta[layer.offset : layer.offset + layer.length] *= weights
            biases[:] = decayed

    def _clipping(self, longest: float) -> float:
        """Return the factor by which the decoded gradient is no longer than `longest`."""
        total = 0.0
        for decoder, _, gradient, *_ in self._plan:
            decoder.solve()
            with np.errstate(over="ignore"):
                total += decoder.scale**2 * float(np.vdot(gradient, gradient))
        return min(1.0, longest / sqrt(total)) if total > 0 else 1.0

    def _bind(self, theta: np.ndarray, units: Sequence[Unit], decoders: Sequence[Decoder]) -> None:
        if theta.shape != (self.size,) or theta.dtype != self.dtype:
            raise InputError(f"theta: {theta.dtype} {theta.shape} is not {self.dtype} ({self.size},)")
        plan = []
        for number, (unit, decoder) in enumerate(zip(units, decoders, strict=True)):
            sizes = decoder.blocks, decoder.elements, decoder.length
            if sizes != (unit.count, unit.elements, unit.length):
                raise InputError(
                    f"decoder {number}: {sizes[0]} blocks of {sizes[1]} elements, {sizes[2]} in all, "
                    f"not {unit.count} of {unit.elements}, {unit.length} in all"
                )
            place = slice(unit.offset, unit.offset + unit.length)
            moments = [self.state[name][place] for name in self.moments]
            plan.append((decoder, theta[place], decoder.accumulator[: unit.length], *moments))
        self._theta, self._decoders, self._plan = theta, decoders, plan

    def direction(self, gradient: np.ndarray, *moments: np.ndarray) -> np.ndarray:
        """Return the direction d of a unit's step θ ← θ - ηd, and update its moments in place.

        Parameters
        ----------
        gradient : ndarray, shape (length,)
            A copy, which may be overwritten and returned.
        *moments : ndarray, shape (length,)
            The unit's part of each array that `moments` names.
        """
        raise NotImplementedError

    def _advance(self, rate: float) -> float:
        """Step all units; return the squared norm of the step."""
        total = 0.0
        for decoder, theta, gradient, *moments in self._plan:
            decoder.solve()
            scaled = gradient * self.dtype.type(decoder.scale * self._shrinkage)
            direction = self.direction(scaled, *moments)
            total += optimize.sgd_step(theta, self._no_velocity, direction, 1.0, rate, *NO_MOMENTUM, False)
        return total


class SGD(Optimizer):
    """θ ← θ - η ĝ, on the touched blocks only where the decoder knows them."""

    descends: ClassVar[bool] = True

    def _bind(self, theta: np.ndarray, units: Sequence[Unit], decoders: Sequence[Decoder]) -> None:
        super()._bind(theta, units, decoders)
        self._plan = [(*views, optimize.Descent(*views[1:], views[0].elements)) for views in self._plan]

    def descents(
        self, theta: np.ndarray, units: Sequence[Unit], decoders: Sequence[Decoder]
    ) -> list[optimize.Descent]:
        """Return the compiled step of the touched blocks of each unit; arguments as for `step`."""
        self._bind(theta, units, decoders)
        return [blocks for *_, blocks in self._plan]

    def _advance(self, rate: float) -> float:
        total = 0.0
        for decoder, theta, gradient, blocks in self._plan:
            decoder.solve()
            scale, touched = decoder.scale * self._shrinkage, decoder.touched
            if touched is None:
                views = theta, self._no_velocity, gradient
                total += optimize.sgd_step(*views, scale, rate, *NO_MOMENTUM, decoder.clears)
                continue
            factor = rate * scale
            if len(touched) == 1 or sum(indices.size for indices in touched) < decoder.blocks:
                total = blocks.step(touched, factor, total)  # a repeated block is zero by then
            else:  # one pass over all blocks is cheaper
                total += optimize.sgd_step(
                    theta, self._no_velocity, gradient, 1.0, factor, *NO_MOMENTUM, True
                )
            touched.clear()
        return total


class ProximalSGD(SGD):
    """θ ← prox_{ηh}(θ - η ĝ), with momentum β as a heavy ball or Nesterov's; h is the penalty.

    Heavy ball: prox_{ηh}(θ - η ĝ + βd), d being the last step: iPiano (Ochs, Chen, Brox and Pock, SIAM J.
    Imaging Sci. 2014). Nesterov: x ← prox_{ηh}(θ - η ĝ), θ ← x + β(x - the last x), FISTA (Beck and Teboulle
    2009) with a constant β; gradients are taken at θ. Without h these are the steps of `Momentum` at a
    constant rate.
    """

    table: SGDTable
    penalises = True

    def __init__(
        self, table: SGDTable, size: int, dtype: Any, layers: Sequence[Blocks], span: float, penalty: Penalty
    ) -> None:
        super().__init__(table, size, dtype, layers, span)
        self._penalty = penalty
        self._before = np.empty(self.size, self.dtype)
        if table.momentum:  # the heavy ball's d, or Nesterov's θ - x
            self.state["displacement"] = np.zeros(self.size, self.dtype)

    def step(
        self,
        theta: np.ndarray,
        units: Sequence[Unit],
        decoders: Sequence[Decoder],
        damping: float = 1.0,
        fraction: float = 1.0,
    ) -> float:
        before, beta, last = self._before, self.table.momentum, self.state.get("displacement")
        np.copyto(before, theta)
        super().step(theta, units, decoders, damping, fraction)
        if last is not None and not self.table.nesterov:
            optimize.sgd_step(theta, self._no_velocity, last, 1.0, -beta, *NO_MOMENTUM, False)
        self._penalty.apply(theta, self.rate * damping * fraction * self._span)
        if last is not None and self.table.nesterov:
            np.subtract(before, last, out=last)  # the last x
            np.subtract(theta, last, out=last)
            last *= beta
            theta += last
        total = proximal.displace(before, theta)
        if last is not None and not self.table.nesterov:
            np.copyto(last, before)
        return sqrt(total)

    def average(self, average: np.ndarray, theta: np.ndarray, update: int) -> None:
        super().average(average, theta, update)
        self._penalty.apply(average, 0.0)  # into its domain: a mean of vectors of norm 1 is shorter


class Momentum(Optimizer):
    """Momentum β, as a heavy ball or Nesterov's.

    Heavy ball (Polyak 1964): v ← βv + ĝ, θ ← θ - ηv. Nesterov (1983), in the form of Sutskever, Martens, Dahl
    and Hinton (ICML 2013) at the point where gradients are taken: v ← βv + ĝ, θ ← θ - η(ĝ + βv).
    """

    table: SGDTable
    moments = ("velocity",)

    def coefficients(self) -> tuple[float, float, float, float]:
        """Return (d, a, o, k) of the next step: v ← d·v + a·ĝ, then θ ← θ - η(o·ĝ + k·v)."""
        beta = self.table.momentum
        return (beta, 1.0, 1.0, beta) if self.table.nesterov else (beta, 1.0, 0.0, 1.0)

    def _advance(self, rate: float) -> float:
        coefficients, total = self.coefficients(), 0.0
        for decoder, theta, gradient, velocity in self._plan:
            decoder.solve()
            views, scale = (theta, velocity, gradient), decoder.scale * self._shrinkage
            total += optimize.sgd_step(*views, scale, rate, *coefficients, decoder.clears)
            if decoder.clears:
                decoder.touched.clear()
        return total


class SignDescent(Optimizer):
    """θ ← θ - η sign(ĝ) (Bernstein, Wang, Azizzadenesheli and Anandkumar, "signSGD", ICML 2018)."""

    def _advance(self, rate: float) -> float:
        total = 0.0
        for decoder, theta, gradient in self._plan:
            decoder.solve()
            signs = np.sign(gradient)
            total += optimize.sgd_step(theta, self._no_velocity, signs, 1.0, rate, *NO_MOMENTUM, False)
        return total


class Adam(Optimizer):
    """Adam (Kingma and Ba, ICLR 2015), with bias correction."""

    table: AdamTable
    moments = ("first", "second")

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.state["steps"] = np.zeros(1, np.int64)

    def _advance(self, rate: float) -> float:
        self.state["steps"] += 1
        table, total = self.table, 0.0
        betas = table.beta1, table.beta2, table.epsilon, int(self.state["steps"][0])
        for decoder, theta, gradient, *moments in self._plan:
            decoder.solve()
            scale, clears = decoder.scale * self._shrinkage, decoder.clears
            total += optimize.adam_step(theta, *moments, gradient, scale, rate, *betas, clears)
            if decoder.clears:
                decoder.touched.clear()
        return total


class SGDTable(OptimizerTable, tag="sgd"):
    """Stochastic gradient descent."""

    linear: ClassVar[bool] = True
    nested: ClassVar[Mapping[str, type[Proximal]]] = {"proximal": Proximal}

    momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.0  #: factor on the last step, added to the next
    nesterov: bool = False  #: whether the momentum is Nesterov's; else it is the heavy ball's
    #: penalty h that is added to the loss: each step ends by its proximal operator, a table by kind; none:
    #: there is none
    proximal: Any = None

    candidates: ClassVar[Candidates] = {
        ("momentum", "nesterov"): ((0.0, False), (0.6, True), (0.8, True), (0.9, True))
    }
    effective: ClassVar[KeyNeeds] = {
        **OptimizerTable.effective,
        "nesterov": {"optimizer.momentum": given("momentum")},
    }

    def flops(self, layers: Any) -> float:
        passes = 1 + (self.momentum > 0) + 2 * (self.proximal is not None)
        return passes * super().flops(layers)

    def check_config(self, config: Config) -> None:
        super().check_config(config)
        if self.proximal is not None:
            self.proximal.check_config(config)

    def make(
        self, size: int, dtype: Any, penalty: Penalty | None = None, span: float = 1.0, layers: Any = ()
    ) -> Optimizer:
        if penalty is not None:
            return ProximalSGD(self, size, dtype, layers, span, penalty)
        return (Momentum if self.momentum else SGD)(self, size, dtype, layers, span)


class AdamTable(OptimizerTable, tag="adam"):
    """Adam."""

    makes: ClassVar[type[Optimizer]] = Adam
    touches: ClassVar[float] = 6.0

    beta1: Annotated[float, Meta(ge=0, lt=1)] = 0.9  #: decay of the mean gradient
    beta2: Annotated[float, Meta(ge=0, lt=1)] = 0.999  #: decay of the mean squared gradient
    epsilon: Real = 1e-8  #: added to the denominator


class AdamWTable(AdamTable, tag="adamw"):
    """AdamW: Adam with weight decay, of matrices by default (Loshchilov and Hutter, ICLR 2019)."""

    rate: Rate = 0.001  #: learning rate: about the largest change of a parameter in a step
    weight_decay: NonNegative = 0.01  #: weight decay of matrices


class SignTable(OptimizerTable, tag="sign"):
    """Steps of the learning rate along the signs of the gradient."""

    makes: ClassVar[type[Optimizer]] = SignDescent
    touches: ClassVar[float] = 8.0
    has_length: ClassVar[bool] = True

    def step_lengths(self, layer: Blocks) -> tuple[float, float]:
        return sqrt(layer.outputs * layer.inputs), sqrt(layer.outputs)


def create(table: OptimizerTable | Mapping[str, Any], *arguments: Any) -> Optimizer:
    """Build an optimizer from its table or keys; the other arguments are as for `OptimizerTable.make`."""
    if not isinstance(table, OptimizerTable):
        table = OptimizerTable.of(table)
    optimizer: Optimizer = table.make(*arguments)
    return optimizer
