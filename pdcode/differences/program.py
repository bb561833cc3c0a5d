"""A simulation that is an external program: a template makes its input, and its output has the numbers."""

import csv
import io
import json
import os
import re
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from ..util import threads
from ..util.errors import InputError

MARK = re.compile(r"\{\{\s*(\w+)\s*(?::([^}]*))?\}\}")
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eEdD][-+]?\d+)?")
# A pipe to the worker ends when the worker dies, also by SIGKILL: then the group of the program is killed.
GUARDED = 'exec 3<&0 </dev/null; (read -r _ <&3; kill -9 0) >/dev/null 2>&1 & exec 3<&-; {limit}exec "$@"'
INPUT, OUTPUT, CORES = "{input}", "{output}", "{cores}"
# Variables by which a launcher tells a rank its place, but for those that a user may have set. A program with
# MPI of its own that finds those of the worker waits for the other workers.
LAUNCHER = re.compile(r"(OMPI|PMIX|PRTE|PMI|HYDRA|MPIEXEC)_(?!ALLOW_|MCA_)")


def as_number(text: str) -> float:
    """Return a number as programs write it, also with Fortran's exponent."""
    return float(text.translate(str.maketrans("dD", "ee")))


class Command:
    """A command line that is run in a session of its own, which ends with it.

    Parameters
    ----------
    words : list of str
    folder : Path
        Where it runs.
    seconds, bytes, cores
        As for `Program`.
    """

    def __init__(
        self, words: list[str], folder: Path, seconds: float | None, bytes: int | None, cores: int | None
    ) -> None:
        self.words, self.folder = words, folder
        self._seconds, self._bytes, self._cores = seconds, bytes, cores

    def run(self, words: list[str], folder: Path) -> str:
        """Run words in a folder; return what they print.

        Raises
        ------
        RuntimeError
            If the exit code is not 0, or the time is over.
        """
        limit = "" if self._bytes is None else f"ulimit -v {self._bytes // 1024}; "
        own = {name: value for name, value in os.environ.items() if not LAUNCHER.match(name)}
        own |= {} if self._cores is None else dict.fromkeys(threads.VARIABLES, str(self._cores))
        with subprocess.Popen(
            ["sh", "-c", GUARDED.format(limit=limit), "sh", *words], cwd=folder, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
            env=own,
        ) as process:  # fmt: skip
            alive, process.stdin = process.stdin, None  # communicate() would close the end that is watched
            try:
                printed, errors = process.communicate(timeout=self._seconds)
            except subprocess.TimeoutExpired:
                raise RuntimeError(f"{words[0]} took more than {self._seconds:g} s") from None
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # whatever it has left behind
                if alive is not None:
                    alive.close()
        if process.returncode:
            last = errors.strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
            raise RuntimeError(f"{words[0]}: {last[0]}")
        return printed


class Program(Command):
    """A program as a function of its parameters; an instance has one evaluation at a time.

    Parameters
    ----------
    command : str
        Command line, in which ``{input}`` and ``{output}`` stand for files of the evaluation; without the
        latter the output is what the program prints. It runs in the folder of the template, in a session of
        its own.
    template : str
        Path of a text with ``{{ name }}``, or ``{{ name:format }}`` with a format of Python, for each
        parameter.
    names : sequence of str
        Names of the parameters.
    select : str or None
        Which numbers of the output are values: a regular expression with a group; ``csv:COLUMN``;
        ``json:KEY.KEY``, a number or list; None: all numbers.
    observed : ndarray, shape (m,), or None
        Subtracted from the values; None: nothing is.
    seconds, bytes : float and int, or None
        Longest time of an evaluation, and most memory of each of its processes.
    cores : int or None
        Threads of each process, by the variables of BLAS and OpenMP, and ``{cores}`` in the command, else 1;
        None: threads as those of this process.

    Raises
    ------
    InputError
        If template and names do not fit, or `select` is no regular expression with a group.
    """

    def __init__(
        self,
        command: str,
        template: str,
        names: Sequence[str],
        select: str | None = None,
        observed: np.ndarray | None = None,
        seconds: float | None = None,
        bytes: int | None = None,
        cores: int | None = None,
    ) -> None:
        words = [word.replace(CORES, str(cores or 1)) for word in shlex.split(command)]
        super().__init__(words, Path(template).parent, seconds, bytes, cores)
        self._names, self._observed = list(names), observed
        try:
            self._template = Path(template).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"problem.template: {template!r} cannot be read: {error}") from None
        marked = {match[1] for match in MARK.finditer(self._template)}
        if odd := sorted(marked ^ {*names}):
            where = "the template does not have" if odd[0] in names else "problem.names does not have"
            raise InputError(f"problem.template: {odd[0]!r}, which {where}")
        if not any(INPUT in word for word in self.words):
            raise InputError(f"problem.command: {command!r} has no {INPUT}")
        self._select = select
        self._pattern = NUMBER
        if select is not None and not select.startswith(("csv:", "json:")):
            try:
                self._pattern = re.compile(select)
            except re.error as error:
                raise InputError(f"problem.select: {select!r} is no regular expression: {error}") from None
            if self._pattern.groups != 1:
                raise InputError(f"problem.select: {select!r} needs one group, around the number")

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Run the program at a point, shape (k,); return its values less what was observed, shape (m,).

        Raises
        ------
        RuntimeError
            If the program fails, takes too long, or writes no numbers.
        """
        values = dict(zip(self._names, x.tolist(), strict=True))
        filled = MARK.sub(lambda match: format(values[match[1]], match[2] or ".17g"), self._template)
        with tempfile.TemporaryDirectory(prefix="pdcode-") as folder:
            given, made = Path(folder, "input"), Path(folder, "output")
            given.write_text(filled, encoding="utf-8")
            words = [word.replace(INPUT, str(given)).replace(OUTPUT, str(made)) for word in self.words]
            printed = self.run(words, self.folder)
            try:
                text = made.read_text(encoding="utf-8") if any(OUTPUT in w for w in self.words) else printed
            except (OSError, UnicodeDecodeError) as error:
                raise RuntimeError(f"{words[0]} wrote no output: {error}") from None
        found = np.array(self.numbers(text), np.float64)
        if not len(found):
            raise RuntimeError(f"{words[0]} wrote no numbers")
        if self._observed is None:
            return found if len(found) > 1 else found.reshape(())
        if found.shape != self._observed.shape:
            raise RuntimeError(f"{words[0]}: {len(found)} numbers, and {len(self._observed)} are observed")
        return found - self._observed

    def numbers(self, text: str) -> list[float]:
        """Return the values in the output of the program."""
        select = self._select or ""
        try:
            if select.startswith("csv:"):
                return [as_number(row[select[4:]]) for row in csv.DictReader(io.StringIO(text))]
            if select.startswith("json:"):
                found = json.loads(text)
                for key in select[5:].split("."):
                    found = found[int(key)] if isinstance(found, list) else found[key]
                return [float(each) for each in (found if isinstance(found, list) else [found])]
            return [as_number(each) for each in self._pattern.findall(text)]
        except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
            raise RuntimeError(f"the output has no {select!r}: {error}") from None


def read_observed(path: str) -> np.ndarray:
    """Return the numbers of a text file, shape (m,)."""
    try:
        return np.array([as_number(each) for each in NUMBER.findall(Path(path).read_text(encoding="utf-8"))])
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"problem.observed: {path!r} cannot be read: {error}") from None
