"""Losses by functions of `torch.nn.functional`, and the accuracy of classes; torch is imported on demand."""

from collections.abc import Callable
from copy import deepcopy
from functools import cache
from inspect import signature
from typing import Any

from ..util.errors import InputError, did_you_mean

CLASSES = ("cross_entropy", "nll_loss")
"""Losses of classes, whose score is the accuracy."""
REGRESSIONS = (
    "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "poisson_nll_loss", "kl_div",
)  # fmt: skip
"""Losses whose least value is not near 0."""
ENDINGS = "_loss", "_entropy", "_with_logits", "_div"


@cache
def functional(name: str) -> Callable[..., Any]:
    """Return the loss of module and rows, whose last array is the target, by the function's name."""
    from torch.nn import functional as functions

    known = {
        each: function
        for each, function in vars(functions).items()
        if each.endswith(ENDINGS) and len(_needed(function)) == 2
    }
    if name not in known:
        meant = did_you_mean(name, known)
        raise InputError(
            f"problem.loss: neither FILE.py:NAME nor a loss by torch.nn.functional of outputs and targets: "
            f"{name!r}{meant}"
        )
    return _of_outputs(known[name], name)


def named(loss: Any) -> str:
    """Return the name of the function of ``torch.nn.functional`` that a loss is, or calls; empty if none."""
    if getattr(loss, "__module__", "") == "torch.nn.functional":
        return str(loss.__name__)
    kind: Any = type(loss)
    if kind.__module__ != "torch.nn.modules.loss":
        return ""
    return next((each for each in kind.forward.__code__.co_names if each.endswith(ENDINGS)), "")


def of_outputs(loss: Any, name: str, dtype: str) -> Callable[..., Any]:
    """Return a loss of module and rows for a function or module that is one of outputs and targets.

    That is a function of ``torch.nn.functional``, or a module whose `forward` needs two arguments; others are
    returned as they are. `name` is as of `named`.
    """
    import torch
    from torch.nn.modules.loss import _Loss

    if isinstance(loss, type) and issubclass(loss, torch.nn.Module):
        raise InputError(f"problem.loss: {loss.__name__} is a class; give an object of it, {loss.__name__}()")
    if (mean := getattr(loss, "reduction", "mean")) != "mean":
        raise InputError(
            f"problem.loss: {type(loss).__name__} has reduction {mean!r}; 'mean', that over rows, is needed"
        )
    if isinstance(loss, _Loss) and len(_needed(loss.forward)) != 2:
        raise InputError(
            f"problem.loss: {type(loss).__name__} is not one of outputs and targets alone; give a function "
            "of (module, *rows)"
        )
    if isinstance(loss, torch.nn.Module) and len(_needed(loss.forward)) == 2:
        return _of_outputs(deepcopy(loss).to(getattr(torch, dtype)), name)
    return functional(name) if name and not isinstance(loss, torch.nn.Module) else loss


def _of_outputs(function: Any, name: str) -> Callable[..., Any]:
    def loss(module: Any, *rows: Any) -> Any:
        outputs, target = module(*rows[:-1]), rows[-1]
        if name in REGRESSIONS:
            target = target.to(outputs.dtype)
            target = target.reshape(outputs.shape) if target.numel() == outputs.numel() else target
        elif not target.is_floating_point():
            target = target.long()
        try:
            return function(outputs, target)
        except IndexError as error:
            if name not in CLASSES:
                raise
            classes = outputs.shape[min(1, outputs.dim() - 1)]
            raise InputError(f"problem.module: it has outputs for {classes} classes: {error}") from None

    return loss


def _needed(function: Callable[..., Any]) -> list[Any]:
    return [each for each in signature(function).parameters.values() if each.default is each.empty]


def accuracy(module: Any, *rows: Any) -> float:
    """Return the fraction of classes that are right, of outputs whose second axis has the classes."""
    outputs, target = module(*rows[:-1]), rows[-1]
    classes = target.argmax(1) if target.is_floating_point() else target
    return float((outputs.argmax(1) == classes).double().mean().item())
