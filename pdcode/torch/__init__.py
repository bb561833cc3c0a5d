"""PyTorch: problems of kind "torch", `train`, and `record`; importing the package does not import torch."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .recording import record as record
    from .training import train as train

_HOMES = {"record": "recording", "train": "training"}
__all__ = ["record", "train"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
