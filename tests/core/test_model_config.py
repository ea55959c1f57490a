from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nbllm import ModelManager
from nbllm.core.errors import ConfigError
from nbllm.core.model_config import load_config, parse_entry, save_config
from nbllm.core.option_checks import EFFORTS
from nbllm.core.types import GenerationOptions, LoadOptions, ModelInfo, Tool

MISTRAL = """{"name": "mistral-7b-instruct", "model_type": "mistral", "local": true,
 "path": "models/local/mistral-7b-instruct-v0.2.Q4_K_M.gguf",
 "context_length": 8192, "quantization": "q4_k_m", "parameters": 7.0}"""
GPT = """{"name": "gpt-4o", "model_type": "openai", "local": false,
 "api_key_env": "OPENAI_API_KEY", "context_length": 128000}"""
LOCAL = {"name": "m", "model_type": "llama", "path": "m.gguf"}
CLOUD = {"name": "c", "model_type": "openai", "local": False}

Write = Callable[[object], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_config(content: object) -> Path:
        file = tmp_path / "config.json"
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            file.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
        return file

    return write_config


def failure(file: Path) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    return caught.value


# ---------------------------------------------------------------- what a config can say


def test_the_entries_of_the_specification_load_as_they_are(write: Write) -> None:
    file = write(f"[{MISTRAL}, {GPT}]")
    mistral, gpt = load_config(file)
    assert mistral == ModelInfo(
        name="mistral-7b-instruct",
        model_type="mistral",
        local=True,
        path=file.parent / "models/local/mistral-7b-instruct-v0.2.Q4_K_M.gguf",
        context_length=8192,
        quantization="q4_k_m",
        parameters=7.0,
    )
    assert gpt == ModelInfo(
        name="gpt-4o",
        model_type="openai",
        local=False,
        api_key_env="OPENAI_API_KEY",
        context_length=128000,
    )
    assert {mistral.config_file, gpt.config_file} == {file}
    assert mistral.source == "config"


@pytest.mark.parametrize("entry", [MISTRAL, GPT])
def test_one_object_is_a_config_too(write: Write, entry: str) -> None:
    alone = load_config(write(entry))
    assert alone == load_config(write(f"[{entry}]"))
    assert len(alone) == 1


def test_a_string_is_accepted_for_the_path_and_home_is_expanded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "c.json").write_text(json.dumps({**LOCAL, "path": "~/models/m.gguf"}))
    (info,) = load_config("~/c.json")
    assert info.path == tmp_path / "models/m.gguf"


def test_paths_are_relative_to_the_config_not_to_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.json").write_text(json.dumps(LOCAL))
    monkeypatch.chdir(tmp_path)
    (info,) = load_config(Path("sub/c.json"))
    assert info.path == tmp_path / "sub" / "m.gguf"


def test_local_follows_from_path_and_the_type_of_a_gguf_can_be_left_to_its_header(
    write: Write,
) -> None:
    (local,) = load_config(write({"name": "m", "path": "m.gguf"}))
    assert (local.local, local.model_type) == (True, "gguf")
    (cloud,) = load_config(write({"name": "c", "model_type": "openai"}))
    assert not cloud.local


def test_null_is_the_same_as_leaving_a_key_out(write: Write) -> None:
    (info,) = load_config(write({**LOCAL, "context_length": None, "options": {"seed": None}}))
    assert info == parse_entry(LOCAL, file=info.config_file)


def test_options_and_load_options(write: Write) -> None:
    tool = {"name": "add", "description": "", "parameters": {"type": "object"}}
    options = {
        "max_tokens": 64,
        "temperature": 0,
        "stop": "END",
        "tools": [tool],
        "extra": {"logprobs": True, "nested": [1, {"a": None}]},
    }
    (info,) = load_config(write({**LOCAL, "options": options, "load": {"gpu_layers": -1}}))
    assert info.load == LoadOptions(gpu_layers=-1)
    assert info.options == GenerationOptions(
        max_tokens=64,
        temperature=0,
        stop=("END",),
        tools=(Tool("add", "", {"type": "object"}),),
        extra={"logprobs": True, "nested": [1, {"a": None}]},
    )


def test_a_byte_order_mark_is_no_error(write: Write) -> None:
    assert load_config(write(b"\xef\xbb\xbf" + GPT.encode()))[0].name == "gpt-4o"


def test_an_empty_list_has_no_models(write: Write) -> None:
    assert load_config(write([])) == []


# ---------------------------------------------------------------- what is wrong, and where

