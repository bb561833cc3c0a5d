"""Families of installed packages, as `pdcode codes` knows them."""

import pytest

from pdcode.__main__ import main
from pdcode.config import kinds

PACKAGE = """
import numpy as np
from pdcode.codes import Family, Size

def build(rows, blocks, weight, seed):
    return np.arange(rows)[:, None] % blocks, np.ones((rows, 1))

STAIRS = Family("stairs", "a block a step", build, lambda blocks, weight: [Size(1)])
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package with a family."""
    (tmp_path / "stairs_package.py").write_text(PACKAGE)
    info = tmp_path / "stairs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stairs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[pdcode.families]\nstairs = stairs_package:STAIRS\n")
    monkeypatch.syspath_prepend(tmp_path)
    kinds._entries.cache_clear()
    yield
    kinds._entries.cache_clear()


def test_families_of_installed_packages_are_listed(package, capsys):
    assert main(["codes", "list"]) == 0
    assert "stairs" in capsys.readouterr().out
    assert main(["codes", "design", "escalator", "-n", "4", "-k", "4"]) == 2
    assert "stairs, " in capsys.readouterr().err
