"""`pdcode.minimize`: closures on the virtual clock, names over MPI."""

import gc
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from outcomes import refused
from paths import SUPPORT

import pdcode
from pdcode.config import kinds

RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((120, 4))
Y = X @ np.arange(4.0) + 0.1 * RANDOM.standard_normal(120)
FILE = SUPPORT / "functions.py"
PLAIN: dict[str, Any] = {
    "scheme": {"name": "uncoded"}, "update": {"mode": "all"}, "problem": {"dtype": "float64", "batch": 0},
    "optimizer": {"rate": 0.5},
}  # fmt: skip


class Shift(NamedTuple):
    by: Any


def squares(x: Any, a: Any, b: Any) -> tuple[float, Any]:
    errors = a @ x - b
    return 0.5 * float(np.mean(errors**2)), a.T @ errors / len(a)


def test_a_closure_is_minimised_and_replayed_while_the_result_is_there(tmp_path: Path) -> None:
    scale, path = 2.0, tmp_path / "f.h5"

    def closure(x: Any, a: Any, b: Any) -> tuple[float, Any]:
        loss, gradient = squares(x, a, b)
        return scale * loss, scale * gradient

    before = {*kinds.OBJECTS}
    sets = {"stop.updates": 100, "trace.progress_updates": 10}
    found = pdcode.minimize(
        closure, [0, 0, 0, 0], (X, Y), config=PLAIN, workers=3, output=path, set=sets, progress=False
    )
    exact = np.linalg.lstsq(X, Y, rcond=None)[0]
    np.testing.assert_allclose(found.x, exact, atol=1e-6)
    assert found.fun == pytest.approx(closure(exact, X, Y)[0])
    assert (found.success, found.nit, found.message) == (True, 100, "stopped after 100 updates")
    assert np.array_equal(found.trace.replay(progress=False), found.trace.theta)
    del found
    gc.collect()
    assert {*kinds.OBJECTS} <= before
    with refused("problem.data: ':data-", "it was an object of a Python program, which no file has"):
        pdcode.Trace(path).replay(progress=False)


def test_parameters_keep_their_form_and_a_target_is_one(tmp_path: Path) -> None:
    def parts(x: Any, a: Any, b: Any) -> tuple[float, Any]:
        loss, gradient = squares(x["w"][0] + x["shift"].by, a, b)
        return loss, {"w": gradient[None], "shift": Shift(gradient)}

    start = {"w": np.zeros((1, 4)), "shift": Shift(np.zeros(4))}
    config = {**PLAIN, "stop": {"loss": 0.01, "updates": 500}, "trace": {"progress_updates": 5}}
    found = pdcode.minimize(
        parts, start, ((X, Y), (X[:9], Y[:9])), score=lambda x, a, b: -parts(x, a, b)[0], config=config,
        output=tmp_path / "f.h5", progress=False,
    )  # fmt: skip
    assert (found.x["w"].shape, found.x["shift"].by.shape) == ((1, 4), (4,))
    assert found.success
    assert found.message.startswith("reached loss 0.01 after ")
    assert parts(found.x, X[:9], Y[:9])[0] == pytest.approx(-found.trace.progress["accuracy"][-1])
    missed = pdcode.minimize(
        parts, start, (X, Y), config=config, set={"stop.updates": 2}, output=tmp_path / "m.h5", progress=False
    )
    assert not missed.success


@dataclass
class Pytree:
    """As models of Equinox are: a dataclass that can be called."""

    weight: Any

    def __call__(self, x: Any) -> Any:
        return self.weight @ x


REFUSALS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a key of no kind": ({}, {"batchsize": 8}, "problem.batchsize: unknown key (value 8); known: "),
    "a key of another kind": ({}, {"hidden": [64]}, "problem.hidden: kind 'function' has no such key"),
    "a penalty": ({}, {"l2": 0.1}, "problem.l2: kind 'function' has no such key (value 0.1)"),
    "a pytree": ({"x0": Pytree(np.zeros(4))}, {}, "x0: 'theta' is Pytree, not an array; give an array, or"),
    "a pytree in a dict": ({"x0": {"w": Pytree(1)}}, {}, "x0: 'w' is Pytree, not an array"),
    "complex parameters": ({"x0": np.zeros(4, complex)}, {}, "x0: 'theta' is complex, and parameters are"),
    "complex gradients": (
        {"fun": lambda x, a, b: (squares(x, a, b)[0], squares(x, a, b)[1] + 0j)}, {},
        "fun: the gradient: 'theta' is complex, and parameters are real; give real and imaginary",
    ),
    "a complex loss": (
        {"fun": lambda x, a, b: (1j, squares(x, a, b)[1])}, {}, "fun: the loss is complex"
    ),
    "rows of texts": ({"rows": (np.array(["a", "b"]),)}, {}, "rows has <U1 of shape (2,), not rows of"),
    "another kind": ({}, {"kind": "mlp"}, "problem.kind: 'mlp' has no effect: this call trains"),
    "the start as a key": (
        {"set": {"problem.start": "a.py:b"}}, {}, "problem.start: 'a.py:b' has no effect: the argument x0"
    ),
    "rows as a key": ({}, {"data": "digits"}, "problem.data: 'digits' has no effect: the argument rows"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_what_does_not_fit_names_the_argument(case: str, tmp_path: Path) -> None:
    given, problem, message = REFUSALS[case]
    arguments = {"fun": squares, "x0": np.zeros(4), "rows": (X, Y)} | given
    with refused(start=message):
        pdcode.minimize(
            **arguments, config={"problem": problem}, workers=2, output=tmp_path / "f.h5", progress=False
        )


def test_a_function_of_more_than_rows_and_key_is_said_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(3)

    def noisy(x: Any, a: Any, b: Any) -> tuple[float, Any]:
        loss, gradient = squares(x, a, b)
        return loss, (1 + 1e-9 * random.random()) * gradient

    for each, count in ((squares, 0), (noisy, 1)):
        pdcode.minimize(each, np.ones(4), (X, Y), config=PLAIN, workers=2, set={"stop.updates": 1},
                        output=tmp_path / "f.h5")  # fmt: skip
        said = capsys.readouterr().out
        assert said.count("two evaluations of the same rows differ (loss ") == count
    assert (
        "with other gradients): it is not a function of rows and key, and replays will differ; random" in said
    )


@pytest.mark.parametrize(
    "given", [{"fun": squares}, {"rows": lambda: (X, Y)}, {"x0": lambda seed: np.zeros(4)}]
)
def test_what_has_no_name_is_refused_over_mpi(given: dict[str, Any], tmp_path: Path) -> None:
    arguments = {"fun": f"{FILE}:flat", "x0": np.zeros(4), "rows": (X, Y)} | given
    with refused(f"{next(iter(given))}: over MPI all ranks import it by its name: give 'FILE.py:NAME'"):
        pdcode.minimize(**arguments, mpi=True, output=tmp_path / "f.h5", progress=False)
