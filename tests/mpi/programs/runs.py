"""`pdcode run` once for each list of arguments, in one start of MPI: ``runs.py LISTS``, the lists as JSON.

Rank 0 prints a form feed after each run, on standard output with the exit code before it.
"""

import json
import os
import sys

from pdcode.__main__ import main
from pdcode.launch import launcher
from pdcode.util import threads

if __name__ == "__main__":
    threads.limit(os.environ)  # as the command does, before numpy is imported
    rank, _ = launcher.launched_rank(os.environ)
    for arguments in json.loads(sys.argv[1]):
        code = main(["run", *arguments])
        if rank == 0:
            print(code, end="\f", flush=True)
            print(end="\f", file=sys.stderr, flush=True)
