"""The configuration of a run: one frozen struct a TOML table, checked before any communication starts."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Positive = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
LARGEST = 1e9  # keeps out infinity, and times that no clock holds
Real = Annotated[float, Meta(gt=0, le=LARGEST)]
NonNegative = Annotated[float, Meta(ge=0, le=LARGEST)]
Span = Annotated[float, Meta(ge=0, le=1e6)]  # s: more, and the clock stands at its end after few tasks
Factor = Annotated[float, Meta(ge=1, le=LARGEST)]
Fraction = Annotated[float, Meta(gt=0, le=1)]
Probability = Annotated[float, Meta(ge=0, le=1)]


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A TOML table; unknown keys are refused."""


class Problem(Table):
    """What is learnt, from which data."""

    kind: Literal["least-squares", "logistic", "softmax", "mlp"] = "mlp"
    data: str = "digits"  # a name, or the path of a file
    labels: str | None = None  # second file of MNIST IDX data; found by name if not given
    inputs: str = "x"  # name of the inputs in an npz or HDF5 file
    targets: str = "y"  # name of the targets in an npz or HDF5 file
    hidden: list[Positive] = msgspec.field(default_factory=lambda: [64])
    activation: Literal["relu", "tanh", "gelu"] = "relu"
    axis: Literal["auto", "output", "input"] | list[Literal["auto", "output", "input"]] = "auto"
    batch: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 32  # 0 = all rows of the worker's shard
    l2: NonNegative = 0.0
    dtype: Literal["float32", "float64"] = "float32"
    standardise: bool = False
    test_fraction: Annotated[float, Meta(ge=0, lt=1)] = 0.2
    split_seed: Count = 0
    # Rows are dealt out or, "replicated", all with every worker; auto does that on the virtual
    # clock if workers outnumber rows.
    shards: Literal["auto", "shuffled", "contiguous", "replicated"] = "auto"
    evaluate: Positive = 10_000  # rows at the most on which rank 0 measures loss and accuracy
    # synthetic data only
    samples: Positive = 1000
    features: Positive = 20
    outputs: Positive = 1
    noise: NonNegative = 0.1
    condition: Factor = 10.0
    density: Fraction = 1.0  # < 1: CSR inputs


class Code(Table):
    """Which codewords; blocks = 1 sends a layer whole."""

    # One of `pdcode codes list`, auto, or an adaptive one: matched (workers choose) or energy.
    family: str = "net"
    blocks: Positive | list[Positive] | Literal["units"] = 16
    weight: Positive | list[Positive] | None = None
    rows_per_task: Positive | list[Positive] | None = None  # r; none: by `share`, else 1
    share: Fraction | None = None  # r as a share of a layer's blocks, rounded up
    # Rows of the code. None: where they rotate, k under `async` and what an update uses under other modes;
    # else as many as the workers use.
    rows: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    # Every task takes the next rows of a code that is redrawn when it is used up and, but under `async`, at
    # every update.
    rotate: bool = True
    decay: Annotated[float, Meta(ge=0, lt=1)] = 0.9  # of what adaptive codes remember
    options: dict[str, bool | int | float | str] = msgspec.field(default_factory=dict)  # of the family


class Scheme(Table):
    """A named set of defaults for the tables that are not given."""

    name: Literal["lwpd", "uncoded"] = "lwpd"
    preset: Literal["default", "starved", "shards"] | None = None  # of lwpd; fills in keys that are not given


class Decoder(Table):
    # None: as the memory needs: tracking for the coordinator's, else adjoint.
    kind: Literal["adjoint", "least_squares", "tracking", "mmse", "peeling", "residual"] | None = None
    step: Annotated[float, Meta(gt=0, le=1)] = 1.0  # α of tracking
    noise: NonNegative | None = None  # σ² of mmse, of an element of a payload; none: estimated
    decay: Annotated[float, Meta(ge=0, lt=1)] = 0.9  # of what mmse remembers of the blocks' energies
    # Of residual: what a payload may differ from what the others say, as a share of its norm (None: the
    # rounding of the wire), and how many it looks for that differ more.
    tolerance: Annotated[float, Meta(gt=0, lt=1)] | None = None
    faults: Positive = 1


class Memory(Table):
    kind: Literal["none", "worker", "difference", "coordinator"] = "none"


class Wire(Table):
    dtype: Literal["float64", "float32", "bfloat16", "float16", "int8"] | None = None  # none: the problem's


class Downlink(Table):
    kind: Literal["full", "codewords"] = "full"
    check: Positive = 64  # codewords: each worker's θ is compared with rank 0's every so many tasks


class Update(Table):
    """When rank 0 steps."""

    mode: Literal["async", "all", "first", "captured"] = "async"
    count: Positive | None = None  # of `first`; none: three quarters of the workers
    fraction: Fraction = 0.75  # of `captured`
    late: Literal["use", "waste"] = "use"


