"""Trains of events: models of a retina and of an event camera, recordings, and the images they stand for."""

from .readers import read_events
from .reconstruction import Dictionary, Estimates, Signal
from .stream import Events

__all__ = ["Dictionary", "Estimates", "Events", "Signal", "read_events"]
