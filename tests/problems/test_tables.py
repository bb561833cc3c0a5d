"""One's own data: tables, labels of any type, sparse matrices, and what is refused of them."""

import bz2
import gzip
import io
import re
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from outcomes import error_line
from scipy import sparse

from pdcode import problems
from pdcode.__main__ import main
from pdcode.problems.matrix import Csr
from pdcode.util.errors import InputError

ROWS = 20
RANDOM = np.random.default_rng(0)
X = np.round(RANDOM.standard_normal((ROWS, 2)), 3)
NAMES = np.array(["no", "yes", "naïve, 'x'"])[np.arange(ROWS) % 3]
WHOLE = {  # keeps the rows in order, as they are
    "test_fraction": 0, "shards": "contiguous", "dtype": "float64", "standardise": False
}  # fmt: skip


def csv_text(separator: str = ",", ends: str = "\n", labels: Any = NAMES) -> str:
    lines = [["a", "b", "y"], *([*map(str, row), f'"{label}"'] for row, label in zip(X, labels, strict=True))]
    return "".join(separator.join(line) + ends for line in lines)


def load(path: Path | str, **table: Any) -> problems.Dataset:
    return problems.load(problems.as_table({**WHOLE, "data": str(path), **table}))


def frame(**columns: Any) -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), file)
    return file.getvalue()


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def hdf5(**arrays: Any) -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w") as written:
        written.update(arrays)
    return file.getvalue()


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", csv_text().encode()),
        ("t.csv", csv_text().encode("utf-8-sig")),
        ("t.csv", csv_text(";", "\r\n").encode()),
        ("t.csv", csv_text(",", "\r").encode()),
        ("t.tsv", csv_text("\t", "\r\n").encode("utf-16")),
        ("t.csv.bz2", bz2.compress(csv_text().encode())),
        ("t.csv.zst", pyarrow.compress(csv_text().encode(), "zstd", asbytes=True)),
        ("t.csv", ("\n" + csv_text("|").replace("\n", "\n\n")).encode()),
        ("t.tsv", csv_text("\t").encode()),
        ("t.csv.gz", gzip.compress(csv_text().encode(), mtime=0)),
        ("t.parquet", frame(a=X[:, 0], b=X[:, 1], y=NAMES, __index_level_0__=np.arange(ROWS))),
        ("t.parquet", frame(a=X[:, 0], b=X[:, 1], y=pyarrow.array(NAMES).dictionary_encode())),
        ("t.npz", npz(x=X, y=NAMES)),
    ],
)
def test_tables_of_numbers_and_text(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    data = load(tmp_path / name)
    np.testing.assert_array_equal(data.x[:, :-1], X)
    assert data.common.values is not None
    np.testing.assert_array_equal(data.common.values[data.y], NAMES)
    assert data.common.coding.columns == (() if name == "t.npz" else ("a", "b"))


def test_columns_are_chosen_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(csv_text())
    np.savez(tmp_path / "t.npz", a=X[:, 0], b=X[:, 1], y=NAMES)
    for name in ("t.csv", "t.npz"):
        data = load(tmp_path / name, inputs=["b"], targets="y")
        np.testing.assert_array_equal(data.x[:, 0], X[:, 1])
        both = load(tmp_path / name, inputs=["b"], targets=["a", "b"][:1])
        np.testing.assert_array_equal(both.y, X[:, :1])
    data = load(tmp_path / "t.npz", inputs=["a"], targets=["b", "a"][:1])
    np.testing.assert_array_equal(data.y, X[:, 1:])
    (tmp_path / "two.csv").write_text("z,a,b\n1,2,3\n4,5,7\n")
    np.testing.assert_array_equal(
        load(tmp_path / "two.csv", targets=["b", "a"], task="regression").y, [[3, 2], [7, 5]]
    )


def test_numbers_that_are_names_of_columns(tmp_path: Path) -> None:
    for names in (["1", "0", "5", "3"], [str(400 + each / 2) for each in range(9)]):
        (tmp_path / "t.csv").write_text(
            f"{','.join(names)},y\n" + f"{'1,' * len(names)}a\n{'2,' * len(names)}b\n"
        )
        assert load(tmp_path / "t.csv").common.coding.columns == tuple(names)


@pytest.mark.parametrize("targets", [NAMES, np.arange(ROWS) % 2 == 0, np.arange(ROWS) % 2 - 5])
@pytest.mark.parametrize("shards", ["auto", "shuffled"])
def test_labels_in_hdf5_slices(tmp_path: Path, targets: np.ndarray, shards: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = X
        file["y"] = targets.astype(object) if targets.dtype.kind == "U" else targets
    table = problems.as_table({**WHOLE, "data": str(tmp_path / "a.h5"), "shards": shards})
    source = problems.load_source(table)
    values = source.dataset.common.values
    assert values is not None
    assert values.dtype.kind == targets.dtype.kind
    got = [problems.receive(table, source.shard(worker, 2), worker, 2) for worker in range(2)]
    found = np.concatenate([values[shard.y] for shard in got])
    np.testing.assert_array_equal(np.sort(found), np.sort(targets))


@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "bsr", "dia"])
def test_sparse_matrices_of_scipy(tmp_path: Path, kind: str) -> None:
    dense = np.where(RANDOM.random((ROWS, 6)) < 0.4, np.round(RANDOM.standard_normal((ROWS, 6)), 3), 0)
    sparse.save_npz(tmp_path / "a.npz", sparse.csr_array(dense).asformat(kind))
    np.save(tmp_path / "y.npy", np.arange(ROWS) % 2 == 0)
    data = load(tmp_path / "a.npz", labels=str(tmp_path / "y.npy"))
    assert isinstance(data.x, Csr)
    np.testing.assert_array_equal(data.x.toarray()[:, :-1], dense)
    assert data.common.values is not None
    assert data.common.values.tolist() == [False, True]
    np.save(tmp_path / "a.npy", dense)
    np.testing.assert_array_equal(load(tmp_path / "a.npy", labels=str(tmp_path / "y.npy")).x[:, :-1], dense)


