"""Traces: every event of a run in one HDF5 file. h5py is imported only when a file is opened."""
