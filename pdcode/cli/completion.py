"""`pdcode completion`: a shell's script that completes commands, options, their values and files."""

import argparse
from collections.abc import Mapping
from typing import Any

from ..util.errors import InputError

FILES = "CONFIG", "TRACE", "FILE", "TOML", "CSV", "PNG", "DATA", "TABLE"  # metavars


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "completion",
        help="print a script by which a shell completes pdcode's arguments",
        example="bash > ~/.local/share/bash-completion/completions/pdcode",
        description="Print a script that completes commands, options, their values and files. It is static: "
        "the shell does not start Python for it. Bash finds it as "
        "~/.local/share/bash-completion/completions/pdcode, zsh as _pdcode in a folder of $fpath, fish as "
        "~/.config/fish/completions/pdcode.fish.",
    )
    command.add_argument("shell", choices=("bash", "zsh", "fish", "tcsh"), help="the shell")
    command.set_defaults(function=run)


def run(options: argparse.Namespace) -> int:
    """Print the script."""
    import shtab

    top = options.parser()
    _complete_paths(top, {"FOLDER": shtab.DIRECTORY} | dict.fromkeys(FILES, shtab.FILE))
    print(shtab.complete(top, options.shell))
    return 0


def _complete_paths(parser: argparse.ArgumentParser, kinds: Mapping[Any, object]) -> None:
    """Mark the arguments of a parser, and of those below, that are paths, by their metavars."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in [*action.choices.items()]:
                try:
                    _complete_paths(below.load() if below.load else below, kinds)
                except InputError:  # of a plug-in, whose options stay unknown
                    action.choices[name] = below
        elif action.metavar in kinds:
            action.complete = kinds[action.metavar]  # type: ignore[attr-defined]
