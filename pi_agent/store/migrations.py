"""The database's schema, version by version. A migration and its version number land in one transaction."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from pi_agent.errors import DamagedDatabase

APPLICATION_ID = 0x4D414750  # "MAGP"

MIGRATIONS = (
    """
    CREATE TABLE image (
        seq INTEGER PRIMARY KEY,
        sha256 TEXT NOT NULL UNIQUE,
        source TEXT NOT NULL,
        priority INTEGER NOT NULL,
        added_at REAL NOT NULL,
        queued INTEGER NOT NULL DEFAULT 1,
        problem TEXT
    ) STRICT;
    CREATE INDEX image_order ON image (queued, priority DESC, seq);

    CREATE TABLE oracle (
        id TEXT PRIMARY KEY,
        classes TEXT,
        locked_until REAL NOT NULL DEFAULT 0
    ) STRICT;

    CREATE TABLE budget_window (
        oracle TEXT NOT NULL REFERENCES oracle (id),
        start REAL NOT NULL,
        opened_at REAL NOT NULL,
        trusted_by TEXT NOT NULL,
        ceiling INTEGER,
        PRIMARY KEY (oracle, start)
    ) STRICT;

    CREATE TABLE attempt (
        id INTEGER PRIMARY KEY,
        oracle TEXT NOT NULL REFERENCES oracle (id),
        image TEXT NOT NULL REFERENCES image (sha256),
        state TEXT NOT NULL CHECK (state IN ('reserved', 'sent', 'settled', 'refunded')),
        reserved_at REAL NOT NULL,
        sent_at REAL,
        closed_at REAL,
        outcome TEXT
    ) STRICT;
    CREATE INDEX attempt_sent ON attempt (oracle, sent_at);
    CREATE INDEX attempt_open ON attempt (state) WHERE closed_at IS NULL;

    CREATE TABLE answer (
        attempt INTEGER PRIMARY KEY REFERENCES attempt (id),
        oracle TEXT NOT NULL,
        image TEXT NOT NULL REFERENCES image (sha256),
        kind TEXT NOT NULL,
        vector BLOB NOT NULL,
        answered_at REAL NOT NULL
    ) STRICT;
    CREATE INDEX answer_image ON answer (oracle, image);

    CREATE TABLE run (
        id INTEGER PRIMARY KEY,
        started_at REAL NOT NULL,
        ended_at REAL,
        settled INTEGER NOT NULL DEFAULT 0,
        outcome TEXT
    ) STRICT;

    CREATE TABLE ledger_clock (only INTEGER PRIMARY KEY CHECK (only = 1), latest REAL NOT NULL) STRICT;
    INSERT INTO ledger_clock VALUES (1, 0);
    """,
)


def check_owner(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a file that is not ours, before anything is changed in it. Raises `DamagedDatabase` (74)."""
    owner, version, tables = connection.execute(
        "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_schema) "
        "FROM pragma_application_id, pragma_user_version"
    ).fetchone()
    if owner != APPLICATION_ID and (owner or version or tables):
        raise DamagedDatabase(path=path, reason="it belongs to another program", hint="move it out of the way")
    if version > len(MIGRATIONS):
        raise DamagedDatabase(path=path, reason="a newer pi-agent made it", hint="update pi-agent")


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema up to date; two processes may try at once. Raises `sqlite3.Error`."""
    if connection.execute("PRAGMA user_version").fetchone()[0] >= len(MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
            for statement in script.split(";"):
                if statement.strip():
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version={number}")
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # a full disk has rolled back by itself
            connection.execute("ROLLBACK")
        raise
