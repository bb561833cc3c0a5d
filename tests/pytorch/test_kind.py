"""Kind "torch": gradients, replays and resumption of modules with dropout and buffers, and refusals."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from interrupted import built, interrupted
from outcomes import refused
from paths import SUPPORT
from safetensors.torch import load_file, save_file
from torch import nn

import pdcode
from pdcode import problems
from pdcode.__main__ import main
from pdcode.api import objects
from pdcode.config import kinds
from pdcode.config.load import resolve
from pdcode.problems.whitening import Whitening
from pdcode.session import checkpoint
from pdcode.torch.model import TorchModel
from pdcode.util import memory

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("read_at_once")]
FILE = SUPPORT / "modules.py"


def named(module: str, data: str, **more: Any) -> dict[str, Any]:
    keys = {"module": module, "data": data, **more}
    names = {
        key: f"{FILE}:{value}" for key, value in keys.items() if key in ("module", "data", "loss", "score")
    }
    return {"kind": "torch", "batch": 8, **keys, **names}


CNN = named("Convolutions", "data")
TRANSFORMER = named("Sequences", "lines", loss="next_token", score="share")
BOUNDED = named("Bounded", "flat")


@pytest.mark.parametrize("axis", ["output", "input"])
@pytest.mark.parametrize(("steps", "hidden"), [(0, 12), (1, 12), (0, 300)])
def test_gradients_are_those_of_the_built_in_network(
    steps: int, hidden: int, axis: str, tmp_path: Path
) -> None:
    """In float64 to 1e-12, of the same θ: blocks, codewords and whitening are of the same units.

    The gradient of the larger layer is formed in its place.
    """
    kinds.load_plugin(str(FILE))
    x, y = kinds.referenced("data", f"{FILE}:flat")()
    np.savez(tmp_path / "rows.npz", x=x, y=y)
    keys = {"axis": axis, "dtype": "float64", "data": f"{tmp_path}/rows.npz", "standardise": False}
    own = problems.create({"hidden": [hidden], **keys}, 4)
    options = {"hidden": hidden}
    table = {**named("perceptron", "flat"), "dtype": "float64", "axis": axis, "options": options}
    mine = problems.create(table, 4)
    theta, rows = own.initial(3), np.arange(0, 150, 3)
    words, whiten = [], Whitening("gram", steps) if steps else Whitening()
    for layer in own.layers:
        dense = np.random.default_rng(layer.layer).standard_normal((2, layer.count))
        words.append(problems.sparse_codewords(dense, own.dtype))
    plans = [each.plan(len(rows), 2, whiten=whiten) for each in (own, mine)]
    losses = [plan.coded_derivative(theta, rows, words, (1, 2, 3, 0)) for plan in plans]
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    np.testing.assert_allclose(plans[1].payload, plans[0].payload, rtol=0, atol=1e-12 if not steps else 1e-9)
    np.testing.assert_allclose(mine.gradient(theta), own.gradient(theta), rtol=0, atol=1e-12)
    assert mine.measure(theta)[:2] == pytest.approx(own.measure(theta)[:2], rel=1e-12)
    assert mine.gradient_flops(10) == pytest.approx(own.gradient_flops(10), rel=0.1)


CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "convolutions, exchange": (CNN, {"scheme": {"name": "lwpd", "preset": "default"}}),
    "convolutions, no memory": (CNN, {"memory": {"kind": "none"}, "code": {"blocks": 4}}),
    "convolutions, matched": (
        CNN, {"code": {"family": "matched", "blocks": 4}, "memory": {"kind": "worker"}}
    ),
    "convolutions, by inputs": (CNN | {"axis": "input"}, {"memory": {"kind": "none"}, "code": {"blocks": 4}}),
    "transformer, int8": (
        TRANSFORMER | {"axis": "input"}, {"memory": {"kind": "worker"}, "wire": {"dtype": "int8"}}
    ),
    "transformer, codewords": (
        TRANSFORMER | {"sampling": "epochs", "rows": "made"}, {"downlink": {"kind": "codewords"}}
    ),
    "spectral norm, int2": (
        BOUNDED, {"memory": {"kind": "difference"}, "wire": {"dtype": "int2"}, "seed": 5}
    ),
    "spectral norm, local": (BOUNDED | {"axis": "auto"}, {"scheme": {"name": "local"}}),
}  # fmt: skip


@pytest.mark.every(3)
@pytest.mark.parametrize("case", CASES)
def test_a_replay_has_the_same_bits(case: str, tmp_path: Path) -> None:
    problem, tables = CASES[case]
    config = {"problem": problem, "stop": {"updates": 30}, "workers": {"count": 3}, **tables}
    torch.manual_seed(5)
    drawn, threads = torch.get_rng_state(), torch.get_num_threads()
    trace = pdcode.simulate(config, output=tmp_path / "f.h5", progress=False)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert trace.progress["loss"][-1] < trace.progress["loss"][0]
    assert trace.theta is not None
    torch.set_num_threads(2)  # as a host program may
    theta, _ = trace.replay(progress=False), trace.weights()
    after = torch.get_num_threads()
    torch.set_num_threads(threads)
    assert np.array_equal(theta, trace.theta)
    assert after == 2
    assert torch.equal(torch.get_rng_state(), drawn)


def test_a_resumed_run_keeps_the_buffers_of_each_worker(tmp_path: Path) -> None:
    sets = ["workers.count=3", "stop.updates=20", f"trace.path={tmp_path}/t.h5"]
    config = resolve({"problem": BOUNDED}, sets)
    done = interrupted(config)
    found = checkpoint.find(config)
    assert found is not None
    resumed = built(found.resumed_config(config))
    found.restore(resumed.stateful, resumed.components.config)
    states = [worker.model_state for worker in resumed.fleet.executor.local_workers]
    vectors = [f"{layer}.parametrizations.weight.0._{name}" for layer in ("first", "last") for name in "uv"]
    assert [*states[0]] == ["mean", *vectors]
    assert len({state["mean"].tobytes() for state in states}) == 3
    resumed.coordinator.run(resumed.monitor)
    np.testing.assert_array_equal(resumed.coordinator.theta, done.coordinator.theta)


def test_train_returns_a_module_that_export_writes_too(tmp_path: Path) -> None:
    """By objects on the virtual clock; statistics and buffers are those of training rows."""
    module = nn.Sequential(
        nn.Linear(64, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(0.1), nn.Linear(16, 10)
    )
    before = {name: each.clone() for name, each in module.state_dict().items()}
    kinds.load_plugin(str(FILE))
    rows = kinds.referenced("data", f"{FILE}:Batches")()
    torch.manual_seed(5)
    drawn = torch.get_rng_state()
    trace, trained = pdcode.torch.train(
        module, rows, workers=3, output=tmp_path / "a.h5", config={"stop": {"updates": 60}}, progress=False
    )
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(each, before[name]) for name, each in module.state_dict().items())
    table = problems.as_table({**{key: trace.config["problem"][key] for key in trace.config["problem"]}})
    test = table.read().test  # type: ignore[attr-defined]
    right = (trained(torch.from_numpy(test[0])).argmax(1).numpy() == test[1]).mean()
    assert right == trace.progress["accuracy"][-1] > 0.5
    assert np.array_equal(trace.replay(progress=False), trace.theta)
    weights = trace.weights()
    module.load_state_dict({name: torch.from_numpy(each) for name, each in weights.items()})
    assert all(torch.equal(each, trained.state_dict()[name]) for name, each in module.state_dict().items())
    with refused("model: over MPI all ranks import it by its name: give 'FILE.py:NAME'"):
        pdcode.torch.train(module, rows, mpi=True)


def test_train_over_mpi_writes_arrays_and_imports_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With MPI left out: the names and files are what ranks would read."""
    monkeypatch.setattr(objects, "run", pdcode.simulate)
    kinds.load_plugin(str(FILE))
    x, y = map(torch.as_tensor, kinds.referenced("data", f"{FILE}:flat")())
    trace, _ = pdcode.torch.train(
        f"{FILE}:perceptron", ((x[:150], y[:150]), (x[150:], y[150:])), mpi=True, workers=2, progress=False,
        output=tmp_path / "a.h5", config={"problem": {"options": {"hidden": 20}}, "stop": {"updates": 30}},
        loss=nn.functional.cross_entropy,
    )  # fmt: skip
    assert trace.config["problem"]["loss"] == "cross_entropy"
    assert trace.config["problem"]["data"] == f"{tmp_path}/a.data.npz"
    assert trace.attributes["parameters"] == 65 * 20 + 21 * 10
    assert np.array_equal(pdcode.Trace(tmp_path / "a.h5").replay(progress=False), trace.theta)


