"""README and docs: short blocks are run, the others are checked; generated references are complete."""

import re
import shutil
import subprocess
from pathlib import Path

import documents
import pytest
from grids import with_system
from paths import ROOT

from pdcode.__main__ import main
from pdcode.codes import FAMILIES
from pdcode.config import kinds


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trace of jobs/digits.toml, of which documents speak as results/digits.h5."""
    folder = tmp_path_factory.mktemp("recorded")
    documents.prepare(folder, smaller=True)
    trace = folder / "digits.h5"
    assert main(["simulate", str(folder / "jobs" / "digits.toml"), "-o", str(trace)]) == 0
    return trace


LONGEST = (
    "docs/calibration.md",
    "docs/python.md",
    "docs/results/whitening.md",
    "docs/trace.md",
    "docs/tutorial.md",
)
DOCUMENTS = [document for document in documents.documents() if document not in LONGEST]


@pytest.mark.parametrize("document", with_system(*DOCUMENTS, system=LONGEST))
def test_commands_and_examples_do_what_the_document_says(document, recorded, tmp_path):
    documents.prepare(tmp_path, smaller=True)
    shutil.copy(recorded, tmp_path / "results" / "digits.h5")
    documents.follow(document, tmp_path, long=False)


def test_a_wrong_block_is_found(tmp_path: Path) -> None:
    """What runs and checks the blocks refuses wrong ones."""

    def block(text: str, language: str = "sh") -> documents.Block:
        return documents.Block("made-up.md", 7, "", language, text)

    for text in ("pdcode run job.toml --sett x=1", "pdcode rum job.toml", "make no-such-target", "rm -rf x"):
        with pytest.raises((documents.Wrong, subprocess.CalledProcessError)):
            documents.check(block(text), tmp_path)
    with pytest.raises(documents.Wrong, match=r"made-up\.md:7: exit code 3"):
        documents.run_shell(block("true\nexit 3\ntrue"), tmp_path)
    with pytest.raises(documents.Wrong, match=r"code\.blocks"):
        documents.read_toml(block("[code]\nblocks = 'four'\n", "toml"), tmp_path)
    with pytest.raises(documents.Wrong, match=r"made-up\.md:7"):
        documents.run_examples(block(">>> 1 + 1\n3\n", "pycon"), {}, tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```python\nprint(1)\n```\n", "page.md:1: a block of 'python' that no test runs"),
        ("```python\n# mine.py\nprint(1)\n```\n", "'python' that no test runs"),
        (
            "```python\n# mine.py\n```\n<!-- long -->\n```sh\npython mine.py\n```\n",
            "'python' that no test runs",
        ),
        ("```\nprint(1)\n```\n", "a block of '' that no test runs"),
        ("<!-- elsewhere -->\n```sh\nmake run\n```\n", "page.md:2: expected <!-- long -->"),
        ("<!-- slow -->\n```sh\nmake run\n```\n", "page.md:2: expected <!-- long -->"),
        ("- a list\n\n  ```sh\n  make run\n  ```\n", "page.md: a block that is indented"),
    ],
)
def test_a_block_that_nothing_runs_is_found(text: str, message: str) -> None:
    with pytest.raises(documents.Wrong, match=re.escape(message)):
        documents.parse("page.md", text)
    assert len(documents.parse("page.md", "<!-- elsewhere: it takes hours -->\n```python\nrun()\n```\n")) == 1
    file = "```python\n# mine.py\nprint(1)\n```\n```sh\npython mine.py\n```\n"
    assert [block.language for block in documents.parse("page.md", file)] == ["python", "sh"]


def test_readme_is_short() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120
    assert [line for line in lines if len(line) > 120] == []


def test_schemes_and_codes_are_all_described() -> None:
    text = (ROOT / "docs" / "schemes.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w-]+)`", text))
    groups = ("schemes", "decoders", "memories", "stragglers", "codes")
    # Plug-ins that other tests have loaded are classes, not names of them.
    every = [pair for group in groups for pair in kinds.KINDS[group].items()]
    built_in = {name for name, kind in every if isinstance(kind, str)}
    assert {*FAMILIES, *built_in} <= named


def test_links_lead_somewhere() -> None:
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        links = re.findall(r"\]\(([^)#:\s]+)(?:#[\w-]+)?\)", document.read_text(encoding="utf-8"))
        assert [link for link in links if not (document.parent / link).exists()] == [], document
