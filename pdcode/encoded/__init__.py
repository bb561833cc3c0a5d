"""Schemes for linear models with encoded data: rank 0 encodes the data once, workers compute on the code."""
