"""Shell blocks and examples of README and docs/**/*.md, run in a scratch folder or checked.

A document is a story: its blocks are run in order in one folder. A block whose first line names a file,
``# mine.toml``, is that file; a Python file must be used by a later block. ``<!-- long -->`` above a block
leaves it to `make docs-check`; one that says ``<!-- elsewhere: REASON -->`` cannot run here, and its commands
are only checked. There are no other blocks, except those of Sphinx and ``text``, what commands print.
"""

import doctest
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Callable
from contextlib import chdir, redirect_stderr, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import plugins
from launches import shared_pool
from paths import JOBS, ROOT
from shell import environment

from pdcode.__main__ import main, parser
from pdcode.config import load as configfile
from pdcode.launch import launcher

FENCE = re.compile(r"(?:^<!-- (\w+)(?:: ([^\n]+))? -->\n)?^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# ([\w-]+\.(?:toml|py))\b")
MARKS = ("", "long", "elsewhere")
RUN = ("sh", "pycon", "toml")  # a configuration is read, and with it its plug-ins
OTHERS = (
    "echo",
    "source",
    "sudo",
    "for",
    "done",
    "python",
    "mpirun",
    "mpiexec",
    "pip",
    "torchrun",
)  # commands that `check` does not look into
PROGRAMS = {
    **{("python", "-m", "benchmarks", name): f"benchmarks.{name}" for name in ("schemes", "scale", "ddp")},
    **{("python", f"experiments/{name}.py"): f"experiments.{name}" for name in ("ablation", "validate")},
}
"""Programs with options like commands of pdcode, and their modules."""
OVER_MPI = "run", "compare", "chaos", "bench"  # commands that may start ranks
SMALLER = (
    (r"\bcount = 8\b", "count = 2"), (r"\bcount = 1000\b", "count = 12"), (r"\bcount = 6\b", "count = 1"),
    (r"\bslow = \[[37]\]", "slow = [1]"), (r"\bseconds = 20.0\b", "seconds = 0.6"),
    (r"\bupdates = \d+\b", "updates = 60"), (r"--seeds \d+", "--seeds 2"),
)  # fmt: skip


class Block(NamedTuple):
    """A fenced block."""

    document: str  # path within the repository
    line: int  # of the fence
    mark: str  # one of `MARKS`
    language: str
    text: str
    reason: str = ""  # why it runs elsewhere

    @property
    def place(self) -> str:
        return f"{self.document}:{self.line}"


class Wrong(Exception):
    """A block that does not do what its document says; the message names document and line."""


