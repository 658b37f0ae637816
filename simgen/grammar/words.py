"""The vocabulary, and the normal form of a sentence."""

from __future__ import annotations

import re

MAX_CHARS = 300  # longer inputs are refused unread, which bounds the time of matching

COLORS = (
    "red",
    "green",
    "blue",
    "yellow",
    "orange",
    "purple",
    "white",
    "black",
    "gray",
    "brown",
    "cyan",
    "pink",
)
SPELLINGS = {"grey": "gray"}
COLOR_WORDS = (*COLORS, *SPELLINGS)
ARTICLES = ("the", "a", "an")
NUMBERS = {"two": 2, "three": 3, "four": 4}
QUANTITIES = {"one": 1, "two": 2, "three": 3}
BOUNDS = {"exactly": "==", "only": "==", "just": "==", "at least": ">=", "at most": "<="}
DIRECTIONS = ("left", "right", "front", "back")

BLOCKS = {"block": "block", "cube": "block"}
CYLINDERS = {"cylinder": "cylinder", "can": "cylinder"}
BALLS = {"ball": "ball", "sphere": "ball"}
BOWLS = {"bowl": "bowl"}
TRAYS = {"tray": "tray", "box": "tray", "bin": "tray"}
PLATES = {"plate": "plate", "dish": "plate"}
CRATES = {"crate": "bin", "basket": "bin"}
ZONES = {"region": "zone", "zone": "zone", "area": "zone"}
MUGS = {"mug": "mug", "cup": "mug"}
LIDDED = {"box": "box", "carton": "box"}
LIDS = {"lid": "lid", "cover": "lid"}
PEGS = {"peg": "peg", "pin": "peg"}
STICKS = {"stick": "stick", "tool": "stick"}
SOCKETS = {"socket": "socket", "hole": "socket"}
SHELVES = {"shelf": "shelf", "rack": "shelf"}
DRAWERS = {"drawer": "drawer"}
CABINETS = {"cabinet": "cabinet", "cupboard": "cabinet"}
BUTTONS = {"button": "button"}
LEVERS = {"lever": "lever"}
DIALS = {"dial": "dial", "knob": "dial"}

PALETTES = {
    "block": COLORS,
    "cylinder": COLORS,
    "ball": COLORS,
    "zone": ("green", "blue", "yellow", "red", *COLORS),
    "bowl": ("blue", "white", "gray", *COLORS),
    "plate": ("blue", "white", "gray", *COLORS),
    "tray": ("gray", "white", "blue", *COLORS),
    "bin": ("gray", "brown", "blue", *COLORS),
    "mug": ("white", "blue", "yellow", *COLORS),
    "box": ("brown", "gray", "blue", *COLORS),
    "lid": ("white", "gray", "blue", *COLORS),
    "peg": COLORS,
    "stick": ("brown", "black", "gray", *COLORS),
    "socket": ("gray", "brown", "white", *COLORS),
    "shelf": ("brown", "gray", "white", *COLORS),
    "drawer": ("white", "brown", "gray", *COLORS),
    "cabinet": ("brown", "white", "gray", *COLORS),
    "button": ("red", "green", "blue", *COLORS),
    "lever": ("black", "red", "blue", *COLORS),
    "dial": ("gray", "black", "white", *COLORS),
}

_SPACE = re.compile(r"[ \t\r\n]+")


def plural(noun: str) -> str:
    """English plural."""
    if noun == "shelf":
        return "shelves"
    return f"{noun}es" if noun.endswith(("x", "sh")) else f"{noun}s"


def normalise(text: str) -> str | None:
    """Lower case, single spaces, ``a, b`` commas, no final punctuation; None if it cannot be a sentence.

    Only plain ASCII is read: a look-alike letter must not pass for the one it resembles.
    """
    if len(text) > MAX_CHARS or not text.isascii():
        return None
    flat = _SPACE.sub(" ", text).strip(" ").rstrip(".!? ").lower()
    if not flat or not flat.isprintable():
        return None
    return _SPACE.sub(" ", flat.replace(" ,", ",").replace(",", ", "))
