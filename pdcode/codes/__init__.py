"""Codes: the combinations of blocks that workers send. `design` makes a `Code`."""

from typing import Any

from . import registry
from .code import Code
from .design import design, fitting_rows
from .family import Family, Size
from .quality.captured import arrivals_needed, captured_energy
from .quality.information import arrival_information, information, joint_information
from .quality.spark import spark
from .summary import quality

__all__ = [
    "FAMILIES",
    "Code",
    "Family",
    "Size",
    "arrival_information",
    "arrivals_needed",
    "captured_energy",
    "design",
    "fitting_rows",
    "information",
    "joint_information",
    "quality",
    "spark",
]


def __getattr__(name: str) -> Any:
    if name == "FAMILIES":
        return registry.families()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
