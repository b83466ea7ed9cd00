"""`config.toml`: frozen dataclasses, unknown keys refused with a suggestion, environment above file."""

from __future__ import annotations

import dataclasses
import os
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints
from urllib.parse import urlsplit

from pi_agent.contract.errors import ConfigError, from_os_error
from pi_agent.contract.files import atomic_write
from pi_agent.contract.log import never_show
from pi_agent.contract.strict import build
from pi_agent.contract.windows import Period, parse_period, parse_reset
from pi_agent.errors import NoConfig
from pi_agent.http_config import HttpConfig
from pi_agent.paths import Home

PROTOCOLS = ("http", "csaw-tcp")
_SCHEMES = {"http": ("http", "https"), "csaw-tcp": ("tcp",)}
MAX_IN_FLIGHT = 64


@dataclass(frozen=True)
class OracleConfig:
    """Whom to ask. `timeout` in seconds for one answer; `attempts`: how often one image may be tried in a run.

    `in_flight`: queries under way at the same time. A power cut costs at most so many queries without an answer.
    `last_class`: only for csaw-tcp: the class whose line ends an answer, where the oracle itself does not tell.
    """

    url: str
    protocol: str = "http"
    api_key_file: str = ""
    timeout: float = 30.0
    attempts: int = 3
    in_flight: int = 4
    last_class: str = ""

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}")
        parts = urlsplit(self.url)
        schemes = _SCHEMES[self.protocol]
        if parts.scheme not in schemes or not parts.hostname:
            raise ValueError(f"url {self.url!r} must look like {schemes[0]}://host:port")
        if parts.port == 0:  # reading it also refuses what is no port at all
            raise ValueError("url must not name port 0")
        if parts.scheme == "tcp" and parts.port is None:
            raise ValueError(f"url {self.url!r} must name a port, tcp://host:port")
        if parts.username or parts.password or parts.query:
            raise ValueError("url must hold no user, password or query: put the key into a file")
        if not 0.1 <= self.timeout <= 600 or not 1 <= self.attempts <= 10:
            raise ValueError("timeout must be 0.1 to 600 seconds, attempts 1 to 10")
        if not 1 <= self.in_flight <= MAX_IN_FLIGHT:
            raise ValueError(f"in_flight must be 1 to {MAX_IN_FLIGHT}")
        if self.last_class != self.last_class.strip() or not self.last_class.isprintable():
            raise ValueError("last_class must be the name of a class")


def protocol_of(url: str) -> str:
    """The protocol that an address speaks where none is named: csaw-tcp for `tcp://`, else http."""
    return "csaw-tcp" if url.lower().startswith("tcp:") else "http"


@dataclass(frozen=True)
class BudgetConfig:
    """How many queries per period; the period is aligned to the UTC time `reset`.

    `reserve`: queries of each period that `collect` leaves for a verification.
    """

    daily_quota: int
    period: str = "24h"
    reset: str = "00:00"
    reserve: int = 0

    def __post_init__(self) -> None:
        if self.daily_quota < 0:
            raise ValueError("daily_quota must not be negative")
        if self.reserve < 0:
            raise ValueError("reserve must not be negative")
        self.window_period()

    def window_period(self) -> Period:
        """The period as seconds and offset."""
        return Period(parse_period(self.period), parse_reset(self.reset))


@dataclass(frozen=True)
class MetricsConfig:
    """`textfile`: where figures for node_exporter's textfile collector go after a run; empty for nowhere."""

    textfile: str = ""

    def __post_init__(self) -> None:
        if self.textfile and not self.textfile.endswith(".prom"):
            raise ValueError("textfile must end in .prom: node_exporter reads no others")


@dataclass(frozen=True)
class Config:
    """The whole file."""

    oracle: OracleConfig
    budget: BudgetConfig = field(default_factory=lambda: BudgetConfig(daily_quota=0))
    http: HttpConfig = field(default_factory=HttpConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)


