"""Package files whose public names are imported on first use."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def exports(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], list[str]]:
    """Return the functions `__getattr__` and the list `__all__` of a package.

    Parameters
    ----------
    package : str
        Its `__name__`.
    homes : mapping of str to str
        Module, relative to the package, of each public name; several names are separated by blanks. A module
        that is itself public has no names.
    """
    places = {name: home for home, names in homes.items() for name in names.split() or [home]}

    def get(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = importlib.import_module(f".{places[name]}", package)
        return module if places[name] == name else getattr(module, name)

    return get, sorted(places)
