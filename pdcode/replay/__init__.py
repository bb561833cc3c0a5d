"""Recompute a run from its trace, and compare it bit for bit.

θ is a function of the configuration, the seed and the order of arrivals. A replay therefore

1. gives the recorded arrivals, in their order, to the same `Coordinator` over a `VirtualFleet` whose workers
   compute every payload anew;
2. compares the columns of the trace as they become known;
3. compares the final θ, the optimizer's state and the counters.

On the virtual clock the order and all times follow from the model, and are recomputed as well.
"""

from .comparison import Difference as Difference
from .replayer import Replayer as Replayer
from .replayer import replay as replay
