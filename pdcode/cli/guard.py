"""Reading of HDF5 files in a forked process first: HDF5 may crash or never end on a damaged file.

Only commands may fork: their process has no threads, and MPI has not started.
"""

import faulthandler
import os
import resource
import signal
import traceback
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from ..config import Config
from ..trace import contents, opening
from ..util.datasets import damaged
from ..util.errors import InputError, not_a_file

LARGEST = 1 << 26  # bytes of a data file that is read twice
MEMORY = 100 << 20  # bytes that HDF5 may use besides datasets: a damaged length of a text may be gigabytes
LIMIT_S, RATE = 2, 50 << 20  # processor time to read a file: seconds, and bytes a second beyond them


def probe_inputs(config: Config) -> None:
    """Probe the HDF5 files of data and delays, except large files of data.

    The file of a code has been read with the configuration.
    """
    from ..stragglers.records import is_hdf5

    probe_data(config.problem.data)
    if (delays := config.stragglers.reads) and not not_a_file(delays) and is_hdf5(Path(delays)):
        probe_in_subprocess(delays)


def probe_data(name: str) -> None:
    """Probe a file of data, unless it is large or of another format."""
    from ..stragglers.records import is_hdf5

    path = Path(name)
    if not not_a_file(path) and path.stat().st_size <= LARGEST and is_hdf5(path):
        probe_in_subprocess(path)


def probe_in_subprocess(path: str | Path) -> None:
    """Read a file in a forked process first; refuse it if that crashes, does not end or uses too much memory.

    Damage that HDF5 notices is reported when the file is read.
    """
    if not_a_file(path):
        return
    stat = os.stat(path)
    status = _status(path, (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns))
    if os.WIFSIGNALED(status):
        what = "HDF5 crashes or does not end when it reads it, or takes too much memory"
        raise damaged(str(path), what)
    if status:
        raise RuntimeError(f"{path} could not be read in a forked process")


@lru_cache(maxsize=64)
def _status(path: str | Path, stamp: tuple[int, ...]) -> int:
    """Return the exit status of a process that reads a file; an unchanged file is read only once."""
    import h5py  # noqa: F401 (once, for both processes)

    child = os.fork()
    if not child:
        code = 1
        try:
            _read_all(path)
            code = 0
        except BaseException:  # noqa: BLE001 (the child must not return to the command)
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]


def _read_all(path: str | Path) -> None:
    """Read all datasets of a file, with limits on processor time and on memory besides the datasets."""
    claimed, before = 0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    faulthandler.disable()
    _limit_processor_time(claimed)
    with suppress(InputError), opening.open_for_reading(Path(path)) as file:
        for dataset in contents.datasets(file, str(path)):
            claimed += dataset.nbytes
            _limit_processor_time(claimed)
            with suppress(InputError):
                contents.array(dataset, str(path))
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before << 10
    if used > 2 * claimed + MEMORY:
        os.kill(os.getpid(), signal.SIGKILL)


def _limit_processor_time(claimed: int) -> None:
    """Have this process killed if it needs longer than reading `claimed` bytes should take."""
    most = resource.getrlimit(resource.RLIMIT_CPU)[1]  # only root may raise it
    limit_s = LIMIT_S + claimed // RATE
    limit_s = limit_s if most == resource.RLIM_INFINITY else min(limit_s, most)
    resource.setrlimit(resource.RLIMIT_CPU, (limit_s, most))
