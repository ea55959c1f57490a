"""The log of generations: bounded, told to listeners, safe from several threads."""

from __future__ import annotations

import threading
from datetime import datetime, timezone

from nbllm.core.history import GenerationLog, GenerationRecord
from nbllm.core.types import FinishReason, Timings, Usage


def record(model: str = "m") -> GenerationRecord:
    return GenerationRecord(
        started=datetime(2030, 1, 1, tzinfo=timezone.utc),
        model=model,
        device="CPU",
        finish_reason=FinishReason.STOP,
        usage=Usage(),
        timings=Timings(),
    )


def test_the_oldest_are_forgotten_first() -> None:
    log = GenerationLog(max_records=3)
    for number in range(5):
        log.append(record(str(number)))
    assert [each.model for each in log] == ["2", "3", "4"]
    assert repr(log) == "<GenerationLog of 3 generations>"
    log.clear()
    assert (len(log), log.records()) == (0, ())


def test_listeners_hear_of_each_until_they_leave() -> None:
    log, heard = GenerationLog(), []
    leave = log.subscribe(lambda each: heard.append(each.model))
    log.append(record("a"))
    leave()
    leave()
    log.append(record("b"))
    assert heard == ["a"]


def test_a_listener_may_leave_while_it_is_told() -> None:
    log, heard = GenerationLog(), []

    def once(each: GenerationRecord) -> None:
        heard.append(each.model)
        leave()

    leave = log.subscribe(once)
    log.append(record("a"))
    log.append(record("b"))
    assert heard == ["a"]


def test_threads_append_while_others_read() -> None:
    log = GenerationLog(max_records=100)
    writers = [
        threading.Thread(target=lambda: [log.append(record()) for _ in range(500)])
        for _ in range(4)
    ]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert all(each.model == "m" for each in log)
    assert len(log) == 100
