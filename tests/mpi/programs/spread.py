"""`pdcode simulate` once for each list of arguments, in one start of MPI: ``spread.py MOST LISTS``, with MOST
tasks under way to a rank at the most, and the lists as JSON. Exits with the largest exit code."""

import json
import os
import sys

from pdcode.__main__ import main
from pdcode.launch import launcher
from pdcode.util import threads

if __name__ == "__main__":
    threads.limit(os.environ)  # as the command does, before numpy is imported
    if launcher.launched_rank(os.environ) is not None:
        from pdcode.mpi import spread

        spread.MOST = int(sys.argv[1])
    sys.exit(max(main(["simulate", *arguments]) for arguments in json.loads(sys.argv[2])))
