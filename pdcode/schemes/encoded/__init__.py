"""Schemes over the data of linear models: rank 0 encodes them once, workers compute on encoded data."""
