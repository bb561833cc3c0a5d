"""docs/architecture.md is kept true: packages, quoted code, links, and the map."""

import pkgutil
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from paths import ROOT

from pdcode.__main__ import main

TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
SECTIONS = dict(part.partition("\n")[::2] for part in TEXT.split("\n## ")[1:])
EVENTS = (
    *(f"payload {word}" for word in ("made", "coded", "rounded", "sent", "received", "decoded", "applied")),
    *("delay drawn", "delay slept", "key read", "key checked", "key acted on", "loss computed", "loss drawn"),
)
JOB = """
[stop]
updates = 5
[workers]
count = 2
[optimizer]
momentum = 0.5
[stragglers]
kind = "shifted-exponential"
shift_s = 0.01
mean_s = 0.01
"""


LINK = r"\[`[\w.]+`\]\(\.\./pdcode/[\w/]+\.py\)"


def mapped() -> Iterator[tuple[str, str, str]]:
    """What happens, and the names of the functions where: over MPI and on the virtual clock."""
    for row in SECTIONS["The map"].splitlines():
        if row.startswith("| ") and not row.startswith("| what"):
            what, where, _ = (cell.strip() for cell in row.strip("|").split("|"))
            assert re.fullmatch(rf"{LINK}(?:, on the virtual clock {LINK})?", where), row
            names = re.findall(r"`([\w.]+)`\]\(\.\./pdcode/([\w/]+)\.py", where)
            for name, path in names:
                assert name.startswith(path.replace("/", ".") + "."), row  # the link is to the name
            yield what, names[0][0], names[-1][0]


def resolve(name: str) -> Any:
    """What a dotted name within pdcode stands for."""
    return pkgutil.resolve_name(f"pdcode.{name}")


def test_the_map_has_all_events_and_its_names_are_functions() -> None:
    rows = list(mapped())
    assert tuple(what for what, _, _ in rows) == EVENTS
    for _, *names in rows:
        for name in names:
            assert callable(resolve(name)), name


def test_a_run_on_the_virtual_clock_calls_what_the_map_names(tmp_path: Path) -> None:
    job, trace, called = tmp_path / "job.toml", str(tmp_path / "trace.h5"), set()
    job.write_text(JOB, encoding="utf-8")

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            called.add(frame.f_code)

    old = sys.getprofile()
    sys.setprofile(note)
    try:
        done = main(["simulate", str(job), "-o", trace]), main(["show", trace, "--figure", f"{trace}.svg"])
    finally:
        sys.setprofile(old)
    assert done == (0, 0)
    for what, _, name in mapped():
        assert resolve(name).__code__ in called, what


def test_the_answers_to_the_sixteen_questions_exist() -> None:
    """Each answer names places as `package/module.py:name`."""
    rows = [row for row in SECTIONS["Sixteen questions"].splitlines() if row.startswith("| ")]
    answers = [row.strip("|").split("|")[1] for row in rows if not row.startswith("| question")]
    assert len(answers) == 16
    for answer in answers:
        places = re.findall(r"`([\w/]+)\.py:([\w.]+)`", answer)
        assert places, answer
        for path, name in places:
            resolve(f"{path.replace('/', '.')}.{name}")  # raises if there is none


def test_every_package_is_in_the_list() -> None:
    listed = [row.split("|")[1] for row in SECTIONS["The packages"].splitlines() if row.startswith("| `")]
    names = [name for cell in listed for name in re.findall(r"`(\w+)`", cell)]
    packages = {path.parent.name for path in (ROOT / "pdcode").glob("*/__init__.py")}
    assert sorted(names) == sorted({*packages, "__main__", "fitted"})


@pytest.mark.parametrize("module", ["training/coordinator.py", "training/fused.py", "training/worker.py"])
def test_quoted_code_is_the_code(module: str) -> None:
    (quoted,) = re.findall(rf"```python\n# {module}\n(.*?)```", SECTIONS["The two loops"], re.DOTALL)
    code = [
        [line.partition("  # ")[0] for line in text.splitlines() if not line.startswith("…")]
        for text in (quoted, (ROOT / "pdcode" / module).read_text(encoding="utf-8"))
    ]
    assert [line for line in code[0] if line not in code[1]] == []


@pytest.mark.parametrize("document", ["README.md", "docs/architecture.md", "docs/extending.md"])
def test_links_lead_somewhere(document: str) -> None:
    path = ROOT / document
    links = re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_modules_and_classes_that_are_named_exist() -> None:
    """Dotted names in backticks, and paths of files of the package."""
    for name in re.findall(
        r"`((?:training|coding|transport|mpi|launch|choice|virtual|config|problems|replay)\.[\w.]+)`", TEXT
    ):
        resolve(name)  # raises if there is none
    for path in re.findall(r"`([a-z_]+/[\w/]*(?:\.py)?)`", TEXT):
        assert (ROOT / "pdcode" / path).exists() or (ROOT / path).exists(), path
