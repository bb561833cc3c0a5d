"""Arguments that several commands share, and checks of their ranges."""

import argparse
import math
import os
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from itertools import zip_longest
from typing import Any, NoReturn

from ..config import kinds
from ..launch import launcher, siblings
from ..util import units
from ..util.errors import InputError, did_you_mean, expected, short_repr

TYPES = {"int": "an integer", "float": "a number"}


class Parser(argparse.ArgumentParser):
    """Parser that suggests commands and options for misspelt ones, and whose help ends with an example.

    Attributes
    ----------
    example : str, optional
        Arguments of the example.
    describe : callable, optional
        Returns the description, which only the help needs.
    hint : str
        End of the message about an option that is like none.
    load : callable, optional
        Imports the plug-in whose command this is, and returns the parser that takes the place of this one.
    """

    hint = ""
    load: Callable[[], "Parser"] | None = None
    _words: Sequence[str] = ()  # of the command line

    def __init__(
        self, *, example: str | None = None, describe: Callable[[], str] | None = None, **keywords: Any
    ) -> None:
        super().__init__(**keywords)
        self.example, self.describe = example, describe

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, and refuse unknown arguments here: the parser of a command knows its options."""
        if self.load is not None:
            return self.load().parse_known_args(args, namespace)
        self._words = list(args or ())
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            meant = self._meant(unknown) or self.hint or self._help()
            self.error(f"unrecognized arguments: {' '.join(unknown)}{meant}")
        return parsed, unknown

    def _meant(self, words: Sequence[str]) -> str:
        """Return the end of a message about options, or keys, that the first unknown option is like."""
        known = [option for option in self._option_string_actions if option.startswith("--")]
        for word, next_word in zip_longest(words, words[1:], fillvalue=""):
            option, equals, value = word.partition("=")
            if not option.startswith("--") or any(each.startswith(option) for each in known):
                continue
            if meant := did_you_mean(option[2:], [each[2:] for each in known]):
                return meant.replace("mean '", "mean '--")
            if not equals and not next_word.startswith("-"):
                value = next_word
            if "--set" in known and (setting := _setting(option[2:], value or "VALUE", not self.hint)):
                return f"; keys of the configuration are set as in --set {setting}"
        return ""

    def _help(self) -> str:
        return f"; as in: {self.prog} {self.example}" if self.example else f"; {self.prog} --help"

    def format_help(self) -> str:
        """Return the help, with the example."""
        if self.describe is not None:
            self.description = self.describe()
        line = "" if self.example is None else f"\nexample: {self.prog} {self.example}".rstrip() + "\n"
        return super().format_help() + line  # on one line, to be copied

    def error(self, message: str) -> NoReturn:
        """Print the message, and exit with code 2."""
        message = re.sub(r"^argument ", "", message)
        if found := re.search(r"^(.*): invalid choice: '(.*)' \(choose from (.*)\)$", message):
            known = re.split(r",\s*", found[3].replace("'", ""))
            message = f"{found[1]}: {expected(found[2], known)}"
            if found[2].endswith(".toml"):
                message += f"; did you mean '{self.prog} run {found[2]}'?"
        elif found := re.search(r"^(.*): invalid (int|float) value: (.*)$", message):
            message = f"{found[1]}: expected {TYPES[found[2]]} (got {found[3]})"
        elif found := re.search(r"arguments (?:are required: (.*)|(.*) is required)$", message):
            missing = found[1] or f"one of {found[2]}"
            message = f"{missing} is missing{self._meant(self._words) or self._help()}"
        if (place := launcher.launched_rank(os.environ)) and place[0]:  # rank 0 prints it
            raise SystemExit(siblings.report(InputError(message)))
        self.exit(2, f"{self.prog}: {message}\n")


def add_kinds(commands: Any, group: str) -> None:
    """Add the commands of a group of kinds; plug-ins' commands by their names alone, until they are used."""
    for name in kinds.names(group):
        if name in kinds.KINDS[group]:
            kinds.find(group, name)(commands)
        else:
            command = commands.add_parser(name, help=kinds.package_summary(group, name).replace("%", "%%"))
            command.load = partial(load, commands, group, name)


def described(group: str) -> str:
    """Return names, suffixes if they have any, and descriptions of a group's kinds, for a help."""
    found = ((f"{name} {getattr(kind, 'suffix', '')}".strip(), kind) for name, kind in kinds.members(group))
    return "; ".join(f"{name}: {kind.description}" for name, kind in found)


def load(commands: Any, group: str, name: str) -> Parser:
    """Import the plug-in of a command, and return the parser that it adds in place of the present one."""
    del commands.choices[name]
    with kinds.errors_of_user(f"pdcode.{group}: '{name}'"):
        kinds.find(group, name)(commands)
    added: Parser | None = commands.choices.get(name)
    if added is None or not (added.get_default("function") or added._subparsers):
        raise InputError(f"pdcode.{group}: '{name}': adds no parser of this name with a function")
    return added


