"""The agent's parts, put together once from the home folder: what every command starts from."""

from __future__ import annotations

from functools import cached_property, partial

from pi_agent.clock import Clock
from pi_agent.config import Config, load_config, read_api_key
from pi_agent.contract.errors import MagpieError
from pi_agent.errors import LostDatabase
from pi_agent.interruption import Interruption
from pi_agent.oracle import Oracle
from pi_agent.paths import Home, find_home
from pi_agent.store.db import Database
from pi_agent.store.labels import Labels
from pi_agent.store.ledger import Ledger
from pi_agent.store.pictures import Pictures
from pi_agent.store.queue import Queue
from pi_agent.transports import open_transport


class Agent:
    """Configuration, stores and (on first use) the oracle. Use as a context manager."""

    def __init__(self, home: Home, config: Config, clock: Clock | None = None) -> None:
        self.home, self.config, self.clock = home.create(), config, clock or Clock()
        self.stop = Interruption()
        # Where queries were spent, an empty database is no beginning: a new ledger would grant the budget once more.
        lost = LostDatabase(path=home.database, lock=home.lock) if home.lock.exists() else None
        self.database = Database(home.database, lost)
        self.oracle_id = f"{config.oracle.protocol}:{config.oracle.url.rstrip('/')}"
        self.ledger = Ledger(
            self.database,
            self.oracle_id,
            config.budget.daily_quota,
            config.budget.window_period(),
            self.clock,
            config.oracle.timeout * 2,
        )
        self.labels = Labels(self.database, self.oracle_id)
        self.queue = Queue(self.database)
        self.pictures = Pictures(home.images)

    @classmethod
    def open(cls, home_flag: str | None) -> Agent:
        """Find the home folder and read its configuration. Raises `ConfigError` (78), `StorageError` (74)."""
        home = find_home(home_flag)
        return cls(home, load_config(home))

    @cached_property
    def oracle(self) -> Oracle:
        """The one way to spend a query; reads the API key only now."""
        key, asked = read_api_key(self.config.oracle), self.config.oracle
        connect = partial(open_transport, self.config, key, self.labels.classes())
        return Oracle(self.ledger, self.labels, connect, self.clock, asked.attempts, asked.in_flight, stop=self.stop)

    def start_run(self) -> int:
        """Note the start of a run and return its number."""
        with self.database.transaction() as tx:
            return int(tx.execute("INSERT INTO run (started_at) VALUES (?)", (self.clock.now(),)).lastrowid or 0)

    def end_run(self, run: int, settled: int, outcome: str) -> None:
        """Note how a run ended."""
        with self.database.transaction() as tx:
            values = (self.clock.now(), settled, outcome, run)
            tx.execute("UPDATE run SET ended_at=?, settled=?, outcome=? WHERE id=?", values)

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: object) -> None:
        """Close everything. Where a bug seems to have struck over a damaged database, the damage is what it was."""
        try:
            if isinstance(exc, Exception) and not isinstance(exc, MagpieError | OSError):
                self.database.check()
        finally:
            if "oracle" in vars(self):
                self.oracle.close()
            self.database.close()
