"""Settings of the whole test run."""

from hypothesis import HealthCheck, settings

# Machines that run these tests are shared: slow is no failure. What hypothesis finds is.
settings.register_profile("shared-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared-machine")
