"""A claim, and the ground on which a hostile file is judged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pi_agent.contract.claim import new_key
from tests.support_models import NAMES, write_claim


@pytest.fixture(scope="module")
def claim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_claim(tmp_path_factory.mktemp("claim"), new_key(NAMES, 10, seed=bytes(range(32))))


@pytest.fixture
def ground(tmp_path: Path) -> Path:
    """Folders for the suspect, for the user and for temporary files, and one with secrets that nobody may touch."""
    for name in ("suspect", "home", "tmp", "canary"):
        (tmp_path / name).mkdir()
    (tmp_path / "canary" / "secret.bin").write_bytes(np.ones(4096, np.float32).tobytes())
    return tmp_path
