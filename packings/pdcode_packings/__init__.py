"""Numerical search for codes of least coherence, for the family ``optimized``."""
