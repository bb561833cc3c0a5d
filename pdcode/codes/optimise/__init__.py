"""Numerical search for rows of least coherence; used by the family ``optimized`` alone."""
