"""Importers of other programs' files as traces: a format is a module with an `Importer`."""

from .job import Fault as Fault
from .job import Importer as Importer
from .job import Job as Job
from .job import in_turn as in_turn