@pytest.mark.parametrize("kind", ["torch", "function", "softmax"])
def test_a_run_starts_from_weights_that_another_has_exported(kind: str, tmp_path: Path, capsys: Any) -> None:
    path, trace = tmp_path / "w.safetensors", tmp_path / "a.h5"
    functions = {key: f"{SUPPORT}/functions.py:{name}" for key, name in
                 (("function", "loss_and_gradient"), ("start", "start"), ("data", "rows"))}  # fmt: skip
    problem = {"torch": TRANSFORMER, "function": {"kind": kind, **functions}, "softmax": {"kind": kind}}[kind]
    first = pdcode.simulate(
        {"problem": problem, "stop": {"updates": 20}}, workers=2, output=trace, progress=False
    )
    assert main(["export", str(trace), "--state", str(path)]) == 0
    written = load_file(path)
    assert f"weights: {path}, {len(written)} arrays" in capsys.readouterr().out
    if kind == "torch":
        assert torch.equal(written["head.weight"], written["embed.weight"])
        save_file({name: each for name, each in written.items() if name != "head.weight"}, path)  # tied
        config = {"problem": {**problem, "init": str(path)}, "stop": {"updates": 1}}
        second = pdcode.simulate(config, workers=2, output=tmp_path / "b.h5", progress=False)
        assert second.progress["loss"][0] == first.progress["loss"][-1]
    else:
        assert sum(each.numel() for each in written.values()) == len(first.theta)  # type: ignore[arg-type]