def _setting(name: str, value: str, similar: bool) -> str:
    """Return a setting for --set of the key or table of this name; empty if a configuration has none.

    `similar` keys are meant, too.
    """
    from ..config import Config, building  # not loaded without an error

    key = name if name in Config.__struct_fields__ else building.meant_key(name) if similar else ""
    table = key == name and hasattr(getattr(Config(), name), "__struct_fields__")
    return f"{name}.KEY=VALUE" if table else f"{key}={value}" if key else ""


RANGES = {
    "seeds": (1, 1000, "1 to 1000"),
    "tune": (3, 99, "3 to 99"),
    "workers": (1, 2**31 - 1, "1 or more"),
    "target": (-1e9, 1e9, "a number from -1e9 to 1e9"),
    "seconds": (math.nextafter(0, 1), 1e9, "a time above 0 and at most 1e9"),
}
"""Least and greatest value of a number, and the range in words."""


def add_job(
    command: Any,
    example: str = "update.mode=all",
    scope: str = "",
    default: str | None = None,
    optional: bool = False,
) -> None:
    """Add CONFIG, --workers and --set; CONFIG is optional if it has a default."""
    what = f"TOML file (default: {default})" if default else "TOML file, such as jobs/digits.toml"
    options: dict[str, Any] = {"nargs": "?", "default": default} if default or optional else {}
    command.add_argument("config", metavar="CONFIG", help=what, **options)
    what = "number of workers (instead of workers.count)"
    command.add_argument("-n", "--workers", type=int, metavar="N", help=what)
    what = f"override a key{scope}, such as {example}; may be repeated"
    command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=what)


def quantity(name: str) -> Callable[[str], float]:
    """Return the type of an option that is a "time", a "rate" or a "size", also with a unit."""

    def number(text: str) -> float:
        with suppress(ValueError):
            return float(text)
        try:
            return units.number(text, name)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{error} (got {short_repr(text)})") from None

    return number


def add_target(command: Any, otherwise: str = "instead of [stop]") -> None:
    """Add --target."""
    what = f"training loss to reach ({otherwise})"
    command.add_argument("--target", type=float, metavar="LOSS", help=what)


def add_seconds(command: Any, virtual: str = "; on the virtual clock else 10 times CONFIG's time") -> None:
    """Add --seconds, whose default on the virtual clock is `virtual`."""
    what = f"limit of a run's time (default: stop.seconds{virtual})"
    command.add_argument("--seconds", type=quantity("time"), metavar="S", help=what)


def add_clock(command: Any) -> None:
    """Add --clock."""
    command.add_argument("--clock", choices=("virtual", "mpi"), default="virtual", help="default: virtual")


def add_processes(command: Any) -> None:
    """Add --processes."""
    what = "number of processes (default: one per core)"
    command.add_argument("--processes", type=int, metavar="N", help=what)


def add_resume(command: Any) -> None:
    """Add --resume."""
    what = (
        "resume from the newest checkpoint beside the trace (see trace.checkpoint_s); without one, begin anew"
    )
    command.add_argument("--resume", action="store_true", help=what)


def add_plugin(command: Any) -> None:
    """Add --plugin."""
    what = "import this file, one of the run's plug-ins, though others could have written it; may be repeated"
    command.add_argument("--plugin", action="append", default=[], metavar="FILE", help=what)


def import_plugins(options: argparse.Namespace) -> None:
    """Import the files of --plugin."""
    for path in options.plugin:
        kinds.load_plugin(os.path.abspath(path))


def ensure_in_range(options: argparse.Namespace, **more: tuple[float, float, str]) -> None:
    """Refuse numbers outside of `RANGES`, which `more` extends or replaces, and too many processes."""
    from ..util.processes import MAX_PROCESSES

    processes = 1, MAX_PROCESSES, f"1 to {MAX_PROCESSES}"
    for name, (least, most, text) in {**RANGES, "processes": processes, **more}.items():
        value = getattr(options, name, None)
        if isinstance(value, int | float) and not least <= value <= most:
            raise InputError(f"--{name.replace('_', '-')} {value:.15g}: expected {text}")


def numbers(text: str, option: str, least: int, most: int) -> list[int]:
    """Return the numbers that an option lists, ascending."""
    found = set[int]()
    for each in text.split(","):
        if not each.isdecimal() or not least <= int(each) <= most:
            raise InputError(f"{option} {each}: expected numbers from {least} to {most}, separated by commas")
        found.add(int(each))
    return sorted(found)


def ensure_virtual(options: argparse.Namespace, *names: str) -> None:
    """Refuse options that have no effect over MPI."""
    for name in names:
        if options.clock == "mpi" and getattr(options, name) is not None:
            raise InputError(f"--{name} {getattr(options, name)}: valid only with --clock virtual")


def chosen(options: argparse.Namespace, name: str, known: Iterable[str]) -> list[str]:
    """Return the names that an option gives, or all that are known."""
    given = (getattr(options, name) or ",".join(known)).split(",")
    for each in given:
        if each not in known:
            meant = did_you_mean(each, known)
            raise InputError(f"--{name} {each}: expected some of {', '.join(known)}{meant}")
    return given
