"""Data given in Python, and the model of a trace: labels and scales as they were, without the data."""

import signal
import threading
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas
import pytest
import traces
from outcomes import assert_replays, error_line, refused
from scipy import sparse
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor, Ridge

import pdcode
from pdcode.__main__ import main

IRIS = load_iris(as_frame=True)
X, SPECIES = IRIS.data.to_numpy(), IRIS.target_names[IRIS.target]
FRAME = IRIS.data.assign(species=SPECIES)
CONFIG: dict[str, Any] = {
    "problem": {"kind": "softmax", "batch": 0, "standardise": True, "test_fraction": 0.0, "dtype": "float64"},
    "code": {"blocks": 1},
    "workers": {"count": 2},
    "update": {"mode": "all"},
    "optimizer": {"rate": 1.0},
    "stop": {"updates": 300},
}


def simulate(path: Path, given: Any, **problem: Any) -> pdcode.Trace:
    config = CONFIG | {"problem": CONFIG["problem"] | problem}
    return pdcode.simulate(config, data=given, output=path / "a.h5", progress=False)


@pytest.mark.every(2)
@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ((X, SPECIES), {}),
        ((X.astype(np.float32).tolist(), list(SPECIES)), {}),
        ((IRIS.data, pandas.Series(SPECIES, name="species", dtype="category")), {}),
        ((sparse.csc_array(X), SPECIES), {}),
        (FRAME, {"targets": "species"}),
        (FRAME.assign(id="a"), {"targets": "species", "inputs": [*IRIS.data.columns]}),
        (FRAME.convert_dtypes(), {"targets": "species"}),
        (FRAME.rename(columns={"species": "x"}), {"targets": "x"}),
    ],
)
def test_every_form_of_data_trains_the_same_model(
    tmp_path: Path, data: Any, problem: Any, capsys: Any
) -> None:
    trace = simulate(tmp_path, data, **problem)
    assert_replays(trace.path, capsys)
    (tmp_path / "a.data.npz").unlink()  # the model needs the trace alone
    model = pdcode.Trace(trace.path).model()
    assert model.classes is not None
    assert model.classes.tolist() == ["setosa", "versicolor", "virginica"]
    assert model.score(X, SPECIES) == model.score(
        IRIS.data[IRIS.data.columns[::-1]] if model.columns else X, SPECIES
    )
    assert model.score(X, SPECIES) > 0.95
    assert (model.predict(sparse.coo_array(X)) == model.predict(X)).all()
    probabilities = model.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    np.testing.assert_array_equal(model.classes[probabilities.argmax(axis=1)], model.predict(X))


@pytest.mark.parametrize(
    ("kind", "y", "labels"),
    [
        ("logistic", SPECIES == "setosa", [False, True]),
        ("logistic", np.where(SPECIES == "virginica", 1.0, -1.0), [-1, 1]),
        ("softmax", IRIS.target.to_numpy() * 10**12 - 5, [-5, 10**12 - 5, 2 * 10**12 - 5]),
        ("mlp", IRIS.target.to_numpy().astype(str), ["0", "1", "2"]),
    ],
)
def test_labels_are_as_they_were(tmp_path: Path, kind: str, y: np.ndarray, labels: list[Any]) -> None:
    model = simulate(tmp_path, (X, y), kind=kind).model()
    assert model.classes is not None
    assert model.classes.tolist() == labels
    assert (model.predict(X) == y).mean() == model.score(X, y) > 0.95
    assert model.predict_proba(X).shape == (len(X), len(labels))


