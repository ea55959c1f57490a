"""``nbllm.load``: a model without ``await``, from a script, a cell, a thread, a running loop."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

import nbllm
from nbllm import ModelManager
from nbllm.core.errors import InvalidOptionError, ModelClosedError, ModelError, ModelNotFoundError
from nbllm.notebook.loaded_model import LoadedModel
from nbllm.testing import FakeModel, FakeOpener, fake_info

WORDS = "One two three."


def loaded(**model: Any) -> LoadedModel:
    opener = FakeOpener(**{"text": WORDS, **model})
    return nbllm.load("m", manager=ModelManager([fake_info("m")], open_model=opener))


def asked(model: LoadedModel) -> FakeModel:
    assert isinstance(model.model, FakeModel)
    return model.model


def test_an_answer_prints_as_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    model = loaded()
    print(model.ask("\nCount.\n", max_tokens=2))
    assert capsys.readouterr().out == "One two\n"
    (request,) = asked(model).requests
    assert (request.messages[-1].text, request.options.max_tokens) == ("Count.", 2)


def test_the_pieces_come_one_by_one_and_the_result_last() -> None:
    stream = loaded().ask("Count.", stream=True)
    assert [*stream] == ["One", " two", " three."]
    assert stream.result.text == WORDS
    assert loaded().ask("Count.", stream=True).result.text == WORDS, "unread pieces are waited for"


async def test_in_a_loop_that_runs() -> None:
    model = loaded()
    assert model.ask("Count.").text == "".join(model.ask("Count.", stream=True)) == WORDS


def test_in_work_of_nbllms_own_loop_and_in_threads() -> None:
    async def outer() -> str:
        model = loaded()
        return model.ask("Count.").text + "".join(model.ask("Count.", stream=True))

    assert nbllm.run(outer()) == 2 * WORDS
    model, answers = loaded(), list[str]()
    threads = [
        threading.Thread(target=lambda: answers.append("".join(model.ask("Count.", stream=True))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == 4 * [WORDS]


def test_leaving_the_loop_stops_the_answer() -> None:
    model = loaded(token_seconds=0.05, text=20 * WORDS)
    for _ in model.ask("Count.", stream=True):
        break
    gc.collect()
    assert asked(model).cancelled == 1
    stream = model.ask("Count.", stream=True)
    next(stream)
    stream.close()
    assert asked(model).cancelled == 2
    with pytest.raises(ValueError, match="stopped before its end"):
        stream.result  # noqa: B018 - the access is the test


@pytest.mark.parametrize("stream", [False, True])
def test_an_interrupt_stops_the_answer(stream: bool) -> None:
    model = loaded(token_seconds=60)
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        [*model.ask("Count.", stream=True)] if stream else model.ask("Count.")
    assert asked(model).cancelled == 1


def test_what_the_model_raises_comes_through_after_the_pieces_before_it() -> None:
    model, pieces = loaded(error=ModelError("m", "it broke"), fail_after=2), list[str]()
    with pytest.raises(ModelError, match="it broke") as caught:
        pieces.extend(model.ask("Count.", stream=True))
    assert pieces == ["One", " two"]
    assert caught.value.partial_text == "One two"
    with pytest.raises(InvalidOptionError, match="max_token"):
        model.ask("Count.", stream=True, max_token=3)


def test_a_question_stands_alone_and_a_chat_remembers() -> None:
    model = loaded()
    model.ask("A")
    chat = model.chat(system="Be brief.")
    chat.ask("B")
    assert "".join(chat.ask("C", stream=True)) == WORDS
    next(chat.ask("never read to its end", stream=True))
    chat.ask("D")
    *_, last = asked(model).requests
    assert [turn.text for turn in last.messages] == ["Be brief.", "B", WORDS, "C", WORDS, "D"]
    assert repr(chat) == "<chat with m, 3 turns>"


def test_a_context_unloads_what_it_loaded() -> None:
    manager = ModelManager([fake_info("m")], open_model=FakeOpener())
    with nbllm.load("m", manager=manager) as model:
        assert repr(model) == "<m ready on CPU · context 4,096>"
        with nbllm.load("m", manager=manager):
            pass
        assert model.model.usable, "it was loaded before"
    assert manager.list_loaded_models() == []
    assert repr(model) == "<m, which is no longer loaded>"
    with pytest.raises(ModelClosedError):
        model.ask("Count.")
    with pytest.raises(ModelNotFoundError):
        nbllm.load("no-such-model", manager=manager)


def test_without_a_name_it_is_the_bundled_model(bundled_gguf: Path) -> None:
    with nbllm.load(manager=ModelManager(), context_length=512) as model:
        assert model.info.path == bundled_gguf
        assert len("".join(model.ask("Say hi.", stream=True, max_tokens=4))) > 0


def test_a_load_can_be_interrupted() -> None:
    manager = ModelManager([fake_info("m")], open_model=FakeOpener(load_seconds=30))
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        nbllm.load("m", manager=manager)
    assert asyncio.run(manager.aclose()) is None
    assert manager.list_statuses() == []
