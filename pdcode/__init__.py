"""pdcode: distributed gradient descent in which the partial derivatives themselves are coded.

`pdcode.codes`, `pdcode.decoders`, `pdcode.problems` and `pdcode.Trace` are the public interface; each is
imported when it is first used. Importing the package starts no MPI.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .util.version import __version__ as __version__

if TYPE_CHECKING:
    from . import codes as codes
    from . import decoders as decoders
    from . import problems as problems
    from .trace.reader import Trace as Trace

__all__ = ["Trace", "codes", "decoders", "problems"]


def __getattr__(name: str) -> Any:
    if name == "Trace":
        return importlib.import_module(".trace.reader", __name__).Trace
    if name in __all__:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
