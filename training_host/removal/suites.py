"""Which attacks a suite consists of, under the names that readers see."""

from __future__ import annotations

from collections.abc import Mapping

from training_host.removal.base import Removal

SUITES: Mapping[str, Mapping[str, Removal]] = {"quick": {}, "full": {}}
