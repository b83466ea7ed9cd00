"""Is there an API key that only its owner can read?"""

from __future__ import annotations

import os
from pathlib import Path

from pi_agent.checks.base import Context, Finding, failed, not_checked, passed, warning
from pi_agent.config import read_api_key
from pi_agent.contract.errors import ConfigError, Exit, MagpieError


def check(context: Context) -> Finding:
    """Exit 77 where there is a key that cannot be used. The key itself is shown nowhere."""
    try:
        oracle = context.config.oracle
    except MagpieError:
        return not_checked("the configuration names its file")
    try:
        key = read_api_key(oracle)
    except ConfigError as exc:
        return failed(str(exc), exc.advice or "put exactly one key into it", Exit.NOT_AUTHORISED)
    if key is None:
        return passed("no API key is configured")
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if folder and (Path(folder) / "api-key").is_file():
        return passed("the key comes from systemd's credentials")
    path = Path(oracle.api_key_file).expanduser()
    owner = path.stat().st_uid
    if owner not in (0, os.geteuid()):
        return warning(f"{path} belongs to user {owner}", "that user can replace the key: run chown and chmod 600")
    return passed(f"{path} holds one key and is private")
