"""Settings of the whole test run."""

import os

import pytest
from hypothesis import HealthCheck, settings

from pi_agent.contract import log

# Machines that run these tests are shared: slow is no failure. What hypothesis finds is.
settings.register_profile("shared-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# For an emulated processor (tests/pi).
settings.register_profile("pi", settings.get_profile("shared-machine"), max_examples=10)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "shared-machine"))


@pytest.fixture(autouse=True)
def own_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test reads as a key ("4567") is no secret in the next: the process is the same, the person is not."""
    monkeypatch.setattr(log, "_secrets", set(log._secrets))
