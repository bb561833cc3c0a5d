"""Problems: models, data, losses, and coded derivatives."""

from .dataset import Dataset
from .loading import DataSource, describe, load, load_slice, receive, sliced
from .losses import Classification, Loss, Regression
from .partition import Blocks, partition, payload_layout, sparse_codewords, task_rows
from .plan import Plan
from .problem import Problem, as_table, create, synthetic_sizes

__all__ = [
    "Blocks",
    "Classification",
    "DataSource",
    "Dataset",
    "Loss",
    "Plan",
    "Problem",
    "Regression",
    "as_table",
    "create",
    "describe",
    "load",
    "load_slice",
    "partition",
    "payload_layout",
    "receive",
    "sliced",
    "sparse_codewords",
    "synthetic_sizes",
    "task_rows",
]
