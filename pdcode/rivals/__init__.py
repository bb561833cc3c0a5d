"""Schemes of other authors, and parts of them; one file for each scheme."""