WRONG: list[tuple[object, str | int | None, str | None, str]] = [
    ({**LOCAL, "contextlength": 1}, "m", "contextlength", "Did you mean 'context_length'?"),
    ([LOCAL, {**CLOUD, "modl": "x"}], "c", "modl", "Did you mean 'model"),
    ({**LOCAL, "zzz": 1}, "m", "zzz", "unknown key"),
    ({"model_type": "llama", "path": "m.gguf"}, None, "name", "required"),
    ([LOCAL, {"model_type": "llama", "path": "m.gguf"}], 1, "name", "required"),
    ([{**LOCAL, "name": 7}], 0, "name", "must be a string (got a number)"),
    ({**LOCAL, "name": "  "}, None, "name", "empty"),
    ({"name": "m", "local": True, "path": "m.bin"}, "m", "model_type", "required"),
    ({"name": "m"}, "m", "model_type", "required"),
    ({**CLOUD, "path": "m.gguf"}, "c", "path", "false"),
    ({"name": "m", "model_type": "llama", "local": True}, "m", "path", "this key is required"),
    ({**LOCAL, "api_key_env": "OPENAI_API_KEY"}, "m", "api_key_env", "local"),
    ({**LOCAL, "local": 1}, "m", "local", "true or false"),
    ({**LOCAL, "local": "true"}, "m", "local", "must be true or false (got a string)"),
    ({**LOCAL, "path": ["m.gguf"]}, "m", "path", "must be a string (got a list)"),
    ({**LOCAL, "path": "a\0b"}, "m", "path", "null character"),
    ({**LOCAL, "path": "~no-such-user-here/m"}, "m", "path", "home"),
    ({**LOCAL, "context_length": True}, "m", "context_length", "an integer"),
    ({**LOCAL, "context_length": 8192.0}, "m", "context_length", "an integer"),
    ({**LOCAL, "context_length": "8192"}, "m", "context_length", "an integer"),
    ({**LOCAL, "context_length": 0}, "m", "context_length", "at least 1"),
    ({**LOCAL, "context_length": 10**400}, "m", "context_length", "too large"),
    ({**LOCAL, "parameters": "7B"}, "m", "parameters", "a number"),
    ({**LOCAL, "parameters": False}, "m", "parameters", "a number"),
    ({**LOCAL, "parameters": -7}, "m", "parameters", "billions"),
    ({**LOCAL, "parameters": 7_000_000_000}, "m", "parameters", "billions"),
    ({**LOCAL, "options": []}, "m", "options", "an object"),
    ({**LOCAL, "options": {"temprature": 1}}, "m", "options.temprature", "'temperature'"),
    ({**LOCAL, "options": {"top_p": 2}}, "m", "options.top_p", "between 0 and 1"),
    ({**LOCAL, "options": {"seed": True}}, "m", "options.seed", "must be an integer"),
    ({**LOCAL, "options": {"stop": [1]}}, "m", "options.stop", "a list of strings"),
    ({**LOCAL, "options": {"stop": [""]}}, "m", "options.stop", "empty"),
    ({**LOCAL, "options": {"tools": [{"name": "f"}]}}, "m", "options.tools", "description"),
    ({**LOCAL, "options": {"extra": 1}}, "m", "options.extra", "a mapping"),
    ({**LOCAL, "load": {"thread": 1}}, "m", "load.thread", "Did you mean 'threads'?"),
    ({**LOCAL, "load": {"threads": 1.5}}, "m", "load.threads", "must be an integer"),
    ({**CLOUD, "base_url": "localhost:8080"}, "c", "base_url", "http"),
    ({**CLOUD, "base_url": "http://[::1"}, "c", "base_url", "http"),
    ({**CLOUD, "base_url": "http://h:99999"}, "c", "base_url", "http"),
    ({**CLOUD, "base_url": "https://api.openai.com@h/v1"}, "c", "base_url", "user name"),
    ({**CLOUD, "api_key_env": "MY KEY"}, "c", "api_key_env", "environment variable"),
    ([LOCAL, CLOUD, {**LOCAL, "path": "n.gguf"}], "m", "name", "entries 0 and 2"),
    ("7", None, None, "must be an object (got a number)"),
    ("null", None, None, "must be an object (got null)"),
    ([LOCAL, [CLOUD]], 1, None, "must be an object (got a list)"),
    ('{"name": "m", "path": "a.gguf", "path": "b.gguf"}', "m", "path", "duplicate key"),
    (
        '{"name": "m", "path": "a.gguf", "options": {"extra": {"a": 1, "a": 2}}}',
        "m",
        "options.extra.a",
        "duplicate key",
    ),
    (
        '{"name": "m", "path": "m.gguf", "parameters": NaN}',
        "m",
        "parameters",
        "must be a finite number",
    ),
    (
        '{"name": "m", "path": "m.gguf", "parameters": 1e999}',
        "m",
        "parameters",
        "must be a finite number",
    ),
    (
        '{"name": "m", "path": "m.gguf", "options": {"extra": {"a": [-Infinity]}}}',
        "m",
        "options.extra.a[0]",
        "must be a finite number",
    ),
    ('{"name": "m",\n "path": }', None, None, "line 2, column 10"),
    ("", None, None, "line 1, column 1"),
    ("[" * 100_000, None, None, "nested too deeply"),
    ("9" * 10_000, None, None, "too many digits"),
    (GPT.encode("utf-16"), None, None, "not valid UTF-8"),
    (b'{"name": "caf\xe9"}', None, None, "not valid UTF-8: byte 13"),
]