SCORE = {"score": f"{FILE}:share"}
REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "missing": ({"module": ""}, "problem.module: must be given with problem.kind 'torch'"),
    "no loss": ({"loss": "cross_entrpy", **SCORE}, "'cross_entrpy'; did you mean 'cross_entropy'?"),
    "variance": ({"loss": "gaussian_nll_loss", **SCORE}, "and targets: 'gaussian_nll_loss'"),
    "not a loss": ({"loss": "relu", **SCORE}, "and targets: 'relu'"),
    "no module": ({"module": f"{FILE}:flat"}, "problem.module: it is tuple, not a torch.nn.Module"),
    "neither": ({"module": f"{FILE}:NAME"}, "is neither a module nor makes one"),
    "options": ({"options": {"depth": 3}}, "problem.module: TypeError: perceptron() got an unexpected"),
    "outputs": ({"loss": f"{FILE}:vector", **SCORE}, "problem.loss: it has shape (16, 10), not"),
    "rows": ({"data": f"{FILE}:data"}, "RuntimeError: mat1 and mat2 shapes cannot be multiplied"),
    "no weights": ({"init": "nothing.safetensors"}, "problem.init: "),
    "other weights": ({"init": "other.safetensors"}, "other.safetensors does not have '0.weight'"),
    "no score": ({"loss": "mse_loss"}, "stop.accuracy: there is none without problem.score"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_what_does_not_fit_is_one_line(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_file({"weight": torch.zeros(2)}, "other.safetensors")
    keys, message = REFUSALS[case]
    config = {"problem": {**named("perceptron", "flat"), **keys}, "stop": {"updates": 1, "accuracy": 0.9}}
    with refused(message):
        pdcode.simulate(config, workers=2, output="f.h5", progress=False)


def test_without_torch_a_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(kinds.sys.modules, "pdcode.torch.model", None)
    with refused(
        "problem.kind: 'torch' needs PyTorch (import of pdcode.torch.model halted; None in sys.modules): "
    ):
        problems.as_table(named("perceptron", "flat")).model()  # type: ignore[attr-defined]


def test_a_module_that_is_too_large_is_refused_as_soon_as_it_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.py").write_text(
        "import torch\n\n\nclass Large(torch.nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n"
        "        self.weight = torch.nn.Parameter(torch.empty(15_000, 20_000))\n\n\n"
        "DATA = torch.zeros(8, 2), torch.zeros(8, dtype=torch.int64)\n"
    )
    job = tmp_path / "job.toml"
    job.write_text(
        "[problem]\nkind = 'torch'\nmodule = 'own.py:Large'\ndata = 'own.py:DATA'\n"
        "[workers]\ncount = 2\n[scheme]\nname = 'lwpd'\npreset = 'default'\n[stop]\nupdates = 3\n"
    )
    monkeypatch.setattr(memory, "limit_bytes", lambda: 1 << 42)
    monkeypatch.setattr(TorchModel, "_flat", None)  # which reads the weights
    for command in (["run", "--dry-run"], ["simulate"]):
        assert main([*command, str(job)]) == 2
        said = "job.toml: problem.module: a task of 2.40 GB is more than MPI's 2 GiB a message"
        assert said in capsys.readouterr().err
