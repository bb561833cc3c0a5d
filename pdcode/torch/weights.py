"""Files of weights in the format of safetensors."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..util.errors import InputError
from ..util.output import write_file
from ..util.packages import pip_install


def write(path: Path, weights: Mapping[str, np.ndarray]) -> None:
    """Write arrays, which may be views of one, to a file."""
    try:
        from safetensors.numpy import save
    except ImportError as error:
        raise InputError(f"{path}: needs safetensors ({error}): {pip_install('safetensors')}") from None
    write_file(
        path, save({name: np.ascontiguousarray(each) for name, each in weights.items()}), "the weights"
    )
