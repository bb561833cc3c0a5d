"""Tables as people have them, from file to predictions: missing values, text, columns to leave out."""

import io
import tomllib
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pyarrow.csv
import pytest
from hypothesis import given
from hypothesis import strategies as st
from outcomes import error_line, refused
from sklearn.datasets import load_diabetes, load_digits, load_wine

import pdcode
from pdcode import problems
from pdcode.__main__ import main
from pdcode.api.data import arrays_of
from pdcode.problems import tables
from pdcode.problems.coding import Coding
from pdcode.problems.delimited import read_csv
from pdcode.util.errors import InputError

RANDOM = np.random.default_rng(0)
WORDS = ["north", "south", "east side", "naïve, 'x'", "a;b"]
WHOLE = {
    "task": "regression",
    "test_fraction": 0,
    "standardise": False,
    "shards": "contiguous",
    "dtype": "float64",
    "kind": "least-squares",
}


def wine(missing: bool, text: bool) -> pandas.DataFrame:
    """The wines, with names of cultivars, and if so with missing values and a column of text."""
    bunch, random = load_wine(as_frame=True), np.random.default_rng(1)
    names = np.array(["Barolo", "Grignolino", "Barbera"])[bunch.target]
    frame = bunch.data.assign(cultivar=names)
    if text:
        frame["region"] = np.where(bunch.target == 1, "north", random.choice(["south", "east"], len(frame)))
    for name in ("malic_acid", "hue", *["region"] * text) if missing else ():
        frame.loc[random.choice(len(frame), 8, replace=False), name] = None
    return frame


def images(path: Path) -> None:
    bunch = load_digits()
    np.savez(path, images=bunch.images.astype("uint8"), labels=bunch.target)


KINDS: dict[str, tuple[str, Any, tuple[int, int], float]] = {
    "images": (
        'problem = {data = "d.npz", inputs = "images", targets = "labels"}\nstop.updates = 300\n',
        images,
        (2, 4),
        0.9,
    ),
    "clean": (
        'problem = {kind = "softmax", data = "d.csv", targets = "cultivar"}\nstop.updates = 300\n',
        lambda path: wine(False, False).to_csv(path, index=False),
        (2, 4),
        0.95,
    ),
    "missing and text": (
        'problem = {kind = "softmax", data = "d.csv", targets = "cultivar", missing = "mean"}\n'
        "stop.updates = 300\n",
        lambda path: wine(True, True).to_csv(path, index=False),
        (2, 5),
        0.95,
    ),
    "regression": (
        'problem = {kind = "least-squares", data = "d.csv", targets = "target"}\nstop.updates = 500\n',
        lambda path: load_diabetes(as_frame=True, scaled=False).frame.to_csv(path, index=False),
        (2, 4),
        0.45,
    ),
}
"""Job, what writes its data, lines and keys of the job, and the score that its predictions must reach."""


