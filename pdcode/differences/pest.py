"""A simulation as PEST's files describe it: control file, templates of inputs, instructions for outputs.

Doherty, "PEST: model-independent parameter estimation, user manual part I", 7th edition 2018, chapters 2, 4.
Read is the common case: parameters that are fixed or not, with transforms none or log, weights, one command.
Settings of PEST's own search have no effect.
"""

import re
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np

from ..util.errors import InputError
from .program import Command, as_number

UNREAD = {  # sections whose lines would change the result
    "prior information": "problem.prior and prior_sd are its place",
    "derivatives command line": "derivatives are by differences",
}
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eEdD][-+]?\d+)?$")
ITEM = (  # of instructions; {0} is the marker
    r"(?P<marker>{0}[^{0}]*{0})|\[(?P<fixed>[^\]]+)\](?P<span>\d+:\d+)|\((?P<near>[^)]+)\)(?P<around>\d+:\d+)"
    r"|!(?P<free>[^!]+)!|[lL](?P<lines>\d+)|(?P<white>[wW])|[tT](?P<column>\d+)"
)
NOTHING = "dum"  # name of a number that is skipped


def _refuse(path: Path, line: int, what: str) -> NoReturn:
    raise InputError(f"{path}, line {line}: {what}")


def _lines(path: Path, key: str = "problem.control") -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{key}: {str(path)!r} cannot be read: {error}") from None


class Parameter(NamedTuple):
    """A parameter of a control file."""

    name: str
    transform: str  # none, log, fixed
    value: float
    bounds: tuple[float, float]
    group: str
    scale: float
    offset: float

    def searched(self, value: float) -> float:
        """Return a value as the search has it."""
        return float(np.log10(value)) if self.transform == "log" else value


