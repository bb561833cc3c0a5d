"""What holds for all tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# How quickly a machine draws examples, with other processes beside us, is not what tests are about.
settings.register_profile("pdcode", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("pdcode")
