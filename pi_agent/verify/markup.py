"""HTML from small pieces: text is escaped wherever it goes in, so no name from a stranger can become markup."""

from __future__ import annotations

from base64 import b64encode
from html import escape

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""The page loads nothing, runs nothing and sends nothing."""
_VOID = frozenset({"img", "meta"})


class Html(str):
    """Text that is markup already. Every other string is escaped."""

    __slots__ = ()


def tag(name: str, /, *inside: str, **attributes: str) -> Html:
    """An element. A trailing underscore lets an attribute be called `class_`; others become hyphens."""
    given = "".join(f' {key.rstrip("_").replace("_", "-")}="{_quoted(value)}"' for key, value in attributes.items())
    if name in _VOID:
        return Html(f"<{name}{given}>")
    return Html(f"<{name}{given}>{joined(*inside)}</{name}>")


def _quoted(value: str) -> str:
    return escape(value, quote=False).replace('"', "&quot;")


def joined(*parts: str) -> Html:
    """One after the other."""
    return Html("".join(part if isinstance(part, Html) else escape(part) for part in parts))


def name_of(text: str, class_: str = "name") -> Html:
    """A name from elsewhere: kept apart, so that right-to-left letters do not turn what stands around it."""
    return tag("bdi", text, class_=class_)


def picture(jpeg: bytes, alt: str, side: int) -> Html:
    """An image inside the page."""
    source = f"data:image/jpeg;base64,{b64encode(jpeg).decode()}"
    return tag("img", src=source, alt=alt, width=str(side), height=str(side))


def table(header: tuple[str, ...], rows: list[tuple[str, ...]], class_: str = "") -> Html:
    """A table; every cell carries the name of its column for narrow screens, where a row is a list."""
    head = tag("tr", *(tag("th", cell, scope="col") for cell in header))
    body = []
    for row in rows:
        body.append(tag("tr", *(tag("td", cell, data_column=name) for cell, name in zip(row, header, strict=True))))
    return tag("table", tag("thead", head), tag("tbody", *body), class_=class_)


def document(title: str, style: str, *body: str) -> bytes:
    """A whole page, UTF-8."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Html(style)),
    )
    return f"<!doctype html>\n{tag('html', head, tag('body', *body), lang='en')}\n".encode()
