"""Models of a user's own: the general plan, functions under all schemes, their replays and refusals."""

import re
import tomllib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import origins
import pytest
from interrupted import built, interrupted
from outcomes import refused
from paths import SUPPORT

import pdcode
from pdcode import problems
from pdcode.__main__ import main
from pdcode.config import kinds
from pdcode.config.load import resolve
from pdcode.problems import Model, ModelTable, Problem
from pdcode.problems.partition import arrange
from pdcode.problems.whitening import Whitening
from pdcode.session import checkpoint
from pdcode.util.errors import InputError

FILE = SUPPORT / "functions.py"
FUNCTION: dict[str, Any] = {
    "kind": "function",
    "function": f"{FILE}:loss_and_gradient",
    "start": f"{FILE}:start",
    "data": f"{FILE}:rows",
    "score": f"{FILE}:score",
    "batch": 8,
}
NAMES = {key: value for key, value in FUNCTION.items() if str(FILE) in str(value)}
PRESETS = {"lwpd": [None, *kinds.find("schemes", "lwpd").presets]}
SCHEMES = [
    (name, preset)
    for name in kinds.names("schemes")
    for preset in PRESETS.get(name, [None])
    if name != "differences"
]
LINEAR = {"lagrange", "mds", "byzantine"}  # they code the data of linear models


def run(path: Path, problem: dict[str, Any] | None = None, updates: int = 12, **tables: Any) -> pdcode.Trace:
    config = {"problem": FUNCTION | (problem or {}), "stop": {"updates": updates}, "workers": {"count": 4}}
    return pdcode.simulate({**config, **tables}, output=path / "f.h5", progress=False)


@pytest.mark.parametrize("steps", [0, 1, 3])
@pytest.mark.parametrize("table", [{"hidden": [12]}, {"kind": "softmax"}, {"hidden": [12], "axis": "input"}])
def test_a_network_is_a_model_like_any_other(table: dict[str, Any], steps: int) -> None:
    """The general plan computes what the compiled one does, whitened up to rounding."""
    own = problems.create({**table, "dtype": "float64"}, blocks=4)
    general = Problem(own.table, own.dataset, own.model, own.layers)
    theta, rows = own.initial(3), np.arange(16)
    whiten, words = Whitening("gram", steps) if steps else Whitening(), []
    plans = [each.plan(16, 2, weight=0.5, whiten=whiten) for each in (own, general)]
    if steps:  # the one compares losses with that of zero scores, the other with that at the first θ
        assert all(plan.gradient(theta, rows) > 0.02 * np.log(10) for plan in plans)
    for layer in own.layers:
        dense = np.random.default_rng(layer.layer).standard_normal((2, layer.count))
        words.append(problems.sparse_codewords(dense, own.dtype))
    losses = [plan.coded_derivative(theta, rows, words) for plan in plans]
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    np.testing.assert_allclose(plans[1].payload, plans[0].payload, rtol=1e-9, atol=1e-12)
    assert general.measure(theta) == pytest.approx(own.measure(theta))
    views = own.model.views(theta)
    assert [view.shape for view in views.values()] == [*own.model.shapes.values()]
    assert all(np.shares_memory(view, theta) for view in views.values())


SHAPES = {"a.weight": (3, 2, 2), "a.bias": (3,), "scale": (), "b": (4, 2), "b.bias": (4,), "c.bias": (5,)}


@pytest.mark.parametrize("axis", ["output", "input", "auto", ["input", "auto", "output"]])
def test_matrices_are_cut_along_either_axis(axis: Any) -> None:
    """Blocks are contiguous in θ, and the same weights for any axis."""
    layers, places = arrange(SHAPES, 2, axis)
    flat, (plain, others) = np.empty(33), arrange(SHAPES, 2)
    for name, place in places.items():
        place.view(flat)[...] = others[name].view(np.arange(33.0))
    for layer, by_output in zip(layers, plain, strict=True):
        weights = by_output.weights(np.arange(33.0))
        np.testing.assert_array_equal(layer.weights(flat), weights)
        cut = weights if layer.axis == "output" else weights.T
        np.testing.assert_array_equal(layer.split(flat).reshape(-1, layer.width)[: len(cut)], cut)
    smaller = ["input", "output", "output"]  # 3 × 3 elements in place of 2 × 5, and 2 × 3 in place of 2 × 4
    wanted = {"output": ["output"] * 3, "input": ["input", "input", "output"]}
    assert [each.axis for each in layers] == wanted.get(str(axis), smaller)


