"""The configuration: its tables, the base classes of kinds, and the types of keys.

An invalid key or value raises `InputError`; the message is one line that names both. Names are imported on
first use: a scheme that needs the base classes alone loads no other table.
"""

from typing import TYPE_CHECKING

from ..util.lazy import exports

if TYPE_CHECKING:
    from .fields import *
    from .interfaces import *
    from .problems import *
    from .schema import *

__getattr__, __all__ = exports(
    __name__,
    {
        "fields": "MAX_VALUE RATE SIZE TIME Bandwidth Bytes Candidates Count Delay Duration Factor Fraction "
        "Flops NonNegative Positive Rate Real Seconds Table Tables",
        "interfaces": "CodeTable DecoderTable DesignedTable DownlinkTable FaultEvent MemoryTable "
        "OptimizerTable Proximal ReduceTable ShuffleTable StragglersTable UpdateTable",
        "problems": "BUNDLED NetworkTable ProblemTable",
        "schema": "AUTO KINDS Config FaultsTable LinkTable MachineTable SchemeTable StopTable "
        "TraceTable WireTable WorkersTable",
    },
)
