"""pdcode: distributed gradient descent in which the partial derivatives themselves are coded.

`run`, `simulate`, `plan` and `compare` are the commands of these names; `train` runs on ranks of the
caller's, and `record` records the ranks of a program of mpi4py. `Trace` and `Comparison` read their files;
`codes`, `decoders` and `problems` are the components; `torch` trains modules of PyTorch, and `sklearn` has
estimators. Bad input raises `InputError`, a failed run `Failure`. Names are imported on first use: importing
the package loads neither MPI, HDF5 nor matplotlib.
"""

from typing import TYPE_CHECKING

from .util.errors import Failure as Failure
from .util.errors import InputError as InputError
from .util.lazy import exports
from .util.version import __version__ as __version__

if TYPE_CHECKING:
    from . import codes as codes
    from . import decoders as decoders
    from . import problems as problems
    from . import sklearn as sklearn
    from . import torch as torch
    from .api.calibrate import calibrate as calibrate
    from .api.minimize import minimize as minimize
    from .api.runs import plan as plan
    from .api.runs import run as run
    from .api.runs import simulate as simulate
    from .api.runs import train as train
    from .api.traces import Trace as Trace
    from .differences.asking import Calibration as Calibration
    from .differences.jacobian import jacobian as jacobian
    from .mpi.recording import record as record
    from .studies.comparison import Comparison as Comparison
    from .studies.comparison import compare as compare

__getattr__, __all__ = exports(
    __name__,
    {
        "api.calibrate": "calibrate",
        "api.minimize": "minimize",
        "api.runs": "plan run simulate train",
        "api.traces": "Trace",
        "codes": "",
        "decoders": "",
        "differences.asking": "Calibration",
        "differences.jacobian": "jacobian",
        "mpi.recording": "record",
        "problems": "",
        "sklearn": "",
        "studies.comparison": "Comparison compare",
        "torch": "",
        "util.errors": "Failure InputError",
    },
)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
