"""The configuration of a run: its tables, the schemes' defaults, and reading and writing TOML."""
