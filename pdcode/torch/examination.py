"""An examination of a user's module before a run.

Properties by which a run would train another model, or without effect, are refused. Properties by which
results depend on more than seed and rows are described in a line.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from inspect import signature
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ..problems.dataset import Rows
from ..problems.matrix import Array
from ..util.errors import InputError

NEAR = 1e-3  # relative difference of losses that count as equal
FEW = 2  # rows of a part; one row may have no variance
COMPLEX = {torch.float32: torch.complex64, torch.float64: torch.complex128}
CURE = "random numbers must come from torch, and changing values must be in a buffer"


class Examined(Protocol):
    """The part of a `TorchModel` that is examined."""

    module: nn.Module
    loss: Callable[..., Any]
    dtype: torch.dtype
    given: dict[torch.dtype, str]

    def bind(self, theta: Array) -> None: ...

    def losses(self, theta: Array, rows: Rows, parts: Sequence[Rows]) -> list[float]: ...

    def forward(self, theta: Array, rows: Rows) -> AbstractContextManager[Tensor]: ...


def refuse_unfit(module: nn.Module) -> None:
    """Refuse parameters that θ cannot have, or whose hooks would never be called."""
    for name, each in module.named_parameters():
        what = f"problem.module: parameter {_named(module, name)}"
        if is_lazy(each):
            raise InputError(
                f"{what} has no shape before a first pass: give the layer its number of inputs, or a module "
                "that has been called on a few rows"
            )
        if each.is_complex():
            raise InputError(
                f"{what} is {_type(each.dtype)}, and θ is real: make it of two real ones, by torch.complex "
                "in forward"
            )
        if each.device.type != "cpu":
            raise InputError(f"{what} is on {each.device}; ranks compute on CPUs: give module.cpu()")
        if getattr(each, "_post_accumulate_grad_hooks", None):
            raise InputError(
                f"{what} has a hook by register_post_accumulate_grad_hook, which would have no effect, as no "
                "gradient is accumulated: use register_hook"
            )


def types(module: nn.Module) -> dict[torch.dtype, str]:
    """Return the types of a module's parameters, each with the name of the first."""
    found = dict[torch.dtype, str]()
    for name, each in module.named_parameters():
        found.setdefault(each.dtype, name)
    return found


