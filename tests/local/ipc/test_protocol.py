"""Messages between the processes: all arrive as they are, or say why they cannot be sent."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from nbllm.core.texts import well_formed
from nbllm.local.ipc.events import Done, Embedded, LogprobRecord, Tokenized, WorkerEvent
from nbllm.local.ipc.liveness import Patience, Signs, Stage, overdue_seconds
from nbllm.local.ipc.operations import (
    DiskCache,
    Generate,
    Load,
    LoadSettings,
    Tokenize,
    WorkerOperation,
)
from nbllm.local.ipc.protocol import (
    Beat,
    Cancel,
    Close,
    Failed,
    UnsendableError,
    decode,
    encode,
)

SETTINGS = LoadSettings(
    path=b"",
    context_length=1,
    parallel=1,
    sequences=1,
    threads=1,
    batch_threads=1,
    gpus=(0,),
    gpu_layers=-1,
    tensor_split=(0.5,),
    kv_type="f16",
    flash_attention=None,
    batch_tokens=1,
    max_outputs=1,
    batch_invariant=False,
)
ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=20)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=12,
)
OPERATIONS = msgspec.json.Decoder(WorkerOperation)
EVENTS = msgspec.json.Decoder(WorkerEvent)


def mended(value: Any) -> Any:
    """What arrives of a value: half a surrogate pair becomes U+FFFD, two halves a character."""
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, list):
        return list(map(mended, value))
    if isinstance(value, dict):
        return {mended(key): mended(each) for key, each in value.items()}
    return value


@given(st.dictionaries(ANY_TEXT, VALUES, max_size=4), ANY_TEXT)
def test_every_request_arrives_as_it_was_sent(options: dict[str, Any], text: str) -> None:
    line = encode(Generate(7, [{"role": "user", "content": text}], options))
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    turns = [{"role": "user", "content": mended(text)}]
    assert decode(line, OPERATIONS) == Generate(7, turns, mended(options))


@given(st.lists(st.floats(width=32), max_size=50))
def test_vectors_arrive_to_the_last_bit(values: list[float]) -> None:
    data = np.array(values, np.float32).tobytes()
    assert decode(encode(Embedded(1, data, 3)), EVENTS) == Embedded(1, data, 3)


@given(st.binary(max_size=50))
def test_the_names_of_files_are_bytes(path: bytes) -> None:
    settings = replace(SETTINGS, path=path)
    load = Load(
        settings,
        1,
        yields_cores=True,
        kept_bytes=0,
        disk=DiskCache(folder=path, limit_bytes=1, files=("a mark",)),
        adapters=((path, 0.5),),
        chat_template=None,
        draft=settings,
    )
    assert decode(encode(load), msgspec.json.Decoder(Load)) == load


def test_a_log_probability_may_be_minus_infinity() -> None:
    record = LogprobRecord(b"\xff", -1.5, [(b"\xfe", None)])
    done = Done(1, "", 0, "stop", None, 1, 1, 0, 1, 0, 0.0, 0.0, 0.0, [record])
    assert decode(encode(done), EVENTS) == done


def circular() -> list[Any]:
    inner: list[Any] = []
    inner.append(inner)
    return inner


def deep() -> list[Any]:
    inner: list[Any] = []
    for _ in range(100_000):
        inner = [inner]
    return inner


@pytest.mark.parametrize("make", [circular, deep, lambda: 10**5000, object, lambda: {object()}])
def test_what_json_cannot_hold_is_told(make: Any) -> None:
    with pytest.raises(UnsendableError):
        encode(Generate(1, [], {"value": make()}))


LINES = [
    b"",
    b"\n",
    b"{",
    b"[]",
    b"{}",
    b'{"op":1}',
    b"\xff",
    b"[" * 100_000,
    b"1" * 5000,
    b"null",
    b'{"op":"__class__","id":1}',
    b'{"op":"tokenized","id":"1","tokens":[]}',
    b'{"op":"tokenized","id":1,"tokens":[1.5]}',
    b'{"op":"tokenized","id":1}',
    b'{"op":"step","texts":[[1,"x"]]}',
    b'{"op":"embedded","id":1,"tokens":1,"vectors":"no base64!"}',
    b'{"op":"done","id":1}',
    b'{"op":"cancel","id":1}',
]


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[:40])
def test_what_is_no_event_is_a_value_error(line: bytes) -> None:
    with pytest.raises(ValueError, match="not a message"):
        decode(line, EVENTS)


def test_what_a_worker_may_send_is_no_operation_and_the_other_way_round() -> None:
    for event in (Beat({}), Tokenized(1, [2]), Failed(1, "x")):
        with pytest.raises(ValueError, match="not a message"):
            decode(encode(event), OPERATIONS)
    for operation in (Cancel(1), Close(), Tokenize(1, "x")):
        with pytest.raises(ValueError, match="not a message"):
            decode(encode(operation), EVENTS)


# -------------------------------------------------------------------------------- signs of life


def test_a_stage_is_late_only_at_one_thing_and_beyond_what_that_may_take() -> None:
    stage = Stage()
    late = [stage.overdue_after(1.0) for _ in range(3)]
    stage.begin(2.0)
    late += [stage.overdue_after(1.0) for _ in range(5)]
    assert late == [0, 0, 0, 0, 0, 0, 1, 2]
    stage.begin()
    assert stage.overdue_after(1.0) == 0
    assert overdue_seconds({"a": stage, "b": Stage()}, 1.0) == {"a": 1.0}
    stage.rest()
    assert [stage.overdue_after(1.0) for _ in range(9)] == [0] * 9


def test_patience_ends_with_silence_or_with_what_hangs_in_the_stage_that_is_waited_for() -> None:
    signs = Signs()
    patience = Patience(signs, 4.0, ("requests",))
    assert [patience.is_over(1.0) for _ in range(5)] == [False, False, False, True, True]
    signs.note(Beat({"engine": 100.0}))
    assert not patience.is_over(1.0)
    signs.note(Beat({"requests": 14.0}))
    assert not patience.is_over(1.0), "others may keep it for some seconds"
    signs.note(Beat({"requests": 15.0}))
    assert patience.is_over(1.0)
    signs.note(Beat({}))
    assert not patience.is_over(1.0)


def test_a_notebook_that_was_stopped_itself_does_not_blame_the_worker() -> None:
    patience = Patience(Signs(), None, ())
    assert not any(patience.is_over(patience.look_seconds) for _ in range(11))
    assert patience.is_over(patience.look_seconds)
