"""Between our words and other people's APIs, as `[http]` says: what to send, and where in the answer the scores stand.

Nothing is believed here. What is found goes on as `{"classes", "scores"}` or `{"classes", "label"}` to
`contract.answers.parse_answer`. Forms without an order of their own are put into one that every answer shares.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

from urllib3.filepost import encode_multipart_formdata

from pi_agent.contract.answers import BadAnswer
from pi_agent.contract.errors import ConfigError
from pi_agent.http_config import IMAGE, KEY, HttpConfig


def request_headers(http: HttpConfig, api_key: str | None) -> dict[str, str]:
    """The configured headers, with the key in its place. Raises `ConfigError` (78) where there is no key."""
    wanted = any(KEY in value for value in http.headers.values())
    if wanted and api_key is None:
        raise ConfigError(
            path="config.toml",
            reason=f"http.headers want the API key ({KEY}), but there is none",
            hint="name its file: oracle.api_key_file",
        )
    headers = {name: value.replace(KEY, api_key or "") for name, value in http.headers.items()}
    if api_key is not None and not wanted:
        headers["Authorization"] = f"Bearer {api_key}"
    return headers


def request_body(http: HttpConfig, jpeg: bytes) -> tuple[bytes, str]:
    """The body that carries one JPEG, and its content type."""
    if http.body == "json-base64":
        text = json.dumps(http.fields).replace(IMAGE, base64.b64encode(jpeg).decode())
        return text.encode(), "application/json"
    if http.body == "multipart":
        parts = {n: ("image.jpg", jpeg, "image/jpeg") if v == IMAGE else v for n, v in http.fields.items()}
        return encode_multipart_formdata(parts)
    return jpeg, "image/jpeg"


def read_payload(http: HttpConfig, body: bytes) -> dict[str, Any]:
    """What an answer holds, in our own words and still unchecked. Raises `BadAnswer` where it is not of the form."""
    whole = _json(body)
    if http.result == "own":
        if not isinstance(whole, dict):
            raise BadAnswer("not a JSON object")
        return whole
    if http.result == "label":
        return {"classes": list(http.class_names), "label": _at(whole, http.label)}
    classes, scores = _FORMS[http.result](http, whole)
    return {"classes": classes, "scores": [_unscaled(score, http.scale) for score in scores]}


def _json(body: bytes) -> Any:
    """Any JSON value; two values under one name are refused, for nobody knows which one counts."""
    try:
        return json.loads(body, parse_constant=_no_constant, object_pairs_hook=_no_name_twice)
    except (ValueError, RecursionError) as exc:
        raise BadAnswer(f"not valid JSON ({exc})") from exc


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("two values under one name")
    return found


def _list(http: HttpConfig, whole: Any) -> tuple[Any, list[Any]]:
    scores, names = _at(whole, http.scores), list(http.class_names)
    if not isinstance(scores, list):
        raise BadAnswer(f"no list of scores at {http.scores!r}")
    if not http.classes:
        return names, scores
    told = _at(whole, http.classes)
    if names and told != names:
        raise BadAnswer(f"the classes at {http.classes!r} are not class_names, or stand in another order")
    return told, scores


def _mapping(http: HttpConfig, whole: Any) -> tuple[Any, list[Any]]:
    found = _at(whole, http.scores)
    if not isinstance(found, dict):
        raise BadAnswer(f"no object of scores at {http.scores!r}")
    return _in_order(http, found)


def _objects(http: HttpConfig, whole: Any) -> tuple[Any, list[Any]]:
    entries = _at(whole, http.scores)
    if not isinstance(entries, list):
        raise BadAnswer(f"no list of objects at {http.scores!r}")
    found: dict[str, Any] = {}
    for entry in entries:
        name, score = _at(entry, http.label), _at(entry, http.score)
        if not isinstance(name, str) or name in found:
            raise BadAnswer(f"{http.label!r} must be a text, and another one in each object")
        found[name] = score
    return _in_order(http, found)


_FORMS: dict[str, Callable[[HttpConfig, Any], tuple[Any, list[Any]]]] = {
    "list": _list,
    "mapping": _mapping,
    "objects": _objects,
}


def _in_order(http: HttpConfig, found: dict[str, Any]) -> tuple[list[str], list[Any]]:
    """Names and scores in the order of `class_names`, else of the alphabet: such answers often come best first."""
    names = list(http.class_names) or sorted(found)
    if set(names) != set(found):
        raise BadAnswer(f"scores for {len(found)} classes, which are not the {len(names)} of class_names")
    return names, [found[name] for name in names]


def _at(value: Any, path: str) -> Any:
    """What stands at a dotted path; a number is an index where it meets a list. Raises `BadAnswer`."""
    for step in path.split(".") if path else ():
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isascii() and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            raise BadAnswer(f"nothing stands at {path!r}")
    return value


def _unscaled(score: Any, scale: float) -> Any:
    """A score as a share of one; what is no sensible number stays as it is, to be refused."""
    sensible = isinstance(score, int | float) and not isinstance(score, bool) and 0 <= score <= 2 * scale
    return score / scale if sensible and scale != 1 else score