def test_units_of_matrices_go_by_their_axis() -> None:
    shapes = {"a": (20, 3), "b": (4, 20), "b.bias": (4,), "c": (2,), "d": (1, 30)}
    for axis, counts in (("input", [1, 21, 1, 1]), ("auto", [20, 1, 1, 1])):
        assert [each.count for each in arrange(shapes, "units", axis)[0]] == counts


@pytest.mark.parametrize(
    ("shapes", "axis", "message"),
    [
        (SHAPES, ["input"], "problem.axis: ['input'] has 1 entries, but there are 3 layers"),
        (SHAPES, ["input"] * 3, "problem.axis: 'input', but 'vectors' has no inputs"),
        ({"theta": (20,)}, "input", "problem.axis: 'input', but 'theta' has no inputs"),
        (SHAPES, ["input", "rest", "auto"], "problem.axis: expected one of auto, output, input"),
    ],
)
def test_bad_axes_are_refused(shapes: Any, axis: Any, message: str) -> None:
    with refused(message):
        arrange(shapes, 2, axis)


def test_one_object_for_all_models_has_places_by_the_last_axis() -> None:
    model = resolve({"problem": NAMES | {"kind": "function"}}).problem.model()

    class Shared(ModelTable, tag="shared"):
        def model(self) -> Model:
            return model

    for axis in ("output", "input"):
        places = arrange(model.shapes, axis=axis)[1]
        theta = np.arange(float(model.size))
        for name, view in Shared(axis=axis).built().views(theta).items():
            np.testing.assert_array_equal(view, places[name].view(theta))


def test_parameters_have_places_by_their_names() -> None:
    layers, places = arrange(SHAPES, 2)
    assert [(each.name, each.rows, each.width, each.bias, each.count) for each in layers] == [
        ("a.weight", 3, 5, 1, 2), ("b", 4, 3, 1, 2), ("vectors", 6, 1, 1, 1),
    ]  # fmt: skip
    theta = np.arange(33.0)
    views = {name: place.view(theta) for name, place in places.items()}
    assert {name: view.shape for name, view in views.items()} == SHAPES
    assert views["a.bias"].tolist() == [4, 9, 14]
    assert views["a.weight"][1].reshape(-1).tolist() == [5, 6, 7, 8]
    assert sorted(np.concatenate([view.reshape(-1) for view in views.values()])) == theta.tolist()
    np.testing.assert_array_equal(layers[1].biases(theta), views["b.bias"])
    np.testing.assert_array_equal(layers[1].unbiased(theta), views["b"])
    assert arrange({"theta": (20,)}, 5)[0][0].count == 5  # nothing else is there to be coded
    assert [each.count for each in arrange({"a": (20, 3), "b": (4, 20), "c": (2,)}, "units")[0]] == [20, 1, 1]
    with refused("code.blocks: [2] has 1 entries, but there are 3 layers"):
        arrange(SHAPES, [2])


def test_a_dry_run_shows_the_axis_of_each_matrix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = {**NAMES, "kind": "function", "axis": "auto"}
    lines = ["[problem]", *(f"{key} = '{value}'" for key, value in keys.items()), "[code]", "blocks = 4"]
    (job := tmp_path / "job.toml").write_text("\n".join([*lines, "[stop]", "updates = 1", ""]))
    assert main(["run", str(job), "--dry-run", "-n", "2"]) == 0
    printed = capsys.readouterr().out
    assert (
        "#   first.weight: 6 inputs and bias → 8 outputs, 56 parameters, 4 blocks of 2 × 7 by output"
        in printed
    )
    assert "#   last.0: 8 inputs → 3 outputs, 24 parameters, 4 blocks of 2 × 3 by input" in printed
    assert tomllib.loads(printed)["problem"]["axis"] == ["output", "input", "output"]
    assert origins.of(printed)["problem.axis"] == "auto, by the data"


@pytest.mark.every(6)
@pytest.mark.parametrize(("name", "preset"), SCHEMES)
def test_every_scheme_trains_a_function(name: str, preset: str | None, tmp_path: Path) -> None:
    scheme = {"name": name} | ({"preset": preset} if preset else {})
    if name in LINEAR:
        with refused("problem.kind: 'function' does not go with", "codes the data of linear models"):
            run(tmp_path, scheme=scheme)
        return
    trace = run(tmp_path, scheme=scheme)
    assert trace.updates.rows >= 12
    assert trace.progress["loss"][-1] < trace.progress["loss"][0]