@pytest.mark.every(2)
@pytest.mark.parametrize("kind", KINDS)
def test_from_file_to_predictions(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text, write, counts, least = KINDS[kind]
    keys = sum(len(table) for table in tomllib.loads(text).values())
    assert (text.count("\n"), keys) == counts
    monkeypatch.chdir(tmp_path)
    data = Path(tomllib.loads(text)["problem"]["data"])
    write(data)
    Path("job.toml").write_text(text)
    assert main(["simulate", "job.toml", "-o", "job.h5"]) == 0
    capsys.readouterr()
    assert main(["predict", "job.h5", str(data), "-o", "predicted.csv"]) == 0
    score = float(capsys.readouterr().out.rpartition(" on the targets")[0].rpartition(" ")[2])
    assert score > least
    if data.suffix == ".csv":  # the same rows in Python, without the file
        model = pdcode.Trace("job.h5").model()
        frame = pandas.read_csv(data)
        target = tomllib.loads(text)["problem"]["targets"]
        assert model.score(frame, frame[target]) == pytest.approx(score, abs=1e-4)
        written = pandas.read_csv("predicted.csv")[target]
        np.testing.assert_array_equal(model.predict(frame[::-1])[::-1], written)


rows = st.integers(12, 40).flatmap(
    lambda count: st.fixed_dictionaries(
        {
            "number": st.lists(st.none() | st.floats(-1e6, 1e6, width=32), min_size=count, max_size=count),
            "whole": st.lists(st.integers(-5, 5), min_size=count, max_size=count),
            "word": st.lists(st.none() | st.sampled_from(WORDS), min_size=count, max_size=count),
            "flag": st.lists(st.booleans(), min_size=count, max_size=count),
        }
    )
)


def coded(path: Path, **table: Any) -> tuple[np.ndarray, problems.Dataset]:
    data = problems.load(problems.as_table({**WHOLE, "data": str(path), "targets": "y", **table}))
    assert isinstance(data, problems.Dataset)
    assert isinstance(data.x, np.ndarray)
    return data.x[:, :-1], data


@given(rows, st.sampled_from(["mean", "median"]), st.randoms(use_true_random=False))
def test_columns_are_coded_as_pandas_codes_them(
    tmp_path_factory: pytest.TempPathFactory, columns: Any, missing: Any, source: Any
) -> None:
    """As by `get_dummies`, with pandas' means and medians; in any order of rows, from a file or a frame."""
    frame = pandas.DataFrame(columns).assign(y=range(len(columns["flag"])))
    frame["number"] = frame["number"].astype(float).fillna({0: 1.5})  # at least one
    frame["word"] = frame["word"].astype(object).fillna({0: "north"})
    path = tmp_path_factory.mktemp("coded") / "a.csv"
    frame.to_csv(path, index=False)
    filled = frame.drop(columns="y").fillna({"number": getattr(frame["number"], missing)()})
    wanted = pandas.get_dummies(filled, columns=["word"], dtype=float, prefix_sep="=")
    got, data = coded(path, missing=missing)
    coding = data.common.coding
    np.testing.assert_allclose(got, wanted[[*coding.inputs]].astype(float), rtol=1e-12, atol=1e-300)
    assert {*coding.inputs} == {*wanted.columns}
    order = [*range(len(frame))]
    source.shuffle(order)
    frame.iloc[order].to_csv(path, index=False)
    again, shuffled = coded(path, missing=missing)
    assert shuffled.common.coding.inputs == coding.inputs
    np.testing.assert_allclose(again, got[order], rtol=1e-12, atol=1e-300)
    frame.to_parquet(path.with_suffix(".parquet"))
    np.testing.assert_array_equal(coded(path.with_suffix(".parquet"), missing=missing)[0], got)
    values, categories, names = tables.frame_inputs(frame.drop(columns="y"), "data")
    raw = problems.Samples(values, None, None, names, categories)
    np.testing.assert_array_equal(coding.encode(raw, "data"), got)
    rebuilt = Coding.from_arrays(coding.arrays())
    np.testing.assert_array_equal(rebuilt.encode(raw, "data"), got)


cells = st.one_of(
    st.sampled_from(["", "NA", "nan", "n/a", "null", "1_000", "inf", "-0", "1e5", "+7", " 3 "]),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers(-(2**70), 2**70).map(str),
)


@given(st.lists(cells, min_size=1, max_size=30))
def test_numbers_are_read_as_pyarrow_reads_them(
    tmp_path_factory: pytest.TempPathFactory, values: list[str]
) -> None:
    text = "a,b\n" + "".join(f"{value},0\n" for value in values)
    path = tmp_path_factory.mktemp("read") / "a.csv"
    path.write_text(text)
    other = pyarrow.csv.read_csv(io.BytesIO(text.encode()))["a"]
    table = problems.as_table({**WHOLE, "data": str(path), "targets": "b"})
    numeric = not pyarrow.types.is_string(other.type)
    expected = other.to_numpy().astype(float) if numeric else np.empty(0)
    if numeric and np.isfinite(expected).all():
        np.testing.assert_array_equal(coded(path, targets="b")[0][:, 0], expected)
        return
    categories, refusal = [], ""
    try:
        categories = problems.load(table).facts["categories"].tolist()
    except InputError as error:
        refusal = str(error)
    assert "column 'a': " in refusal if numeric or refusal else "1_000" in categories


def test_text_that_comes_late_is_text_from_the_first_row_on(tmp_path: Path) -> None:
    values = np.where(np.arange(10_000) % 3, "1", "02").astype(object)
    values[9_000:9_050] = "more"
    pandas.DataFrame({"a": values, "y": np.arange(10_000)}).to_csv(tmp_path / "a.csv", index=False)
    got, data = coded(tmp_path / "a.csv")
    assert data.common.coding.inputs == ("a=1", "a=2", "a=more")
    assert got.sum(axis=0).tolist() == [(values == "1").sum(), (values == "02").sum(), 50]


def test_frames_of_any_columns_train_the_model_of_their_file(tmp_path: Path) -> None:
    frame = wine(True, True).assign(young=np.arange(178) % 2 == 0, id=[*map("n{}".format, range(178))])
    frame["shelf"] = pandas.Categorical(np.arange(178) % 3)
    frame["region"] = frame["region"].astype("string")
    frame.to_csv(tmp_path / "a.csv", index=False)
    problem = {"kind": "softmax", "targets": "cultivar", "missing": "median", "exclude": "id"}
    config: dict[str, Any] = {"problem": {**problem, "standardise": True}, "stop": {"updates": 50}}
    trace = pdcode.simulate(config, data=frame, output=tmp_path / "a.h5", progress=False)
    pair = frame.drop(columns="cultivar"), frame["cultivar"]
    again = pdcode.simulate(config, data=pair, output=tmp_path / "b.h5", progress=False)
    np.testing.assert_array_equal(trace.theta, again.theta)
    model = trace.model()
    assert (len(model.columns), model.features) == (16, 13 + 3 + 1 + 3)
    read = pandas.read_csv(tmp_path / "a.csv")  # shelf is a number here, and region an object
    predicted = model.predict(frame)
    np.testing.assert_array_equal(model.predict(read), predicted)
    np.testing.assert_array_equal(model.predict(read[[*model.columns]].to_numpy(object)), predicted)
    assert main(["predict", str(trace.path), str(tmp_path / "a.csv"), "-o", str(tmp_path / "p.csv")]) == 0
    np.testing.assert_array_equal(pandas.read_csv(tmp_path / "p.csv")["cultivar"], predicted)
    with refused("X, row 2, column 'region': 'west' is none of the categories", "'east', 'north', 'south'"):
        model.predict(frame.assign(region=["north", None, *["west"] * 176]))
    with refused("X: no column 'hue'"):
        model.predict(frame.drop(columns="hue"))
    with refused("X, row 0, column 'hue': 'red' is not a number"):
        model.predict(frame.assign(hue="red"))


def test_numbers_as_categories_fit_a_model_of_numbers(tmp_path: Path) -> None:
    frame = pandas.DataFrame({"a": np.arange(20) % 4, "b": np.arange(20) / 8, "y": np.arange(20) / 4})
    job = {"problem": {"kind": "least-squares"}, "stop": {"updates": 3}}
    model = pdcode.simulate(job, data=frame, output=tmp_path / "a.h5", progress=False).model()
    predicted = model.predict(frame)
    for kind in ("category", pandas.CategoricalDtype([3.0, 1.0, 0.0, 2.0])):
        np.testing.assert_array_equal(model.predict(frame.astype({"a": kind, "b": "category"})), predicted)
    with refused("X, row 0, column 'a': 'x' is not a number"):
        model.predict(frame.assign(a=pandas.Categorical(["x", "1"] * 10)))


@pytest.mark.parametrize("kind", ["csv", "parquet", "frame", "pair"])
def test_integers_of_which_one_is_missing_are_classes(tmp_path: Path, kind: str) -> None:
    labels: list[int | None] = [*range(3), None] * 10
    frame = pandas.DataFrame({"a": np.arange(40) / 8, "y": pandas.array(labels, "Int64")})
    path = tmp_path / f"a.{kind}"
    if kind in ("frame", "pair"):
        held = frame if kind == "frame" else (frame[["a"]], np.array(labels, object))
        path = path.with_suffix(".npz")
        np.savez(path, **arrays_of(held, problems.as_table({"data": "data", "missing": "drop"}))[0])
    elif kind == "csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path)
    data = problems.load(problems.as_table({"data": str(path), "missing": "drop"}))
    assert isinstance(data, problems.Dataset)
    assert data.common.values is not None
    assert data.common.values.tolist() == [0, 1, 2]
    with refused("column 'y': is missing"):
        problems.load(problems.as_table({"data": str(path)}))


def test_whole_real_targets_stay_real_where_one_is_missing(tmp_path: Path) -> None:
    """And the message on them is a sentence."""
    (tmp_path / "a.csv").write_text("a,y\n" + "1,1.0\n2,2.0\n3,\n4,\n" * 10)
    table = problems.as_table({"data": str(tmp_path / "a.csv"), "missing": "drop"})
    with refused("the targets of", "' have 2 distinct whole numbers of type float64 in 20 rows; give"):
        problems.load(table)


@pytest.mark.system
def test_wide_files_are_read_in_parts_of_so_many_cells(tmp_path: Path) -> None:
    """The texts of all cells of this one would need 15 times the memory of their numbers."""
    rows, width = 300, 3000
    names = ",".join(["y", *map("c{}".format, range(1, width))])
    line = ",".join(f"{0.125 + n % 7:.3f}" for n in range(width))
    (tmp_path / "a.csv").write_text("\n".join([names, *[line] * rows]))
    table = problems.as_table({**WHOLE, "data": str(tmp_path / "a.csv")})
    tracemalloc.start()
    try:
        samples = read_csv(table)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert samples.x.shape == (rows, width - 1)
    assert peak < 6 * 8 * rows * width


TABLE = "a,b,when,id,y\n" + "".join(f"{n / 4},{'pq'[n % 2]},2024-01-{n + 1:02},k{n},{n}\n" for n in range(20))
LEFT = {"exclude": ["when", "id"]}
MANY = "a,y\n" + "".join(f"t{n},1\nt{n},2\nt{n},3\n" for n in range(101))
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    (TABLE, {}, "line 2, column 'when': '2024-01-01' is a date or time; problem.exclude = [\"when\"] leaves"),
    (TABLE, {"exclude": "when"}, "column 'id': 20 different texts in 20 rows, more categories than 10; prob"),
    (TABLE.replace("1.25,", "NA,"), LEFT, "line 7, column 'a': is missing; problem.missing = \"mean\" or \""),
    (TABLE, {"exclude": "wen"}, "problem.exclude: no 'wen' in "),
    (TABLE, {"exclude": "a", "inputs": ["b"]}, "problem.exclude: "),
    (TABLE.replace(",7\n", ",?\n"), LEFT, "line 9, column 'y': is missing; problem.missing = \"drop\" leave"),
    (TABLE.replace(",7\n", ",x\n"), LEFT, "line 9, column 'y': 'x' is not a number; for classes take"),
    (TABLE.replace(",7\n", ",x\n").replace(",9\n", ",.5\n"), {"kind": "mlp", **LEFT}, "line 9, column 'y': "),
    (TABLE.replace("2.25,", "2_25,"), LEFT, "line 11, column 'a': '2_25' is not a number; problem.exclude ="),
    ('a,y\n"1,5",1\n"2,5",2\n', {}, "line 2, column 'a': '1,5' is not a number; numbers have a point, and"),
    ("a,b,y\n,1,2\n,2,3\n", {"missing": "mean"}, "column 'a': no value in any training row; problem.exclude"),
    ("a,y\n,2\n1,\n", {"missing": "drop"}, "problem.missing: every row of"),
    (MANY, {}, "101 different texts in 303 rows, more categories than 100; problem.exclude"),
    ("a,y\n1,\xff\n", {"kind": "softmax"}, "line 2, column 'y': b'\\xff' is not UTF-8"),
    ("a,y\n" + "p,1\nq\0r,2\n" * 2, {}, "column 'a': 'q\\x00r' has a NUL"),
    ("a,y\n1," + "9" * 200_000, {}, "line 2: field larger than field limit"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "table", "words"), REFUSED, ids=range(len(REFUSED)))
