"""PyTorch: problems of kind "torch", `train`, and `record`; importing the package does not import torch."""

from typing import TYPE_CHECKING

from ..util.lazy import exports

if TYPE_CHECKING:
    from .recording import record as record
    from .training import train as train

__getattr__, __all__ = exports(__name__, {"recording": "record", "training": "train"})
