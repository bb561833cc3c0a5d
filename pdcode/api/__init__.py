"""The interface for scripts and notebooks: `pdcode.run`, `simulate`, `plan` and `Trace`."""
