"""A run made again from its trace, and compared with it to the last bit.

θ is determined by the configuration, the seed and the order in which replies arrived. The coordinator of the
run is given replies in that order, by workers that compute all of them anew; every column of the trace that
is determined is compared as soon as it is known, so the first arrival that differs is found.

On the virtual clock that order and all times are determined, too: they are computed again by the model. Those
of a real run are the machine's; of them only such are found as cannot be beside the others.
"""

from .recorded import Difference as Difference