def load_config(home: Home, environment: Mapping[str, str] = os.environ) -> Config:
    """Read `config.toml`, apply `PI_AGENT_<SECTION>_<KEY>`. Raises `ConfigError` (78), `CannotCreate` (73)."""
    try:
        text = home.config.read_text(encoding="utf-8")
    except FileNotFoundError as exc:
        raise NoConfig(path=home.config) from exc
    except NotADirectoryError as exc:
        raise from_os_error(exc, home.folder) from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(path=home.config, reason=f"cannot be read ({exc})") from exc
    try:
        return build(Config, _with_environment(tomllib.loads(text), environment))
    except (ValueError, RecursionError) as exc:  # `Mismatch`, no TOML, or a TOML beyond Python's limits
        hint = "correct the file or the PI_AGENT_... variable, or run pi-agent init again"
        raise ConfigError(path=home.config, reason=str(exc), hint=hint) from exc


def _with_environment(data: dict[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """Lay `PI_AGENT_ORACLE_...`, `_BUDGET_...` and so on over the file; a misspelt one is refused like a key of it."""
    for section, cls in get_type_hints(Config).items():
        prefix, hints = f"PI_AGENT_{section.upper()}_", get_type_hints(cls)
        named = {name.removeprefix(prefix).lower(): v for name, v in environment.items() if name.startswith(prefix)}
        if named and isinstance(data.setdefault(section, {}), dict):
            data[section] |= {key: _from_text(value, hints.get(key, str)) for key, value in named.items()}
    return data


def _from_text(value: str, kind: type) -> Any:
    if kind not in (str, int, float):
        return value  # lists and tables stand in the file only
    try:
        return kind(value)
    except ValueError:
        return value  # the dataclass check names the key and what it expects


def save_config(home: Home, config: Config) -> None:
    """Write `config.toml` (0600) in the order of the dataclasses; of `[http]` only what differs from the defaults."""
    lines = ["# Written by pi-agent init. The API key itself never stands here, only the name of its file.", ""]
    for section in dataclasses.fields(config):
        part = getattr(config, section.name)
        values = {f.name: getattr(part, f.name) for f in dataclasses.fields(part)}
        if isinstance(part, HttpConfig):
            values = {name: value for name, value in values.items() if value != getattr(HttpConfig(), name)}
            if not values:
                continue
        lines += [f"[{section.name}]", *(f"{name} = {_toml(value)}" for name, value in values.items()), ""]
    with atomic_write(home.config, mode=0o600) as stream:
        stream.write("\n".join(lines).encode())


def _toml(value: object) -> str:
    if isinstance(value, str):
        escaped = "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in value)
        return f'"{escaped}"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_toml(name)} = {_toml(inner)}' for name, inner in value.items())}}}"
    return repr(value)


def read_api_key(oracle: OracleConfig) -> str | None:
    """The key from systemd's credentials folder or from `api_key_file`; None where none is configured.

    Raises `ConfigError` (78) for a file that others may read, that is empty or that holds more than one line.
    """
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    if credentials and (Path(credentials) / "api-key").is_file():
        return _one_line(Path(credentials) / "api-key")  # systemd itself guards this folder
    if not oracle.api_key_file:
        return None
    path = Path(oracle.api_key_file).expanduser()
    try:
        mode = path.stat().st_mode
    except OSError as exc:
        raise ConfigError(
            path=path, reason="the API key file cannot be read", hint="check oracle.api_key_file"
        ) from exc
    if not stat.S_ISREG(mode) or mode & 0o077:
        raise ConfigError(path=path, reason="others may read this secret", hint=f"run: chmod 600 {path}")
    return _one_line(path)


def _one_line(path: Path) -> str:
    try:
        key = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(path=path, reason="the API key file cannot be read as text") from exc
    if not key or len(key) > 4096 or any(c.isspace() for c in key):
        raise ConfigError(path=path, reason="the file must hold exactly one key", hint="one line, no spaces")
    never_show(key)
    return key