def converted(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return a module in a real type; complex buffers, such as rotations, stay complex."""
    kept = [
        (owner._buffers, name, each)
        for owner in module.modules()
        for name, each in owner._buffers.items()
        if each is not None and each.is_complex()
    ]
    for buffers, name, _ in kept:
        buffers[name] = None
    module = module.to(dtype)
    for buffers, name, each in kept:
        buffers[name] = each.to(COMPLEX[dtype])
    return module


def copy_hooks(module: nn.Module, copied: nn.Module) -> None:
    """Register the hooks of a module's parameters at the parameters of its copy, which lacks them."""
    for each, copy in zip(module.parameters(), copied.parameters(), strict=True):
        for hook in (each._backward_hooks or {}).values():
            copy.register_hook(hook)


def examine(model: Examined, theta: Array, rows: Rows) -> list[str]:
    """Examine a model by a pass of a few rows; return lines for the user."""
    _refuse_other_arguments(model, rows)
    _refuse_writes(model, theta, rows)
    lines = _refuse_sums(model, theta, rows)
    own, others = _type(model.dtype), model.given.keys() - {model.dtype, torch.float32}
    cures = {torch.float64: "; problem.dtype = 'float64' keeps them"}
    return lines + [
        f"problem.module: parameters such as {_named(model.module, model.given[each])} are "
        f"{_type(each)}, and are trained and returned in problem.dtype '{own}'{cures.get(each, '')}"
        for each in others
    ]


def why_impure(model: Examined, theta: Array, rows: Rows) -> str:
    """Name the innermost module whose outputs differ in two passes with the same inputs."""
    passes = [_record(model, theta, rows) for _ in range(2)]
    for (name, *first), (_, *second) in zip(*passes, strict=False):
        if _same(first[0], second[0]) and not _same(first[1], second[1]):
            kind = type(model.module.get_submodule(name)).__name__
            place = f"{name!r} ({kind})" if name else kind
            return f"{place} gives other outputs for the same inputs; {CURE}"
    return CURE


def _record(model: Examined, theta: Array, rows: Rows) -> list[tuple[str, Any, Any]]:
    """Return name, inputs and outputs of each call of a module in a pass, in the order of their ends."""
    calls = list[tuple[str, Any, Any]]()

    def hook(name: str) -> Any:
        return lambda module, inputs, outputs: calls.append((name, [*_copies(inputs)], [*_copies(outputs)]))

    handles = [each.register_forward_hook(hook(name)) for name, each in model.module.named_modules()]
    try:
        with model.forward(theta, rows):
            return calls
    finally:
        for handle in handles:
            handle.remove()


def _copies(found: Any) -> Iterator[Tensor]:
    """Yield copies of the tensors in a tree."""
    if isinstance(found, Tensor):
        yield found.detach().clone()
    elif isinstance(found, Mapping):
        yield from _copies([*found.values()])
    elif isinstance(found, list | tuple):
        for each in found:
            yield from _copies(each)


def _same(first: list[Tensor], second: list[Tensor]) -> bool:
    return len(first) == len(second) and all(
        a.shape == b.shape and bool(torch.equal(torch.nan_to_num(a), torch.nan_to_num(b)))
        for a, b in zip(first, second, strict=True)
    )


def _refuse_other_arguments(model: Examined, rows: Rows) -> None:
    """Refuse a loss that does not take the module and all arrays of rows."""
    try:
        found = signature(model.loss)
    except (TypeError, ValueError):  # of compiled functions
        return
    try:
        found.bind(model.module, *rows)
    except TypeError as error:
        parts = "module and an array" if len(rows) == 1 else f"module and {len(rows)} arrays"
        raise InputError(
            f"problem.loss: it is called with {parts} of rows, and has {found} ({error}); one of outputs and "
            "targets is given as lambda module, x, y: loss(module(x), y)"
        ) from None


def _refuse_writes(model: Examined, theta: Array, rows: Rows) -> None:
    """Refuse a module that writes parameters in its forward pass: rank 0's parameters would differ."""
    parameters = dict(model.module.named_parameters())
    model.bind(theta)
    before = {name: (each._version, each.detach().clone()) for name, each in parameters.items()}
    with model.forward(theta, rows):
        for name, each in parameters.items():
            version, value = before[name]
            if each._version != version or not torch.equal(each, value):
                raise InputError(
                    f"problem.module: its forward pass writes parameter {_named(model.module, name)}, "
                    "which only the optimizer may: compute with a changed copy, without max_norm and the like"
                )


def _refuse_sums(model: Examined, theta: Array, rows: Rows) -> list[str]:
    """Refuse a loss that is a sum over rows; return a line on one that is no mean for another reason."""
    count, twice = len(rows[0]), tuple(np.concatenate([each, each]) for each in rows)
    parts = (
        [tuple(each[:FEW] for each in rows), tuple(each[FEW:] for each in rows)] if count > FEW else [rows]
    )
    loss, again, doubled, *others = model.losses(theta, rows, [rows, rows, twice, *parts])
    if not np.isfinite(loss) or loss != again:  # `check_loss` says so
        return []
    same = np.isclose(doubled, loss, NEAR, 0)
    if np.isclose(doubled, 2 * loss, NEAR, 0) and not same:
        raise InputError(
            f"problem.loss: it is twice as large for the same rows twice ({loss:.3g} and {doubled:.3g}), so "
            "it is a sum; the mean over the rows is needed"
        )
    if same and np.isclose(np.average(others, weights=[len(each[0]) for each in parts]), loss, NEAR, 0):
        return []
    return [
        "problem.loss: the loss of rows is not the mean over parts of them, as with weights of classes or "
        "targets that are ignored: mini-batches count alike, whatever their rows weigh"
    ]


def _named(module: nn.Module, name: str) -> str:
    """Name a parameter, with the class of the module that has it."""
    return f"{name!r} of {type(module.get_submodule(name.rpartition('.')[0])).__name__}"


def _type(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
