"""What can go wrong on the agent's side; the docstring is the message, the class carries the exit code."""

from __future__ import annotations

from typing import Any

from pi_agent.contract.errors import ConfigError, Exit, MagpieError, StorageError


class NoConfig(ConfigError):
    """{path}: no configuration yet"""

    hint = "run: pi-agent init --url http://HOST:PORT --daily-quota N"


class DamagedDatabase(StorageError):
    """{path}: the database is damaged ({reason})"""

    hint = (
        "do not delete it: it is the proof of what was spent; restore a backup or move it away to start anew tomorrow"
    )


class LostDatabase(DamagedDatabase):
    """{path}: the database is missing, although queries were spent from here: nobody knows how many"""

    hint = "restore a backup; or wait until the quota's window has ended, delete {lock} and start anew"

    def __init__(self, **fields: Any) -> None:
        super().__init__(hint=self.hint.format(**fields), **fields)


class Busy(MagpieError):
    """another pi-agent (process {pid}) is at work in {path}"""

    exit_code = Exit.TRY_TOMORROW
    hint = "wait until it has ended; cached answers, status, budget and export work meanwhile"


class BudgetSpent(MagpieError):
    """the budget of {quota} queries{kept} is spent until {resets_at}"""

    exit_code = Exit.TRY_TOMORROW
    hint = "run the same command again in the next window; nothing above the budget was sent"

    @property
    def told_by_oracle(self) -> bool:
        """True where our own quota would allow more, but the oracle said that nothing is left."""
        return bool(self.fields["told_by_oracle"])


class LockedOut(MagpieError):
    """the oracle has locked us out until {until}"""

    exit_code = Exit.TRY_TOMORROW
    hint = "the agent asks nothing before that time; check that nobody else uses this API key"


class ClockDoubt(MagpieError):
    """a new budget window may not be opened: {reason}"""

    exit_code = Exit.UNREACHABLE
    hint = "a wrong clock must not mint budget: check `timedatectl`, or that the oracle is reachable"


class Unreachable(MagpieError):
    """the oracle at {url} cannot be reached: {reason}"""

    exit_code = Exit.UNREACHABLE
    hint = "check the address with `pi-agent status` and that the server runs; no query was spent"


class OracleFailing(MagpieError):
    """the oracle at {url} fails: {reason}"""

    exit_code = Exit.UNREACHABLE
    hint = "stopped before more of the budget was wasted; ask its owner, then run the same command again"


class NotAuthorised(MagpieError):
    """the oracle at {url} refuses the API key ({reason})"""

    exit_code = Exit.NOT_AUTHORISED
    hint = "check the file named by oracle.api_key_file in config.toml"
