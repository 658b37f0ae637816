"""HTML by construction: text is escaped unless it is already ``Html``."""

from __future__ import annotations

import html
from collections.abc import Iterable

_VOID = {"img", "meta", "br", "source"}


class Html(str):
    """Markup that needs no escaping."""

    __slots__ = ()


Child = str | Html | None


def text(value: str) -> Html:
    """Escape for element content and for quoted attributes; ``Html`` stays as it is."""
    return value if isinstance(value, Html) else Html(html.escape(value, quote=True))


def join(children: Iterable[Child], separator: str = "") -> Html:
    """Concatenate; None is left out."""
    return Html(separator.join(text(child) for child in children if child is not None))


def tag(name: str, /, *children: Child, **attributes: str | bool | None) -> Html:
    """An element: ``tag("p", "a < b", class_="note")``.

    A trailing underscore of an attribute's name is dropped, inner ones become hyphens; True writes the bare name, False
    and None leave it out.
    """
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{text(str(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _VOID:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{join(children)}</{name}>")


def table(head: Iterable[Child], rows: Iterable[Iterable[Child]]) -> Html:
    """A table that scrolls sideways on a narrow screen."""
    header = tag("thead", tag("tr", *(tag("th", cell) for cell in head)))
    body = tag("tbody", *(tag("tr", *(tag("td", cell) for cell in row)) for row in rows))
    return tag("div", tag("table", header, body), class_="scroll")
