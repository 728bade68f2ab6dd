"""Pictures among the artifacts of an evaluation: small images, kept as `data:` addresses."""

from __future__ import annotations

import base64
import re
from typing import NamedTuple

_ADDRESS = re.compile(r"data:image/(png|jpeg|gif|webp);base64,([A-Za-z0-9+/]+={0,2})")
_SIGNS = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif", b"RIFF": "webp"}
MOST_BYTES = 1_000_000


class PictureData(NamedTuple):
    """A picture that an evaluator made.

    Attributes:
        kind: `png`, `jpeg`, `gif` or `webp`.
        data: The image.
    """

    kind: str
    data: bytes


def find_kind(data: bytes) -> str:
    """Returns what kind of image bytes are; empty for none that is known."""
    return next((kind for sign, kind in _SIGNS.items() if data.startswith(sign)), "")


def as_address(kind: str, data: bytes) -> str:
    """Returns the address that holds an image."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def read_picture(text: str) -> PictureData | None:
    """Returns the picture in an artifact; None where it is a text."""
    found = _ADDRESS.fullmatch(text)
    if found is None:
        return None
    try:
        data = base64.b64decode(found[2], validate=True)
    except ValueError:
        return None
    return PictureData(found[1], data) if find_kind(data) == found[1] else None


def as_text(text: str) -> str:
    """Returns a text that nobody takes for a picture, whatever a program has put into it."""
    return f"text: {text}" if text.startswith("data:image/") else text
