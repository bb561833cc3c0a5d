"""The configuration of a run: its tables, their defaults by scheme, and reading them from TOML."""
