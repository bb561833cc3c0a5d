"""Runner of the benchmarks.

`python -m benchmarks [NAME …]` measures against limits, by default all but `modules`, one after the other;
`python -m benchmarks PROGRAM OPTION…` has options of its own.
"""

import os
import sys
from importlib import import_module

from pdcode.__main__ import run_command
from pdcode.util import threads
from pdcode.util.errors import InputError

NAMES = "kernels", "messages", "tasks", "events", "decoders", "charges"
KNOWN = *NAMES, "modules"  # which needs PyTorch
PROGRAMS = "schemes", "scale", "ddp", "detectors", "real"


def main(chosen: list[str]) -> int:
    """Run benchmarks, or a program; return the first exit code that is not 0."""
    threads.limit(os.environ)
    if chosen[:1] and chosen[0] in PROGRAMS:
        return run_command(chosen[1:], import_module(f".{chosen[0]}", __package__).parser())
    if unknown := [name for name in chosen if name not in KNOWN]:
        raise SystemExit(f"benchmarks: {unknown[0]}: expected some of {', '.join((*KNOWN, *PROGRAMS))}")
    for name in chosen or NAMES:
        try:
            code: int = import_module(f".{name}", __package__).run()
        except (InputError, ModuleNotFoundError) as error:  # of an extra that is not installed
            raise SystemExit(f"benchmarks: {error}") from None
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
