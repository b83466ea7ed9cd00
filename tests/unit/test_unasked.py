"""What a pool gives to a distillation, from real files and a real transfer set."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from pi_agent.contract.errors import RefusedInput
from pi_agent.contract.manifest import InputSpec
from pi_agent.contract.transfer_set import TransferItem, write_transfer_set
from pi_agent.prepare import prepare_bytes
from training_host.cli import cli
from training_host.data.pool import list_pool
from training_host.data.unasked import Extras, extras_of

CLASSES = ("glass", "paper", "shoes")


def photo(number: int) -> bytes:
    rng = np.random.default_rng(number)
    out = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """Twelve photos of three classes; the numbers count through."""
    for number in range(12):
        folder = tmp_path / "pool" / CLASSES[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:02d}.png").write_bytes(photo(number))
    return tmp_path / "pool"


def answers(tmp_path: Path, numbers: list[int], classes: tuple[str, ...] = CLASSES) -> Path:
    items = []
    for number in numbers:
        query = prepare_bytes(photo(number), "photo")
        scores = np.full((1, len(classes)), 1 / len(classes), np.float32)
        items.append(TransferItem(query.sha256, query.jpeg, classes, scores))
    path = tmp_path / "night.tar"
    write_transfer_set(path, {}, items)
    return path


def extras(pool: Path, classes: tuple[str, ...] = CLASSES, **more: bool) -> Extras:
    return extras_of(classes, list_pool(pool), InputSpec(), **more)


def test_folders_named_like_classes_are_labels(tmp_path: Path, pool: Path):
    found = extras(pool)
    assert found.pool is not None and found.pool.shape == (12, 64, 64, 3)
    assert found.labels is not None and found.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    some = extras(pool, ("shoes", "cans"))
    assert some.labels is not None and some.labels.tolist() == [-1] * 8 + [0] * 4


def test_folders_of_other_names_are_no_labels(tmp_path: Path, pool: Path):
    assert extras(pool, ("a", "b")).labels is None
    with pytest.raises(RefusedInput, match="none of its pictures lies in a folder"):
        extras(pool, ("a", "b"), needs_labels=True)


def test_no_pool_gives_nothing():
    assert extras_of(CLASSES, [], InputSpec()) == Extras()


@pytest.mark.parametrize(
    ("options", "told"),
    [(("--truth", "0.3"), "--truth needs --pool"), (("--students", "2", "--echo", "0"), "nobody listens")],
)
def test_options_that_make_no_sense_together_are_refused(tmp_path: Path, options: tuple[str, ...], told: str):
    line = ["distill", str(answers(tmp_path, [1])), "--arch", "recycleme-narrow", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(cli, [*line, *options])
    assert result.exit_code == 2 and told in result.output
    assert not (tmp_path / "out").exists()
