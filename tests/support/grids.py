"""The size of grids and samples: what `make test` has of them, `make test-system` and `make test-long`."""

from collections.abc import Iterable

import pytest
from hypothesis import settings

LONG = settings.get_current_profile_name() == "long"


def with_system(*few: object, system: Iterable[object]) -> list[object]:
    """The cases of a test: a few for `make test`, and others for `make test-system`."""
    marked = (each if isinstance(each, tuple) else (each,) for each in system)
    return [*few, *(pytest.param(*each, marks=pytest.mark.system) for each in marked)]
