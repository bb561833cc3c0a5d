"""Floating-point operations of PyTorch's products, by its own formulas."""

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class Counter(TorchDispatchMode):
    """Counter of operations in a block; PyTorch's own counter leaves hooks on the parameters."""

    flops = 0

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        keywords = keywords or {}
        result = function(*arguments, **keywords)
        if (count := flop_registry.get(function._overloadpacket)) is not None:
            self.flops += count(*arguments, **keywords, out_val=result)
        return result
