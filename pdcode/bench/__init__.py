"""Measurements of pdcode beside its limits on the same machine, in the same run; `pdcode bench`."""