CASES: dict[str, dict[str, Any]] = {
    "no memory": {"memory": {"kind": "none"}},
    "memory": {"memory": {"kind": "worker"}, "wire": {"dtype": "int8"}},
    "difference, 2 bits": {"memory": {"kind": "difference"}, "wire": {"dtype": "int2"}},
    "matched": {"code": {"family": "matched", "blocks": 4}, "memory": {"kind": "worker"}},
    "codewords": {"downlink": {"kind": "codewords"}, "problem": {"sampling": "epochs", "rows": "made"}},
    "exchange": {"downlink": {"kind": "exchange"}, "scheme": {"name": "lwpd", "preset": "default"}},
    "whitened": {"code": {"whiten": "gram", "blocks": 4}, "problem": {"near_zero": True}},
    "by inputs": {"code": {"whiten": "gram", "blocks": 4}, "problem": {"axis": "input", "near_zero": True}},
    "by both": {"code": {"blocks": 4}, "memory": {"kind": "worker"}, "problem": {"axis": "auto"}},
    "muon": {"optimizer": {"kind": "muon"}, "problem": {"axis": "input"}},
    "penalty": {"optimizer": {"proximal": {"kind": "l1", "weight": 0.01}}},
    "a vector": {
        "problem": {"function": f"{FILE}:flat", "data": f"{FILE}:line", "start": "start.npz", "score": None}
    },
}  # fmt: skip


