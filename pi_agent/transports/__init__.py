"""How a query reaches an oracle: one file per protocol, two verbs `ask` and `probe`, one exception tree."""

from __future__ import annotations

from collections.abc import Sequence

from pi_agent.config import Config
from pi_agent.transports.base import Transport


def open_transport(config: Config, api_key: str | None, classes: Sequence[str] | None = None) -> Transport:
    """A new connection of the protocol that the configuration names; the others are not even imported.

    `classes`: class names of earlier answers, where they are known; they tell a protocol without lengths what is whole.
    A transport belongs to one thread at a time: whoever asks several queries at once opens several.
    """
    oracle = config.oracle
    if oracle.protocol == "csaw-tcp":
        from pi_agent.transports.csaw_tcp import CsawTcpTransport

        return CsawTcpTransport(oracle.url, api_key, oracle.timeout, oracle.last_class, classes)
    from pi_agent.transports.http import HttpTransport

    return HttpTransport(oracle.url, api_key, oracle.timeout, config.http)