def absent(mask: Any) -> bytes:
    """Return an npz file with this array of the rows without a target."""
    return npz(x=X, y=NAMES, **{"y.absent": mask})


WANTED = f"not bool of shape ({ROWS},)"
DECIMALS = "a;y\n" + "".join(f"{row};{row},5\n" for row in range(ROWS))
ENDLESS = gzip.compress(b"a,y\n" + b"1," * (9 << 20), 1, mtime=0)
DAMAGED = b"\x93NUMPY\x01\x00\x26\x00{'descr': f('<f8'), 'shape': (20, 3),}"


BAD: list[tuple[str, str | bytes, dict[str, Any], str]] = [
    ("a.csv", "", {}, "problem.data: '{}' is empty"),
    ("a.csv", "a,y\n", {}, "problem.data: '{}' has no rows"),
    ("a.csv", "a,b\n1,2\n", {}, "problem.targets: no 'y' in '{}', which holds a, b"),
    ("a.csv", "1,2,no\n3,4,yes\n", {}, "which holds 1, 2, no; its first line must have"),
    ("a.csv", "1.5,2,no\n3,4,yes\n", {"targets": "no"}, "line 1: it has the number 1.5, so it is a row"),
    ("a.csv", "1,1,no\n3,4,yes\n", {"targets": "no"}, "'{}', line 1: it has 1 twice, so it is a row; add a"),
    ("a.csv", csv_text(), {"inputs": ["a", "z"]}, "problem.inputs: no 'z' in '{}', which holds a, b, y"),
    ("a.csv", csv_text(), {"inputs": ["a", "y"]}, "problem.inputs: 'y' is one of problem.targets, too"),
    ("a.csv", csv_text(), {"targets": ["a", "b", "y"]}, "problem.inputs: '{}' has no columns but"),
    ("a.csv", "a,a,y\n1,2,3\n", {}, "problem.data: '{}' has two columns 'a'"),
    ("a.csv", ",a,y\n0,1,no\n", {}, "problem.inputs: column 1 of '{}' has no name"),
    ("a.csv", "a,y\n1,no\n\n2,yes,3\n", {}, "'{}', line 4: expected 2 columns, got 3: '2,yes,3'"),
    ("a.csv", "a,b,y\n1,2\n", {}, "problem.data: '{}', line 2: expected 3 columns, got 2: '1,2'"),
    ("a.csv", "a,y\n1,no\n\nx,yes\n", {}, "problem.inputs: '{}', line 4, column 'a': 'x' is not a number"),
    ("a.csv", 'a,y\n1,"n\no"\n2.5.1,yes\n', {}, "line 4, column 'a': '2.5.1' is not a number"),
    ("a.csv", "a;y\n1,5;no\n", {}, "line 2, column 'a': '1,5' is not a number"),
    ("a.csv", "a,y\n1,5,2\n", {}, "got 3: '1,5,2'; a cell with a comma is quoted, and numbers have a point"),
    ("a.csv", DECIMALS, {}, "'y': '0,5' is not a number; numbers have a point, and no comma"),
    ("a.csv", "a,b,y\n1,,0\n2,,1\n", {"missing": "drop"}, "column 'b' has no value at all; problem.exc"),
    ("a.csv", "a,y\n1,no\nNA,yes\n", {}, "problem.inputs: '{}', line 3, column 'a': is missing"),
    ("a.csv", "a,y\n1,no\ninf,yes\n", {}, "line 3, column 'a': inf is not a finite number"),
    ("a.csv", "a,y\n1,no\n2024-01-31,yes\n", {}, "line 3, column 'a': '2024-01-31' is not a number"),
    ("a.csv", "a,y\n2024-01-31,no\n2024-01-30,yes\n", {}, "'a': '2024-01-30' is a date or time; problem.ex"),
    ("a.csv", "a,y\n1,no\n2,\n", {}, "problem.targets: '{}', line 3, column 'y': is missing"),
    ("a.csv", "a,y\n1,true\n2,\n", {}, "problem.targets: '{}', line 3, column 'y': is missing"),
    ("a.csv", "a,y\n1,no\n2,no\n", {}, "problem.targets: '{}' has one class only, 'no'"),
    ("a.csv", csv_text(), {"kind": "logistic"}, "problem.kind: 'logistic' needs two"),
    ("a.csv", csv_text(), {"kind": "least-squares"}, "'{}', line 2, column 'y': 'no' is not a number; for"),
    ("a.csv", csv_text(), {"targets": ["a", "y"]}, "problem.targets: '{}', line 2, column 'y': 'no'"),
    ("a.csv", "a,y\n1,9223372036854775809\n2,3\n", {"kind": "softmax"}, "row 0 has 9.22337203685"),
    ("a.csv", "a,y\n1e300,no\n2,yes\n", {"dtype": "float32"}, "float32: line 2, column 'a' has 1e+300; pro"),
    ("a.csv", b"a,y\n1,\xff\n2,no\n", {}, "problem.data: '{}', line 2, column 'y': b'\\xff' is not UTF-8"),
    ("a.csv", "größe,b,y\n1,2,3\n".encode("latin-1"), {}, "'{}', line 1: b'gr\\xf6\\xdfe' is not UTF-8; sav"),
    ("a.csv", b"\n\na,b\xe9,y\n1,2,3\n", {"exclude": "z"}, "'{}', line 3: b'b\\xe9' is not UTF-8; save the"),
    ("a.csv", "a,y\n1,no\n".encode("utf-16"), {}, "'{}'"),
    ("a.csv", 'a,y\n1,2\n"3,4\n' + "5,6\n" * 9, {}, "'{}', line 3: expected 2 columns, got 1: '3,4"),
    ("a.csv", 'a,y\n1,2\n"3,4\n' + "5,6\n" * 40_000, {}, "'{}', line 3: field larger than field limit"),
    ("a.csv", 'a,y\n1,2\n3\n4,"' + "5,6\n" * 40_000, {}, "'{}', line 3: expected 2 columns, got 1: '3'"),
    ("a.csv.gz", ENDLESS, {}, "problem.data: '{}', line 2: the row has more than 16777216 characters"),
    ("a.csv", 'a,y\n1,"u"\n2,"u\0"\n', {"kind": "softmax"}, "'{}', column 'y': 'u\\x00' has a NUL"),
    ("a.csv", 'a,y\nu,1\nu\0,2\n', {"task": "regression"}, "'{}', column 'a': 'u\\x00' has a NUL"),
    ("a.parquet", frame(a=[1, 2], y=["u", "u\0"]), {}, "'{}', column 'y': 'u\\x00' has a NUL"),
    ("a.csv.gz", gzip.compress(csv_text().encode(), mtime=0)[:-20], {}, "'{}' cannot be read as CSV"),
    ("a.csv.gz", b"nonsense", {}, "problem.data: '{}' cannot be read as CSV"),
    ("a.parquet", b"nonsense", {}, "problem.data: '{}' cannot be read as Parquet"),
    ("a.parquet", frame(a=[1, None], y=["no", "yes"]), {}, "problem.inputs: '{}', row 1, column 'a': is mis"),
    ("a.parquet", frame(a=[[1], [2]], y=[1, 2]), {}, "problem.inputs: '{}', row 0, column 'a': "),
    ("a.parquet", frame(a=[1, 2], y=[None, "yes"]), {}, "problem.targets: '{}', row 0, column 'y': is"),
    ("a.npz", npz(x=X, y=NAMES[:-1]), {}, "problem.data: '{}' has 20 rows of inputs but 19 of targets"),
    ("a.npz", absent(np.zeros(3, bool)), {}, f"'y.absent' in '{{}}' is bool of shape (3,), {WANTED}"),
    ("a.npz", absent(np.ones((ROWS, 1), bool)), {"missing": "drop"}, f"shape ({ROWS}, 1), {WANTED}"),
    ("a.npz", absent(np.zeros(ROWS)), {"missing": "drop"}, f"is float64 of shape ({ROWS},), {WANTED}"),
    ("a.npz", absent(NAMES), {}, f"'y.absent' in '{{}}' is <U10 of shape ({ROWS},), {WANTED}"),
    ("a.npz", npz(a=X, y=NAMES), {"inputs": ["a"]}, "problem.inputs: '{}': 'a' has shape (20, 2), not the"),
    ("a.npz", npz(x=np.where(X[3, 1] == X, np.nan, X), y=NAMES), {}, "row 3, column 1: is NaN; problem.mis"),
    ("a.npz", npz(x=NAMES, y=NAMES), {}, "problem.inputs: 'x' in '{}' holds text, not real numbers"),
    ("a.npz", npz(data=X, format="csr", shape=[ROWS, 2]), {}, "problem.labels: not given, and '{}'"),
    ("a.npz", npz(data=X, format="xyz", shape=[ROWS, 2], y=NAMES), {}, "a sparse matrix of format 'xyz'"),
    (
        "a.npz",
        npz(data=X[:, 0], indices=[9] * ROWS, indptr=range(ROWS + 1), format="csr", shape=X.shape, y=NAMES),
        {},
        "problem.data: '{}' cannot be read as npz: ",
    ),
    ("a.npy", npy(X), {}, "problem.labels: not given, and '{}' has inputs alone; name a file of targets"),
    ("a.npy", npy(X)[:-8], {"labels": "a.npy"}, "problem.data: '{}' cannot be read as npy: "),
    ("a.npy", DAMAGED, {"labels": "a.npy"}, "'{}' cannot be read as npy: the header of '{}' is damaged"),
    ("a.npy", npy(np.array([{}])), {"labels": "a.npy"}, "problem.data: '{}' holds Python objects"),
    ("a.h5", hdf5(x=X, y=np.arange(ROWS)), {"inputs": ["x"]}, "problem.inputs: a list names columns of a"),
    ("a.h5", hdf5(x=X), {}, "problem.targets: no 'y' in '{}', which holds x"),
    ("a.svm", "1 1:1\n\n0 2:abc\n1 1:1\n", {}, "read as svmlight: line 3, '0 2:abc': could not"),
    ("a.svm", "1 1:1\n0 2:1 1:1\n", {}, "svmlight: line 2, '0 2:1 1:1': Feature indices"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "table", "message"), BAD, ids=range(len(BAD)))
def test_bad_data_are_refused_in_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: str | bytes,
    table: Any,
    message: str,
) -> None:
    path, job = tmp_path / name, tmp_path / "job.toml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    keys = "".join(f"{key} = {value!r}\n" for key, value in {"data": name, **table}.items())
    job.write_text(f"[problem]\n{keys}[stop]\nupdates = 1\n")
    assert main(["simulate", str(job), "-o", str(tmp_path / "a.h5")]) == 2
    assert message.replace("{}", str(path)) in error_line(capsys)


def test_the_package_is_named_if_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only of formats that need it: CSV files do not."""
    (tmp_path / "a.csv").write_text(csv_text())
    (tmp_path / "a.parquet").write_bytes(frame(a=X[:, 0], y=NAMES))
    for module in ("pyarrow", "pyarrow.csv", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, module, None)
    np.testing.assert_array_equal(load(tmp_path / "a.csv").x[:, :-1], X)
    command = re.escape(f"{sys.executable} -m pip install pyarrow")
    with pytest.raises(InputError, match=rf"a\.parquet' is read by the package pyarrow: {command}"):
        load(tmp_path / "a.parquet")
