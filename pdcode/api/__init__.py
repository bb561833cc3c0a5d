"""The Python interface: `pdcode.run`, `simulate`, `plan` and `Trace`."""
