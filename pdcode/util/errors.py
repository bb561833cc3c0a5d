"""Errors that end a command with one line and an exit code."""

import os
import re
import reprlib
import stat
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

# C0 and C1, line and paragraph separators, and marks that change the direction of text
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def escape(text: str, keep: str = "") -> str:
    """Replace control characters, which a terminal would obey, by their escapes, except those in `keep`."""
    return CONTROLS.sub(lambda match: match[0] if match[0] in keep else ascii(match[0])[1:-1], text)


FILES, ALIKE = 1000, 0.8  # files among which one of a similar name is sought, and how similar it is


class InputError(ValueError):
    """Bad input: one line naming file, key and value; exit code 2."""

    def __init__(self, message: str) -> None:
        super().__init__(escape(message))


RESUMABLE = 75  # exit code of a run that can be resumed: EX_TEMPFAIL of sysexits.h
TRACEBACK = "PDCODE_TRACEBACK"  # variable: if set, errors of a user's code have their tracebacks
PACKAGE = str(Path(__file__).parents[1])  # of our own code


class Failure(RuntimeError):
    """Failure of a run or of its environment, such as a full disk: one line; exit code 1.

    Attributes
    ----------
    trace : Trace or None
        The trace of the failed run, if `pdcode.run`, `simulate` or `train` raised this.
    """

    trace: Any = None


_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = 120
_short.maxlist = _short.maxdict = _short.maxtuple = 8
_short.maxlevel = 3


def short_repr(value: object) -> str:
    """Format a user's value for a message: its repr, cut in the middle if it is long."""
    return _short.repr(value)


def shorten(text: str) -> str:
    """Cut a user's text, such as a key, in the middle if it is too long for a message."""
    return text if len(text) <= 120 else f"{text[:58]}...{text[-59:]}"


OTHER_WORDS = {
    "all": "sync synchronous bsp barrier",
    "async": "asynchronous asgd hogwild",
    "rate": "learning-rate lr step-size stepsize eta alpha learning-rate-init eta0",
    "epochs": "epoch n-epochs num-epochs max-epochs",
    "updates": "epochs epoch n-epochs num-epochs iterations steps max-iter max-steps n-iter num-iterations",
    "seconds": "time max-time timeout duration time-limit",
    "loss": "target target-loss tol",
    "accuracy": "target-accuracy",
    "batch": "batch-size minibatch mini-batch-size bs",
    "hidden": "layers hidden-layers hidden-layer-sizes units",
    "data": "dataset file path csv train",
    "targets": "target label y-column",
    "inputs": "features-columns columns",
    "l2": "regularisation regularization l2-penalty ridge",
    "count": "n number num n-workers num-workers nodes world-size",
    "seed": "random-state random-seed",
    "torch": "cnn convnet convolution resnet transformer gpt rnn lstm pytorch module",
    "mlp": "nn dnn neural-network network perceptron dense feedforward",
    "least-squares": "regression linear linear-regression mse ols ridge",
    "softmax": "classification multinomial cross-entropy multiclass",
    "logistic": "logistic-regression binary",
    "sparse-coding": "dictionary dictionary-learning",
    "sgd": "gd gradient-descent momentum nesterov",
    "shifted-exponential": "exponential exp",
    "slow-set": "constant fixed slow",
    "allreduce": "ring ddp horovod all-reduce ring-allreduce",
    "uncoded": "parameter-server ps plain baseline none",
    "float16": "fp16 half",
    "bfloat16": "bf16",
    "float32": "fp32 float single",
    "float64": "fp64 double",
    "run": "train fit start launch exec",
    "show": "info summary inspect print describe",
    "simulate": "sim dry-run virtual",
    "compare": "benchmark rank versus",
    "report": "html page",
    "bandwidth": "speed rate throughput bandwidth-gbps bandwidth-mbps gbps mbps bitrate",
    "latency-s": "latency delay rtt latency-ms latency-us",
    "mean-s": "mean delay mean-ms",
    "workers": "nodes ranks processes",
    "stragglers": "delays delay",
    "optimizer": "optim optimiser",
    "problem": "model data dataset task",
    "path": "output file filename",
}
"""Word of pdcode -> words of other programs for it, all with hyphens."""


