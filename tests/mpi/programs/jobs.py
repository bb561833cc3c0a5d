"""A rank of a pool (`tests/support/pool.py`): ``jobs.py FOLDER``. It runs `pdcode` job after job."""

import gc
import json
import os
import sys
import traceback
from pathlib import Path

from pdcode.__main__ import main
from pdcode.launch import launcher, siblings
from pdcode.util import threads

threads.limit(os.environ)  # as the command does, before numpy is imported
siblings.watch = lambda rank: None  # which has a thread for each job, to its process's end

sys.path.append(str(Path(__file__).resolve().parents[2] / "support"))

import plugins  # noqa: E402

from pdcode.mpi.initialise import MPI  # noqa: E402

SIZES = "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS"
OFTEN = 20  # jobs until garbage is collected, which jobs keep for their process's end


def run(job: dict, world: MPI.Intracomm) -> int:
    """Run a job on the first ranks of the world as if they were all."""
    MPI.COMM_WORLD = world.Create_group(world.group.Incl(range(job["ranks"])))
    kept, own = [os.dup(number) for number in (1, 2)], dict(os.environ)
    os.environ |= {name: str(job["ranks"]) for name in SIZES if name in own} | (job["environment"] or {})
    try:
        for number, path in enumerate(job["streams"], 1):
            stream = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(job["folder"])
        with plugins.forgotten():
            return main(job["arguments"])
    except SystemExit as end:
        return 1 if end.code is None else int(end.code)
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
        return 1
    finally:
        os.environ.clear()
        os.environ |= own
        for number, stream in enumerate(kept, 1):
            os.dup2(stream, number)
            os.close(stream)
        MPI.COMM_WORLD.Free()
        MPI.COMM_WORLD = world


if __name__ == "__main__":
    folder, (rank, _), world = Path(sys.argv[1]), launcher.launched_rank(os.environ), MPI.COMM_WORLD
    (folder / f"{rank}.pid").write_text(str(os.getpid()))
    ended = os.open(folder / "ended", os.O_WRONLY)
    with (folder / str(rank)).open() as jobs:
        os.write(ended, b"\0")
        for count, line in enumerate(iter(jobs.readline, "")):
            code = run(json.loads(line), world)
            os.write(ended, bytes([code & 0xFF]))
            gc.unfreeze()
            if count % OFTEN == OFTEN - 1:
                gc.collect()
