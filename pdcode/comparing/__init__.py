"""Comparison of schemes: the same problem, workers and delays for all of them, seed by seed."""
