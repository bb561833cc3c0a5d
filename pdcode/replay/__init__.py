"""Replay: recompute a run from its trace and compare it bit for bit.

θ is a function of the configuration, the seed and the order of arrivals. A replay therefore

1. feeds the arrivals in their recorded order to the same `Coordinator`, over a `VirtualFleet` whose workers
   recompute every payload;
2. compares each row of the trace as soon as it is recomputed;
3. compares the final θ, the optimizer's state and the counters.

On the virtual clock the order of arrivals and all times follow from the cost model, and are recomputed too.
"""

from .comparison import Difference as Difference
from .replayer import Replayer as Replayer
from .replayer import replay as replay