def test_what_helps_is_named(tmp_path: Path, text: str, table: dict[str, Any], words: str) -> None:
    (tmp_path / "a.csv").write_bytes(text.encode("latin-1"))
    job = {"problem": {"kind": "least-squares", "data": str(tmp_path / "a.csv"), **table}}
    with refused(words):
        pdcode.simulate(job, output=tmp_path / "a.h5", set="stop.updates=1", progress=False)


def test_rows_that_lack_a_value_are_left_out_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = wine(True, True).to_csv(index=False).splitlines()
    for row in (3, 9):
        lines[row] = lines[row].replace("Barolo", "")
    Path("a.csv").write_text("\n".join(lines))
    Path("job.toml").write_text('problem = {kind = "softmax", data = "a.csv", targets = "cultivar"}\n')
    job = ["simulate", "job.toml", "-o", "a.h5", "--set", "stop.updates=1", "--set"]
    assert main([*job, "problem.missing=mean", "--set", "problem.standardise=false"]) == 0
    said = capsys.readouterr().out
    assert "2 rows without a target left out, of 178" in said
    assert "3 inputs of 0 and 1: 'region' ('east', 'north', 'south')" in said
    assert "16 missing values in 'malic_acid', 'hue', filled with the mean of the training rows" in said
    assert "8 missing values in 'region', coded as none of the categories" in said
    assert "inputs differ in scale by a factor of" in said
    assert "(proline to 1" in said
    assert "problem.standardise = true" in said
    assert main([*job, "problem.missing=drop", "--set", "problem.standardise=true"]) == 0
    said = capsys.readouterr().out
    lacks = wine(True, True).isna().any(axis=1).to_numpy(copy=True)
    lacks[[2, 8]] = False
    assert f"2 rows without a target and {lacks.sum()} rows with a missing value left out, of 178" in said
    assert "differ in scale" not in said
    assert main(["predict", "a.h5", "a.csv"]) == 2
    assert "a.csv: inputs, line" in (line := error_line(capsys))
    assert 'is missing; a model trained with problem.missing = "mean"' in line
    assert main([*job, "problem.missing=mean"]) == 0
    assert main(["predict", "a.h5", "a.csv", "-o", "p.csv"]) == 0
    assert "not scored: 2 rows of 178 without a target" in capsys.readouterr().out


