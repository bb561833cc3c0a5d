"""`pdcode plan`: which scheme to run next, found by simulated descents."""
