"""The Python interface: `pdcode.run`, `simulate`, `train`, `plan` and `Trace`."""
