"""Schemes: the algorithms of rank 0 and the workers, one file each."""

from .base import Scheme as Scheme
from .base import make_scheme as make_scheme
