"""The frame of every page: one self-contained document in the house style, which fetches nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from robostack.evaluation.html import Child, Html, tag
from robostack.evaluation.video import Media

_CSS = Path(__file__).with_name("report.css")


def document(title: str, sections: Iterable[Child], *, script: str = "", wide: bool = False) -> str:
    """An HTML document.

    Args:
        title: of the browser's tab.
        sections: content of the page in order.
        script: the only JavaScript that the browser will run, whatever text got into the page.
        wide: use the whole width, as for a gallery.
    """
    allowed = f"; script-src 'sha256-{_digest(script)}'" if script else ""
    policy = f"default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'{allowed}"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{title} - robostack"),
        tag("style", Html(_CSS.read_text(encoding="utf-8"))),
    )
    main = tag("main", *sections, class_="wide" if wide else None)
    body = tag("body", main, tag("script", Html(script)) if script else None)
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def section(title: str, *children: Child) -> Html:
    """A part of the page under a heading."""
    return tag("section", tag("h2", title), *children)


def absent(sentence: str) -> Html:
    """What stands where there is nothing to show."""
    return tag("p", sentence, class_="absent")


def picture(media: Media, description: str, **attributes: str) -> Html:
    """An image with its size, so that the page does not jump while it loads."""
    size = {"width": str(media.width), "height": str(media.height)} if media.width else {}
    return tag("img", src=media.uri, alt=description, **size, **attributes)


def plot(title: str, svg: str) -> Html:
    """A framed plot with its heading."""
    return tag("figure", tag("h3", title), Html(svg), class_="plot")


def tile(name: str, value: Sequence[Child], note: Child, *, first: bool = False) -> Html:
    """A figure to be seen from afar."""
    return tag("div", tag("dt", name), tag("dd", *value), tag("p", note), class_="tile first" if first else "tile")


def small(unit: str) -> Html:
    """A unit behind the number of a tile."""
    return tag("small", unit)


def meter(fraction: float) -> Html:
    """A bar filled to a fraction."""
    return tag("span", tag("i", style=f"width:{100 * min(1.0, max(0.0, fraction)):.1f}%"), class_="meter")


def facts(values: Iterable[tuple[str, Child]]) -> Html:
    """Name and value, line by line."""
    return tag("dl", *(tag(*pair) for k, v in values for pair in (("dt", k), ("dd", v))), class_="facts")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
