import struct
import zlib

import numpy as np
import pytest

from evolve.records import Evaluation, Status
from evolve.records.attempts import as_text, read_picture
from evolve.scoring import Image, Score

PIXELS = [[0, 128, 255], [255, 128, 0]]


def unpack(data):
    """Returns width, height and the rows of a PNG."""
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    start = data.index(b"IDAT")
    (size,) = struct.unpack(">I", data[start - 4 : start])
    raw = zlib.decompress(data[start + 4 : start + 4 + size])
    step = width * (3 if colour == 2 else 1) + 1
    return width, height, depth, [list(raw[i + 1 : i + step]) for i in range(0, len(raw), step)]


@pytest.mark.parametrize("rows", [PIXELS, np.array(PIXELS)], ids=["lists", "array"])
def test_pixels_become_a_png(rows):
    assert unpack(Image.from_pixels(rows).data) == (3, 2, 8, PIXELS)


def test_pixels_may_have_colours():
    rows = [[(255, 0, 0), (0, 255, 0)]]
    assert unpack(Image.from_pixels(rows).data) == (2, 1, 8, [[255, 0, 0, 0, 255, 0]])


@pytest.mark.parametrize("rows", [[], [[]], [[1], [1, 2]], [[256]], [[-1]]])
def test_what_is_no_rectangle_of_bytes_is_refused(rows):
    with pytest.raises(ValueError, match=r"Image: expected rows|range\(0, 256\)"):
        Image.from_pixels(rows)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("text", "Image: expected bytes, got 'text'"),
        (b"<svg/>", "Image: expected PNG, JPEG, GIF or WebP, got b'<svg/>'"),
        (b"\x89PNG\r\n\x1a\n" + bytes(10**6), "Image: expected at most 1000000 bytes, got 1000008"),
    ],
    ids=["text", "svg", "large"],
)
def test_other_files_and_large_ones_are_refused(data, message):
    with pytest.raises((TypeError, ValueError)) as caught:
        Image(data)
    assert str(caught.value) == message


def test_a_score_keeps_pictures_apart_from_texts_that_look_like_one():
    image = Image.from_pixels(PIXELS)
    score = Score(1.0, artifacts={"seen": image, "said": image.address, "plain": "text"})
    found = Evaluation(Status.OK, objective=1.0, artifacts=score.artifacts)
    assert list(found.pictures) == ["seen"]
    assert list(found.texts) == ["said", "plain"]
    assert read_picture(found.artifacts["seen"]).data == image.data


@pytest.mark.parametrize(
    "text",
    [
        "",
        "data:image/png;base64,",
        "data:image/png;base64,AAAA",
        "data:image/svg+xml;base64,PHN2Zy8+",
    ],
)
def test_an_address_without_such_an_image_is_no_picture(text):
    assert read_picture(text) is None
    assert read_picture(as_text(text)) is None


@pytest.mark.parametrize("rows", [[[(1, 2, 3, 4)]], [[(1, 2)]], [[(1, 2, 3), (1, 2)]]])
def test_pixels_have_one_number_or_three(rows):
    with pytest.raises(ValueError, match="Image: expected numbers or triples"):
        Image.from_pixels(rows)


def test_a_part_of_a_picture_is_refused():
    whole = Image.from_pixels(PIXELS).data
    with pytest.raises(ValueError, match="Image: expected a whole file, got a part: 8 bytes"):
        Image(whole[:8])
