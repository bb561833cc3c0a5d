"""The Makefile's own set-up: what it says on machines where something is missing."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT

TOOLS = ("make", "sh", "sed", "id", "rm", "mkdir", "ln")


class Machine:
    """A folder with the Makefile, and a PATH that holds a few tools alone."""

    def __init__(self, folder: Path) -> None:
        self.tree, self.tools = folder / "tree", folder / "bin"
        self.tree.mkdir()
        self.tools.mkdir()
        for name in ("Makefile", "pyproject.toml"):
            shutil.copy(ROOT / name, self.tree)
        for name in TOOLS:
            found = shutil.which(name)
            assert found, f"{name} is not on PATH"
            (self.tools / name).symlink_to(found)

    def program(self, name: str, script: str) -> None:
        """Put a shell script on PATH."""
        path = self.tools / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def make(self, target: str) -> subprocess.CompletedProcess[str]:
        """Run make with nothing of our own environment."""
        environ = {"PATH": str(self.tools), "HOME": str(self.tree)}
        words = (self.tools / "make", target)
        return subprocess.run(
            words, cwd=self.tree, env=environ, capture_output=True, text=True, timeout=200, check=False
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of ours on stderr; make itself adds where it stopped."""
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    return line


def test_help_lists_every_target(machine: Machine) -> None:
    shown = machine.make("help").stdout.split()
    assert {"help", "run", "test", "test-long", "check", "bench", "lint", "dist", "clean"} <= set(shown)


@pytest.mark.parametrize("target", ["run", "test"])
def test_no_python_or_one_too_old_is_one_sentence(machine: Machine, target: str) -> None:
    machine.program("python3", "exit 1")  # what `sys.version_info < (3, 11)` makes of an old one
    assert complaint(machine.make(target)).startswith("pdcode: needs Python 3.11 or newer")
    assert not (machine.tree / ".venv").exists()


# Makes an environment of itself alone: `venv` would take most of the time, to install pip, which is here.
PYTHON = f"""
case "$*" in
"-m venv .venv") mkdir -p .venv/bin; ln -s "$0" .venv/bin/python ;;
*) exec "{sys.executable}" "$@" ;;
esac
"""


def test_no_compiler_is_one_sentence(machine: Machine) -> None:
    machine.program("python3", PYTHON)
    assert complaint(machine.make("run")).startswith("pdcode: needs a C compiler")
    machine.program("cc", "exit 1")  # one that cannot link, as gcc without the C library's headers
    assert complaint(machine.make("run")).startswith("pdcode: needs a C compiler")


def test_a_shell_finds_the_command(machine: Machine) -> None:
    scripts = machine.tree / ".venv" / "bin"
    scripts.mkdir(parents=True)
    (scripts / "pdcode").write_text("#!/bin/sh\necho found\n")
    (scripts / "pdcode").chmod(0o755)
    environ = {"PATH": str(machine.tools), "SHELL": "/bin/sh"}
    done = subprocess.run(
        [machine.tools / "make", "--assume-old=.venv/built", "shell"],
        cwd=machine.tree, env=environ, input="pdcode\n", capture_output=True, text=True, timeout=200,
        check=False,
    )  # fmt: skip
    assert done.stdout == "found\n", done.stderr


@pytest.mark.system
def test_the_build_shows_how_far_it_is(tmp_path: Path) -> None:
    """Of the modules that have changed alone; without a change it prints nothing."""
    for name in ("pdcode/kernels", "pdcode/trace", "csrc"):
        (tmp_path / name).mkdir(parents=True)
    for name in (
        "setup.py",
        "csrc/wrappers.py",
        "csrc/wrapper.pyx.tp",
        "csrc/rows.py",
        "pdcode/trace/schema.py",
    ):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "csrc" / "one.c").write_text("int one;\n")
    (tmp_path / "csrc" / "small.h").write_text("")
    kernel = tmp_path / "pdcode" / "kernels" / "small.pyx"
    kernel.write_text("one = 1\n")

    def build() -> list[str]:
        command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=True)
        return [line for line in done.stdout.splitlines() if line.startswith("pdcode: ")]

    lines = build()
    assert lines[:2] == [f"pdcode: translated {number} of 2 modules to C" for number in (1, 2)]
    assert sorted(line.rpartition(":")[0] for line in lines[2:]) == [
        f"pdcode: compiling {number} of 3 files" for number in (1, 2, 3)
    ]
    kernel.write_text("one = 2\n")
    translated, compiled = build()
    assert translated in lines
    assert compiled == "pdcode: compiling 1 of 1 files: small.c"
    assert build() == []
