"""What several files of tests serve: one small model, and the keys of two clients."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import tiny_model_folder
from tests.support_server import KEY


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model that is quick to ask."""
    return tiny_model_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of keys: `pi` holds `KEY`, `other` the same backwards."""
    path = tmp_path_factory.mktemp("keys") / "keys.txt"
    path.write_text(f"# test\npi:{KEY}\nother:{KEY[::-1]}\n")
    path.chmod(0o600)
    return path
