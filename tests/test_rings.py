"""The three rings: what the protocol imports, the picture of all packages, and how many lines each has."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from paths import ROOT
from shell import environment

CONTRACT, *_ = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
    "contracts"
]
PICTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").partition("## The packages")[2]
PICTURE = PICTURE.split("```")[1]

# Numbers of lines, at most. A change that needs more says here why.
PROTOCOL = 9_635  # what both loops import; 9,615 before names of hanging threads, and what audits find
ENGINE = (
    50_145  # with csrc/ and api; the goal is 42,000; 49,000 before bounded ends, audits, restarts, network
)
PRODUCT = 84_220  # 83,000 before bounded ends, audits, restarts, rows at a time, and a closed network
LOADED = """
import json, sys
import pdcode.training.coordinator, pdcode.training.worker
print(json.dumps({name: module.__file__ for name, module in sys.modules.items() if "pdcode" in name}))
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def lines(*paths: Path) -> int:
    """Lines of the sources in files and folders."""
    files = [each for path in paths for each in ([path] if path.is_file() else path.rglob("*"))]
    sources = [each for each in files if each.suffix in (".py", ".pyx", ".pxd", ".c", ".h", ".tp", ".inc")]
    return sum(len(each.read_text(encoding="utf-8").splitlines()) for each in sources)


def ring(first: str, last: str) -> list[str]:
    """Packages from one to another, in the order of the layers."""
    layers = CONTRACT["layers"]
    return layers[layers.index(first) : layers.index(last) + 1]


ATTACHED, INNER = ring("cli", "shuffling"), ring("api", "fitted")


def test_the_loops_import_little_and_neither_files_mpi_data_nor_codes() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED], env=environment(), capture_output=True, text=True, check=True
    )
    modules, packages = map(json.loads, done.stdout.splitlines())
    assert {"h5py", "mpi4py", "scipy", "sklearn"}.isdisjoint(packages)
    assert {name.split(".")[1] for name in modules if "." in name} == {*ring("training", "fitted")}
    sources = [Path(path) for path in modules.values()]
    compiled = [
        path.with_name(path.name.partition(".")[0] + ".pyx") for path in sources if path.suffix == ".so"
    ]
    written = [path for path in (*sources, *compiled) if path.suffix != ".so" and path.exists()]
    assert lines(*written) <= PROTOCOL


def test_the_picture_has_all_packages_ring_by_ring() -> None:
    rings = re.split(r"┌ \w+:.*", PICTURE)[1:]
    found = [set(re.findall(r"\w+", text.partition("└")[0])) for text in rings]
    assert found == [{*ATTACHED}, {*ring("api", "problems")}, {*ring("training", "fitted")}]


def test_the_rings_keep_to_their_numbers_of_lines() -> None:
    package = ROOT / "pdcode"
    csrc = lines(ROOT / "csrc")
    inner = [path for path in package.iterdir() if path.stem in INNER]
    assert lines(*inner) + csrc <= ENGINE
    assert lines(package) + csrc <= PRODUCT