@pytest.mark.parametrize(("content", "entry", "key", "problem"), WRONG)
def test_an_error_names_file_entry_and_key(
    write: Write, content: object, entry: str | int | None, key: str | None, problem: str
) -> None:
    file = write(content)
    error = failure(file)
    assert (error.file, error.entry, error.key) == (file, entry, key)
    for part in (str(file), problem, *(repr(part) for part in (entry, key) if part is not None)):
        assert part in str(error)


def test_names_that_differ_in_case_are_two_names(write: Write) -> None:
    upper = {**LOCAL, "name": "M"}
    assert [info.name for info in load_config(write([LOCAL, upper]))] == ["m", "M"]


def test_a_missing_file_a_folder_and_a_model_are_no_configs(tmp_path: Path) -> None:
    assert "No such file" in str(failure(tmp_path / "none.json"))
    assert "directory" in str(failure(tmp_path)).casefold() or os.name == "nt"
    model = tmp_path / "m.gguf"
    with model.open("wb") as stream:
        stream.truncate(5 * 2**30)
    assert "more than 8 MiB, so it is not a config" in str(failure(model))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes in folders")
def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "a named pipe" in str(failure(tmp_path / "pipe"))


# ---------------------------------------------------------------- keys

SECRET = "sk-proj-CANARYcanary0123456789abcdefghij"
WITH_KEY: list[tuple[object, str | None]] = [
    ({**CLOUD, "api_key": SECRET}, "api_key"),
    ({**CLOUD, "api_key": "CANARY"}, "api_key"),
    ({**CLOUD, "api-key": "CANARY"}, "api-key"),
    ({**CLOUD, "OPENAI_API_KEY": "CANARY"}, "OPENAI_API_KEY"),
    ({**CLOUD, "api_key_env": SECRET}, "api_key_env"),
    ({**CLOUD, "name": SECRET}, "name"),
    ({**CLOUD, SECRET: 1}, None),
    ({**CLOUD, "model": "AIzaSyCANARYcanary0123456789-abcdefghij"}, "model"),
    ({**CLOUD, "base_url": "https://me:CANARY@host/v1"}, "base_url"),
    ({**CLOUD, "base_url": "https://host/v1?api_key=CANARY"}, "base_url"),
    ({**CLOUD, "options": {"stop": ["a", SECRET]}}, "options.stop[1]"),
    ({**CLOUD, "options": {"extra": {"h": [{"Authorization": "CANARY"}]}}}, None),
    ({**CLOUD, "options": {"extra": {"x": "Bearer CANARYcanary"}}}, "options.extra.x"),
    ({**CLOUD, "options": {"extra": {"x": {SECRET: 1}}}}, "options.extra.x"),
    ({**CLOUD, "options": {"extra": {"password": "CANARY"}}}, "options.extra.password"),
    ({**CLOUD, "zzz": "eyJCANARYcanary01.eyJCANARYcanary01.CANARYsignature"}, "zzz"),
    ({**CLOUD, "zzz": "gsk_CANARYcanary0123456789abcd"}, "zzz"),
    ([[SECRET]], "[0]"),
    (SECRET, ""),
]


def test_a_key_is_refused_and_not_shown(write: Write) -> None:
    for content, key in WITH_KEY:
        error = failure(write(json.dumps(content)))
        assert "api_key_env" in str(error)
        assert "looks like an API key" in str(error)
        assert key is None or (error.key or "") == key
        seen = [error, error.__cause__, error.__context__]
        assert not any("CANARY" in repr(part) + str(part) for part in seen)