def test_arrays_are_filled_too(tmp_path: Path) -> None:
    x = RANDOM.standard_normal((30, 3))
    x[4, 1] = np.nan
    config = {"problem": {"kind": "least-squares", "missing": "mean"}, "stop": {"updates": 3}}
    trace = pdcode.simulate(config, data=(x, x[:, 0]), output=tmp_path / "a.h5", progress=False)
    filled = np.where(np.isnan(x), trace.data["fill"], x)
    np.testing.assert_array_equal(trace.model().predict(x), trace.model().predict(filled))


def test_a_class_that_may_be_a_missing_value_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.csv").write_text("a,y\n" + "1,low\n2,None\n3,high\n" * 5)
    job = {"problem": {"kind": "softmax", "data": str(tmp_path / "a.csv")}, "stop": {"updates": 1}}
    trace = pdcode.simulate(job, output=tmp_path / "a.h5")
    assert trace.data["labels"].tolist() == ["None", "high", "low"]
    assert "'None' is a class; if it means that the target is missing" in capsys.readouterr().out


@pytest.mark.parametrize("data", ["digits", "diabetes", "synthetic"])
def test_images_and_scaled_inputs_are_not_called_unequal(data: str) -> None:
    config = {"data": data, "kind": "least-squares" if data in ("diabetes", "synthetic") else "softmax"}
    assert not [line for line in problems.create(problems.as_table(config)).remarks(1) if "differ" in line]


@pytest.mark.parametrize(
    "damage",
    [
        {"categories": np.array(["q", "p"])},
        {"category_columns": np.array([1])},
        {"category_columns": np.array([7, 7])},
        {"category_columns": np.array([0.0, 0.0])},
        {"fill": np.array([np.nan, 0.0])},
        {"columns": np.array([1, 2])},
    ],
)
def test_damaged_codings_are_refused(damage: dict[str, np.ndarray]) -> None:
    arrays = Coding(("a", "b"), {1: np.array(["p", "q"])}, np.zeros(2)).arrays()
    assert Coding.from_arrays(arrays).inputs == ("a", "b=p", "b=q")
    with pytest.raises(ValueError, match=r"."):
        Coding.from_arrays(arrays | damage)
