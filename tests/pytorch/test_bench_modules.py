"""`python -m benchmarks modules`."""

import re
from itertools import product

import pytest

from benchmarks import modules as bench
from benchmarks.__main__ import main

pytestmark = pytest.mark.slow


def test_the_table_has_each_module_and_step(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {
        "MLP": bench.Case(lambda: bench.perceptron(32, 2), bench.images(16, 32)),
        "ResNet-18": bench.Case(lambda: bench.resnet(4), bench.images(4, 3, 8, 8)),
        "GPT": bench.Case(lambda: bench.GPT(16, 1, 2, length=8), bench.tokens(2, 8)),
    }
    assert [name.split()[0].rstrip(",") for name in bench.CASES] == [*small]
    monkeypatch.setattr(bench, "CASES", small)
    monkeypatch.setattr(bench, "ROUNDS", 2)
    assert main(["modules"]) == 0
    head, columns, *lines = capsys.readouterr().out.splitlines()
    assert head.startswith("one thread, float32; multiples of PyTorch's backward pass, medians of 2 rounds")
    assert columns.split() == ["axis", "ms", *" ".join(bench.STEPS[1:]).split()]
    for (name, axis), line in zip(product(small, ("output", "input")), lines, strict=True):
        first, *cells = line.removeprefix(name).split()
        assert (first, len(cells)) == (axis, 6)
        assert all(re.fullmatch(r"\d+\.\d+", each) and float(each) >= 0 for each in cells)
