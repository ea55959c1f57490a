"""Quantizing real files by llama.cpp: sizes told before, files whole or not there at all."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from tiny_models import copy_model

from nbllm import ModelManager
from nbllm.core.errors import InvalidOptionError, ModelFileError, QuantizationError
from nbllm.core.quantization import (
    NEEDS_IMATRIX,
    QUANTIZATION_TYPES,
    Quantization,
    quantization_type,
    target_name,
)
from nbllm.local.jobs import quantize


def digest_of(file: Path) -> bytes:
    return hashlib.sha256(file.read_bytes()).digest()


def files_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelManager:
    monkeypatch.chdir(tmp_path)
    return ModelManager(folder=tmp_path)


@pytest.fixture
def tiny(tiny_models: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copy(tiny_models["mistral"], tmp_path / "tiny.gguf"))


@pytest.fixture
def parts(tiny: Path) -> list[Path]:
    """The tiny model in several files, and no other."""
    copy_model(tiny, tiny.with_name("Big model.F32.gguf"), {}, split_max_tensors=8)
    tiny.unlink()
    found = sorted(tiny.parent.glob("Big model.F32-*.gguf"))
    assert len(found) > 2
    return found


@pytest.fixture
def link(tiny: Path) -> Path:
    file = tiny.with_name("link.gguf")
    file.symlink_to(tiny)
    return file


async def test_every_type_has_its_size_before(manager: ModelManager, tiny: Path) -> None:
    plans = await manager.plan_quantizations(str(tiny))
    assert {plan.label for plan in plans} == set(QUANTIZATION_TYPES) - NEEDS_IMATRIX
    assert files_in(tiny.parent) == [tiny.name]


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("bundled", "Q8_0"),
        ("bundled", "Q4_K_M"),
        ("short", "IQ4_NL"),  # half a minute for all layers
        ("tiny", "IQ4_NL"),  # whose header has no key of its file type
        ("bundled", "F16"),
    ],
)
async def test_the_size_told_is_the_size_made(
    manager: ModelManager,
    bundled_gguf: Path,
    short_gguf: Path,
    tiny_models: dict[str, Path],
    tmp_path: Path,
    name: str,
    label: str,
) -> None:
    sources = {"bundled": bundled_gguf, "short": short_gguf, "tiny": tiny_models["mistral"]}
    source = sources[name]
    told: list[Quantization] = []
    seen: list[float] = []
    made = await manager.quantize_model(
        str(source), label, to=tmp_path, on_plan=told.append, progress=seen.append
    )
    assert made.info.path is not None
    assert made.info.path.stat().st_size == told[0].size_bytes == made.quantization.size_bytes
    assert made.info.quantization == label.lower()
    assert seen == sorted(seen)
    assert 0 <= seen[0] < seen[-1] < 1
    assert files_in(tmp_path) == [made.info.path.name]


async def test_a_quantized_model_answers(
    manager: ModelManager, bundled_gguf: Path, tmp_path: Path
) -> None:
    made = await manager.quantize_model(str(bundled_gguf), "q8_0", to=tmp_path)
    async with manager:
        model, _ = await manager.load_model(str(made.info.path), context_length=512)
        result = await model.generate(
            "What is the capital of France?", max_tokens=24, temperature=0
        )
    assert result.text.strip()


async def test_a_fallback_is_told(
    manager: ModelManager, bundled_gguf: Path, tmp_path: Path
) -> None:
    [plan] = await manager.plan_quantizations(str(bundled_gguf), ["q4_k_m"])
    assert plan.fallbacks == {("Q4_K", "Q5_0"): 166, ("Q6_K", "Q8_0"): 14}


async def test_a_stop_leaves_nothing(
    manager: ModelManager, bundled_gguf: Path, tmp_path: Path
) -> None:
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()
    work = asyncio.create_task(
        manager.quantize_model(
            str(bundled_gguf),
            "iq4_nl",  # a slow one
            to=tmp_path,
            progress=lambda fraction: loop.call_soon_threadsafe(begun.set) and None,
        )
    )
    await begun.wait()
    began = time.monotonic()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert time.monotonic() - began < 0.5
    assert files_in(tmp_path) == []


async def test_a_file_that_is_there_stays(manager: ModelManager, tiny: Path) -> None:
    target = tiny.with_name("other.gguf")
    target.write_bytes(b"mine")
    with pytest.raises(InvalidOptionError, match=r"other\.gguf exists already; name another file"):
        await manager.quantize_model(str(tiny), "q8_0", to=target)
    assert target.read_bytes() == b"mine"
    await manager.quantize_model(str(tiny), "q8_0", to=target, replace=True)
    assert target.read_bytes()[:4] == b"GGUF"


async def test_a_model_is_never_its_own_target(
    manager: ModelManager, tiny: Path, link: Path
) -> None:
    before = digest_of(tiny)
    for target in (tiny, link):
        with pytest.raises(InvalidOptionError, match="is the model itself; name another file"):
            await manager.quantize_model(str(tiny), "q8_0", to=target, replace=True)
    assert digest_of(tiny) == before


async def test_a_split_model_becomes_one_file(manager: ModelManager, parts: list[Path]) -> None:
    before = [digest_of(part) for part in parts]
    [plan] = await manager.plan_quantizations(str(parts[0]), ["q8_0"])
    for name, file in ((str(parts[0]), "Big model.Q8_0.gguf"), ("Big model.F32", "other.gguf")):
        to = parts[0].with_name(file)
        made = await manager.quantize_model(name, "q8_0", to=None if "Q8_0" in file else to)
        assert made.info.path == to
        assert to.stat().st_size == plan.size_bytes == made.quantization.size_bytes
    assert [digest_of(part) for part in parts] == before
    text = parts[0].with_name("text.txt")
    text.write_text("the cat sat on the mat " * 300)
    assert (await manager.make_imatrix(str(parts[0]), text, chunks=1)).name == (
        "Big model.F32.imatrix.gguf"
    )


async def test_what_is_read_is_no_target(manager: ModelManager, tiny: Path) -> None:
    imatrix, text = tiny.with_name("imatrix.gguf"), tiny.with_name("text.txt")
    imatrix.write_bytes(b"a matrix")
    text.write_text("my only copy")
    with pytest.raises(InvalidOptionError, match="is what is to be read; name another file"):
        await manager.quantize_model(str(tiny), "q8_0", imatrix=imatrix, to=imatrix, replace=True)
    with pytest.raises(InvalidOptionError, match="is what is to be read; name another file"):
        await manager.make_imatrix(str(tiny), text, to=text, replace=True)
    assert (imatrix.read_bytes(), text.read_text()) == (b"a matrix", "my only copy")


@pytest.mark.skipif(os.name == "nt", reason="these are paths there")
@pytest.mark.parametrize("to", ["C:\\x\\y.gguf", "d:/x.gguf", "\\\\server\\share\\x.gguf"])
async def test_a_path_of_another_system_is_no_target(
    manager: ModelManager, tiny: Path, to: str
) -> None:
    with pytest.raises(InvalidOptionError, match="is a Windows path, but the kernel does not run"):
        await manager.quantize_model(str(tiny), "q8_0", to=to)
    assert files_in(tiny.parent) == [tiny.name]


async def test_a_variable_in_a_target_is_told(
    manager: ModelManager, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELS", str(tiny.parent))
    for to in ("$MODELS/x.gguf", "$MODELS"):
        with pytest.raises(InvalidOptionError, match=f"not expanded in paths; write {tiny.parent}"):
            await manager.quantize_model(str(tiny), "q8_0", to=to)


LONG = "x" * 300


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"to": f"{LONG}.gguf"}, "to: .*too long"),
        ({"to": f"{LONG}/x.gguf"}, "to: .*too long"),
        ({"imatrix": LONG}, "imatrix: .*too long"),
        ({"to": "text.txt/x.gguf"}, "the folder .*text.txt does not exist"),
        ({"to": "a\0b.gguf"}, "to: a path cannot contain a null character"),
        ({"to": "\ud800.gguf"}, "has characters that file names cannot have"),
        ({"to": 5}, r"to must be a path \(got 5\)"),
        ({"to": b"x.gguf"}, r"to must be a path \(got b'x.gguf'\)"),
        ({"imatrix": 5}, "imatrix must be a path"),
        ({"type": 8}, "'8' is not a quantization type"),
        ({"type": None}, "'None' is not a quantization type"),
        ({"name": None}, r"name must be a string \(got None\)"),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="file names have other limits there")
async def test_what_is_no_path_or_name_is_refused(
    manager: ModelManager, tiny: Path, given: dict[str, Any], told: str
) -> None:
    tiny.with_name("text.txt").touch()
    with pytest.raises(InvalidOptionError, match=told):
        await manager.quantize_model(**{"name": str(tiny), "type": "q8_0", **given})


async def test_types_are_one_or_several(manager: ModelManager, tiny: Path) -> None:
    assert [each.label for each in await manager.plan_quantizations(str(tiny), "q8_0")] == ["Q8_0"]
    wrong: Any = None
    with pytest.raises(InvalidOptionError, match="types must be quantization types"):
        await manager.plan_quantizations(str(tiny), wrong)


@pytest.mark.parametrize("wrong", [None, 5, b"owner/repo"])
async def test_a_name_is_a_text(manager: ModelManager, wrong: Any) -> None:
    for asked in (manager.plan_pull, manager.tune_model, manager.plan_quantizations):
        with pytest.raises(InvalidOptionError, match="name must be a string"):
            await asked(wrong)
    for tried in (manager.plan_deletion, manager.untune_model):
        with pytest.raises(InvalidOptionError, match="name must be a string"):
            tried(wrong)
    with pytest.raises(InvalidOptionError, match="quant must be a string"):
        await manager.plan_pull("owner/repo", quant=wrong or 5)


@pytest.mark.parametrize("replace", [False, True])
async def test_no_part_of_a_split_model_is_a_target(
    manager: ModelManager, parts: list[Path], *, replace: bool
) -> None:
    before = [digest_of(part) for part in parts]
    told = r"is the name of a part of a split model.* name it Big model\.F32\.gguf"
    for part in (*parts, parts[0].with_name("Big model.F32-00001-of-00009.gguf")):
        with pytest.raises(InvalidOptionError, match=told):
            await manager.quantize_model(str(parts[0]), "q8_0", to=part, replace=replace)
    link = parts[0].with_name("link.gguf")
    link.symlink_to(parts[1])
    text = parts[0].with_name("text.txt")
    text.write_text("text")
    with pytest.raises(InvalidOptionError, match="is a part of the model itself"):
        await manager.quantize_model(str(parts[0]), "q8_0", to=link, replace=replace)
    for target in (link, parts[1]):
        with pytest.raises(InvalidOptionError, match="is a part of the model itself"):
            await manager.make_imatrix(str(parts[0]), text, to=target, replace=replace)
    with pytest.raises(ModelFileError, match=r"is part 2 of a split model; open Big model"):
        await manager.quantize_model(str(parts[1]), "q8_0")
    assert [digest_of(part) for part in parts] == before


async def test_a_full_disk_is_told_first(
    manager: ModelManager, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(quantize.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(QuantizationError, match="only 0 MiB are free in"):
        await manager.quantize_model(str(tiny), "q8_0")
    assert files_in(tiny.parent) == [tiny.name]


@pytest.mark.parametrize(
    ("label", "to", "problem"),
    [
        ("q9", None, "'q9' is not a quantization type"),
        ("", None, "'' is not a quantization type"),
        ("iq1_s", None, "IQ1_S needs an importance matrix"),
        ("q8_0", "x.bin", "is neither a folder nor the name of a .gguf file"),
        ("q8_0", "no/x.gguf", "the folder .* does not exist; create it"),
    ],
)
async def test_what_cannot_be_is_refused(
    manager: ModelManager, tiny: Path, label: str, to: str | None, problem: str
) -> None:
    with pytest.raises(InvalidOptionError, match=problem):
        await manager.quantize_model(str(tiny), label, to=to)


async def test_a_damaged_imatrix_is_refused(
    manager: ModelManager, tiny: Path, tmp_path: Path
) -> None:
    file = tmp_path / "imatrix.dat"
    for content in (b"", b"\x01\0\0\0", b"GGUF", b"\xff" * 64, b"\x01\0\0\0\x01\0\0\0a"):
        file.write_bytes(content)
        with pytest.raises(QuantizationError, match=r"imatrix\.dat"):
            await manager.quantize_model(str(tiny), "q8_0", imatrix=file)
    with pytest.raises(InvalidOptionError, match="imatrix: there is no file"):
        await manager.quantize_model(str(tiny), "q8_0", imatrix=tmp_path / "none")


async def test_a_model_of_a_vendor_is_refused(manager: ModelManager) -> None:
    with pytest.raises(InvalidOptionError, match=r"gpt-4o runs on a server, .* Name a local"):
        await manager.plan_quantizations("gpt-4o")


async def test_a_file_that_is_no_model_is_refused(manager: ModelManager, tmp_path: Path) -> None:
    file = tmp_path / "x.gguf"
    file.write_bytes(b"nothing")
    with pytest.raises(ModelFileError):
        await manager.quantize_model(str(file), "q8_0")


@pytest.mark.parametrize(
    ("word", "label"),
    [
        ("q4_k_m", "Q4_K_M"),
        ("Q4-K-M", "Q4_K_M"),
        ("q4km", "Q4_K_M"),
        ("Q4_K", "Q4_K_M"),
        (" q8_0 ", "Q8_0"),
        ("q80", "Q8_0"),
        ("fp16", "F16"),
        ("8bit", "Q8_0"),
    ],
)
def test_a_type_is_known_however_it_is_written(word: str, label: str) -> None:
    assert quantization_type(word) == label


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("SmolLM2-135M-Instruct.Q4_1.gguf", "SmolLM2-135M-Instruct.Q8_0.gguf"),
        ("mistral-7b-instruct-v0.2.Q4_K_M.gguf", "mistral-7b-instruct-v0.2.Q8_0.gguf"),
        ("phi-3-f16.gguf", "phi-3.Q8_0.gguf"),
        ("big-bf16-00001-of-00003.gguf", "big.Q8_0.gguf"),
        ("Qwen3-UD-IQ2_XXS.gguf", "Qwen3.Q8_0.gguf"),
        ("plain.gguf", "plain.Q8_0.gguf"),
        ("q8_0.gguf", "q8_0.Q8_0.gguf"),
    ],
)
def test_a_new_file_has_the_source_s_name(source: str, target: str) -> None:
    assert target_name(Path(source), "Q8_0") == target


def test_a_bundled_model_s_copy_does_not_take_its_name(
    bundled_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "SmolLM2-135M-Instruct.Q8_0.gguf").symlink_to(bundled_gguf)
    manager = ModelManager(folder=tmp_path)
    assert manager.find_model("SmolLM2").source == "bundled"
