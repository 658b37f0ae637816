"""Frames -> something a browser plays: H.264 in MP4, or an animated WebP where the encoder is missing."""

from __future__ import annotations

import base64
import io
import logging
import tempfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from robostack.errors import ConfigError, DataError, MissingExtra

_ENCODERS = ("libx264", "libopenh264")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Media:
    """An encoded picture or clip.

    Attributes:
        mime: ``video/mp4``, ``image/webp``, ``image/png`` or ``image/jpeg``.
        width, height: size of a frame [px].
    """

    data: bytes
    mime: str
    width: int
    height: int

    @property
    def uri(self) -> str:
        """The content as a data URI."""
        return data_uri(self.data, self.mime)


def data_uri(content: bytes, mime: str) -> str:
    """``data:<mime>;base64,...``."""
    return f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}"


def encode_video(frames: UInt8[np.ndarray, "T H W 3"], fps: float | int, crf: int = 23) -> Media:
    """Encode RGB frames; odd sizes are padded by one row or column, which 4:2:0 subsampling needs.

    Args:
        frames: at least one.
        fps: frames per second.
        crf: x264's constant rate factor; less is better and larger.

    Raises:
        DataError: frames that are no RGB video.
        ConfigError: ``fps`` is not positive.
        MissingExtra: neither PyAV nor Pillow is installed.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or 0 in frames.shape:
        raise DataError(f"a video needs uint8 frames (T, H, W, 3), got {frames.dtype} {frames.shape}")
    if not fps > 0:
        raise ConfigError(f"fps={fps}: a video needs a positive rate")
    height, width = frames.shape[1:3]
    encoder = _encoder()
    if encoder is None:
        return Media(_webp(frames, fps), "image/webp", width, height)
    even = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return Media(_mp4(even, fps, crf, encoder), "video/mp4", even.shape[2], even.shape[1])


def encode_image(image: UInt8[np.ndarray, "H W 3"]) -> Media:
    """Encode an RGB picture as PNG.

    Raises:
        DataError: no RGB picture.
        MissingExtra: Pillow is not installed.
    """
    if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise DataError(f"a picture needs uint8 pixels (H, W, 3), got {image.dtype} {image.shape}")
    buffer = io.BytesIO()
    _pillow().fromarray(image).save(buffer, format="PNG", optimize=True)
    return Media(buffer.getvalue(), "image/png", image.shape[1], image.shape[0])


def _encoder() -> str | None:
    """The H.264 encoder of the installed PyAV."""
    try:
        import av
    except ImportError:
        _log.warning("PyAV is not installed: clips become animated WebP")
        return None
    found = next((name for name in _ENCODERS if name in av.codecs_available), None)
    if found is None:
        _log.warning("this PyAV has no H.264 encoder: clips become animated WebP")
    return found


def _mp4(frames: np.ndarray, fps: float | int, crf: int, encoder: str) -> bytes:
    import av

    rate = Fraction(fps).limit_denominator(1001)
    options = {"crf": str(crf), "preset": "medium"} if encoder == "libx264" else {}
    # `faststart` moves the index to the front in a second pass over the file: it cannot write to memory.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
            stream: Any = container.add_stream(encoder, rate=rate, options=options)
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = "yuv420p"
            stream.thread_count = 1  # more threads, other bytes
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode(None))
        return path.read_bytes()


def _webp(frames: np.ndarray, fps: float | int) -> bytes:
    pillow = _pillow()
    pictures = [pillow.fromarray(frame) for frame in frames]
    buffer = io.BytesIO()
    pictures[0].save(
        buffer,
        format="WEBP",
        save_all=True,
        append_images=pictures[1:],
        duration=max(1, round(1000 / fps)),
        loop=0,
        quality=75,
    )
    return buffer.getvalue()


def _pillow():
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtra("pillow", "report") from error
    return Image
