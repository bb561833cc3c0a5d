"""Benchmarks of pdcode against its limits on the same machine, in the same run: `pdcode bench`."""
