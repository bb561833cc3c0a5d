"""Benchmarks of pdcode's own kernels, decoders, messages, tasks and events, against limits and rivals."""
