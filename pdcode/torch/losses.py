"""Losses by functions of `torch.nn.functional`, and the accuracy of classes; torch is imported on demand."""

from collections.abc import Callable
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
    """Return the loss of module and rows, of which the last array is the target, by the function's name."""
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
    function = known[name]

    def loss(module: Any, *rows: Any) -> Any:
        outputs, target = module(*rows[:-1]), rows[-1]
        if name in REGRESSIONS:
            target = target.to(outputs.dtype)
            target = target.reshape(outputs.shape) if target.numel() == outputs.numel() else target
        elif not target.is_floating_point():
            target = target.long()
        return function(outputs, target)

    return loss


def _needed(function: Callable[..., Any]) -> list[Any]:
    return [each for each in signature(function).parameters.values() if each.default is each.empty]


def accuracy(module: Any, *rows: Any) -> float:
    """Return the fraction of classes that are right, of outputs whose second axis is that of classes."""
    outputs, target = module(*rows[:-1]), rows[-1]
    classes = target.argmax(1) if target.is_floating_point() else target
    return float((outputs.argmax(1) == classes).double().mean().item())
