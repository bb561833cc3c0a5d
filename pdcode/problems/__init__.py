"""Problems: models, data, losses, and coded derivatives."""

from ..transport.units import Blocks, payload_layout, sparse_codewords, task_rows
from .checking import check_loss
from .coding import Samples
from .dataset import Dataset, RowSet
from .factors import DenseFactors, Factors, Products
from .formats import fingerprint
from .loading import DataSource, load, load_source, read, receive, sliced
from .losses import Classification, Loss, Regression
from .model import Measurement, Model, ModelTable
from .partition import partition
from .plan import GradientPlan
from .problem import NetworkProblem, Problem, as_table, create, of_network, synthetic_sizes
from .samples import Reader

__all__ = [
    "Blocks",
    "Classification",
    "DataSource",
    "Dataset",
    "DenseFactors",
    "Factors",
    "GradientPlan",
    "Loss",
    "Measurement",
    "Model",
    "ModelTable",
    "NetworkProblem",
    "Problem",
    "Products",
    "Reader",
    "Regression",
    "RowSet",
    "Samples",
    "as_table",
    "check_loss",
    "create",
    "fingerprint",
    "load",
    "load_source",
    "of_network",
    "partition",
    "payload_layout",
    "read",
    "receive",
    "sliced",
    "sparse_codewords",
    "synthetic_sizes",
    "task_rows",
]