def test_predictions_are_those_of_scikit_learn(tmp_path: Path) -> None:
    """The optima of the same losses, to the accuracy that 600 updates reach."""
    x, y = load_diabetes(return_X_y=True, scaled=False)
    two, scaled = np.column_stack([y, x[:, 3] ** 2]), (x - x.mean(axis=0)) / x.std(axis=0)
    keys = {"l2": 0.1, "test_fraction": 0.0}
    config = CONFIG | {"stop": {"updates": 600}}

    def model(**problem: Any) -> Any:
        data = x, problem.pop("y")
        rate = 0.1 if problem["kind"] == "poisson" else 0.2
        tables = config | {"problem": CONFIG["problem"] | keys | problem, "optimizer": {"rate": rate}}
        return pdcode.simulate(tables, data=data, output=tmp_path / "a.h5", progress=False).model()

    linear, ridge = model(kind="least-squares", y=two), Ridge(0.1 * len(x)).fit(scaled, two)
    np.testing.assert_allclose(linear.predict(x), ridge.predict(scaled), rtol=1e-4)
    np.testing.assert_allclose(linear.score(x, two), ridge.score(scaled, two), rtol=1e-4)
    counts = np.round(y / 50)
    poisson, other = (
        model(kind="poisson", y=counts),
        PoissonRegressor(alpha=0.1, tol=1e-9).fit(scaled, counts),
    )
    np.testing.assert_allclose(poisson.predict(x), other.predict(scaled), rtol=2e-3)
    np.testing.assert_allclose(poisson.score(x, counts), other.score(scaled, counts), rtol=1e-3)
    classes = np.where(y > np.median(y), "ill", "well")
    logistic = model(kind="logistic", y=classes)
    judge = LogisticRegression(C=1 / (0.1 * len(x))).fit(scaled, classes)
    np.testing.assert_allclose(logistic.predict_proba(x), judge.predict_proba(scaled), atol=1e-3)
    with refused("predict_proba: the model has real targets"):
        linear.predict_proba(x)


@pytest.mark.parametrize(
    ("problem", "tables"),
    [
        (
            {"kind": "mlp", "hidden": [5, 4], "axis": "input"},
            {"code": {"family": "random", "blocks": [2, 3, 1]}},
        ),
        ({"kind": "mlp", "task": "regression", "dtype": "float32"}, {"optimizer": {"rate": 0.02}}),
        (
            {"kind": "mlp", "activation": "gelu"},
            {"code": {"blocks": "units"}, "downlink": {"kind": "codewords"}},
        ),
        (
            {"kind": "least-squares", "task": "regression", "dtype": "float32"},
            {"scheme": {"name": "mds"}, "code": {}, "update": {}},
        ),
        ({"kind": "poisson"}, {}),
        ({"kind": "softmax", "data": "a.h5"}, {}),
    ],
    ids=range(6),
)
def test_the_score_is_the_accuracy_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: Any, tables: Any
) -> None:
    """Of all rows, at the last update: the model of a trace is that of the run, whatever its form."""
    y = IRIS.target.to_numpy()
    monkeypatch.chdir(tmp_path)
    with h5py.File("a.h5", "w") as file:
        file.update({"x": X, "y": y})
    config = CONFIG | {"optimizer": {"rate": 0.1}} | tables
    config = {name: table for name, table in config.items() if table} | {
        "problem": CONFIG["problem"] | problem
    }
    trace = pdcode.simulate(config, data=None if "data" in problem else (X, y), output="r.h5", progress=False)
    assert trace.progress["version"][-1] == trace.counters["version"]
    np.testing.assert_allclose(trace.model().score(X, y), trace.progress["accuracy"][-1], rtol=1e-6)


def test_traces_without_a_model_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = simulate(tmp_path, (X, SPECIES))
    timed = pdcode.simulate(trace, timing_only=True, output=tmp_path / "timed.h5", progress=False)
    with refused("timed.h5: has no final theta"):
        timed.model()
    recorded = pdcode.Trace(traces.script(tmp_path / "script.h5", np.ones((1, 2)), 0.0).path)
    for method in (recorded.model, recorded.dictionary):  # a job of another program
        with refused("has no final theta"):
            method()
    with h5py.File(trace.path, "a") as file:
        del file["data"]  # as in traces of older versions
    assert_replays(trace.path, capsys)
    with refused("a.h5: has no labels and scales, as older versions"):
        pdcode.Trace(trace.path).model()
    assert main(["predict", str(trace.path), "digits"]) == 2
    assert "older versions" in error_line(capsys)


def test_several_targets_of_a_frame(tmp_path: Path) -> None:
    names = [*IRIS.data.columns]
    keys: dict[str, Any] = {"kind": "least-squares", "inputs": names[:2], "targets": names[2:]}
    model = pdcode.simulate(
        CONFIG | {"problem": CONFIG["problem"] | keys, "optimizer": {"rate": 0.1}},
        data=FRAME, output=tmp_path / "a.h5", progress=False,
    ).model()  # fmt: skip
    judge = LinearRegression().fit(X[:, :2], X[:, 2:])
    assert model.columns == tuple(names[:2])
    np.testing.assert_allclose(model.predict(FRAME), judge.predict(X[:, :2]), atol=1e-3)
    np.testing.assert_allclose(
        model.score(FRAME, FRAME[names[2:]]), judge.score(X[:, :2], X[:, 2:]), atol=1e-6
    )


