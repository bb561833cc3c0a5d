"""A run made again from its trace, and compared with it to the last bit.

θ is determined by the configuration, the seed and the order in which replies arrived. The coordinator of the
run is given replies in that order, by workers that compute all of them anew; every column of the trace that
is determined is compared as soon as it is known, so the first arrival that differs is found.
"""

from .command import remake, replay
from .recorded import Difference

__all__ = ["Difference", "remake", "replay"]
