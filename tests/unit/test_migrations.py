"""A home of the first version goes on: every spend, window, lock-out and answer is there after the migration."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from pi_agent.contract.windows import Period
from pi_agent.errors import DamagedDatabase
from pi_agent.store.db import Database
from pi_agent.store.labels import Labels
from pi_agent.store.ledger import Ledger
from pi_agent.store.migrations import APPLICATION_ID, MIGRATIONS
from pi_agent.store.queue import Queue
from tests.support_time import FakeTime

VECTOR = np.float32([0.25, 0.75])
OLD_ROWS = [
    ("INSERT INTO oracle VALUES ('o', '[\"a\", \"b\"]', 1000060.0)", ()),
    ("INSERT INTO oracle VALUES ('other', NULL, 0)", ()),
    ("INSERT INTO image VALUES (3, 'first', 'a.jpg', 5, 1.0, 1, NULL)", ()),
    ("INSERT INTO image VALUES (7, 'second', 'b.jpg', 0, 1.0, 1, 'refused')", ()),
    ("INSERT INTO image VALUES (9, 'third', 'c.jpg', 0, 1.0, 1, NULL)", ()),
    ("INSERT INTO budget_window VALUES ('o', 1000000.0, 1000001.0, 'test', 6)", ()),
    ("INSERT INTO attempt VALUES (1, 'o', 'first', 'settled', 1000001.0, 1000001.0, 1000002.0, 'answered')", ()),
    ("INSERT INTO attempt VALUES (2, 'o', 'second', 'sent', 1000003.0, 1000003.0, 1000004.0, 'refused')", ()),
    ("INSERT INTO attempt VALUES (3, 'o', 'third', 'sent', 1000005.0, 1000005.0, NULL, NULL)", ()),
    ("INSERT INTO attempt VALUES (4, 'o', 'third', 'reserved', 1000005.0, NULL, NULL, NULL)", ()),
    ("INSERT INTO attempt VALUES (5, 'other', 'third', 'sent', 1000005.0, 1000005.0, 1000006.0, 'x')", ()),
    ("INSERT INTO answer VALUES (1, 'o', 'first', 'scores', ?, 1000002.0)", (VECTOR.tobytes(),)),
    ("UPDATE ledger_clock SET latest=1000006.0", ()),
]


def old_home(path: Path) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in MIGRATIONS[0].split(";"):
        connection.execute(statement)
    for sql, values in OLD_ROWS:
        connection.execute(sql, values)
    connection.execute("PRAGMA user_version=1")
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.close()


def test_the_first_version_is_carried_over(tmp_path: Path) -> None:
    old_home(tmp_path / "agent.db")
    for _ in range(2):
        with Database(tmp_path / "agent.db") as database:
            time = FakeTime(1_000_020.0)
            ledger = Ledger(database, "o", 9, Period(100), time.clock)
            budget = ledger.budget()
            assert (budget.spent, budget.reserved, budget.locked_until) == (3, 1, 1_000_060.0)
            time.true = 1_000_070.0
            assert ledger.budget().remaining == 6 - 4, "what the oracle said is left still holds"
            labels = Labels(database, "o")
            assert labels.classes() == ("a", "b")
            stored = labels.get("first")
            assert stored is not None and stored.vector.tobytes() == VECTOR.tobytes()
            assert [q.sha256 for q in Queue(database).waiting("o")] == ["third"]
            assert Queue(database).problems() == 1
            assert database.value("PRAGMA foreign_key_check") is None
            assert database.value("PRAGMA integrity_check") == "ok"
            assert Ledger(database, "other", 9, Period(100), time.clock).budget().spent == 1


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    old_home(tmp_path / "agent.db")
    with sqlite3.connect(tmp_path / "agent.db") as connection:
        connection.execute("CREATE TABLE new_answer (x)")
    with pytest.raises(DamagedDatabase, match="already exists"):
        Database(tmp_path / "agent.db")
    with sqlite3.connect(tmp_path / "agent.db") as connection:
        assert connection.execute("SELECT count(*) FROM attempt WHERE oracle='o'").fetchone() == (4,)
        connection.execute("DROP TABLE new_answer")
    with Database(tmp_path / "agent.db") as database:
        assert database.value("SELECT count(*) FROM attempt") == 5