class Optimizer(Table):
    kind: Literal["sgd", "adam"] = "sgd"
    # η. With memory "worker" an arrival is worth 1/n of a step, as the sum over n workers is divided by n;
    # without memory an update is a whole step on the mean of what has arrived, in `async` too.
    rate: Real = 0.1
    momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    beta1: Annotated[float, Meta(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Meta(ge=0, lt=1)] = 0.999
    epsilon: Real = 1e-8
    staleness: Literal["constant", "inverse"] = "constant"


class Workers(Table):
    count: Positive = 8


class Stragglers(Table):
    """Injected delays, keyed by (seed, worker, task), so that every scheme meets the same ones."""

    kind: Literal[
        "none", "shifted-exponential", "pareto", "bimodal", "lognormal", "markov", "slow-set",
        "heterogeneous", "trace",
    ] = "none"  # fmt: skip
    shift_s: NonNegative = 0.0  # of every delay; the least one of pareto
    mean_s: NonNegative = 0.0  # of the exponential part
    shape: NonNegative = 0.0  # of pareto's tail
    extra_s: NonNegative = 0.0  # more for the slow tasks of bimodal and markov
    probability: Probability = 0.0  # of a slow task, of bimodal
    median_s: NonNegative = 0.0  # of the lognormal part
    sigma: Annotated[float, Meta(ge=0, le=10)] = 0.0  # standard deviation of its logarithm
    enter: Probability = 0.0  # that a slow spell of markov begins, a task
    leave: Probability = 0.0  # that it ends
    path: str | None = None  # of recorded delays: a trace, or a CSV or HDF5 matrix of workers × rounds
    dataset: str | None = None  # of an HDF5 file with several matrices
    draw: Literal["bootstrap", "replay"] = "bootstrap"  # recorded delays at random, or in their order
    # What a matrix has: delays, which come on top of compute times, or times of whole tasks, which contain
    # them: a task takes so long, or what it computes if that is longer.
    times: Literal["delay", "task"] = "delay"
    slow: list[Count] = []  # workers whose delay is multiplied …
    slowdown: Factor = 1.0  # … by this; of heterogeneous that of the last worker
    dead: list[Count] = []  # workers that never answer
    how: Literal["sleep", "spin"] = "sleep"


class Machine(Table):
    """What a task costs on the virtual clock; a run over MPI takes no notice of it."""

    flops_per_s: Annotated[float, Meta(ge=1, le=1e18)] = 5e9  # of a worker, on its tasks
    task_s: Span = 5e-5  # of a worker, each task, beside its flops
    arrival_s: Span = 3e-5  # of rank 0, each arrival
    dispatch_s: Span = 5e-6  # of rank 0, each task that it sends
    update_s: Span = 0.0  # of rank 0, each update


class Link(Table):
    """The network on the virtual clock; a run over MPI takes no notice of it."""

    latency_s: Span = 2e-5  # one way
    bandwidth: Annotated[float, Meta(ge=1, le=1e18)] = 1e9  # bytes/s of rank 0's link, each way
    half_duplex: bool = False  # rank 0 sends or receives, one message at a time; if both wait it sends
    # θ that goes to many workers at once: a pipelined tree, or one by one, as a run over MPI sends it.
    broadcast: Literal["tree", "star"] = "tree"
    fanout: Annotated[int, Meta(ge=1, le=1024)] = 2  # of the tree
    segment: Positive = 65536  # bytes of the pieces that go through the tree


class Faults(Table):
    """Faults that are injected to try the error paths."""

    raise_worker: Count | None = None  # this worker raises an exception …
    raise_task: Count = 0  # … at this task
    nan_worker: Count | None = None  # this worker sends gradients that are no numbers …
    nan_task: Count = 0  # … from this task on


class Stop(Table):
    """The first of these that is reached ends the run."""

    updates: Positive | None = None
    seconds: Real | None = None
    loss: Real | None = None
    accuracy: Annotated[float, Meta(ge=-LARGEST, le=1)] | None = None


class Trace(Table):
    path: str = "results/trace.h5"
    flush_s: Real = 1.0
    progress_s: Real = 1.0  # how often rank 0 measures loss and accuracy, but for 5 % of its time at the most
    arrivals: Literal["all", "sampled", "none"] = "all"
    sample: Positive = 100


class Config(Table):
    """A whole run."""

    seed: Count = 1
    problem: Problem = Problem()
    code: Code = Code()
    scheme: Scheme = Scheme()
    decoder: Decoder = Decoder()
    memory: Memory = Memory()
    wire: Wire = Wire()
    downlink: Downlink = Downlink()
    update: Update = Update()
    optimizer: Optimizer = Optimizer()
    workers: Workers = Workers()
    stragglers: Stragglers = Stragglers()
    machine: Machine = Machine()
    link: Link = Link()
    faults: Faults = Faults()
    stop: Stop = Stop()
    trace: Trace = Trace()
