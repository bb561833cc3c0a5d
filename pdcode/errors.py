"""Errors that a command turns into one line and an exit code."""

from __future__ import annotations


class InputError(ValueError):
    """Bad input by the user: one clear line that names file, key and value; exit code 2."""
