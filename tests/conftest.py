"""How hypothesis runs in all tests: on a loaded machine too, slow drawing and slow examples are no failures."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("escort", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("escort")
