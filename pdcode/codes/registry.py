"""Registry of the families of codes."""

from functools import cache
from typing import Any

from ..config import kinds
from ..util.errors import InputError, expected
from .family import Family


@cache
def families() -> dict[str, Family]:
    """Return the families that are built in, by name. It imports all of them."""
    return {name: kinds.find("families", name) for name in kinds.KINDS["families"]}


def find(name: Any) -> Family | None:
    """Return the family of a name, or None: a built-in one, or one of a plug-in or an installed package."""
    family: Family | None = kinds.find("families", name)
    return family


def family_of(name: Any) -> Family:
    """Return a family by its name; raise InputError if there is none."""
    family = find(name)
    if family is None:
        raise InputError(f"family: {expected(name, [*kinds.names('families'), 'auto'])}")
    return family
