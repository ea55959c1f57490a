"""Answers that are kept: which, for whom, and what comes out again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from nbllm import ModelManager
from nbllm.core.caching.answer_stores import CachedAnswer, MemoryStore, SqliteStore
from nbllm.core.caching.cache import ResultCache
from nbllm.core.errors import InvalidOptionError, ServerError
from nbllm.core.types import Completed, FinishReason, TextDelta
from nbllm.testing import FakeModel, fake_info

NUMBER = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"]}


def cached(cache: ResultCache | None = None, **settings: Any) -> tuple[FakeModel, ResultCache]:
    cache = cache or ResultCache()
    model = FakeModel(fake_info("m", local=False, model_type="openai"), **settings)
    model.add_layers(cache)
    return model, cache


async def test_a_kept_answer_is_given_out_as_a_stream() -> None:
    model, cache = cached(reasoning="Hm.", text="A kept answer.")
    first = await model.generate("Hi", temperature=0)
    events = [event async for event in model.stream("Hi", temperature=0)]
    assert len(model.requests) == 1
    assert [event.text for event in events if isinstance(event, TextDelta)] == ["A kept answer."]
    assert isinstance(events[-1], Completed)
    again = events[-1].result
    assert (again.text, again.reasoning, again.finish_reason) == (
        first.text,
        first.reasoning,
        FinishReason.STOP,
    )
    assert again.usage.cost_usd == 0
    assert again.notes[-1].startswith("from the cache, 0.")
    assert cache.counts == {"hits": 1, "misses": 1}


@pytest.mark.parametrize(
    ("mode", "options", "asked"),
    [
        ("on", {"temperature": 0}, 1),
        ("on", {"seed": 3}, 1),
        ("on", {"temperature": 0.7}, 2),
        ("on", {}, 2),
        ("force", {"temperature": 0.7}, 1),
        ("off", {"temperature": 0}, 2),
    ],
)
async def test_only_what_is_meant_to_be_repeatable_is_kept(
    mode: Any, options: dict[str, Any], asked: int
) -> None:
    model, _ = cached(ResultCache(mode=mode))
    for _ in range(2):
        await model.generate("Hi", **options)
    assert len(model.requests) == asked


async def test_another_request_is_asked() -> None:
    model, _ = cached()
    for prompt, options in [("a", {}), ("b", {}), ("a", {"max_tokens": 9}), ("a", {"stop": "x"})]:
        await model.generate(prompt, temperature=0, **options)
    assert len(model.requests) == 4


async def test_what_is_not_whole_is_not_kept() -> None:
    model, cache = cached(text="one two three")
    await model.generate("Hi", temperature=0, max_tokens=1)
    assert cache.store.entries() == []
    async for _ in (stream := model.stream("Hi", temperature=0)):
        break
    await stream.aclose()
    broken, _ = cached(cache, error=ServerError("m", "broke"))
    with pytest.raises(ServerError):
        await broken.generate("Hi", temperature=0)
    assert cache.store.entries() == []


async def test_one_question_of_many_is_asked_once() -> None:
    model, cache = cached(token_seconds=0.01)
    results = await asyncio.gather(*(model.generate("Hi", temperature=0) for _ in range(20)))
    assert len({result.text for result in results}) == 1
    assert len(model.requests) == 1
    assert cache.counts == {"hits": 19, "misses": 1}


async def test_who_waits_asks_where_the_first_gave_up() -> None:
    model, _ = cached(token_seconds=0.02)
    first = asyncio.create_task(model.generate("Hi", temperature=0))
    await asyncio.sleep(0.02)
    second = asyncio.create_task(model.generate("Hi", temperature=0))
    await asyncio.sleep(0.01)
    first.cancel()
    assert (await second).text == "A scripted answer."
    assert len(model.requests) == 2


async def test_a_result_that_is_changed_changes_no_other() -> None:
    model, _ = cached()
    schema = {"type": "object"}
    await model.generate("Hi", temperature=0)
    one, other = [await model.generate("Hi", temperature=0) for _ in range(2)]
    assert one is not other
    assert one.tool_calls is not other.tool_calls or one.tool_calls == ()
    assert (one.text, one.parts) == (other.text, other.parts)
    with_schema = await model.generate("Hi", temperature=0, schema=schema)
    assert with_schema.schema is not None


async def test_a_manager_s_models_share_its_cache(tmp_path: Path, bundled_gguf: Path) -> None:
    file = tmp_path / "answers.sqlite"
    texts = []
    for _ in range(2):
        async with ModelManager(folder=tmp_path, cache=file) as manager:
            model, _ = await manager.load_model("SmolLM2", context_length=512)
            result = await model.generate("Give a number.", temperature=0, schema=NUMBER)
            texts.append((result.text, result.notes))
    assert texts[0][0] == texts[1][0]
    assert "from the cache" in texts[1][1][-1]
    assert file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("mode", ["", "yes", None, True])
def test_a_mode_is_one_of_three(mode: Any) -> None:
    with pytest.raises(InvalidOptionError, match="cache must be one of off, on, force"):
        ResultCache(mode=mode)


# ---------------------------------------------------------------- stores


@pytest.fixture(params=["memory", "sqlite"])
def new_store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    def make(**settings: Any) -> Any:
        if request.param == "memory":
            return MemoryStore(**settings)
        return SqliteStore(tmp_path / "answers.sqlite", **settings)

    return make


def test_what_is_put_is_got(new_store: Any) -> None:
    store = new_store()
    assert store.get("k") is None
    store.put("k", CachedAnswer("text", 1.5, "title %_"))
    store.put("other", CachedAnswer("x", 2.5, "another"))
    assert store.get("k") == CachedAnswer("text", 1.5, "title %_")
    assert [key for key, _ in store.entries()] == ["other", "k"]
    assert [key for key, _ in store.entries("%_")] == ["k"]
    assert store.clear() == 2
    assert store.get("k") is None


def test_what_is_old_is_gone(new_store: Any) -> None:
    store = new_store(seconds=60)
    store.put("k", CachedAnswer("text", 1.5))
    assert store.get("k") is None


def test_what_was_used_least_recently_goes(new_store: Any) -> None:
    store = new_store(most_bytes=50_000)
    for number in range(200):
        store.put(str(number), CachedAnswer("x" * 1000, number))
    left = [key for key, _ in store.entries()]
    assert "199" in left
    assert "0" not in left
    assert len(left) <= 100


def test_a_damaged_file_is_set_aside(tmp_path: Path) -> None:
    file = tmp_path / "answers.sqlite"
    file.write_bytes(b"no database, but something of mine" * 100)
    store = SqliteStore(file)
    store.put("k", CachedAnswer("text", 1.5))
    assert store.get("k") == CachedAnswer("text", 1.5)
    (aside,) = tmp_path.glob("*.damaged-*")
    assert aside.read_bytes().startswith(b"no database")
    assert "were damaged and were set aside" in store.notes[0]


def test_without_a_file_answers_are_in_memory(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("a file")
    store = SqliteStore(tmp_path / "folder" / "answers.sqlite")
    store.put("k", CachedAnswer("text", 1.5))
    assert store.get("k") == CachedAnswer("text", 1.5)
    assert "Answers are kept in memory only" in store.notes[0]


def test_on_a_network_disk_answers_are_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disks = [
        SimpleNamespace(mountpoint="/", fstype="ext4"),
        SimpleNamespace(mountpoint=str(tmp_path.resolve()), fstype="nfs4"),
    ]
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: disks)
    store = SqliteStore(tmp_path / "answers.sqlite")
    store.put("k", CachedAnswer("text", 1.5))
    assert store.get("k") == CachedAnswer("text", 1.5)
    assert not store.file.exists()
    assert "it is on a network disk (nfs4)" in store.notes[0]


def test_processes_share_a_file(tmp_path: Path) -> None:
    import subprocess
    import sys

    file = tmp_path / "answers.sqlite"
    code = """
import sys, pathlib
from nbllm.core.caching.answer_stores import *
store = SqliteStore(pathlib.Path(sys.argv[1]))
for n in range(200):
    store.put(f"{sys.argv[2]}-{n}", CachedAnswer("x" * 100, float(n)))
assert not store.notes, store.notes
"""
    runs = [subprocess.Popen([sys.executable, "-c", code, str(file), str(n)]) for n in range(3)]
    runs[0].kill()
    assert [run.wait() for run in runs][1:] == [0, 0]
    store = SqliteStore(file)
    assert all(store.get(f"{n}-{i}") for n in (1, 2) for i in range(200))
