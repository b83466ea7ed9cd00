"""Every answer is kept apart, averaged when it is read, and exported with its picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pi_agent.contract.answers import Answer
from pi_agent.contract.images import QueryImage
from pi_agent.store.db import Database
from pi_agent.store.labels import Labels
from pi_agent.store.ledger import Ledger
from pi_agent.store.pictures import Pictures
from pi_agent.store.queue import Queue
from tests.support_time import IMAGE, FakeTime, ledger_of, quick_database

CLASSES = ("a", "b", "c")


@pytest.fixture
def database() -> Iterator[Database]:
    with quick_database() as opened:
        yield opened


def answer(ledger: Ledger, image: str, *scores: float) -> None:
    attempt = ledger.reserve(image)
    ledger.mark_sent(attempt)
    ledger.settle(attempt, Answer("scores", CLASSES, np.float32(scores)), None)


def test_answers_are_stored_bit_for_bit_and_averaged(database: Database) -> None:
    ledger, labels = ledger_of(database, FakeTime()), Labels(database, "o")
    ledger.open_window("test")
    assert labels.get(IMAGE) is None
    vectors = np.float32([[0.1, 0.2, 0.7], [0.3, 0.3, 0.4]])
    answer(ledger, IMAGE, *vectors[0])
    one = labels.get(IMAGE)
    assert one is not None and one.vector.tobytes() == vectors[0].tobytes()
    answer(ledger, IMAGE, *vectors[1])
    both = labels.get(IMAGE)
    assert both is not None and both.label == "c"
    np.testing.assert_array_equal(both.vector, vectors.astype(np.float64).mean(axis=0).astype(np.float32))
    assert (labels.count(), labels.count_images()) == (2, 1)
    assert Labels(database, "another").get(IMAGE) is None


def test_the_first_classes_stay(database: Database) -> None:
    ledger = ledger_of(database, FakeTime())
    labels = Labels(database, "o")
    ledger.open_window("test")
    for classes in (CLASSES, ("x", "y", "z")):
        attempt = ledger.reserve(IMAGE)
        ledger.mark_sent(attempt)
        ledger.settle(attempt, Answer("scores", classes, np.float32([0.5, 0.25, 0.25])), None)
        assert labels.classes() == CLASSES


def test_an_export_has_every_answer_since_a_day_and_skips_lost_pictures(database: Database, tmp_path: Path) -> None:
    time = FakeTime()
    ledger, labels, pictures = ledger_of(database, time, quota=9), Labels(database, "o"), Pictures(tmp_path)
    images = [QueryImage.of(name) for name in (b"first", b"second", b"lost")]
    Queue(database).add([(image.sha256, "") for image in images], 0, 0.0)
    for image in images:
        pictures.put(image)
    pictures.path(images[2].sha256).write_bytes(b"worn out")
    ledger.open_window("test")
    for number, image in enumerate([images[1], *images, images[0]]):
        time.true += 2
        answer(ledger, image.sha256, 0.5, 0.25, 0.25 if number else 0.125)
    items = list(labels.items(pictures))
    assert [i.jpeg for i in items] == [b"first", b"second"], "in the order of adding"
    assert [len(i.vectors) for i in items] == [2, 2]
    assert items[1].attempts == (1, 3) and items[1].times[0] == "1970-01-12T13:46:42Z"
    assert [len(i.vectors) for i in labels.items(pictures, since=time.true)] == [1]
    assert list(labels.items(pictures, since=time.true + 1)) == []


def test_a_picture_is_whole_or_absent_and_can_be_mended(tmp_path: Path) -> None:
    pictures, image = Pictures(tmp_path / "images"), QueryImage.of(b"picture")
    assert pictures.get(image.sha256) is None
    pictures.put(image)
    assert pictures.get(image.sha256) == image
    pictures.path(image.sha256).write_bytes(b"picturE")
    assert pictures.get(image.sha256) is None
    pictures.put(image)
    assert pictures.get(image.sha256) == image
    assert len(list(tmp_path.rglob("*.*"))) == 1
