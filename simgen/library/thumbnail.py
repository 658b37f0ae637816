"""Small pictures for a page of many tasks."""

from __future__ import annotations

import io

from robostack.errors import DataError, MissingExtra

_WIDTH = 360


def thumbnail(png: bytes, width: int = _WIDTH) -> bytes:
    """The picture as JPEG at most ``width`` pixels wide; equal pictures give equal bytes.

    Raises:
        DataError: not a picture.
        MissingExtra: Pillow is not installed.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise MissingExtra("pillow", "report") from error
    try:
        image = Image.open(io.BytesIO(png)).convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise DataError("a witness picture is damaged: delete the task's folder and generate the task again") from error
    image.thumbnail((width, width))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=82, optimize=True)
    return buffer.getvalue()
