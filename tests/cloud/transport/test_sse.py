from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbllm.cloud.transport.sse import LineTooLongError, ServerSentEvent, SseDecoder

# The characters at which str.splitlines (and so httpx's aiter_lines) splits, and SSE does not.
NOT_LINE_ENDS = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e"


def decode(*chunks: bytes) -> list[ServerSentEvent]:
    decoder = SseDecoder()
    events = [event for chunk in chunks for event in decoder.feed(chunk)]
    return events + decoder.finish()


def bytewise(stream: bytes) -> list[ServerSentEvent]:
    return decode(*(stream[i : i + 1] for i in range(len(stream))))


CASES = [
    pytest.param(b"data: 1\n\n", [ServerSentEvent("1")], id="one event"),
    pytest.param(b"data:1\n\ndata:  2\n\n", [("1",), (" 2",)], id="one space is dropped"),
    pytest.param(b"data: 1\r\n\r\ndata: 2\r\n\r\n", [("1",), ("2",)], id="CRLF"),
    pytest.param(b"data: 1\r\rdata: 2\r\r", [("1",), ("2",)], id="CR"),
    pytest.param(b"data: 1\r\n\ndata: 2\n\r\n", [("1",), ("2",)], id="mixed ends"),
    pytest.param(b"data: 1\ndata: 2\n\n", [("1\n2",)], id="data of several lines"),
    pytest.param(b"data\ndata\n\n", [("\n",)], id="data without a value"),
    pytest.param(b"event: a\ndata: 1\n\ndata: 2\n\n", [("1", "a"), ("2",)], id="event name"),
    pytest.param(b"event: a\n\ndata: 2\n\n", [("2",)], id="an event without data is none"),
    pytest.param(b"id: 7\ndata: 1\n\ndata: 2\n\n", [("1", "message", "7"), ("2", "message", "7")],
                 id="the id stays"),
    pytest.param(b"id: 7\ndata: 1\n\nid\ndata: 2\n\n", [("1", "message", "7"), ("2",)],
                 id="an empty id resets it"),
    pytest.param(b"id: 7\x00\ndata: 1\n\n", [("1",)], id="an id with NUL is ignored"),
    pytest.param(b": keep-alive\n\n:\ndata: 1\n: x\n\n", [("1",)], id="comments are skipped"),
    pytest.param(b"unknown: x\nweird\ndata: 1\n\n", [("1",)], id="unknown fields are skipped"),
    pytest.param(b"\xef\xbb\xbfdata: 1\n\n", [("1",)], id="a byte order mark is skipped"),
    pytest.param(b"data: \xef\xbb\xbf1\n\n", [("\ufeff1",)], id="but not inside the stream"),
    pytest.param(b"\n\n\ndata: 1\n\n\n\ndata: 2\n\n", [("1",), ("2",)], id="empty lines"),
    pytest.param(b"data: \xff\xc3\n\n", [("\ufffd\ufffd",)], id="invalid UTF-8 is replaced"),
    pytest.param(b'data: {"a": 1}', [('{"a": 1}',)], id="the last event needs no empty line"),
    pytest.param(b"data: [DONE]", [("[DONE]",)], id="nor does [DONE]"),
    pytest.param(b'data: {"a": "b', [], id="an event that was cut is none"),
    pytest.param(b"", [], id="nothing"),
]  # fmt: skip


@pytest.mark.parametrize(("stream", "expected"), CASES)
def test_standard(stream: bytes, expected: list[tuple[str, ...]]) -> None:
    events = [ServerSentEvent(*event) for event in expected]
    assert decode(stream) == events
    assert bytewise(stream) == events
    for cut in range(len(stream)):
        assert decode(stream[:cut], b"", stream[cut:]) == events


@pytest.mark.parametrize("character", NOT_LINE_ENDS)
def test_splits_at_no_other_line_separator(character: str) -> None:
    data = json.dumps({"text": f"a{character}b"}, ensure_ascii=False)
    # JSON must escape the control characters; a server that does not is still read whole.
    stream = f'data: {{"raw": "a{character}b"}}\n\n'.encode()
    assert bytewise(f"data: {data}\n\n".encode()) == [ServerSentEvent(data)]
    assert decode(stream) == bytewise(stream) == [ServerSentEvent(f'{{"raw": "a{character}b"}}')]


def test_chunks_may_be_cut_inside_a_character() -> None:
    stream = "data: 𝕊é€🎉\n\n".encode()
    assert bytewise(stream) == [ServerSentEvent("𝕊é€🎉")]


def test_an_event_is_given_as_soon_as_it_is_complete() -> None:
    decoder = SseDecoder()
    assert decoder.feed(b"data: 1\n") == []
    assert decoder.feed(b"\n") == [ServerSentEvent("1")]
    assert decoder.feed(b"data: 2\r\n\r") == [ServerSentEvent("2")]
    assert decoder.feed(b"\ndata: 3\n\nda") == [ServerSentEvent("3")]
    assert decoder.feed(b"ta: 4\n\n") == [ServerSentEvent("4")]


@pytest.mark.parametrize(("line", "milliseconds"), [("2500", 2500), ("1x", None), ("²", None)])
def test_retry(line: str, milliseconds: int | None) -> None:
    decoder = SseDecoder()
    decoder.feed(f"retry: {line}\ndata: 1\n\n".encode())
    assert decoder.retry == milliseconds


@pytest.mark.parametrize(
    "chunk", [b"x" * 100, b"data: " + b"x" * 40 + b"\n"], ids=["of one line", "of many lines"]
)
def test_an_event_without_an_end_is_refused(chunk: bytes) -> None:
    decoder = SseDecoder(line_limit=1000)
    for _ in range(10):
        assert decoder.feed(chunk) == []
    with pytest.raises(LineTooLongError, match="1,000 characters"):
        [decoder.feed(chunk) for _ in range(20)]


def test_a_long_stream_of_short_events_is_not_refused() -> None:
    decoder = SseDecoder(line_limit=100)
    for _ in range(100):
        assert len(decoder.feed(b"data: 123456789\n\n" * 3)) == 3


VALUES = st.text(alphabet=st.sampled_from('ab: {}"é€🎉' + NOT_LINE_ENDS), max_size=12)
FIELDS = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["data", "event", "id", "retry", "", "other", "data"]),
    st.sampled_from([":", ": ", ""]),
    VALUES,
    st.sampled_from(["\n", "\r\n", "\r", "\n\n", "\r\n\r\n"]),
)
STREAMS = st.lists(FIELDS, max_size=12).map("".join)


@settings(max_examples=300, deadline=None)
@given(text=STREAMS, cuts=st.lists(st.integers(0, 400), max_size=8))
def test_any_cuts_give_the_same_events(text: str, cuts: list[int]) -> None:
    stream = text.encode()
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    pieces = [stream[a:b] for a, b in pairwise(places)]
    whole = decode(stream)
    assert decode(*pieces) == whole
    assert bytewise(stream) == whole


@settings(max_examples=200, deadline=None)
@given(values=st.lists(VALUES, min_size=1, max_size=6), end=st.sampled_from(["\n", "\r\n", "\r"]))
def test_every_value_comes_back_as_it_was_sent(values: list[str], end: str) -> None:
    stream = "".join(f"data: {value}{end}{end}" for value in values).encode()
    assert [event.data for event in decode(stream)] == values
