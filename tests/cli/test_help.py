"""Every help ends with an example that the parser takes; shells get scripts that complete arguments."""

import argparse
import shlex
import subprocess
from pathlib import Path

import pytest
from commands import below
from paths import ROOT

from pdcode.__main__ import main, parser
from pdcode.api import configs
from pdcode.config import load as configfile


@pytest.mark.parametrize("command", [*below(parser())], ids=lambda command: command.prog)
def test_an_example_ends_each_help(command: argparse.ArgumentParser) -> None:
    last = command.format_help().splitlines()[-1]
    name, *words = shlex.split(last.removeprefix("example: ").partition(" > ")[0])
    assert last.startswith(f"example: {command.prog}")
    assert name == "pdcode"
    options = parser().parse_args(words)
    if config := getattr(options, "config", None):
        settings = configs.overrides(getattr(options, "set", ()), getattr(options, "workers", None))
        assert configfile.load(ROOT / config, settings)


def test_bash_completes_commands_options_values_and_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", "bash"]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out, encoding="utf-8")
    (tmp_path / "job.toml").touch()
    asked = {
        "pdcode simu": "simulate",
        "pdcode compare --cl": "--clock",
        "pdcode compare --clock v": "virtual",
        "pdcode codes de": "design",
        "pdcode export --to perf": "perfetto",
        "pdcode run jo": "job.toml",
        "pdcode import ki": "kineto",
        "pdcode import csv jo": "job.toml",
    }
    lines = ["source ./script"]
    for words in asked:
        lines.append(f"COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMPREPLY=()")
        lines.append('$(complete -p pdcode | sed "s/.* -F //;s/ .*//") pdcode; echo "${COMPREPLY[*]}"')
    done = subprocess.run(
        ["bash", "-c", "\n".join(lines)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert dict(zip(asked, done.stdout.split("\n"), strict=False)) == asked, done.stderr
