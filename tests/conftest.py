"""Settings of the whole test run."""

import os

from hypothesis import HealthCheck, settings

# Machines that run these tests are shared: slow is no failure. What hypothesis finds is.
settings.register_profile("shared-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# For an emulated processor (tests/pi).
settings.register_profile("pi", settings.get_profile("shared-machine"), max_examples=10)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "shared-machine"))
