"""Base classes of problems: the keys of all models and their data."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

import msgspec
from msgspec import Meta

from ..util.errors import InputError
from . import kinds
from .building import Kind
from .fields import Count, Factor, Fraction, NonNegative, Positive
from .requirements import KeyNeeds, Need, having, lacking, one_of

FORMATS = {
    "npz": r"\.npz$",
    "npy": r"\.npy$",
    "csv": r"\.(csv|tsv)(\.(gz|bz2|zst))?$",
    "parquet": r"\.(parquet|pq)$",
    "hdf5": r"\.(h5|hdf5)$",
    "idx": r"[.-]idx\d*(-ubyte)?(\.gz)?$",
    "svmlight": r"\.(svm|svmlight|libsvm)(\.gz|\.bz2)?$",
}
"""Format of data -> pattern of the file's name."""
FIXED, PHOTOGRAPHS = ("digits", "breast-cancer", "diabetes", "mnist5k"), ("china-flower", "photographs")
BUNDLED = (*FIXED, *PHOTOGRAPHS, "synthetic")
"""Data sets that are values of problem.data."""


def is_bundled(data: object) -> bool:
    """Return whether the value of problem.data names a data set, also one of a plug-in, and no file."""
    if not isinstance(data, str) or data in BUNDLED:
        return isinstance(data, str)
    return data.isidentifier() and data not in FORMATS and kinds.find("readers", data) is not None


def _file_of(needed: str, *formats: str) -> Need:
    """Return the requirement of a file of one of these formats.

    Configurations of older versions have inputs "x" and targets "y" with data of any format.
    """
    pattern = re.compile("|".join(FORMATS[each] for each in formats))

    def applies(config: Any) -> bool:
        return (config.problem.inputs, config.problem.targets) != ("x", "y")

    return Need(lambda name, config: bool(pattern.search(str(name))), needed, when=applies)


class ProblemTable(Kind, tag_field="kind"):
    """The model, its loss, and the data: the keys of all kinds."""

    table, group, default = "problem", "problems", "mlp"
    deep: ClassVar[bool] = True  #: whether the model is more than linear in its inputs
    latent: ClassVar[bool] = False  #: whether the data are targets, and inputs are inferred from these
    positive: ClassVar[bool] = False  #: whether losses are above 0
    layered: ClassVar[bool] = False  #: whether models may show the inputs of their layers
    paths: ClassVar[tuple[str, ...]] = ("data",)
    requires: ClassVar[KeyNeeds] = {
        "shards": {
            "scheme.name": Need(
                lambda name, config: kinds.find("schemes", name).one_batch,
                "a scheme that sends gradients of one mini-batch each, such as 'lwpd'",
                when=lambda config: config.problem.shards == "common",
            )
        }
    }

    #: name of a data set, bundled or of a plug-in, or path of a file: in a TOML file relative to its folder,
    #: on the command line to the current folder
    data: str = "digits"
    batch: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 32  #: rows of a mini-batch; 0: the whole shard
    #: how mini-batches are drawn: each row from the whole shard, or without replacement, in epochs
    sampling: Literal["replacement", "epochs"] = "replacement"
    dtype: Literal["float32", "float64"] = "float32"  #: element type of θ, data and gradients
    test_fraction: Annotated[float, Meta(ge=0, lt=1)] = 0.2  #: fraction of the rows kept for testing
    split_seed: Count = 0  #: seed of the split into training and test rows, and of synthetic data
    #: how training rows are divided among workers; "replicated": every worker has all rows; "common": and all
    #: draw the same mini-batch at a version of θ, so that redundant codewords agree; auto: contiguous for
    #: HDF5 files, replicated on the virtual clock if workers outnumber rows, else shuffled
    shards: Literal["auto", "shuffled", "contiguous", "replicated", "common"] = "auto"
    evaluate: Positive = 10_000  #: maximum number of rows on which rank 0 measures loss and accuracy

    @property
    def propagates_blocks(self) -> bool:
        """Whether errors go through the blocks of codewords alone, independent ones in each layer."""
        return False

    @property
    def sized_by(self) -> str:
        """Name of the key that decides on the length of θ."""
        return "data"

    def of_seed(self, seed: int, before: int | None = None) -> Self:
        """Return the table of a run with this seed, where a key that is `before` follows it."""
        return self

    def check_config(self, config: Any) -> None:
        self.ensure_reachable("stop.loss:", config.stop.loss)

    def ensure_reachable(self, name: str, loss: float | None) -> None:
        """Refuse a target that no loss reaches; messages begin with `name`."""
        if self.positive and loss is not None and loss <= 0:
            raise InputError(f"{name} {loss:g}: expected a number above 0, as losses of '{self.kind}' are")


