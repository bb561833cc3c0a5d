"""Files of delays that are damaged, or claim more than they hold: delays, or one line."""

import random
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest

from pdcode.config import StragglersTable
from pdcode.util.errors import InputError

MATRIX = np.abs(np.random.default_rng(0).normal(size=(4, 50)))


def message(path: Path, **keys: object) -> str:
    """The line with which a file is refused; empty if its delays can be had."""
    table = StragglersTable.of({"kind": "trace", "path": str(path), **keys})
    model, line = None, ""
    try:
        model = table.make(0, 4)
    except InputError as error:
        line = str(error)
    if model is None:
        assert "\n" not in line
        assert 0 < len(line) < 500
        return line
    drawn = model.delays_s([0, 1, 2, 3], [0] * 4, 8)
    assert not np.isnan(drawn).any()
    assert (drawn >= 0).all()
    return ""


def test_sources_that_are_missing_are_no_delays_of_zero(tmp_path: Path) -> None:
    layout = h5py.VirtualLayout(MATRIX.shape, "f8")
    layout[:] = h5py.VirtualSource("gone.h5", "x", MATRIX.shape)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_virtual_dataset("delays", layout)
        file.create_dataset("hollow", MATRIX.shape, "f8", chunks=(2, 50))
        file["hollow"][:2] = MATRIX[:2]
    found = message(tmp_path / "a.h5", dataset="delays")
    assert found.startswith("stragglers.path: ")
    assert "a.h5: 'delays' is a virtual dataset, and its source 'x' in 'gone.h5' is missing" in found
    assert "'hollow' has 1 of 2 chunks" in message(tmp_path / "a.h5", dataset="hollow")


def test_long_cells_are_cut(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1,2\n" + 10**6 * "x" + ",3\n")
    assert "a.csv: line 2: could not convert string to float" in message(tmp_path / "a.csv")


@pytest.mark.parametrize("packing", [{}, {"chunks": (4, 25), "compression": "gzip", "fletcher32": True}])
def test_damaged_files(tmp_path: Path, packing: dict[str, object]) -> None:
    path, dice, found = tmp_path / "a.h5", random.Random(1), Counter[str]()
    with h5py.File(path, "w") as file:
        file.create_dataset("delays", data=MATRIX, **packing)
    content = path.read_bytes()
    for number in range(250):
        damaged = bytearray(content)
        for _ in range(dice.choice((1, 1, 4))):
            damaged[dice.randrange(min(len(damaged), 2600))] = dice.randrange(256)
        if number % 5 == 0:
            del damaged[dice.randrange(len(damaged)) :]
        path.write_bytes(damaged)
        found[message(path, draw="block")[:16]] += 1
    assert set(found) <= {"", "stragglers.path:"}
    assert found["stragglers.path:"] > 50  # the rest are flips of numbers, or of nothing in use
