"""Plug-ins that code under test imports: other tests import the same ones from other places."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pdcode.config import kinds


@contextmanager
def forgotten() -> Iterator[None]:
    """Forget at the end what the block registers and imports."""
    registered, imported = {group: {**names} for group, names in kinds.KINDS.items()}, {*sys.modules}
    try:
        yield
    finally:
        for group, names in registered.items():
            kinds.KINDS[group].clear()
            kinds.KINDS[group].update(names)
        for name in {*sys.modules} - imported:
            if name.startswith("pdcode plug-in"):
                del sys.modules[name]
