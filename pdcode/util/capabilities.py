"""Capabilities: facts that classes declare about their methods, on which faster paths rely."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class Capable:
    """Base class of objects with capabilities.

    A capability is a class attribute that is True where some methods do no more than the class that declares
    it says. A subclass that overrides one of them loses the capability, unless it declares it again.

    Attributes
    ----------
    covers : dict of str to tuple of str
        Capability -> the methods on which it depends.
    """

    covers: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        own = vars(cls)
        for capability, methods in cls.covers.items():
            if capability not in own and not own.keys().isdisjoint(methods):
                setattr(cls, capability, False)
