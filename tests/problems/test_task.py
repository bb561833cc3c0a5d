"""Whether targets are classes or numbers: by the kind, by `task`, by their type, or refused in doubt."""

import h5py
import numpy as np
import pytest

from pdcode import problems
from pdcode.config import ProblemTable, legacy
from pdcode.util.errors import InputError

RANDOM = np.random.default_rng(0)
ROWS = 1000
X = RANDOM.standard_normal((ROWS, 3))
PRICES, LABELS = RANDOM.permutation(ROWS) // 2, RANDOM.integers(10, size=ROWS)
TARGETS = {
    "labels": (LABELS, 10),
    "prices": (PRICES, "500 distinct whole numbers of type int64 in 1000 rows"),
    "float labels": (LABELS.astype(float), "10 distinct whole numbers of type float64"),
    "reals": (RANDOM.standard_normal(ROWS), None),
    "float prices": (PRICES.astype(float), None),
    "two columns": (RANDOM.standard_normal((ROWS, 2)), None),
}


def write(folder, name, y):
    path = folder / f"a.{name}"
    if name == "npz":
        np.savez(path, x=X, y=y)
    elif name == "h5":
        with h5py.File(path, "w") as file:
            file["x"], file["y"] = X, y
    else:
        rows = zip(y, X, strict=True)
        path.write_text(
            "".join(
                f"{float(t)} " + " ".join(f"{i + 1}:{v}" for i, v in enumerate(x)) + "\n" for t, x in rows
            )
        )
    return str(path)


@pytest.mark.parametrize("name", ["npz", "h5"])
@pytest.mark.parametrize("what", TARGETS)
def test_auto_takes_the_type_of_the_targets_unless_in_doubt(tmp_path, name, what):
    y, expected = TARGETS[what]
    table = problems.as_table({"data": write(tmp_path, name, y)})
    for read in (problems.load, problems.load_source):
        if isinstance(expected, str):
            with pytest.raises(InputError, match=f"problem.task: 'y' in '.*' has {expected}"):
                read(table)
        else:
            data = read(table)
            assert getattr(data, "dataset", data).classes == expected


@pytest.mark.parametrize("what", ["labels", "prices", "float labels"])
def test_a_task_that_is_given_is_the_task(tmp_path, what):
    y = TARGETS[what][0]
    path = write(tmp_path, "npz", y)
    assert problems.create({"data": path, "task": "classification"}).classes == len(np.unique(y))
    problem = problems.create({"data": path, "task": "regression"})
    assert problem.classes is None
    assert problem.dataset.y.shape == (problem.rows, 1)
    by_type = problems.create({"data": path, "task": "type"}).classes
    assert by_type == (len(np.unique(y)) if y.dtype.kind == "i" else None)


def test_svmlight_does_not_distinguish_numbers_from_classes(tmp_path):
    assert problems.create({"data": write(tmp_path, "svm", LABELS)}).classes == 10
    with pytest.raises(
        InputError, match=r"problem.task: the targets of '.*' have 500 distinct whole numbers"
    ):
        problems.create({"data": write(tmp_path, "svm", PRICES)})
    assert problems.create({"data": write(tmp_path, "svm", PRICES), "kind": "least-squares"}).classes is None


@pytest.mark.parametrize("name", ["npz", "h5"])
def test_least_squares_on_labels_of_classes_asks(tmp_path, name):
    labels = problems.as_table({"data": write(tmp_path, name, LABELS), "kind": "least-squares"})
    for read in (problems.load, problems.load_source):
        with pytest.raises(InputError, match=r"problem.task: 'y' in .* has 10 distinct .*'regression'"):
            read(labels)
    for what in ("prices", "reals", "float labels", "two columns"):
        table = {"data": write(tmp_path, name, TARGETS[what][0]), "kind": "least-squares"}
        assert problems.create(table).classes is None
    table = {"data": write(tmp_path, name, LABELS), "kind": "least-squares", "task": "regression"}
    assert problems.create(table).classes is None
    with pytest.raises(InputError, match=r"problem.task: 'classification', and kind 'least-squares' is a"):
        problems.create(table | {"task": "classification"})


@pytest.mark.parametrize("name", ["npz", "h5"])
def test_many_real_numbers_are_no_classes(tmp_path, name):
    path = write(tmp_path, name, PRICES.astype(float))
    for table in ({"data": path, "kind": "softmax"}, {"data": "diabetes", "kind": "softmax"}):
        with pytest.raises(InputError, match=r"(500|214) distinct real .* take kind 'least-squares'"):
            problems.load_source(problems.as_table(table))
    for y in (PRICES, LABELS.astype(float)):
        problems.create({"data": write(tmp_path, name, y), "kind": "softmax"})


def test_bundled_labels_are_labels_whatever_their_number():
    for data in ("digits", "breast-cancer"):
        with pytest.raises(InputError, match=r"for classes take problem.kind 'softmax' or 'mlp'"):
            problems.create({"data": data, "kind": "least-squares"})
    assert problems.create({"data": "diabetes", "kind": "least-squares"}).classes is None


def test_a_trace_of_least_squares_on_labels_is_not_asked_again():
    table = legacy.read_kind(ProblemTable, {"kind": "least-squares", "data": "digits", "task": "auto"})
    assert problems.create(table).classes is None


def test_synthetic_data_follow_the_task():
    table = {"data": "synthetic", "outputs": 3}
    assert problems.create(table).classes == 3
    problem = problems.create({**table, "task": "regression"})
    assert (problem.classes, problem.dataset.outputs) == (None, 3)
    with pytest.raises(InputError, match=r"problem.outputs: 1, but kind 'mlp' needs two classes"):
        problems.create({"data": "synthetic", "task": "classification"})


def test_a_trace_without_the_key_goes_by_the_type(tmp_path):
    table = legacy.read_kind(ProblemTable, {"data": write(tmp_path, "npz", PRICES), "l2": 0.1})
    assert problems.create(table).classes == 500
    assert table.penalise_bias
