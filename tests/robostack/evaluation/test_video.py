import base64
import io

import av
import numpy as np
import pytest
from PIL import Image

from robostack.errors import ConfigError, DataError
from robostack.evaluation import video
from robostack.evaluation.video import data_uri, encode_image, encode_video


def ramp(steps: int = 12, height: int = 48, width: int = 64) -> np.ndarray:
    levels = np.linspace(30, 220, steps).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (steps, height, width, 3)).copy()


def test_a_clip_is_h264_420_with_its_index_first_and_every_frame():
    frames = ramp()
    media = encode_video(frames, fps=20)
    assert media.mime == "video/mp4"
    assert media.data.index(b"moov") < media.data.index(b"mdat")
    with av.open(io.BytesIO(media.data)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt, stream.average_rate) == ("h264", "yuv420p", 20)
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(decoded) == 12
    assert np.abs(np.stack(decoded).astype(int) - frames).max() < 8


def test_equal_frames_give_equal_bytes():
    assert encode_video(ramp(), fps=20).data == encode_video(ramp(), fps=20).data


def test_odd_sizes_and_single_frames_work():
    media = encode_video(ramp(steps=1, height=33, width=47), fps=12.5)
    assert (media.width, media.height) == (48, 34)
    with av.open(io.BytesIO(media.data)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 1


def test_without_an_h264_encoder_the_clip_is_an_animated_webp(monkeypatch, caplog):
    monkeypatch.setattr(video, "_ENCODERS", ("h264_of_the_future",))
    media = encode_video(ramp(), fps=20)
    assert media.mime == "image/webp"
    assert "animated WebP" in caplog.text
    with Image.open(io.BytesIO(media.data)) as image:
        assert (image.n_frames, image.size) == (12, (64, 48))


def test_frames_that_are_no_video_and_rates_that_are_none_are_refused():
    with pytest.raises(DataError, match=r"needs uint8 frames .* \(0, 4, 4, 3\)"):
        encode_video(np.zeros((0, 4, 4, 3), dtype=np.uint8), fps=20)
    with pytest.raises(ConfigError, match="positive rate"):
        encode_video(np.zeros((2, 4, 4, 3), dtype=np.uint8), fps=0)


def test_a_picture_survives_unchanged():
    image = np.random.default_rng(0).integers(0, 255, (9, 7, 3), dtype=np.uint8)
    media = encode_image(image)
    with Image.open(io.BytesIO(media.data)) as decoded:
        assert np.array_equal(np.asarray(decoded), image)
    with pytest.raises(DataError, match="uint8 pixels"):
        encode_image(image[:0])


def test_a_data_uri_holds_the_bytes():
    head, body = data_uri(b"\x00\xff", "video/mp4").split(",")
    assert head == "data:video/mp4;base64"
    assert base64.b64decode(body) == b"\x00\xff"
