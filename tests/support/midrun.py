"""A user's file whose function fails in mid-run, in line 18."""

FILE = """
import sys
import numpy as np

calls = 0
START = np.ones(3)


def data():
    x = np.random.default_rng(1).standard_normal((60, 3))
    return x, x @ np.arange(3.0)


def function(theta, x, y):
    global calls
    calls += 1
    if calls > 150:
        {fails}
    errors = x @ theta - y
    return 0.5 * np.mean(errors**2), x.T @ errors / len(x)
"""