def test_the_model_of_a_plug_in(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n"
        "from pdcode.problems import Classification\n"
        "class Squares(Classification, tag='squares'):\n"
        "    def loss(self, outputs, targets):\n"
        "        error = outputs - np.eye(outputs.shape[1], dtype=outputs.dtype)[targets]\n"
        "        return np.square(error).sum(axis=1) / 2, error\n"
    )
    config = CONFIG | {"plugins": [str(tmp_path / "mine.py")], "optimizer": {"rate": 0.2}}
    tables = config | {"problem": CONFIG["problem"] | {"kind": "squares"}}
    model = pdcode.simulate(tables, data=(X, SPECIES), output=tmp_path / "a.h5", progress=False).model()
    assert model.score(X, SPECIES) > 0.8
    with refused("problem.kind: 'squares' has no probabilities of classes"):
        model.predict_proba(X)


@pytest.mark.parametrize(
    ("data", "problem", "words"),
    [
        (X, {}, ["data: ndarray: expected a pair (X, y) or a data frame"]),
        ((X, SPECIES[:9]), {}, ["150 rows of inputs but 9 of targets"]),
        (
            (X, np.where(X[:, 0] > 5, 1.0, -1.0)),
            {"kind": "mlp"},
            ["problem.task: 'y' in 'data' has 2 distinct"],
        ),
        ((X[:0], SPECIES[:0]), {}, ["problem.data: 'data' has no rows"]),
        (FRAME, {}, ["problem.targets: no 'y' in 'data', which holds sepal length (cm)"]),
        (
            FRAME,
            {"targets": ["sepal length (cm)", "species"]},
            ["data, row 0, column 'species': 'setosa' is not a number"],
        ),
        ((X, [None, *SPECIES[1:]]), {}, ["data, row 0, column 'y': is missing"]),
        ((np.where(X > 7.8, np.nan, X), SPECIES), {}, ["row 131, column 0: is NaN; problem.missing = "]),
        (
            (IRIS.data.where(X < 7.8), SPECIES),
            {},
            ["data, row 131, column 'sepal length (cm)': is missing; "],
        ),
        (
            (FRAME.assign(day=pandas.Timestamp(0)), SPECIES),
            {},
            ["data, row 0, column 'day': 1970", " is not a"],
        ),
        (
            (FRAME.assign(no=[*map("n{}".format, range(150))]), SPECIES),
            {},
            ['problem.exclude = ["no"] leaves it'],
        ),
        (
            (pandas.concat([IRIS.data, IRIS.data], axis=1), SPECIES),
            {},
            ["data: two columns 'sepal length (cm)'"],
        ),
        ((X.astype(object), SPECIES), {}, ["data: 'x' holds Python objects"]),
        (
            (sparse.csr_array(X), SPECIES),
            {"inputs": ["a"]},
            ["problem.inputs: ['a']: a sparse matrix has no names"],
        ),
        ((X, SPECIES), {"labels": "y.npy"}, ["y.npy': the targets are given with `data`"]),
        (
            None,
            {"data": FRAME},
            ["problem.data: DataFrame", "expected a number, text, a list or a table; the arg"],
        ),
    ],
    ids=range(16),
)
def test_data_that_do_not_fit_are_refused(tmp_path: Path, data: Any, problem: Any, words: list[str]) -> None:
    with refused(*words):
        simulate(tmp_path, data, **problem)


def test_inputs_that_do_not_fit_a_model_are_refused(tmp_path: Path) -> None:
    trace = simulate(tmp_path, FRAME, targets="species")
    model = trace.model()
    for inputs, words in (
        (X[:, :3], "X: 3 inputs, and the model has 4"),
        (X[0], "X: float64 of shape (4,), not real numbers (rows, 4)"),
        (IRIS.data.drop(columns="petal width (cm)"), "X: no column 'petal width (cm)'"),
        (
            np.where(X > 7.8, np.inf, X),
            "X has a NaN or infinite value in float64: row 131, column 'sepal length (cm)'",
        ),
    ):
        with refused(words):
            model.predict(inputs)
    with refused("y: shape (9,)"):
        model.score(X, SPECIES[:9])
    with refused("y: 0 is no label such as 'setosa'"):
        model.score(X, IRIS.target)
    with refused("theta: float64 of shape (3,), and the model has 15 parameters"):
        trace.model(np.zeros(3))
    zero = trace.model(np.zeros(15))
    assert set(zero.predict(X)) == {"setosa"}


