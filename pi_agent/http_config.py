"""The `[http]` section of `config.toml`: how somebody else's API wants to be asked, and where its answer stands."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

METHODS = ("POST", "PUT")
BODIES = ("raw", "json-base64", "multipart")
RESULTS = ("own", "list", "mapping", "objects", "label")
KEY, IMAGE = "{key}", "{image}"
_FROM_HTTP = {"connection", "content-length", "host", "transfer-encoding"}
_READ_BY = {
    "own": (),
    "list": ("scores", "classes", "class_names", "scale"),
    "mapping": ("scores", "class_names", "scale"),
    "objects": ("scores", "class_names", "label", "score", "scale"),
    "label": ("class_names", "label"),
}
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")


@dataclass(frozen=True)
class HttpConfig:
    """Where to ask, what to send, how to read the answer. The defaults are Magpie's own protocol.

    `path` and `probe` go behind `oracle.url`, which names the oracle: where one server has several models, name the
    model there and let `path` be "".
    `probe`: page that costs no query, for clock and quota; "" asks the server only for the time, with `HEAD /`.
    `headers`: `{key}` in a value becomes the API key; in none of them, it goes as `Authorization: Bearer`.
    `body`, `fields`: `raw` sends the JPEG alone; `json-base64` sends the JSON object `fields`, where `{image}` becomes
    the JPEG in base64; `multipart` sends the form `fields`, where the value `{image}` is the file.
    `result`: `own` is `{"classes": [...], "scores": [...]}` (or `"label"`), `list` a list of scores, `mapping` an
    object `{class: score}`, `objects` a list of objects with a class and its score, `label` a class name alone.
    `scores`, `classes`, `label`: dotted paths into the answer, such as `predictions.0.scores`; "" is the whole answer.
    With `objects`, `label` and `score` are paths inside each object. `class_names`: all classes, in their order.
    `scale`: what the scores of an answer add up to, 100 for per cent.
    `remaining_header`, `reset_header`: queries left, and when they come back (seconds from now or since 1970). Name
    them only where they count the quota itself and not, say, queries per minute; `remaining_header` "" reads none.
    """

    method: str = "POST"
    path: str = "/v1/classify"
    probe: str = "/v1/quota"
    headers: dict[str, str] = field(default_factory=dict)
    body: str = "raw"
    fields: dict[str, Any] = field(default_factory=dict)
    result: str = "own"
    scores: str = ""
    classes: str = ""
    class_names: tuple[str, ...] = ()
    label: str = "label"
    score: str = "score"
    scale: float = 1.0
    remaining_header: str = "RateLimit-Remaining"
    reset_header: str = "RateLimit-Reset"

    def __post_init__(self) -> None:
        for name, allowed in (("method", METHODS), ("body", BODIES), ("result", RESULTS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}")
        _check_page("path", self.path)
        _check_page("probe", self.probe)
        _check_headers(self.headers, multipart=self.body == "multipart")
        for name in ("remaining_header", "reset_header"):
            if getattr(self, name) and not _TOKEN.fullmatch(getattr(self, name)):
                raise ValueError(f"{name} must be the name of a header")
        {"raw": _check_no_fields, "json-base64": _check_json, "multipart": _check_form}[self.body](self.fields)
        self._check_result()

    def _check_result(self) -> None:
        for key in ("scores", "classes", "class_names", "label", "score", "scale"):
            if key not in _READ_BY[self.result] and getattr(self, key) != getattr(HttpConfig, key):
                raise ValueError(
                    f"{key} means nothing with result {self.result!r}; choose the result that it describes"
                )
        for key in ("scores", "classes", "label", "score"):
            _check_dotted(key, getattr(self, key))
        if not 1 <= self.scale <= 1e6:
            raise ValueError("scale must be 1 or more, such as 100 for per cent")
        if self.class_names:
            from pi_agent.contract.answers import checked_classes  # numpy; most configurations do without

            try:
                checked_classes(list(self.class_names))
            except ValueError as exc:
                raise ValueError(f"class_names: {exc}") from exc
        elif self.result == "label" or (self.result == "list" and not self.classes):
            raise ValueError(f"result {self.result!r} needs class_names: all class names of the oracle, in its order")
        if self.result == "objects" and not (self.label and self.score):
            raise ValueError("result 'objects' needs label and score: where they stand in each object")


def _check_page(name: str, page: str) -> None:
    if not re.fullmatch(r"(/[!-~]{0,1000})?", page) or "#" in page:
        raise ValueError(f"{name} {page[:80]!r} must begin with / and hold neither spaces nor #")
    if KEY in page:
        raise ValueError(f"{name} must not hold {KEY}: addresses stand in logs; put it into a header")


def _check_headers(headers: dict[str, str], multipart: bool) -> None:
    lower = [name.lower() for name in headers]
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name) or name.lower() in _FROM_HTTP or lower.count(name.lower()) > 1:
            raise ValueError(f"headers: {name[:80]!r} is no header that can be set, or stands there twice")
        if not isinstance(value, str) or not re.fullmatch(r"[!-~]([ -~]{0,2000}[!-~])?", value):
            raise ValueError(f"headers: {name} must be a text in plain ASCII")
        if name.lower() in ("authorization", "proxy-authorization") and KEY not in value:
            raise ValueError(f"headers: put the key of {name} into the key file and write {KEY} in its place")
    if multipart and "content-type" in lower:
        raise ValueError("headers: Content-Type of a multipart body is set by pi-agent")


def _check_no_fields(fields: dict[str, Any]) -> None:
    if fields:
        raise ValueError("fields need body json-base64 or multipart")


def _check_json(fields: dict[str, Any]) -> None:
    try:
        json.dumps(fields, allow_nan=False)
    except (TypeError, ValueError) as exc:
        raise ValueError(f"fields cannot be sent as JSON ({exc})") from exc
    if sum(text.count(IMAGE) for text in _texts(fields)) != 1 or json.dumps(fields).count(IMAGE) != 1:
        raise ValueError(f"fields must hold {IMAGE} once, where the picture in base64 belongs")


def _texts(value: object) -> Iterator[str]:
    """All texts in a JSON value, keys not included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


def _check_form(fields: dict[str, Any]) -> None:
    if not all(isinstance(v, str) and name.isprintable() and '"' not in name for name, v in fields.items()):
        raise ValueError("fields of a multipart body must be texts")
    if sum(v == IMAGE for v in fields.values()) != 1:
        raise ValueError(f"fields must hold {IMAGE} once, as the value of the field that takes the file")


def _check_dotted(name: str, path: str) -> None:
    if path and (len(path) > 200 or not path.isprintable() or not all(path.split("."))):
        raise ValueError(f"{name} {path[:80]!r} is no dotted path such as predictions.0.{name}")