def documents() -> list[str]:
    """List the documents that have blocks to run or to check, README first."""
    paths = [*ROOT.glob("*.md"), *(ROOT / "packings").glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    names = sorted((str(path.relative_to(ROOT)) for path in paths), key=lambda name: ("/" in name, name))
    return [name for name in names if any(not is_text(block) for block in blocks(name))]


def is_text(block: Block) -> bool:
    """Whether a block is what a command prints, or a directive of Sphinx."""
    return block.language == "text" or block.language.startswith("{")


def blocks(document: str) -> list[Block]:
    """Return the fenced blocks of a document."""
    return parse(document, (ROOT / document).read_text(encoding="utf-8"))


def parse(document: str, text: str) -> list[Block]:
    """Return the fenced blocks of a text; refuse those that nothing runs and that do not say why."""
    found = [
        Block(
            document,
            text.count("\n", 0, match.start(3)) + 1,
            match[1] or "",
            match[3],
            match[4],
            match[2] or "",
        )
        for match in FENCE.finditer(text)
    ]
    if len(re.findall(r"^ *(?:```|~~~)", text, re.MULTILINE)) != 2 * len(found):
        raise Wrong(f"{document}: a block that is indented, or not closed, is not run")
    for place, block in enumerate(found):
        if block.mark not in MARKS or (block.mark == "elsewhere") != bool(block.reason):
            raise Wrong(f"{block.place}: expected <!-- long --> or <!-- elsewhere: REASON -->")
        named = FILE.match(block.text)
        later = [each.text for each in found[place + 1 :] if each.mark == "" and each.language in RUN]
        used = block.language == "python" and named and any(Path(named[1]).stem in each for each in later)
        if not (block.language in RUN or block.mark == "elsewhere" or used or is_text(block)):
            raise Wrong(f"{block.place}: a block of '{block.language}' that no test runs")
    return found


def prepare(folder: Path, smaller: bool) -> None:
    """Make a scratch folder with the jobs; `smaller` ones have 2 workers and end within a second."""
    shutil.copytree(JOBS, folder / "jobs")
    for name in ("experiments", "benchmarks"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "results").mkdir()
    if smaller:
        for path in (folder / "jobs").glob("*.toml"):
            path.write_text(shrink(path.read_text(encoding="utf-8")), encoding="utf-8")


def shrink(text: str) -> str:
    """Return a configuration with fewer workers and a shorter run."""
    for pattern, replacement in SMALLER:
        text = re.sub(pattern, replacement, text)
    return text


def follow(document: str, folder: Path, long: bool) -> int:
    """Run the blocks of a document in order, and check those that are not run; return how many were run."""
    names: dict[str, object] = {}
    count, found = 0, blocks(document)
    for block in found:
        named = FILE.match(block.text)
        if named and block.language in ("toml", "python"):
            text = block.text if long else shrink(block.text)
            (folder / named[1]).write_text(text, encoding="utf-8")
    for block in found:
        if block.language == "toml" and block.mark == "":
            read_toml(block, folder)
        elif block.language == "pycon":
            run_examples(block, names, folder)
            count += 1
        elif block.language == "sh":
            check(block, folder)
            if block.mark == "" or (long and block.mark == "long"):
                commands = None if long else plain_commands(shrink(block.text))
                if commands is None:
                    run_shell(block, folder)
                else:
                    run_here(block, commands, folder)
                count += 1
    return count


def read_toml(block: Block, folder: Path) -> None:
    """Read a configuration."""
    path = folder / "block.toml"
    path.write_text(block.text, encoding="utf-8")
    try:
        with plugins.forgotten():
            configfile.load(path)
    except Exception as error:
        raise Wrong(f"{block.place}: {error}") from error


def plain_commands(text: str) -> list[list[str]] | None:
    """Return the arguments of each line of a block; None if a line is not of pdcode alone, but of a shell."""
    commands = []
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        signs = shlex.shlex(line, posix=True, punctuation_chars=True)
        signs.commenters, signs.whitespace_split = "#", True
        shell = re.search("[$`*?~]", line) or any({*word} <= {*signs.punctuation_chars} for word in signs)
        if words and (words[0] != "pdcode" or shell):
            return None
        commands += [words[1:]] if words else []
    return commands


def run_here(block: Block, commands: list[list[str]], folder: Path) -> None:
    """Run a block's commands in this process, those over MPI on ranks of the pool."""
    for words in commands:
        said = io.StringIO()
        variables = {launcher.LAUNCHER: str(shared_pool().launcher)} if words[0] in OVER_MPI else {}
        with (
            chdir(folder), plugins.forgotten(), patch.dict(os.environ, variables),
            redirect_stdout(said), redirect_stderr(said),
        ):  # fmt: skip
            code = main(words)
        if code:
            raise Wrong(
                f"{block.place}: exit code {code}\npdcode {shlex.join(words)}\n{said.getvalue()[-3000:]}"
            )


def run_examples(block: Block, names: dict[str, object], folder: Path) -> None:
    """Run a doctest with the names of the examples before it."""
    test = doctest.DocTestParser().get_doctest(block.text, names, block.place, block.document, block.line)
    said = io.StringIO()
    with chdir(folder):
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
        runner.run(test, out=said.write, clear_globs=False)
    names.update(test.globs)
    if not runner.tries or runner.failures:
        raise Wrong(f"{block.place}:\n{said.getvalue()}")


def run_shell(block: Block, folder: Path) -> None:
    """Run a block by bash; the first command that fails ends it."""
    scripts = str(Path(sys.executable).parent)
    extra = {"PATH": os.pathsep.join([scripts, os.environ["PATH"]]), "PDCODE_VENV": str(Path(scripts).parent)}
    _, ranks = launcher.command(63, [])  # for mpirun on fewer cores
    extra |= {name: value for name, value in ranks.items() if name.startswith(("OMPI_", "PRTE_"))}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text], cwd=folder, env=environment() | extra,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=1200, check=False,
    )  # fmt: skip
    if done.returncode:
        said = (done.stdout + done.stderr)[-3000:]
        raise Wrong(f"{block.place}: exit code {done.returncode}\n{block.text}\n{said}")


def check(block: Block, folder: Path) -> None:
    """Check a block without running it: bash's grammar, pdcode's options, make's targets, scripts' files."""
    parsed = subprocess.run(["bash", "-n", "-c", block.text], capture_output=True, text=True, check=False)
    if parsed.returncode:
        raise Wrong(f"{block.place}: {parsed.stderr}")
    for line in block.text.splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        found = program(words) or (parser, pdcode_arguments(words))
        if found[1]:
            said = io.StringIO()
            try:
                with redirect_stderr(said):
                    found[0]().parse_args(found[1])
            except SystemExit as stop:
                raise Wrong(f"{block.place}: {line}\n{said.getvalue()}") from stop
        elif words[0] == "make":
            subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, capture_output=True, check=True)
        elif words[0].rstrip(";") not in OTHERS:
            raise Wrong(f"{block.place}: {words[0]}: nothing checks this command")
        if words[0] == "python" and words[1].endswith(".py") and not (folder / words[1]).exists():
            raise Wrong(f"{block.place}: no file {words[1]}")


def program(words: list[str]) -> tuple[Callable[[], ArgumentParser], list[str]] | None:
    """Return parser and arguments of a program with options; None if the words start none."""
    for start in PROGRAMS:
        if words[: len(start)] == list(start):
            return import_module(PROGRAMS[start]).parser, words[len(start) :]
    return None


def pdcode_arguments(words: list[str]) -> list[str]:
    """Return the arguments of pdcode in a command line, after any launcher; empty if it has none."""
    for end, word in enumerate(words):
        if word in (">", "|", "2>"):
            words = words[:end]
            break
    if "pdcode" in words:
        return words[words.index("pdcode") + 1 :]
    for script in ("jobs/train.sbatch", "jobs/faults.sbatch"):
        if script in words:
            return ["run", *(words[words.index(script) + 1 :] or ["jobs/digits.toml"])]
    if "jobs/sweep.sbatch" in words:
        config, table, *rest = words[words.index("jobs/sweep.sbatch") + 1 :]
        return ["run", config, *rest] if Path(table).suffix == ".csv" else []
    return []
