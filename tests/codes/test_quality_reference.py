"""Section 7's trials: what `pdcode bench captured` prints, with fewer draws."""

from __future__ import annotations

import numpy as np
import pytest

from pdcode import codes
from pdcode.bench import captured as bench

REFERENCE = [row for row in bench.REFERENCE if row[3] is not None]


@pytest.mark.parametrize(("name", "make", "count", "expected"), REFERENCE, ids=[row[0] for row in REFERENCE])
def test_arrivals_needed_are_those_of_the_trials(name, make, count, expected):
    row = bench.measure(make, min(count, 20), 160 // min(count, 20))
    spread = np.hypot(row.error, row.single / np.sqrt(bench.DESIGN_DRAWS))
    assert (np.abs(row.mean - expected) <= 3.5 * spread + bench.ROUNDING).all()


def test_energy_codes_and_repetition_with_unequal_energies():
    n, k = 2 * bench.UNEQUAL, bench.UNEQUAL

    def needed(make, count):
        return bench.measure(make, count, 10, "mmse", bench.ENERGIES).mean[:2]

    repetition = needed(lambda seed: codes.design("repetition", n, k), 1)
    assert repetition[0] > 1.3
    assert repetition[1] > 1.7
    reached = [needed(lambda seed, a=a: bench._energy(a, seed), 20) for a in (0.5, 1.0)]
    assert min(found[0] for found in reached) <= 0.23
    assert min(found[1] for found in reached) <= 0.85


def test_rings_have_unit_rows():
    assert np.linalg.norm(bench.ring(1), axis=1) == pytest.approx(1)


def test_the_tables_are_printed(monkeypatch, capsys):
    monkeypatch.setattr(bench, "REFERENCE", bench.REFERENCE[:1])
    monkeypatch.setattr(bench, "EXPONENTS", (0.5,))
    assert bench.run() == 0
    text = capsys.readouterr().out
    assert "repetition" in text
    assert "net (8, 4, 2)" in text
    assert "energy w=4, exponent 0.5" in text
    monkeypatch.setattr(bench, "WANTED", (0.01, 0.01))
    assert bench.run() == 1
