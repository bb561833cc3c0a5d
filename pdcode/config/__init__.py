"""The configuration: its tables, the base classes of kinds, and the types of keys.

An invalid key or value raises `InputError`; the message is one line that names both.
"""

from .fields import (
    MAX_VALUE,
    RATE,
    SIZE,
    TIME,
    Bandwidth,
    Bytes,
    Candidates,
    Count,
    Delay,
    Duration,
    Factor,
    Fraction,
    NonNegative,
    Positive,
    Rate,
    Real,
    Seconds,
    Table,
    Tables,
)
from .interfaces import (
    BUNDLED,
    CodeTable,
    DecoderTable,
    DesignedTable,
    FaultEvent,
    MemoryTable,
    NetworkTable,
    OptimizerTable,
    ProblemTable,
    Proximal,
    StragglersTable,
    UpdateTable,
)
from .schema import (
    AUTO,
    KINDS,
    Config,
    DownlinkTable,
    FaultsTable,
    LinkTable,
    MachineTable,
    ReduceTable,
    SchemeTable,
    ShuffleTable,
    StopTable,
    TraceTable,
    WireTable,
    WorkersTable,
)

__all__ = [
    "AUTO", "BUNDLED", "KINDS", "MAX_VALUE", "RATE", "SIZE", "TIME", "Bandwidth", "Bytes", "Candidates",
    "CodeTable", "Config", "Count", "DecoderTable", "Delay", "DesignedTable",
    "DownlinkTable", "Duration", "Factor", "FaultEvent", "FaultsTable", "Fraction", "LinkTable",
    "MachineTable", "MemoryTable", "NetworkTable", "NonNegative", "OptimizerTable", "Positive",
    "ProblemTable", "Proximal",
    "Rate", "Real", "ReduceTable", "SchemeTable", "Seconds", "ShuffleTable", "StopTable",
    "StragglersTable", "Table", "Tables", "TraceTable", "UpdateTable", "WireTable", "WorkersTable",
]  # fmt: skip