def test_data_that_have_changed_are_noticed(tmp_path: Path) -> None:
    trace = simulate(tmp_path, (X, SPECIES))
    simulate(tmp_path, (X + 1, SPECIES))
    previous = pdcode.Trace(tmp_path / "a.previous.h5")
    assert previous.attributes["run"] == trace.attributes["run"]
    with refused("a.data.npz' has changed since the run"):
        previous.replay(progress=False)
    assert previous.model().score(X, SPECIES) > 0.95
    (tmp_path / "a.data.npz").write_bytes(b"mine")
    with refused("a.data.npz: the existing file is not data of pdcode"):
        simulate(tmp_path, (X, SPECIES))


def test_a_run_resumes_with_the_same_data_only(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    config = CONFIG | {"stop": {"updates": 10**6}, "trace": {"checkpoint_s": 0.01, "path": str(path)}}
    main_thread = threading.main_thread().ident
    assert main_thread is not None

    def interrupt() -> None:
        while not (tmp_path / "a.h5.checkpoint" / "coordinator").exists() and not stopped.wait(0.02):
            pass
        signal.pthread_kill(main_thread, signal.SIGINT)

    stopped = threading.Event()
    watch = threading.Thread(target=interrupt)
    watch.start()
    how: dict[str, Any] = {"output": path, "progress": False}
    with pytest.raises(KeyboardInterrupt):
        pdcode.simulate(config, data=(X, SPECIES), **how)
    watch.join()
    done = pdcode.Trace(path).updates.rows
    config["stop"] = {"updates": done + 100}
    with refused("a.data.npz' has changed since the checkpoint"):
        pdcode.simulate(config, data=(X + 1, SPECIES), resume=True, **how)
    trace = pdcode.simulate(config, data=(X, SPECIES), resume=True, **how)
    assert (trace.segments.rows, trace.updates.rows) == (2, done + 100)


def test_plan_and_compare_take_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    config = CONFIG | {
        "problem": {"kind": "softmax", "targets": "species"},
        "stop": {"loss": 0.6, "seconds": 1.0},
    }
    found = pdcode.plan(config, data=FRAME, candidates=2, seeds=1, processes=1)
    assert "plan: " not in capsys.readouterr().out  # its file is gone
    assert "data" not in found["problem"]
    assert found["problem"]["targets"] == "species"
    assert pdcode.simulate(found, data=FRAME, progress=False).model().score(X, SPECIES) > 0.7
    made = pdcode.compare(
        config, ["uncoded", "yours"], data=FRAME, seeds=1, processes=1, output="made.h5", progress=False
    )
    assert made.to_pandas().seconds.max() < 1
    assert (tmp_path / "made.data.npz").exists()


def test_predict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    FRAME.to_csv("iris.csv", index=False)
    FRAME.drop(columns="species").iloc[:, ::-1].to_parquet("new.parquet")
    np.savez("new.npz", x=X)
    trace = simulate(tmp_path, None, data=str(tmp_path / "iris.csv"), targets="species")
    model = trace.model()
    for name in ("iris.csv", "new.parquet", "new.npz"):
        assert main(["predict", "a.h5", name, "-o", "out.csv", "--probabilities"]) == 0
        made = pandas.read_csv("out.csv")
        assert made.species.tolist() == model.predict(X).tolist()
        np.testing.assert_allclose(made.to_numpy()[:, 1:].astype(float), model.predict_proba(X))
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == "predictions: out.csv, 150 rows"
        assert lines[1:] == [f"accuracy {model.score(X, SPECIES):.4f} on the targets of iris.csv"] * (
            name == "iris.csv"
        )
    rows = [" ".join(["0", *(f"{place + 1}:{value}" for place, value in enumerate(row[:3]))]) for row in X]
    Path("narrow.svm").write_text("\n".join(rows))  # no entry of the last input
    assert main(["predict", "a.h5", "narrow.svm"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [*model.predict(X * [1, 1, 1, 0])]
    assert main(["predict", "a.h5", "new.npz"]) == 0
    assert capsys.readouterr().out.splitlines() == ["species", *model.predict(X)]
    for arguments, words in (
        (["a.h5", "iris.csv", "-o", "iris.csv"], "an input file cannot be overwritten"),
        (["iris.csv", "iris.csv"], "iris.csv"),
        (["a.h5", "gone.csv"], "no such file"),
    ):
        assert main(["predict", *arguments]) == 2
        assert words in error_line(capsys)
