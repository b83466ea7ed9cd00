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
    # Numbers instead of names and hashes in the tables that grow with every query: half the bytes on the SD card, and
    # new index entries land side by side. `server_remaining`: the least the oracle said was left in that window.
    """
    ALTER TABLE image ADD COLUMN phash INTEGER;

    CREATE TABLE new_oracle (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        classes TEXT,
        locked_until REAL NOT NULL DEFAULT 0
    ) STRICT;
    INSERT INTO new_oracle (name, classes, locked_until) SELECT id, classes, locked_until FROM oracle;

    CREATE TABLE new_window (
        oracle INTEGER NOT NULL REFERENCES oracle (id),
        start REAL NOT NULL,
        opened_at REAL NOT NULL,
        trusted_by TEXT NOT NULL,
        ceiling INTEGER,
        server_remaining INTEGER,
        PRIMARY KEY (oracle, start)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO new_window SELECT o.id, start, opened_at, trusted_by, ceiling, NULL
        FROM budget_window JOIN new_oracle o ON o.name = oracle;

    CREATE TABLE new_attempt (
        id INTEGER PRIMARY KEY,
        oracle INTEGER NOT NULL REFERENCES oracle (id),
        image INTEGER NOT NULL REFERENCES image (seq),
        state TEXT NOT NULL CHECK (state IN ('reserved', 'sent', 'settled', 'refunded')),
        reserved_at REAL NOT NULL,
        sent_at REAL,
        closed_at REAL,
        outcome TEXT
    ) STRICT;
    INSERT INTO new_attempt SELECT a.id, o.id, i.seq, state, reserved_at, sent_at, closed_at, outcome
        FROM attempt a JOIN new_oracle o ON o.name = a.oracle JOIN image i ON i.sha256 = a.image;

    CREATE TABLE new_answer (
        attempt INTEGER PRIMARY KEY REFERENCES attempt (id),
        oracle INTEGER NOT NULL,
        image INTEGER NOT NULL REFERENCES image (seq),
        kind TEXT NOT NULL,
        vector BLOB NOT NULL,
        answered_at REAL NOT NULL
    ) STRICT;
    INSERT INTO new_answer SELECT attempt, o.id, i.seq, kind, vector, answered_at
        FROM answer a JOIN new_oracle o ON o.name = a.oracle JOIN image i ON i.sha256 = a.image;

    DROP TABLE answer;
    DROP TABLE attempt;
    DROP TABLE budget_window;
    DROP TABLE oracle;
    ALTER TABLE new_oracle RENAME TO oracle;
    ALTER TABLE new_window RENAME TO budget_window;
    ALTER TABLE new_attempt RENAME TO attempt;
    ALTER TABLE new_answer RENAME TO answer;
    CREATE INDEX attempt_closed ON attempt (oracle, closed_at, sent_at, state);
    CREATE INDEX attempt_open ON attempt (oracle, state, sent_at) WHERE closed_at IS NULL;
    CREATE INDEX answer_image ON answer (oracle, image);
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


_SHAPE = (
    'SELECT m.name, c.name, c.type, c."notnull", c.pk FROM sqlite_schema m, pragma_table_xinfo(m.name) c '
    "WHERE m.type='table' AND m.name NOT LIKE 'sqlite_%' UNION ALL "
    "SELECT m.name, m.tbl_name, c.name, c.desc, c.seqno FROM sqlite_schema m, pragma_index_xinfo(m.name) c "
    "WHERE m.type='index' AND m.name NOT LIKE 'sqlite_%' UNION ALL "
    'SELECT m.name, c."table", c."from", c."to", c.seq FROM sqlite_schema m, pragma_foreign_key_list(m.name) c '
    "WHERE m.type='table'"
)


def check_schema(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse tables and indexes that are not those our migrations make. Raises `DamagedDatabase` (74)."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as fresh:
        migrate(fresh)
        ours = {tuple(row) for row in fresh.execute(_SHAPE)}
    if missing := {row[0] for row in ours - {tuple(row) for row in connection.execute(_SHAPE)}}:
        raise DamagedDatabase(path=path, reason=f"not as pi-agent made it: {', '.join(sorted(missing))}")


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
