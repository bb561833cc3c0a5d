"""Capabilities: facts that classes declare about their methods, on which faster paths rely."""

from collections.abc import Mapping
from itertools import takewhile
from typing import Any, ClassVar


class Capable:
    """Base class of objects with capabilities.

    A capability is a class attribute that is True where some methods do no more than the class that declares
    it says. A subclass that overrides one of them, or inherits an override from another base class, loses
    the capability, unless it declares it again.

    Attributes
    ----------
    covers : dict of str to tuple of str
        Capability -> the methods on which it depends.
    """

    covers: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for capability, methods in cls.covers.items():
            overriding = takewhile(lambda base: capability not in vars(base), cls.__mro__)  # noqa: B023
            if any(not vars(base).keys().isdisjoint(methods) for base in overriding):
                setattr(cls, capability, False)