@dataclass
class Control:
    """What a control file says.

    Attributes
    ----------
    path : Path
    parameters : list of Parameter
    steps : dict of str to (str, float, float)
        Kind of increment, increment and its least value, of each group of parameters.
    observations : dict of str to (float, float)
        Value and weight by name, in the order of the file.
    command : str
    templates, instructions : list of (Path, str)
        Files of PEST's, and names of the program's inputs and outputs.
    """

    path: Path
    parameters: list[Parameter] = field(default_factory=list)
    steps: dict[str, tuple[str, float, float]] = field(default_factory=dict)
    observations: dict[str, tuple[float, float]] = field(default_factory=dict)
    command: str = ""
    templates: list[tuple[Path, str]] = field(default_factory=list)
    instructions: list[tuple[Path, str]] = field(default_factory=list)

    @property
    def free(self) -> list[Parameter]:
        """Parameters that are searched."""
        return [each for each in self.parameters if each.transform != "fixed"]

    @property
    def names(self) -> list[str]:
        """Their names, as the search has them."""
        return [f"log10 {each.name}" if each.transform == "log" else each.name for each in self.free]

    @property
    def start(self) -> list[float]:
        """Their values at the start."""
        return [each.searched(each.value) for each in self.free]

    @property
    def bounds(self) -> list[list[float]]:
        """Their bounds."""
        return [[each.searched(end) for end in each.bounds] for each in self.free]

    @property
    def weighted(self) -> list[str]:
        """Names of the observations whose weight is not 0."""
        return [name for name, (_, weight) in self.observations.items() if weight]

    def increments(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the steps of differences: relative to the parameters searched, and the least ones."""
        relative, least = np.zeros(len(self.free)), np.zeros(len(self.free))
        for place, each in enumerate(self.free):
            kind, step, low = self.steps[each.group]
            if each.transform == "log":  # the increment is of the parameter, not of its logarithm
                least[place] = np.log10(1 + (step if kind == "relative" else step / each.value))
            elif kind == "relative":
                relative[place], least[place] = step, low or step * 1e-6
            else:
                least[place] = step
        return relative, least


def read_control(name: str) -> Control:
    """Read a control file.

    Raises
    ------
    InputError
        If it, or a file that it names, cannot be read; the message names file and line.
    """
    path = Path(name)
    lines, control = _lines(path), Control(path)
    if not lines or lines[0].split()[:1] != ["pcf"]:
        _refuse(path, 1, "expected pcf, as of a control file of PEST")
    if "version=2" in lines[0].replace(" ", ""):
        _refuse(path, 1, "files of version 2 of PEST++ are not read")
    sections, section = dict[str, list[tuple[int, list[str]]]](), ""
    for number, line in enumerate(lines[1:], 2):
        text = line.partition("#")[0].strip()
        if not text or text.startswith("++"):
            continue
        if text.startswith("*"):
            section = " ".join(text[1:].lower().split())
            sections[section] = []
        elif not section:
            _refuse(path, number, "expected a section, such as '* control data'")
        elif section in UNREAD:
            _refuse(path, number, f"'* {section}' is not read; {UNREAD[section]}")
        else:
            sections[section].append((number, text.split()))
    for needed in (
        "control data", "parameter groups", "parameter data", "observation data", "model command line",
        "model input/output",
    ):  # fmt: skip
        if not sections.get(needed):
            _refuse(path, len(lines), f"the file ends without '* {needed}'")
    _read_sections(control, sections)
    return control


def _read_sections(control: Control, sections: dict[str, list[tuple[int, list[str]]]]) -> None:
    path = control.path

    def fields(section: str, least: int) -> Iterator[tuple[int, list[str]]]:
        for number, words in sections[section]:
            if len(words) < least:
                _refuse(path, number, f"{len(words)} words; a line of '* {section}' has at least {least}")
            yield number, words

    def value(number: int, text: str) -> float:
        if not NUMBER.match(text):
            _refuse(path, number, f"{text!r} is no number")
        return as_number(text)

    counts = sections["control data"]
    if len(counts) < 3 or not all(each.isdecimal() for each in counts[1][1][:2] + counts[2][1][:2]):
        _refuse(path, counts[-1][0], "expected the numbers of parameters, observations and files")
    for number, words in fields("parameter groups", 4):
        kind = words[1].lower()
        if kind not in ("relative", "absolute"):
            _refuse(path, number, f"increment {words[1]!r}: expected relative or absolute")
        step = value(number, words[2]), value(number, words[3])
        if not step[0] > 0:
            _refuse(path, number, f"increment {step[0]:g}: expected a number above 0")
        control.steps[words[0].lower()] = kind, *step
    most = int(counts[1][1][0])
    for number, words in list(fields("parameter data", 2))[:most]:
        if len(words) < 9:
            _refuse(path, number, f"{len(words)} words; a parameter has at least 9")
        _read_parameter(control, number, [each.lower() for each in words], value)
    for number, words in fields("observation data", 4):
        name = words[0].lower()
        if name in control.observations:
            _refuse(path, number, f"observation {name!r} twice")
        if (weight := value(number, words[2])) < 0:
            _refuse(path, number, f"weight {weight:g}: expected at least 0")
        control.observations[name] = value(number, words[1]), weight
    for what, count, found in (
        ("parameters", most, len(control.parameters)),
        ("observations", int(counts[1][1][1]), len(control.observations)),
        ("files", int(counts[2][1][0]) + int(counts[2][1][1]), len(sections["model input/output"])),
    ):
        if count != found:
            _refuse(path, counts[1][0], f"{count} {what}, and {found} follow")
    (number, words), *others = sections["model command line"]
    if others:
        _refuse(path, others[0][0], "a second command, of which only one is run")
    control.command = " ".join(words)
    templates = int(counts[2][1][0])
    for place, (_, words) in enumerate(fields("model input/output", 2)):
        pairs = control.templates if place < templates else control.instructions
        pairs.append((path.parent / words[0], words[1]))
    if not control.free:
        _refuse(path, sections["parameter data"][0][0], "all parameters are fixed")
    if not control.weighted:
        _refuse(path, sections["observation data"][0][0], "all observations have weight 0")


def _read_parameter(control: Control, number: int, words: list[str], value: object) -> None:
    assert callable(value)
    path, (name, transform) = control.path, words[:2]
    if transform not in ("none", "log", "fixed"):
        _refuse(path, number, f"transform {transform!r}: expected none, log or fixed")
    if name in (each.name for each in control.parameters):
        _refuse(path, number, f"parameter {name!r} twice")
    start, low, high, scale, offset = (value(number, words[place]) for place in (3, 4, 5, 7, 8))
    if transform != "fixed" and not (low < high and low <= start <= high):
        _refuse(path, number, f"{start:g} is not between bounds {low:g} and {high:g}")
    if transform == "log" and not low > 0:
        _refuse(path, number, f"bound {low:g}: a parameter with transform log is above 0")
    if transform != "fixed" and words[6] not in control.steps:
        _refuse(path, number, f"group {words[6]!r}, which '* parameter groups' does not have")
    control.parameters.append(Parameter(name, transform, start, (low, high), words[6], scale, offset))


class Template:
    """A template of an input: numbers are written into spaces between two markers, of their width."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        first, *self._lines = _lines(path) or [""]
        words = first.split()
        if len(words) != 2 or words[0].lower() not in ("ptf", "jtf") or len(words[1]) != 1:
            _refuse(path, 1, "expected ptf and a marker, as of a template")
        mark = re.escape(words[1])
        self._space, self.names = re.compile(f"{mark}([^{mark}]*){mark}"), set[str]()
        for number, line in enumerate(self._lines, 2):
            if line.count(words[1]) % 2:
                _refuse(path, number, f"an odd number of {words[1]}")
            for match in self._space.finditer(line):
                if (name := match[1].strip().lower()) not in names:
                    _refuse(path, number, f"parameter {name!r}, which the control file does not have")
                self.names.add(name)

    def filled(self, values: dict[str, float]) -> str:
        """Return the input with values in place of the names."""
        lines = (
            self._space.sub(lambda match: written(values[match[1].strip().lower()], len(match[0])), line)
            for line in self._lines
        )
        return "\n".join(lines) + "\n"


def written(value: float, width: int) -> str:
    """Return a number in a width, with as many digits as have place.

    Raises
    ------
    RuntimeError
        If not even one digit has.
    """
    for digits in range(17, 0, -1):
        text = f"{value:.{digits}g}"
        head, power, exponent = text.partition("e")
        text = f"{head}{'' if '.' in head else '.'}{power}{exponent}"  # as formats of Fortran want a point
        if len(text) <= width:
            return text.rjust(width)
    raise RuntimeError(f"{value:g} does not fit into {width} characters of a template")


class Instruction(NamedTuple):
    """An instruction: its kind, as of `ITEM`, and what it is about."""

    line: int  # of the file
    kind: str
    text: str  # a name, or a marker
    first: int = 0
    last: int = 0


class Instructions:
    """Instructions that find numbers in an output."""

    def __init__(self, path: Path) -> None:
        self._path, self.names = path, list[str]()
        first, *lines = _lines(path) or [""]
        words = first.split()
        if len(words) != 2 or words[0].lower() not in ("pif", "jif") or len(words[1]) != 1:
            _refuse(path, 1, "expected pif and a marker, as of a file of instructions")
        item = re.compile(ITEM.replace("{0}", re.escape(words[1])))
        self._rows = list[list[Instruction]]()  # of a line, with those that continue it
        for number, line in enumerate(lines, 2):
            rest = line.strip()
            if not rest:
                continue
            begins = not rest.startswith("&")
            if begins:
                self._rows.append([])
            elif not self._rows:
                _refuse(path, number, "& continues nothing")
            rest = rest.removeprefix("&").strip()
            while rest:
                if not (match := item.match(rest)):
                    _refuse(path, number, f"{rest.split()[0]!r} is no instruction")
                self._rows[-1].append(self._made(match, number))
                rest = rest[match.end() :].strip()
            if begins and (not self._rows[-1] or self._rows[-1][0].kind not in ("marker", "lines")):
                _refuse(path, number, "a line begins with a marker, a line advance (l1), or &")

    def _made(self, match: re.Match[str], number: int) -> Instruction:
        kind = match.lastgroup or ""
        if kind in ("span", "around"):
            name, (first, last) = match["fixed"] or match["near"], map(int, match[kind].split(":"))
            if not 0 < first <= last:
                _refuse(self._path, number, f"columns {first}:{last}")
            found = Instruction(number, kind, name.strip().lower(), first - 1, last)
        else:
            text = match[kind][1:-1] if kind == "marker" else match[kind].strip().lower()
            found = Instruction(number, kind, text)
        if found.kind in ("span", "around", "free") and found.text != NOTHING:
            if found.text in self.names:
                _refuse(self._path, number, f"observation {found.text!r} twice")
            self.names.append(found.text)
        return found

    def read(self, text: str) -> dict[str, float]:
        """Return the numbers in an output, by name.

        Raises
        ------
        RuntimeError
            If an instruction does not find what it looks for; the message names file and line.
        """
        lines, at, found = [line.expandtabs(8) for line in text.splitlines()], -1, dict[str, float]()
        for row in self._rows:
            cursor = 0
            for place, each in enumerate(row):
                if each.kind == "lines" or (each.kind == "marker" and place == 0):
                    at, cursor = self._advanced(each, lines, at, row)
                    continue
                line, next_marker = lines[at], row[place + 1] if place + 1 < len(row) else None
                if each.kind == "marker":
                    if (where := line.find(each.text, cursor)) < 0:
                        raise self._missing(each, at, f"{each.text!r}")
                    cursor = where + len(each.text)
                elif each.kind == "column":
                    cursor = int(each.text) - 1
                elif each.kind == "white":
                    if not (match := re.compile(r"\S*\s+(?=\S)").match(line, cursor)):
                        raise self._missing(each, at, "blanks before a number")
                    cursor = match.end()
                else:
                    first, cursor = self._span(each, line, cursor, next_marker, at)
                    number = line[first:cursor].strip()
                    if each.text != NOTHING:
                        if not NUMBER.match(number):
                            raise self._missing(each, at, f"a number for {each.text!r}, but {number!r}")
                        found[each.text] = as_number(number)
        return found

    def _advanced(
        self, each: Instruction, lines: list[str], at: int, row: list[Instruction]
    ) -> tuple[int, int]:
        """Return line and cursor after an instruction that goes to another line.

        A line with the marker that begins a row also has the markers that follow at once.
        """
        if each.kind == "lines":
            at += int(each.text)
            if at >= len(lines):
                raise self._missing(each, len(lines) - 1, "a further line")
            return at, 0
        markers = [each.text for each in takewhile(lambda each: each.kind == "marker", row)]
        found = re.compile(".*?".join(map(re.escape, markers)))
        for number in range(at + 1, len(lines)):
            if match := found.search(lines[number]):
                return number, match.start() + len(each.text)
        raise self._missing(each, len(lines) - 1, " with ".join(map(repr, markers)))

    def _span(
        self, each: Instruction, line: str, cursor: int, following: Instruction | None, at: int
    ) -> tuple[int, int]:
        """Return the columns of a number."""
        if each.kind == "span":
            return each.first, min(each.last, len(line))
        if each.kind == "around":
            spans = (match.span() for match in re.finditer(r"\S+", line))
            touching = [span for span in spans if span[0] < each.last and span[1] > each.first]
            if not touching:
                raise self._missing(each, at, f"a number for {each.text!r}")
            return touching[0]
        match = re.compile(r"\s*([^\s,]+)").match(line, cursor)
        if match is None:
            raise self._missing(each, at, f"a number for {each.text!r}")
        first, last = match.span(1)
        if following is not None and following.kind == "marker":
            end = line.find(following.text, first)
            last = end if first < end < last else last
        return first, last

    def _missing(self, each: Instruction, at: int, what: str) -> RuntimeError:
        return RuntimeError(f"{self._path}, line {each.line}: line {at + 1} of the output has not {what}")


class Pest(Command):
    """The program of a control file as a function of the parameters searched; it has a folder of its own.

    The folder of the control file is copied at the first evaluation, as all runs of a program write the same
    files.

    Parameters
    ----------
    control : Control
    seconds, bytes, cores
        As for `Program`.
    """

    def __init__(
        self,
        control: Control,
        seconds: float | None = None,
        bytes: int | None = None,
        cores: int | None = None,
    ) -> None:
        super().__init__(["sh", "-c", control.command], control.path.parent, seconds, bytes, cores)
        self._control, known = control, {each.name for each in control.parameters}
        self._inputs = [(Template(path, [*known]), name) for path, name in control.templates]
        self._outputs = [(Instructions(path), name) for path, name in control.instructions]
        used = set[str]().union(*(each.names for each, _ in self._inputs))
        if absent := [each.name for each in control.free if each.name not in used]:
            raise InputError(f"{control.path}: parameter {absent[0]!r}, which no template has")
        read = [name for each, _ in self._outputs for name in each.names]
        if absent := [name for name in control.observations if name not in read]:
            raise InputError(f"{control.path}: observation {absent[0]!r}, which no instructions read")
        if more := [name for name in read if name not in control.observations]:
            raise InputError(f"{control.path}: no observation {more[0]!r}, which instructions read")
        if twice := [name for name in read if read.count(name) > 1]:
            raise InputError(f"{control.path}: observation {twice[0]!r}, which two instructions read")
        self._own: Path | None = None

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Run the program at a point, shape (k,); return weighted residuals, shape (m,).

        Raises
        ------
        RuntimeError
            If the program fails, takes too long, or its output does not fit the instructions.
        """
        control, folder = self._control, self._copied()
        searched = iter(x.tolist())
        values = {}
        for each in control.parameters:
            value = each.value if each.transform == "fixed" else next(searched)
            value = 10**value if each.transform == "log" else value
            values[each.name] = each.scale * value + each.offset
        for template, name in self._inputs:
            (folder / name).write_text(template.filled(values), encoding="utf-8")
        for _, name in self._outputs:
            (folder / name).unlink(missing_ok=True)  # of the last evaluation
        self.run(self.words, folder)
        found = dict[str, float]()
        for instructions, name in self._outputs:
            try:
                text = (folder / name).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise RuntimeError(f"{control.command} wrote no output: {error}") from None
            found |= instructions.read(text)
        observed = (control.observations[name] for name in control.weighted)
        pairs = zip(control.weighted, observed, strict=True)
        return np.array([weight * (found[name] - value) for name, (value, weight) in pairs])

    def _copied(self) -> Path:
        """Return the folder of this process, a copy of that of the control file."""
        if self._own is None:
            made = tempfile.mkdtemp(prefix="pdcode-")
            weakref.finalize(self, shutil.rmtree, made, ignore_errors=True)
            self._own = Path(made, "model")
            ignored = shutil.ignore_patterns("*.h5", "*.checkpoint", ".git")
            shutil.copytree(self.folder, self._own, ignore=ignored)
        return self._own
