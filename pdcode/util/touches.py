"""Time of passes over arrays of θ's size, on the virtual clock.

Such passes are bound by memory. The unit is a *touch*: an element of an array that a pass reads or writes, or
both. Its time is in flops of a gradient, and grows with the arrays, as less of them is in a cache.
``python -m benchmarks charges`` compares the counts with times.
"""

from math import log10

from ..fitted import TOUCH, TOUCH_FIRST, TOUCH_LAST


def flops_per_touch(size: float) -> float:
    """Return the flops of a gradient in the time of a touch, for arrays of so many elements."""
    return TOUCH * (1 + log10(min(max(size, TOUCH_FIRST), TOUCH_LAST) / TOUCH_FIRST))
