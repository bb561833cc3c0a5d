"""Mini-batches that all workers have in common: exact gradients of sufficient payloads, and liars."""

from typing import Any

import numpy as np
import pytest

import pdcode
from pdcode.config.load import resolve
from pdcode.studies import search_space
from pdcode.util.errors import InputError

TABLES: dict[str, Any] = {
    "problem": {
        "kind": "mlp", "data": "digits", "hidden": [16], "batch": 16, "dtype": "float64", "shards": "common",
    },
    "workers": {"count": 8},
    "memory": {"kind": "none"},
    "stop": {"updates": 12},
    "optimizer": {"rate": 0.3},
}  # fmt: skip
DELAYS = {"kind": "shifted-exponential", "shift_s": 0.01, "mean_s": 0.01}


def theta(tmp_path: Any, tables: dict[str, Any], code: dict[str, Any]) -> np.ndarray:
    """θ of a run on the virtual clock."""
    merged = {**tables, **code, "trace": {"path": str(tmp_path / "trace.h5")}}
    final: np.ndarray = pdcode.simulate(merged).theta
    return final


def test_theta_does_not_depend_on_which_payloads_arrive(tmp_path: Any) -> None:
    uncoded = {"scheme": {"name": "uncoded"}, "update": {"mode": "all"}}
    whole = theta(tmp_path, TABLES, uncoded)
    other = theta(tmp_path, TABLES | {"workers": {"count": 3}}, uncoded)
    np.testing.assert_allclose(whole, other, rtol=0, atol=1e-12)
    for family in ({"family": "random", "weight": 3}, {"family": "repetition"}):
        code = {"blocks": [8, 1], "rows_per_task": 2, "rotate": False, **family}
        coded = {
            "code": code,
            "decoder": {"kind": "least_squares"},
            "update": {"mode": "captured", "fraction": 1.0, "late": "waste"},
            "stragglers": DELAYS,
        }
        np.testing.assert_allclose(whole, theta(tmp_path, TABLES, coded), rtol=0, atol=1e-9)


def test_liars_among_redundant_codewords_of_mini_batches_change_nothing(tmp_path: Any) -> None:
    lies = [{"kind": "lie", "how": "scale", "value": -10.0, "worker": each, "task": 0} for each in (2, 5)]
    coded = {
        "code": {
            "family": "random",
            "blocks": 4,
            "weight": 4,
            "rotate": False,
            "options": {"entries": "gaussian"},
        },
        "decoder": {"kind": "residual", "faults": 2},
        "update": {"mode": "all"},
        "problem": TABLES["problem"] | {"kind": "softmax", "hidden": None},
    }
    honest, attacked = (theta(tmp_path, TABLES, coded | {"faults": {"events": each}}) for each in ([], lies))
    np.testing.assert_allclose(honest, attacked, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["local", "streaming", "frc"])
def test_schemes_of_other_vectors_refuse_them_and_plans_leave_them_out(name: str) -> None:
    with pytest.raises(InputError, match=r"scheme\.name.*one mini-batch|problem\.shards"):
        resolve({**TABLES, "memory": {}, "scheme": {"name": name}})
    found = search_space.candidates(resolve(TABLES), 30, seed=1)
    assert name not in {each.config.scheme.name for each in found}
