"""Wire formats and memories: what goes together, in the configuration and in the documentation."""

from itertools import product

import pytest
from paths import ROOT

from pdcode.config import kinds
from pdcode.config import load as configfile
from pdcode.kernels import quantise
from pdcode.session.setup import prepare
from pdcode.util.errors import InputError

FORMATS = {name: kinds.find("wires", name) for name in kinds.KINDS["wires"]}
MEMORIES = list(kinds.KINDS["memories"])


def resolve(memory: str, wire: str, *overrides: str) -> configfile.Config:
    sets = [f"memory.kind={memory}", f"wire.dtype={wire}", "problem.dtype=float64", "stop.updates=1"]
    return configfile.resolve({}, [*sets, *overrides])


def test_every_format_of_the_kernels_is_a_kind() -> None:
    assert {name: form.kind for name, form in FORMATS.items()} == quantise.KINDS


@pytest.mark.parametrize(("memory", "wire"), [*product(MEMORIES, FORMATS)])
def test_a_memory_of_errors_needs_a_contraction(memory: str, wire: str) -> None:
    if memory in ("none", "coordinator") or FORMATS[wire].contraction:
        assert resolve(memory, wire).wire.formats == [wire]
        return
    with pytest.raises(InputError, match=rf"wire\.dtype: '{wire}' .*'{memory}'.* a contraction"):
        resolve(memory, wire)


def test_every_layer_counts() -> None:
    with pytest.raises(InputError, match=r"wire\.dtype: 'qsgd' .* a contraction"):
        resolve("worker", '["int8","qsgd"]')
    assert resolve("none", '["int8","qsgd"]').wire.formats == ["int8", "qsgd"]


@pytest.mark.parametrize("wire", FORMATS)
def test_bias_without_a_memory_gives_a_remark(wire: str) -> None:
    for memory, silent in (("none", FORMATS[wire].unbiased), ("worker", True)):
        if memory == "none" or FORMATS[wire].contraction:
            lines = prepare(resolve(memory, wire)).remarks()
            assert any(f"'{wire}' is biased" in line for line in lines) != silent


def test_the_documentation_lists_the_same_formats() -> None:
    """Columns of the table: name, element, bits, rounding, unbiased, contraction."""
    text = (ROOT / "docs" / "schemes.md").read_text(encoding="utf-8")
    section = text.partition("## Wire formats")[2].partition("\n## ")[0]
    table, memories = section.split("| `memory.kind` |")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if "| `" in line]
    said = {row[0].strip("`"): tuple(row[3:6]) for row in rows[1:]}
    words = {True: "yes", False: "no"}
    assert said == {
        name: (wire.rounding, words[wire.unbiased], words[wire.contraction]) for name, wire in FORMATS.items()
    }
    growing = [f"`{name}`" for name, wire in FORMATS.items() if not wire.contraction]
    assert f"| all but {', '.join(growing)} |" in memories
