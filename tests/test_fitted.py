"""The fitted constants: each is used, and what is said to fit them exists."""

import ast
import re

import pytest
from paths import ROOT

SOURCE = (ROOT / "pdcode" / "fitted.py").read_text(encoding="utf-8")
FILES = sorted({*re.findall(r"(?:docs|experiments|tests)/[\w/]+\.(?:md|py)", SOURCE)})
NAMES = {
    name.id
    for node in ast.parse(SOURCE).body
    if isinstance(node, ast.Assign | ast.AnnAssign)
    for name in ast.walk(node)
    if isinstance(name, ast.Name) and name.id.isupper()
}


def test_every_constant_is_used():
    product = (ROOT / "pdcode").rglob("*.py")
    texts = (path.read_text(encoding="utf-8") for path in product if path.name != "fitted.py")
    assert {*NAMES} - {word for text in texts for word in re.findall(r"\w+", text)} == set()


@pytest.mark.parametrize("path", FILES)
def test_what_fits_them_is_there(path):
    assert (ROOT / path).is_file()


@pytest.mark.parametrize("name", sorted({*re.findall(r"benchmarks (\w+)`", SOURCE)}))
def test_the_benchmark_is_there(name):
    assert (ROOT / "benchmarks" / f"{name}.py").is_file()