@pytest.mark.parametrize(
    "content",
    [
        f'{{"api_key": "{SECRET}"',
        f'{{"name": "m", "api_key": "{SECRET}",}}',
        f"{SECRET}",
        f'{{"api_key_env": 7, "name": "{SECRET}"}}',
    ],
)
def test_a_key_in_a_broken_file_is_not_shown(write: Write, content: str) -> None:
    error = failure(write(content))
    behind = [error, error.__cause__, error.__context__]
    assert not any("CANARY" in repr(getattr(part, "__dict__", "")) for part in behind)
    assert not any("CANARY" in repr(part) + str(part) for part in behind)


def test_something_that_may_be_a_key_is_not_shown_where_a_variable_belongs(write: Write) -> None:
    for value in ("0CANARY", "CANARY-1", "deadbeef" * 4):
        assert value not in str(failure(write({**CLOUD, "api_key_env": value})))


@pytest.mark.parametrize(
    "entry",
    [
        {**CLOUD, "name": "task-oriented-model", "model": "risk-assessment"},
        {**CLOUD, "api_key_env": "MY_SECRET_API_KEY"},
        {**CLOUD, "base_url": "https://host/v1?api-version=2024-02-01"},
        {**CLOUD, "options": {"response_schema": {"properties": {"password": {"type": "string"}}}}},
        {**CLOUD, "options": {"extra": {"max_tokens": 5, "token": "yes"}}},
        {**LOCAL, "path": "/models/hf_cache/sk-m.gguf"},
    ],
)
def test_what_is_no_key_is_let_through(write: Write, entry: dict[str, Any]) -> None:
    assert load_config(write(entry))[0].name == entry["name"]