@pytest.mark.every(3)
@pytest.mark.parametrize("case", CASES)
def test_a_replay_has_the_same_bits(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("start.npz", theta=np.ones(6))
    trace = run(tmp_path, **{"updates": 40, **CASES[case]})
    assert np.array_equal(trace.replay(progress=False), trace.theta)
    assert trace.progress["loss"][-1] < trace.progress["loss"][0]
    assert np.isnan(trace.progress["accuracy"]).any() == (case == "a vector")
    with refused("'function' has no predictions"):
        trace.model()


def test_a_resumed_run_keeps_the_state_of_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a plug-in's own kind, with random numbers by the task's key and a running mean of each worker."""
    sets = ["problem.kind=averaged", "workers.count=3", "stop.updates=20", f"trace.path={tmp_path}/t.h5"]
    monkeypatch.setitem(kinds.KINDS, "problems", {**kinds.KINDS["problems"]})
    config = resolve({"plugins": [str(SUPPORT / "averaged.py")]}, sets)
    done = interrupted(config)
    found = checkpoint.find(config)
    assert found is not None
    resumed = built(found.resumed_config(config))
    found.restore(resumed.stateful, resumed.components.config)
    states = [worker.model_state["mean"] for worker in resumed.fleet.executor.local_workers]
    assert len({float(state[0]) for state in states}) == 3
    resumed.coordinator.run(resumed.monitor)
    np.testing.assert_array_equal(resumed.coordinator.theta, done.coordinator.theta)
    assert resumed.monitor.accuracy == -resumed.monitor.loss


REFUSALS: dict[str, tuple[Any, ...]] = {
    "missing": ({"start": ""}, "problem.start: must be given with problem.kind 'function'"),
    "no reference": ({"function": "mine:loss"}, "problem.function: 'mine:loss': expected FILE.py:NAME"),
    "no name": ({"function": f"{FILE}:scor"}, "has no 'scor'; did you mean 'score'?"),
    "no function": ({"score": f"{FILE}:FILE"}, "has no 'FILE'"),
    "no file": ({"function": "nofile.py:loss"}, "problem.function: ", "nofile.py: no such file"),
    "a module": ({"start": f"{FILE}:nq"}, "has no 'nq'"),
    "a loss alone": ({"function": f"{FILE}:score"}, "score' returns float64; expected loss, gradient"),
    "arguments": (
        {"function": f"{FILE}:outputs"},
        "outputs' is called as (theta, rows 1, rows 2), and takes (theta, x): too many",
    ),
    "arguments of start": (
        {"start": f"{FILE}:rows"},
        "problem.start: a function is called as (seed), and takes (): too many positional arguments",
    ),
    "wrong": ({"function": f"{FILE}:wrong"}, "gradients contradict the losses"),
    "another type": (
        {"function": f"{FILE}:short", "data": f"{FILE}:line", "start": f"{FILE}:SIX", "dtype": "float64"},
        "the gradient: 'theta' is float32, and problem.dtype is 'float64'",
    ),
    "fails": ({"function": f"{FILE}:fails"}, "ValueError: no such luck, in "),
    "another form": ({"function": f"{FILE}:flat", "data": f"{FILE}:line"}, "ValueError: matmul"),
    "data": ({"data": f"{FILE}:start"}, "problem.data: TypeError: start() missing"),
    "ragged": ({"data": f"{FILE}:RAGGED"}, "RAGGED': ValueError: setting an array element"),
    "unknown key": ({"hidden": [3]}, "problem.hidden: kind 'function' has no such key"),
    "no score": ({"score": None}, "stop.accuracy: there is none without problem.score"),
    "axis": ({"axis": "sideways"}, "problem.axis: "),
    "axes": ({"axis": ["input"]}, "problem.axis: ['input'] has 1 entries, but there are 3 layers"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_what_does_not_fit_is_one_line(case: str, tmp_path: Path) -> None:
    keys, *words = REFUSALS[case]
    with pytest.raises(InputError) as caught:
        run(tmp_path, {"score": f"{FILE}:score"} | keys, stop={"updates": 1, "accuracy": 0.9})
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words)
    assert case != "a module" or "did you mean" not in message


def test_a_trace_does_not_import_a_file_that_has_changed(tmp_path: Path) -> None:
    (copy := tmp_path / "mine.py").write_text(FILE.read_text(encoding="utf-8"), encoding="utf-8")
    keys = ("function", "start", "data")
    names = {key: FUNCTION[key].replace(str(FILE), "mine.py") for key in keys}
    job = tmp_path / "job.toml"
    lines = ["[problem]", 'kind = "function"', *(f'{key} = "{value}"' for key, value in names.items())]
    job.write_text("\n".join([*lines, "[stop]", "updates = 2", ""]), encoding="utf-8")
    trace = pdcode.simulate(job, output=tmp_path / "f.h5", progress=False)
    assert trace.config["plugins"] == [str(copy)]
    kinds.sys.modules.pop(kinds._module_name(str(copy)))
    copy.write_text(copy.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
    with refused("mine.py: not imported, because it differs from the plug-in of the run"):
        trace.replay(progress=False)


def test_what_has_changed_since_a_run_is_named(tmp_path: Path) -> None:
    """A resumed run does not go on with another file; a replay that differs names files and versions."""
    copy, path = tmp_path / "mine.py", tmp_path / "t.h5"
    copy.write_text(FILE.read_text(encoding="utf-8"), encoding="utf-8")
    problem = FUNCTION | {key: value.replace(str(FILE), str(copy)) for key, value in NAMES.items()}
    tables, sets = {"problem": problem}, ["workers.count=3", "stop.updates=20", f"trace.path={path}"]
    trace = pdcode.simulate(tables, set=sets, progress=False, output=path)
    with h5py.File(path, "r+") as file:
        file.attrs["run"] = "it"
        file["environment"].attrs["threads"] = "7"
        file["progress/loss"][0] += 1
    config = resolve(tables, sets)
    interrupted(config)
    found = checkpoint.find(config)
    assert found is not None
    assert found.lines == [f"the run may go on otherwise than it would have: threads 1 and 7 in {path}"]
    copy.write_text(copy.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
    with refused(f"plugins: {copy} has changed since the checkpoint "):
        checkpoint.find(config)
    causes = re.escape(f"; possible causes: {copy} has changed, threads 1 and 7 in {path}")
    with pytest.raises(pdcode.Failure, match=causes):
        trace.replay(progress=False)


MOVING = """
import os
import numpy as np
os.chdir("/")
start, rows = np.ones(3), np.ones((20, 1))
def energy(theta, rows):
    os.chdir("/")
    return float(theta @ theta / 2 - 3), theta
"""


def test_a_function_that_changes_the_folder_moves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss is an energy, and the target below zero."""
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(MOVING, encoding="utf-8")
    problem = {
        "kind": "function",
        "function": "mine.py:energy",
        "start": "mine.py:start",
        "data": "mine.py:rows",
    }
    tables = {"problem": problem, "workers": {"count": 2}, "stop": {"loss": -2.9, "seconds": 1.0}}
    tables["trace"] = {"progress_s": 0.001}
    pdcode.simulate(tables, output="o.h5", progress=False)
    monkeypatch.chdir(tmp_path)
    made = pdcode.compare(
        tables, "uncoded,topk", seeds=1, processes=1, target=-2.5, output="c.h5", progress=False
    )
    assert made.measured[0][0].reached
    assert (tmp_path / "o.h5").exists()
    assert (tmp_path / "c.h5").exists()
