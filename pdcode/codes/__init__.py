"""Codes: which combinations of blocks are sent. `design` makes one, `Code` holds it."""

from __future__ import annotations

from .code import Code
from .design import FAMILIES, design, fitting_rows
from .information import information, joint_information

__all__ = ["FAMILIES", "Code", "design", "fitting_rows", "information", "joint_information"]
