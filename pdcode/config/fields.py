"""Types of keys, with their bounds, and the base class of tables."""

import sys
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

Positive = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
MAX_VALUE = 1e9  # excludes infinity, and times that overflow int64 ns
Real = Annotated[float, Meta(gt=0, le=MAX_VALUE)]
Rate = Real | Literal["auto"]
Flops = Annotated[float, Meta(gt=0, le=sys.float_info.max)]
NonNegative = Annotated[float, Meta(ge=0, le=MAX_VALUE)]
TIME, RATE, SIZE = (Meta(extra={"quantity": each}) for each in ("time", "rate", "size"))
"""Marks of keys whose value may be text with a unit, see `util.units`; numbers are in s, bytes/s, bytes."""
Seconds = Annotated[float, Meta(ge=0, le=1e6), TIME]  # so that int64 ns cannot overflow within few tasks
Duration = Annotated[Real, TIME]
Delay = Annotated[NonNegative, TIME]
Bandwidth = Annotated[float, Meta(ge=1, le=1e18), RATE]
Bytes = Annotated[Positive, SIZE]
Factor = Annotated[float, Meta(ge=1, le=MAX_VALUE)]
Fraction = Annotated[float, Meta(gt=0, le=1)]
Tables = Mapping[str, Mapping[str, Any]]
Candidates = Mapping[Any, Any]
"""Key, or tuple of keys -> values to try, in order (tuples of values), or a function of the number of workers
that returns them."""
STRICT: Any = {"frozen": True, "forbid_unknown_fields": True}  # Any: mypy has subclasses repeat it


class Table(msgspec.Struct, **STRICT):
    """A TOML table; unknown keys are refused.

    Attributes
    ----------
    effective, requires : dict
        Needs of other keys, by key; see `config.requirements`.
    candidates : dict
        Values that plans and tuning try, by key, see `Candidates`.
    """

    effective: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    requires: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    candidates: ClassVar[Candidates] = {}
