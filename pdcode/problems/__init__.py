"""Problems: models, data, losses, and coded derivatives."""

from .checking import check_loss
from .dataset import Dataset
from .formats import fingerprint
from .loading import DataSource, load, load_source, read, receive, sliced
from .losses import Classification, Loss, Regression
from .partition import Blocks, partition, payload_layout, sparse_codewords, task_rows
from .plan import GradientPlan
from .problem import Problem, as_table, create, synthetic_sizes

__all__ = [
    "Blocks",
    "Classification",
    "DataSource",
    "Dataset",
    "GradientPlan",
    "Loss",
    "Problem",
    "Regression",
    "as_table",
    "check_loss",
    "create",
    "fingerprint",
    "load",
    "load_source",
    "partition",
    "payload_layout",
    "read",
    "receive",
    "sliced",
    "sparse_codewords",
    "synthetic_sizes",
    "task_rows",
]
