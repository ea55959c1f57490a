from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nbllm.core.errors import ConfigError, InvalidOptionError
from nbllm.core.load_options import template_path
from nbllm.core.model_config import load_config, save_config
from nbllm.core.types import LoadOptions


@pytest.mark.parametrize(
    ("given", "device"),
    [
        ("cpu", "CPU"),
        (" GPU ", "GPU"),
        ("gpu0", "GPU 0"),
        ("GPU 12", "GPU 12"),
        ("gpu0,gpu1", "GPU 0 + GPU 1"),
        ("GPU 1 + GPU 0", "GPU 1 + GPU 0"),
        ("gpu2+gpu2", "GPU 2"),
    ],
)
def test_devices_are_written_as_placements_write_them(given: str, device: str) -> None:
    assert LoadOptions(device=given).device == device
    assert LoadOptions(device=device).device == device


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("device", {"device": "cuda"}),
        ("device", {"device": "GPU -1"}),
        ("device", {"device": ""}),
        ("device", {"device": 0}),
        ("kv_type", {"kv_type": "f32"}),
        ("kv_type", {"kv_type": 8}),
        ("flash_attention", {"flash_attention": "yes"}),
        ("kv_type", {"kv_type": "q8_0", "flash_attention": False}),
        ("batch_invariant", {"batch_invariant": 1}),
        ("batch_invariant", {"batch_invariant": True, "device": "GPU"}),
        ("batch_invariant", {"batch_invariant": True, "gpu_layers": -1}),
        ("batch_invariant", {"batch_invariant": True, "rpc": "10.0.0.5:50052"}),
        ("rpc", {"rpc": "10.0.0.5"}),
        ("rpc", {"rpc": "10.0.0.5:"}),
        ("rpc", {"rpc": "10.0.0.5:0"}),
        ("rpc", {"rpc": "10.0.0.5:65536"}),
        ("rpc", {"rpc": ":50052"}),
        ("rpc", {"rpc": "http://host:50052"}),
        ("rpc", {"rpc": "[::1]:50052"}),
        ("rpc", {"rpc": "user@host:50052"}),
        ("rpc", {"rpc": "a,b:50052"}),
        ("rpc", {"rpc": b"host:50052"}),
        ("rpc", {"rpc": 50052}),
        ("rpc", {"rpc": ["host:50052", 7]}),
        ("rpc", {"rpc": [f"host:{port}" for port in range(1, 18)]}),
        ("rpc", {"rpc": "10.0.0.5:50052", "device": "CPU"}),
        ("rpc_public", {"rpc_public": "yes"}),
        ("batch_invariant", {"batch_invariant": True, "flash_attention": False}),
        ("kv_unified", {"kv_unified": 0}),
        ("kv_unified", {"kv_unified": False, "batch_invariant": True}),
        ("kv_unified", {"kv_unified": False, "prefix_cache_mib": 64}),
        ("kv_unified", {"kv_unified": False, "prefix_cache_disk": "1GiB"}),
    ],
)
def test_what_cannot_work_is_refused_by_name(option: str, values: dict[str, Any]) -> None:
    with pytest.raises(InvalidOptionError) as caught:
        LoadOptions(**values)
    assert caught.value.option == option


def test_rpc_servers_are_a_tuple_of_each_once() -> None:
    assert LoadOptions(rpc="Big.local:50052").rpc == ("big.local:50052",)
    given = [" 10.0.0.5:50052 ", "10.0.0.5:50052", "gpu_box:1"]
    assert LoadOptions(rpc=given).rpc == ("10.0.0.5:50052", "gpu_box:1")  # type: ignore[arg-type]
    assert LoadOptions(rpc=[]).rpc == ()  # type: ignore[arg-type]


def test_a_refusal_names_the_kind_and_the_remedy() -> None:
    with pytest.raises(InvalidOptionError, match=r"context_length must be an integer \(got '8'\)"):
        LoadOptions(context_length="8")  # type: ignore[arg-type]
    with pytest.raises(InvalidOptionError, match=r"threads must be between 1 and 1,024 \(got 0\)"):
        LoadOptions(threads=0)
    with pytest.raises(
        InvalidOptionError, match="batch_invariant cannot be combined with a GPU or RPC servers; it"
    ):
        LoadOptions(batch_invariant=True, device="GPU")


def test_a_config_keeps_them(tmp_path: Path) -> None:
    entry = {
        "name": "m",
        "model_type": "llama",
        "local": True,
        "path": "m.gguf",
        "load": {"device": "gpu0", "kv_type": "q8_0", "flash_attention": True},
    }
    file = tmp_path / "models.json"
    file.write_text(json.dumps([entry]))
    infos = load_config(file)
    assert infos[0].load == LoadOptions(device="GPU 0", kv_type="q8_0", flash_attention=True)
    save_config(file, infos)
    assert load_config(file) == infos
    entry["load"] = {"kv_type": "f32"}
    file.write_text(json.dumps([entry]))
    with pytest.raises(ConfigError, match=r"load\.kv_type"):
        load_config(file)


def test_a_chat_template_is_a_path_or_the_text_itself() -> None:
    assert LoadOptions(chat_template="{{ messages }}").chat_template == "{{ messages }}"
    assert template_path("{{ messages }}") is None
    given = LoadOptions(chat_template=Path("~/mine.jinja")).chat_template  # type: ignore[arg-type]
    assert given == str(Path("~/mine.jinja").expanduser())
    assert template_path(given) == Path(given)
    for wrong in (5, "", " "):
        with pytest.raises(InvalidOptionError, match="chat_template"):
            LoadOptions(chat_template=wrong)  # type: ignore[arg-type]


def test_a_config_takes_a_chat_template_from_its_own_folder(tmp_path: Path) -> None:
    entry = {"name": "m", "model_type": "llama", "local": True, "path": "m.gguf"}
    file = tmp_path / "models.json"
    for given, wanted in (
        ("own.jinja", str(tmp_path / "own.jinja")),
        ("{{ messages }}", "{{ messages }}"),
    ):
        file.write_text(json.dumps([{**entry, "load": {"chat_template": given}}]))
        infos = load_config(file)
        assert infos[0].load.chat_template == wanted
        save_config(file, infos)
        assert json.loads(file.read_text())[0]["load"]["chat_template"] == given
        assert load_config(file) == infos
    file.write_text(json.dumps([{**entry, "load": {"chat_template": 5}}]))
    with pytest.raises(ConfigError, match=r"load\.chat_template"):
        load_config(file)
