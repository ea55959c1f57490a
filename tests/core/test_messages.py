"""Messages: images of every kind as parts, and the first words of a prompt, whatever it holds."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from nbllm import image
from nbllm.core.errors import InvalidOptionError
from nbllm.core.generation_requests import to_messages
from nbllm.core.messages import LONGEST_BEGINNING, ImagePart, Message, TextPart, beginning_of


def encoded(kind: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (3, 2), "red").save(file, format=kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP"])
def test_files_and_bytes_are_told_by_what_is_in_them(kind: str, tmp_path: Path) -> None:
    data, path = encoded(kind), tmp_path / "picture.dat"
    path.write_bytes(data)
    expected = ImagePart(f"image/{kind.lower()}", data)
    assert image(data) == image(bytearray(data)) == image(path) == image(str(path)) == expected


def test_a_figure_and_a_pil_image_become_png() -> None:
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([1, 2])
    for source in (figure, Image.new("L", (5, 4))):
        part = image(source)
        assert part.data is not None
        assert Image.open(io.BytesIO(part.data)).format == "PNG"


def test_an_address_is_kept() -> None:
    assert image("https://example.org/a.png").url == "https://example.org/a.png"
    assert image(image("data:image/png;base64,AA==")).data is None


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (b"%PDF-1.7", r"image: the data \(8 bytes\) is not a PNG, JPEG, GIF or WebP image"),
        (b"", r"image: the data \(0 bytes\) is not a PNG"),
        ("absent.png", "image: absent.png: No such file"),
        (3, "image: int is not an image; give a path, bytes, an address,"),
        (None, "image: NoneType is not an image; give a path"),
    ],
)
def test_what_is_no_image_is_refused(source: object, told: str) -> None:
    with pytest.raises(InvalidOptionError, match=told):
        image(source)


def test_a_message_mixes_texts_and_images() -> None:
    picture = Image.new("RGB", (2, 2))
    turns = to_messages([{"role": "user", "content": ["What is this?", picture]}])
    assert turns == (Message("user", (TextPart("What is this?"), image(picture))),)
    with pytest.raises(InvalidOptionError, match="content"):
        to_messages([{"role": "user", "content": 3}])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(InvalidOptionError, match="it is a named pipe"):
        image(tmp_path / "x.png")


@pytest.mark.parametrize(
    ("prompt", "beginning"),
    [
        ("Hello", "Hello"),
        ("  \n\n Two\n\tlines ", "Two lines"),
        ("<b>bold</b> & co", "<b>bold</b> & co"),
        ("turned \u202e around\u2066", "turned around"),
        ("bell\x07 null\x00 line\u2028end", "bell null line end"),
        ("\U0001f468\u200d\U0001f469", "\U0001f468\u200d\U0001f469"),
        ("", ""),
        ("word " * 1_000, ("word " * 40)[:-1][: LONGEST_BEGINNING - 1].rstrip() + "…"),
    ],
)
def test_a_beginning_is_one_line_that_can_be_seen(prompt: str, beginning: str) -> None:
    found = beginning_of([Message("user", prompt)])
    assert found == beginning
    assert len(found) <= LONGEST_BEGINNING


def test_it_is_that_of_the_newest_question() -> None:
    turns = [Message("system", "Be brief."), Message("user", "One?"), Message("assistant", "1.")]
    assert beginning_of([*turns, Message("user", "Two?"), Message("assistant", "2")]) == "Two?"
    assert beginning_of(turns[:1]) == "Be brief."
    assert beginning_of([]) == ""


def test_images_are_words() -> None:
    parts = (ImagePart("image/png", data=b"\x89PNG\r\n\x1a\n"), TextPart("What is this?"))
    assert beginning_of([Message("user", parts)]) == "(image) What is this?"


@pytest.mark.parametrize("text", ["x" * 50_000_000, " " * 50_000_000], ids=["text", "blanks"])
def test_long_prompts_cost_no_more(text: str) -> None:
    message = Message("user", text)
    began = time.process_time()
    beginning_of([message])
    assert time.process_time() - began < 0.1