def did_you_mean(word: object, known: Iterable[str], alike: float = 0.7) -> str:
    """Return "; did you mean 'sgd'?" for a misspelt word, to end a message; "" if no known one is like it.

    A known word for what another program calls so comes first, and then one of the same letters. `alike` is
    the least similarity of others, at most 1.
    """
    from difflib import get_close_matches  # not loaded without an error

    plain = {each.lower().replace("_", "-"): each for each in known}
    asked = str(word).lower().replace("_", "-")
    found = [asked] if asked in plain else []
    found += [each for each, others in OTHER_WORDS.items() if each in plain and asked in others.split()]
    found += [each for each in plain if sorted(each) == sorted(asked)]
    found += get_close_matches(asked, plain, 1, alike)
    return f"; did you mean {plain[found[0]]!r}?" if found else ""


def expected(word: object, known: Iterable[str]) -> str:
    """Return "expected one of …" for a word that is none of the known ones, with what was given."""
    known = list(known)
    return f"expected one of {', '.join(known)} (got {short_repr(word)}){did_you_mean(word, known)}"


@contextmanager
def prefix_errors(path: str | Path) -> Iterator[None]:
    """Prefix an `InputError` raised in the block with the name of a file, unless the name is empty."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}" if path else str(error)) from None


def similar_file(path: str | Path) -> str:
    """Suggest a file beside a missing one: "; did you mean 'digits.toml'?", or "" if no name is similar."""
    from difflib import get_close_matches  # not loaded without an error

    folder, name = os.path.split(path)
    try:
        names = [] if os.path.lexists(path) else os.listdir(folder or ".")
    except (OSError, ValueError):
        return ""
    found = get_close_matches(name, names[:FILES], 1, ALIKE)
    return f"; did you mean {found[0]!r}?" if found else ""


def not_a_file(path: str | Path) -> str:
    """Return why a path does not name an existing regular file; empty if it does."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return f"no such file{similar_file(path)}"
    except (OSError, ValueError) as error:  # a name that is too long, or has a NUL
        return reason(error)
    return "" if stat.S_ISREG(mode) else "a directory, not a file" if stat.S_ISDIR(mode) else "not a file"


def ensure_file(path: str | Path, key: str = "") -> None:
    """Refuse a path that does not name an existing regular file; `key` is the one that has it, if any."""
    if why := not_a_file(path):
        raise InputError(f"{key and f'{key}: '}{path}: {why}")


def reason(error: BaseException) -> str:
    """Return the system's message for an OSError; HDF5 gives the errno within a long text."""
    number = getattr(error, "errno", None) or int((re.findall(r"errno = (\d+)", str(error)) or [0])[0])
    return getattr(error, "strerror", None) or (os.strerror(number) if number else str(error))


@cache
def _libraries() -> tuple[str, ...]:
    """Return the folders of Python's library and of packages."""
    import sysconfig  # not loaded without an error

    paths = sysconfig.get_paths()
    return tuple({paths[name] + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")})


def place_of_user(error: BaseException, within: bool = False) -> str:
    """Return file and line of a user's code that raised an error; empty if our own did.

    Frames of libraries do not count: who called them did. With `within` a user's code has been called for
    certain, and may have called ours.
    """
    return _place(reversed([*traceback.walk_tb(error.__traceback__)]), within)


def place_of_frame(frame: FrameType | None) -> str:
    """Return ", in FILE, line LINE", of a user's code that a thread is in; empty if it is in none."""
    place = _place(traceback.walk_stack(frame), within=True) if frame else ""
    return place and f", in {place}"


def _place(frames: Iterable[tuple[FrameType, int]], within: bool) -> str:
    for frame, line in frames:
        name = frame.f_code.co_filename
        own = name.startswith((PACKAGE + os.sep, "pdcode/"))  # compiled code has paths of its own
        if own and not within:
            return ""
        compiled = name.endswith((".pyx", ".pxd", ".pxi"))
        generated = name.startswith(("<frozen", "<__array", "<eval_with"))
        packaged = name.startswith(_libraries()) or "site-packages" in name or "dist-packages" in name
        if not (own or compiled or generated or packaged):
            return f"{name}, line {line}"
    return ""


def in_one_line(error: BaseException) -> str:
    """Return type and text of an error that a user's code has raised."""
    text = " ".join(str(getattr(error, "msg", error)).split())
    if isinstance(error, SystemExit):
        text = f"it ends the program, with exit code {text}" if text else "it ends the program"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def explained(error: BaseException, who: str = "") -> str:
    """Return an error for the user: a line with the place if their own code raised it, else the traceback.

    `who` is put before it, such as "rank 3 failed:".
    """
    place = place_of_user(error)
    if not place or os.environ.get(TRACEBACK):
        return f"{who}\n{''.join(traceback.format_exception(error))}".strip()
    notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
    return f"{who} {in_one_line(error)}, in {place}{notes}; {TRACEBACK}=1 shows the traceback".strip()
