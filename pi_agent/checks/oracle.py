"""Does the oracle answer, accept our key and agree about quota and time? Spends no query."""

from __future__ import annotations

from dataclasses import replace

from pi_agent.checks.base import Context, Finding, failed, not_checked, passed, warning
from pi_agent.config import read_api_key
from pi_agent.contract.errors import Exit, MagpieError
from pi_agent.contract.windows import iso
from pi_agent.transports import open_transport
from pi_agent.transports.base import LockOut, Probe, TransportError, Unauthorised

_PATIENCE = 10.0
_LEAST_SKEW = 2.0


def check(context: Context) -> Finding:
    """Exit 69 where it cannot be reached, 77 where it refuses the key."""
    try:
        config = context.config
        key = read_api_key(config.oracle)
    except MagpieError as exc:
        return not_checked(str(exc))
    url = config.oracle.url
    quick = replace(config, oracle=replace(config.oracle, timeout=min(config.oracle.timeout, _PATIENCE)))
    transport = open_transport(quick, key)
    before = context.clock.now()
    try:
        probe = transport.probe()
    except Unauthorised as exc:
        advice = "ask the oracle's owner for a valid key and put it into the file of oracle.api_key_file"
        return failed(f"{url} refuses the API key ({exc})", advice, Exit.NOT_AUTHORISED)
    except LockOut as exc:
        until = iso(exc.until) if exc.until is not None else "an unknown time"
        advice = "wait; and check that nobody else uses this key"
        return warning(f"{url} has locked us out until {until}", advice)
    except TransportError as exc:
        return failed(f"{url}: {exc}", _advice(str(exc)), Exit.UNREACHABLE)
    finally:
        transport.close()
    return _judge(context, url, probe, before, context.clock.now())


def _judge(context: Context, url: str, probe: Probe, before: float, after: float) -> Finding:
    said = "tells no quota" if probe.server is None else f"says that {probe.server.remaining} queries are left"
    if probe.server is not None:
        said += f" for {probe.server.reset_in:.0f} s"
    found = f"{url} answered in {max(0.0, after - before) * 1000:.0f} ms, {said}"
    if probe.date is None:
        return passed(f"{found}, tells no time")
    # A date of whole seconds, told at an unknown moment of the exchange: what remains is a certain difference.
    difference = max(0.0, before - (probe.date + 1), probe.date - after)
    if difference <= _LEAST_SKEW:
        return passed(f"{found}, its clock agrees")
    trusted = context.clock.synchronized()
    advice = "tell its owner: windows end at another moment there" if trusted else "see the check `clock`"
    return warning(f"{found}, its clock differs by {difference:.0f} s", advice)


def _advice(reason: str) -> str:
    text = reason.lower()
    if "certificate" in text or "ssl" in text:
        return "is our clock right? certificates hold for a time; otherwise ask its owner for one that is trusted here"
    if "resolve" in text or "name or service" in text or "name resolution" in text:
        return "check the name in oracle.url, and the network: ping its host"
    return "check oracle.url, the network, and that the server runs; no query was spent"
