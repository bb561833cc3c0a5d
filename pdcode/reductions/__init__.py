"""Reductions: who adds up the payloads of an update, one file for each."""
