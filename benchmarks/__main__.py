"""Runner of the benchmarks: `python -m benchmarks [NAME …]`, by default all of them, one after the other."""

import os
import sys
from importlib import import_module

from pdcode.util import threads
from pdcode.util.errors import InputError

NAMES = "kernels", "messages", "tasks", "events", "decoders", "charges"


def main(chosen: list[str]) -> int:
    """Run benchmarks; return the first exit code that is not 0."""
    if unknown := [name for name in chosen if name not in NAMES]:
        raise SystemExit(f"benchmarks: {unknown[0]}: expected some of {', '.join(NAMES)}")
    threads.limit(os.environ)
    for name in chosen or NAMES:
        try:
            code: int = import_module(f".{name}", __package__).run()
        except InputError as error:
            raise SystemExit(f"benchmarks: {error}") from None
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
