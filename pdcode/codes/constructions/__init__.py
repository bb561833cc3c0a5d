"""Exact constructions of the families of codes, and the mathematics behind them."""
