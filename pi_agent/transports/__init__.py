"""How a query reaches an oracle: one file per protocol, one verb `ask`, one exception tree."""

from __future__ import annotations

from pi_agent.config import OracleConfig
from pi_agent.transports.base import Transport
from pi_agent.transports.http import HttpTransport

TRANSPORTS = {"http": HttpTransport}


def open_transport(config: OracleConfig, api_key: str | None) -> Transport:
    """The transport that the configuration names."""
    return TRANSPORTS[config.protocol](config.url, api_key, config.timeout)