def test_a_key_is_not_written_either(tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    options = GenerationOptions(extra={"api_key": SECRET})
    with pytest.raises(ConfigError, match="looks like an API key"):
        save_config(file, [ModelInfo(name="c", model_type="openai", local=False, options=options)])
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- writing


def test_nothing_but_what_is_set_is_written(tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    save_config(file, [parse_entry(LOCAL, file=file), parse_entry(CLOUD, file=file)])
    assert json.loads(file.read_text()) == [{**LOCAL, "local": True}, CLOUD]


def test_a_folder_with_config_and_models_can_move(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    inside, outside = here / "models" / "a.gguf", tmp_path / "b.gguf"
    tilde = here / "~" / "c.gguf"
    save_config(
        here / "c.json",
        [
            ModelInfo(name=path.stem, model_type="llama", local=True, path=path)
            for path in (inside, outside, tilde)
        ],
    )
    here.rename(there)
    paths = [info.path for info in load_config(there / "c.json")]
    assert paths == [there / "models" / "a.gguf", outside, there / "~" / "c.gguf"]


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    good = ModelInfo(name="c", model_type="openai", local=False)
    save_config(file, [good])
    before = file.read_bytes()
    options = GenerationOptions(first_token_timeout=float("inf"))
    bad = ModelInfo(name="d", model_type="openai", local=False, options=options)
    with pytest.raises(ConfigError, match="JSON"):
        save_config(file, [good, bad])
    with pytest.raises(ConfigError, match="same name"):
        save_config(file, [good, good])
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["c.json"]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none.*cannot be written"):
        save_config(tmp_path / "none" / "c.json", [])


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_permissions_and_links_are_kept(tmp_path: Path) -> None:
    real, link = tmp_path / "real.json", tmp_path / "link.json"
    save_config(real, [])
    assert stat.S_IMODE(real.stat().st_mode) & 0o077 == 0o066 & ~_umask()
    real.chmod(0o640)
    link.symlink_to(real)
    save_config(link, [parse_entry(CLOUD)])
    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert len(load_config(real)) == 1


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


# ---------------------------------------------------------------- all of it

words = st.text(min_size=1, max_size=12).filter(lambda text: text.strip() != "")
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(-1e9, 1e9) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(words, json_values, max_size=3)
maybe = st.none
names = st.from_regex(r"[A-Za-z0-9_.\-]{1,8}", fullmatch=True)
tools = st.builds(Tool, names, st.text(max_size=5), objects)
options = st.builds(
    GenerationOptions,
    max_tokens=maybe() | st.integers(1, 2**40),
    temperature=maybe() | st.floats(0, 5) | st.integers(0, 2),
    top_p=maybe() | st.floats(0, 1),
    seed=maybe() | st.integers(0, 2**63 - 1),
    stop=maybe() | st.lists(words, max_size=3).map(tuple),
    response_schema=maybe() | objects,
    reasoning_effort=maybe() | st.sampled_from(EFFORTS) | st.integers(0, 10**6),
    tools=maybe() | st.lists(tools, max_size=2).map(tuple),
    extra=maybe() | objects,
    stall_timeout=maybe() | st.floats(1, 100),
)
common = {
    "name": words,
    "model_type": words,
    "context_length": maybe() | st.integers(1, 2**40),
    "quantization": maybe() | words,
    "parameters": maybe() | st.floats(1e-6, 9e5),
    "options": options,
    "load": st.builds(LoadOptions, threads=maybe() | st.integers(1, 1024)),
}
path_parts = st.lists(
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1).filter(
        lambda part: part not in {".", ".."} and len(part.encode()) < 200
    ),
    min_size=1,
    max_size=3,
)
local_models = path_parts.flatmap(
    lambda parts: st.builds(
        ModelInfo, local=st.just(True), path=st.just(Path("/models", *parts)), **common
    )
)
cloud_models = st.builds(
    ModelInfo,
    local=st.just(False),
    api_key_env=maybe() | st.from_regex(r"[A-Z_][A-Z0-9_]{0,20}", fullmatch=True),
    base_url=maybe() | st.sampled_from(["http://localhost:8080/v1", "https://host"]),
    model=maybe() | words,
    api=maybe() | words,
    **common,
)
several = st.lists(local_models | cloud_models, max_size=3, unique_by=lambda info: info.name)
quick = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


@quick
@given(infos=several, folder=st.sampled_from(["", "sub"]))
def test_saving_then_loading_gives_equal_models(
    tmp_path: Path, infos: list[ModelInfo], folder: str
) -> None:
    (tmp_path / folder).mkdir(exist_ok=True)
    file = tmp_path / folder / "c.json"
    save_config(file, infos)
    assert load_config(file) == infos


known_keys = st.sampled_from([*LOCAL, "local", "options", "load", "parameters", "api_key", "stop"])
any_entry = st.dictionaries(known_keys | words, json_values, max_size=6)


@quick
@given(content=json_values | any_entry | st.lists(any_entry, max_size=3))
def test_any_json_is_read_or_refused(write: Write, content: object) -> None:
    _read_or_refuse(write(json.dumps(content)))


@quick
@given(content=st.binary(max_size=50) | st.text(max_size=50).map(str.encode))
def test_any_bytes_are_read_or_refused(write: Write, content: bytes) -> None:
    _read_or_refuse(write(content))


@quick
@given(place=st.integers(0, len(MISTRAL)), piece=st.binary(max_size=4), cut=st.integers(0, 4))
def test_any_damage_is_read_or_refused(write: Write, place: int, piece: bytes, cut: int) -> None:
    text = MISTRAL.encode()
    _read_or_refuse(write(text[:place] + piece + text[place + cut :]))


def _read_or_refuse(file: Path) -> None:
    try:
        infos = load_config(file)
    except ConfigError:
        return
    save_config(file, infos)
    assert load_config(file) == infos


# ---------------------------------------------------------------- paths that lead nowhere

BAD_PATHS = ["~nosuchuser/x.json", "x\0.json", "x" * 300, "a/" * 3_000, "", ".", "\ud83d", "x/y"]


@pytest.mark.parametrize("path", BAD_PATHS)
def test_a_path_that_cannot_be_is_a_config_error(path: str, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").touch()
    for use in (load_config, ModelManager.from_config, ModelManager().add_config):
        with pytest.raises(ConfigError):
            use(path)
    if path != "\ud83d":
        with pytest.raises(ConfigError):
            save_config(path, [])
        with pytest.raises(ConfigError):
            ModelManager().save_config(path)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
def test_devices_loops_and_links_to_nothing_are_no_configs(tmp_path: Path) -> None:
    for name, target in (("zero", "/dev/zero"), ("loop", "loop"), ("dangling", "absent")):
        (tmp_path / name).symlink_to(target if target != "loop" else tmp_path / "loop")
        assert "the file cannot be read" in str(failure(tmp_path / name))
    for name in ("zero", "loop"):
        with pytest.raises(ConfigError, match="the file cannot be written"):
            save_config(tmp_path / name, [])
    assert Path("/dev/zero").is_char_device()


@pytest.mark.parametrize("path", ["~nosuchuser/m.gguf", "x\0.gguf", ""])
def test_a_models_path_that_cannot_be_names_its_key(write: Write, path: str) -> None:
    assert "key 'path'" in str(failure(write({**LOCAL, "path": path})))


def test_half_a_surrogate_pair_is_no_name(write: Write) -> None:
    assert "a lone surrogate" in str(failure(write({**LOCAL, "name": "caf\ud83d"})))