class NetworkTable(ProblemTable):
    """A network or linear model, its loss, and rows of inputs and targets."""

    positive: ClassVar[bool] = True
    layered: ClassVar[bool] = True
    classes: ClassVar[bool | None] = None  #: whether targets are classes; None: if they are integers
    max_classes: ClassVar[int | None] = None  #: largest number of classes; None: no limit
    counts: ClassVar[bool] = False  #: whether targets are counts, none of them negative
    squared: ClassVar[bool] = False  #: capability: the loss of outputs z and real targets t is ½‖z - t‖²
    asks: ClassVar[bool] = False  #: whether targets that look like classes need `task` "regression"
    paths: ClassVar[tuple[str, ...]] = ("data", "labels", "init")
    legacy_values: ClassVar[Mapping[str, Any]] = {
        "penalise_bias": True, "task": "type", "standardise": False
    }  # fmt: skip
    effective: ClassVar[KeyNeeds] = {
        ("hidden", "activation", "recursive"): {
            "problem.kind": having("deep", "a kind with hidden layers, such as 'mlp'")
        },
        "task": {
            "problem.kind": Need(
                lambda kind, config: kind.classes is None or kind.asks,
                "a kind for both tasks, such as 'mlp', or 'least-squares'",
                of_kind=True,
            )
        },
        "standardise_targets": {
            "problem.kind": having("squared", "a kind with squared losses, such as 'least-squares' or 'mlp'")
        },
        ("features", "outputs", "noise", "condition", "density"): {"problem.data": one_of("synthetic")},
        "samples": {
            "problem.data": Need(
                lambda data, config: is_bundled(data) and data not in FIXED,
                "'synthetic', photographs, or the data set of a plug-in",
            )
        },
        "labels": {"problem.data": _file_of("an IDX, npy or sparse npz file", "idx", "npy", "npz")},
        ("inputs", "targets"): {
            "problem.data": _file_of("a table, npz or HDF5 file", "csv", "parquet", "npz", "hdf5")
        },
        "exclude": {
            "problem.data": _file_of("a table", "csv", "parquet", "npz"),
            "problem.inputs": one_of(None, why="names the inputs"),
        },
        "missing": {
            "problem.data": _file_of("a CSV, Parquet, npz or npy file", "csv", "parquet", "npz", "npy")
        },
    }

    requires: ClassVar[KeyNeeds] = {
        **ProblemTable.requires,
        "recursive": {
            "scheme.name": one_of("lwpd", why="follows codewords of blocks"),
            "code.family": lacking("worker_selected", "a family drawn by both ends", "needs codewords first"),
            "code.rotate": one_of(True, why="averages over the blocks of layers above"),
            "code.whiten": one_of("none", why="has no errors of whole layers"),
            "memory.kind": lacking("has_residual", "'none' or 'coordinator'", "forms no whole gradient"),
            "reduce.kind": Need(
                lambda kind, config: not config.reduction.owners,
                "'star', 'allgather' or 'tree'",
                "forms no whole gradient",
            ),
        },
    }

    #: path, as for `data`, of the targets of data in a file of their own: of IDX, where none means found by
    #: its name, npy, and scipy's sparse npz
    labels: str | None = None
    #: type of the targets, for kinds that have both: classes or real numbers; auto: classes if they are
    #: integers, refused if in doubt; type: classes if and only if their type is an integer. Kind
    #: "least-squares" takes labels of classes as numbers only with "regression"
    task: Literal["auto", "classification", "regression", "type"] = "auto"
    #: name of the array of inputs, or names of columns; none: x, and of CSV and Parquet all columns but the
    #: targets
    inputs: str | list[str] | None = None
    targets: str | list[str] | None = None  #: name of the array or column of targets, or names; none: y
    exclude: str | list[str] = msgspec.field(default_factory=list)  #: names of columns that are not inputs
    #: what becomes of missing values: refuse: an error; mean, median: numbers become the mean or median in
    #: the training rows, text has none of its categories, and rows without a target are left out; drop: rows
    #: with a missing value are left out
    missing: Literal["refuse", "mean", "median", "drop"] = "refuse"
    hidden: list[Positive] | None = None  #: units of each hidden layer; none: 64 in one, if the kind has them
    #: activation function of the hidden layers; none: relu
    activation: Literal["relu", "tanh", "gelu"] | None = None
    #: axis of each layer that is cut into blocks: output units or input units; auto: the smaller payload
    axis: Literal["auto", "output", "input"] | list[Literal["auto", "output", "input"]] = "auto"
    #: whether coded derivatives propagate errors only through the blocks of output units that a task's
    #: codewords combine, times k over their number: less work, and estimates in layers below coded ones
    recursive: bool = False
    l2: NonNegative = 0.0  #: the loss includes ½·l2·‖W‖², W being the weights without biases
    penalise_bias: bool = False  #: whether the penalty includes biases: ½·l2·‖θ‖²
    #: scale each input to mean 0 and standard deviation 1; "guarded": to mean 0 and scales that keep part of
    #: their ratios, so that inputs that hardly vary stay small; "white": also uncorrelated, of at most 1,024
    #: inputs without penalty, else as true; with any of them, sparse inputs to largest magnitude 1, and
    #: uncentred; auto: guarded, but white in presets for linear models, and no scaling of inputs that are
    #: sparse or synthetic, nor with proximal steps, which are for weights of inputs as they are
    standardise: bool | Literal["guarded", "white", "auto"] = "auto"
    #: subtract from real targets their means, and divide all by the root of the mean of their variances;
    #: losses, predictions and exported weights stay in the units of the data; none: in presets for networks
    #: with real targets only
    standardise_targets: bool | None = None
    #: trace of a run, or npy file, with the θ from which the run starts, or npz file of weights by name
    init: str | None = None
    samples: Positive = 1000  #: synthetic data and photographs: number of rows, training and test
    features: Positive = 20  #: synthetic data: number of inputs
    outputs: Positive = 1  #: synthetic data: number of targets or classes
    noise: NonNegative = 0.1  #: synthetic data: standard deviation of the targets' noise
    condition: Factor = 10.0  #: synthetic data: condition number of the Hessian XᵀX
    density: Fraction = 1.0  #: synthetic data: fraction of nonzero inputs; below 1 they are sparse (CSR)

    def __post_init__(self) -> None:
        if self.deep:
            msgspec.structs.force_setattr(self, "hidden", [64] if self.hidden is None else self.hidden)
            msgspec.structs.force_setattr(self, "activation", self.activation or "relu")

    @property
    def propagates_blocks(self) -> bool:
        return self.recursive

    @property
    def sized_by(self) -> str:
        return "hidden" if self.deep and self.hidden else super().sized_by

    @property
    def scaling(self) -> bool | str:
        """How dense inputs are scaled, as `standardise`."""
        if self.standardise == "auto":
            return "guarded" if self.data != "synthetic" and not self.latent else False
        return True if self.standardise == "white" and self.l2 else self.standardise

    @property
    def classification(self) -> bool | None:
        """Whether targets are classes, by the kind or `task`; None: if they are integers."""
        if self.classes is not None:
            return self.classes
        return {"classification": True, "regression": False}.get(self.task)

    def array(self, key: str) -> Any:
        """Return the name of the array, or the names of columns, of the "inputs" or "targets"."""
        name = self.inputs if key == "inputs" else self.targets
        return ("x" if key == "inputs" else "y") if name is None else name

    def loss_of(self, classes: int | None) -> Any:
        """Return the loss, a `problems.Loss`, for this number of classes; None: for real targets."""
        raise NotImplementedError
