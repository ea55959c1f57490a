"""Settings through ``%llm_config``, ``%config`` and config files; names that others have too."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from nbllm.cloud.cloud_model import open_model
from nbllm.core.errors import AuthenticationError, NbllmError
from nbllm.core.model_manager import ModelManager
from nbllm.core.openers import LoadControl
from nbllm.core.types import GenerationOptions, ModelInfo
from nbllm.notebook import extension as magics
from nbllm.testing import FakeOpener, fake_info


@pytest.fixture
def opener() -> FakeOpener:
    return FakeOpener(text="Hello **you**.")


@pytest.fixture
def run(shell: InteractiveShell, tmp_path: Path, opener: FakeOpener):
    infos = [fake_info("tiny"), fake_info("other")]
    manager = ModelManager(infos, folder=tmp_path, open_model=opener)
    magics.load(shell, lambda: manager)

    def run(cell: str) -> object:
        ran = shell.run_cell(cell)
        ran.raise_error()
        return ran.result

    return run


def test_all_settings_are_a_dataframe(run) -> None:
    table = run("%llm_config").set_index("setting")
    assert table.loc["magic_prefix", "value"] == "llm"
    assert table.loc["show_status", "default"] == "true"
    assert all(table["meaning"].str.endswith("."))


def test_settings_are_the_defaults_of_every_question(run, opener: FakeOpener, capsys) -> None:
    run("%llm_config model=other temperature=0.2 seed=3 system='Be brief.' show_status=False")
    run("%%llm --temperature 0\nHi")
    model = opener.opened[0]
    assert model.name == "other"
    (request,) = model.requests
    assert request.messages[0].text == "Be brief."
    assert request.options == GenerationOptions(temperature=0, seed=3, max_tokens=1000)
    assert capsys.readouterr().out.endswith("Hello **you**.\n\n")
    run("%llm_config --reset")
    assert (run("%llm_config")["value"] == run("%llm_config")["default"]).all()


def test_an_empty_value_is_the_default(run) -> None:
    run("%llm_config temperature=0.2 seed=3 model=tiny")
    run("%llm_config temperature= model=")
    assert run("%config NbLLM.options") == {"seed": 3}
    assert run("%config NbLLM.model") == ""


def test_a_name_alone_shows_the_setting_and_who_set_it(run, shell: InteractiveShell) -> None:
    shell.config.merge(Config({"NbLLM": {"model": "phi", "options": {"seed": 3, "top_k": 5}}}))
    run("%reload_ext nbllm")
    shown = run("%llm_config model device seed top_k temperature device=CPU temperature=0.2 top_k=")
    assert shown[["setting", "value", "set by"]].to_numpy().tolist() == [
        ["model", "phi", "IPython's configuration"],
        ["device", "CPU", "this kernel"],
        ["seed", "3", "IPython's configuration"],
        ["top_k", "", "default"],
        ["temperature", "0.2", "this kernel"],
    ]


def test_how_models_are_loaded(run) -> None:
    run("%llm_config context=2048")
    assert run("%llm_load tiny").info.load.context_length == 2048
    assert run("%llm_load other --ctx 512").info.load.context_length == 512


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("modle=phi", "there is no setting 'modle'. Did you mean 'model'?"),
        ("temperatur=1", "Did you mean 'temperature'?"),
        ("xyz=1", "Settings: cell_limit, "),
        ("temperature=hot", "temperature must be a number (got 'hot')"),
        ("show_status=perhaps", "show_status must be True or False (got 'perhaps')"),
        ("context=many", "context must be an integer (got 'many')"),
        ("context=-1", "context_length must be at least 16 (got -1)"),
        ("device=foo", 'device must be "CPU"'),
        ("magic_prefix=9", "magic_prefix must be a string (got 9)"),
        ("options=5", "options must be a dict, such as {'temperature': 0.2} (got 5)"),
        ("magic_prefix=9x", "magic_prefix: '9x' is not a valid prefix for magics"),
        ("magic_prefix=\u0430i", "is not a valid prefix for magics"),
        ("magic_prefix=os", "magic_prefix: 'os' is a module of Python"),
        ("magic_prefix=print", "magic_prefix: 'print' is a Python name"),
        ("magic_prefix=lambda", "magic_prefix: 'lambda' is a Python name"),
        ("magic_prefix=cd", "magic_prefix: 'cd' would replace another extension's magic: %cd"),
        ("magic_prefix=pip", "another extension's magic: %pip"),
        ("--load ~nosuchuser/x.json", "no home folder for ~nosuchuser"),
        ("--save ~nosuchuser/x.json", "no home folder for ~nosuchuser"),
        ("--save nowhere/x.json", "x.json: the file cannot be written: No such file"),
        ("--save /", "/: the file cannot be written: it is a folder"),
        ("--save /dev/null", "null: the file cannot be written: it is a device"),
        ("--load /dev/zero", "zero cannot be read: it is a device"),
        ("modle", "there is no setting 'modle'. Did you mean 'model'?"),
        ("--load nowhere.json", "nowhere.json cannot be read: No such file"),
    ],
)
def test_a_wrong_setting_fails_with_one_line(
    run, shell: InteractiveShell, capsys, line: str, message: str
) -> None:
    assert not shell.run_cell(f"%llm_config {line}").success
    shown = capsys.readouterr().out.strip()
    assert message in shown
    assert len(shown.splitlines()) == 1


def test_a_line_with_a_wrong_setting_changes_nothing(run, shell: InteractiveShell) -> None:
    run("%llm_config seed=3")
    assert not shell.run_cell("%llm_config model=tiny seed=4 show_status=perhaps").success
    assert run("%llm_config model seed")["value"].tolist() == ["", "3"]


def test_settings_are_saved_and_loaded(run, tmp_path: Path) -> None:
    file = tmp_path / "nbllm.json"
    run(f"%llm_config model=tiny temperature=0.2 --save '{file}'")
    assert json.loads(file.read_text()) == {"model": "tiny", "options": {"temperature": 0.2}}
    run("%llm_config --reset")
    run(f"%llm_config --load '{file}'")
    assert run("%config NbLLM.model") == "tiny"


def test_what_prompts_may_read_is_set_here_and_by_no_file(
    run, shell: InteractiveShell, opener: FakeOpener, tmp_path: Path, capsys
) -> None:
    secret, file = tmp_path / ".plan", tmp_path / "nbllm.json"
    secret.write_text("the plan")
    ask = f"%%llm tiny {{}}\nSum up {{{{file:{secret}}}}}"
    assert not shell.run_cell(ask.format("")).success
    assert f"%llm_config prompt_files={secret}" in capsys.readouterr().out
    run(ask.format(f"--allow-file {secret}"))
    assert not shell.run_cell(ask.format("")).success
    run(f"%llm_config prompt_files={secret} seed=3 --save '{file}'")
    run(ask.format(""))
    texts = [request.messages[0].text.strip() for request in opener.opened[0].requests]
    assert texts == ["Sum up the plan"] * 2
    assert json.loads(file.read_text()) == {"options": {"seed": 3}}
    file.write_text(json.dumps({"prompt_files": ["/"]}))
    assert not shell.run_cell(f"%llm_config --load '{file}'").success
    assert "prompt_files cannot be set by a file" in capsys.readouterr().out


def test_a_wrong_file_changes_nothing(run, shell: InteractiveShell, tmp_path: Path, capsys) -> None:
    file = tmp_path / "nbllm.json"
    file.write_text('{"model": "tiny", "contxt": 5}')
    run("%llm_config model=other")
    assert not shell.run_cell(f"%llm_config --load '{file}'").success
    shown = capsys.readouterr().out
    assert "nbllm.json" in shown
    assert "Did you mean 'context'?" in shown
    assert run("%config NbLLM.model") == "other"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"magic_prefix": "os"}', "'os' is a module of Python"),
        ('{"magic_prefix": "import"}', "'import' is a Python name"),
        ('{"magic_prefix": "time"}', "'time' is a module of Python"),
        ('{"magic_prefix": "run"}', "'run' would replace another extension's magic: %run"),
        ('{"magic_prefix": ["llm"]}', "magic_prefix must be a string (got ['llm'])"),
        ('{"model": {"a": 1}}', "model must be a string (got {'a': 1})"),
        ('{"show_status": 1}', "show_status must be True or False (got 1)"),
        ('{"context": 1e999}', "1e999 is not a finite number"),
        ('{"context": NaN}', "NaN is not a finite number"),
        ('{"context": 7}', "context_length must be at least 16 (got 7)"),
        ('{"context": ' + "9" * 5_000 + "}", "a number with too many digits"),
        ('{"options": ' + "[" * 500 + "]" * 500 + "}", "nested too deeply"),
        ('{"options": {"nonsense": 1}}', "nonsense"),
        ('{"temperature": -1}', "temperature must be at least 0"),
        ('{"context": true}', "context must be an integer (got True)"),
        ('{"model": "a", "model": "b"}', "duplicate key 'model'"),
        ('{"nest_asyncio": true}', "nest_asyncio cannot be set by a file; set it with %llm_config"),
        ('{"cell_limit": 1%s}' % ("0" * 30), "cell_limit must be between 0"),
        ('{"system": "a\\u0000b"}', "system must be text of at most"),
        ('{"parent": "x"}', "there is no setting 'parent'"),
        ('{"configured": {}}', "there is no setting 'configured'"),
        ("[]", "this is not a JSON object of settings"),
        ('{"model":', "it is not valid JSON: Expecting value at line 1"),
        (b"\xff\xfe", "it is not valid UTF-8"),
        (" " * (2**20 + 1), "it has more than 1 MiB"),
    ],
)
def test_a_strangers_file_is_read_as_strictly_as_what_is_typed(
    run, shell: InteractiveShell, tmp_path: Path, capsys, content: str | bytes, told: str
) -> None:
    file = tmp_path / "nbllm.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    run("%llm_config model=other seed=3")
    before = run("%llm_config")["value"].tolist()
    capsys.readouterr()
    assert not shell.run_cell(f"%llm_config --reset --load '{file}'").success
    shown = capsys.readouterr().out.strip()
    assert told in shown
    assert len(shown.splitlines()) == 1
    assert run("%llm_config")["value"].tolist() == before


def test_a_full_disk_leaves_the_old_settings(
    run, shell: InteractiveShell, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "nbllm.json"
    run(f"%llm_config model=tiny --save '{file}'")

    def no_space(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    assert not shell.run_cell(f"%llm_config model=other --save '{file}'").success
    assert "nbllm.json: the file cannot be written: No space left" in capsys.readouterr().out
    assert json.loads(file.read_text()) == {"model": "tiny"}
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_a_config_file_of_ipython_sets_them(shell: InteractiveShell) -> None:
    shell.config.merge(Config({"NbLLM": {"model": "phi", "magic_prefix": "ask"}}))
    shell.run_line_magic("load_ext", "nbllm")
    assert shell.run_line_magic("config", "NbLLM.model") == "phi"
    assert "ask_load" in shell.magics_manager.magics["line"]
    assert "llm_load" not in shell.magics_manager.magics["line"]


def test_another_prefix_renames_every_magic(run, shell: InteractiveShell, opener) -> None:
    run("%llm_config magic_prefix=ai")
    run("%ai_load tiny")
    run("%ai Who? Me?")
    run("answer = %ai Is it?")
    assert [request.messages[0].text for request in opener.opened[0].requests] == [
        "Who? Me?",
        "Is it?",
    ]
    assert not [name for name in shell.magics_manager.magics["cell"] if name.startswith("llm")]
    run("%ai_config magic_prefix=llm")
    run("%%llm\nHi")
    assert "ai" not in shell.magics_manager.magics["cell"]


def test_a_clash_is_told_and_both_can_be_had(run, shell: InteractiveShell, capsys) -> None:
    run("%unload_ext nbllm")

    def theirs(line: str, cell: str = "") -> str:
        return "theirs"

    theirs.__module__ = "cellmage.magic"
    shell.register_magic_function(theirs, magic_kind="line_cell", magic_name="llm")
    capsys.readouterr()
    shell.run_line_magic("load_ext", "nbllm")
    told = capsys.readouterr().out
    assert "nbllm's %llm replaced those of cellmage" in told
    assert "%llm_config magic_prefix=nbllm" in told
    shell.run_line_magic("llm_config", "magic_prefix=nbllm")
    assert capsys.readouterr().out == ""
    assert shell.run_line_magic("llm", "") == "theirs"
    assert "nbllm" in shell.magics_manager.magics["cell"]
    shell.run_line_magic("unload_ext", "nbllm")
    assert shell.run_line_magic("llm", "") == "theirs"


def test_a_clash_is_settled_by_unloading(run, shell: InteractiveShell) -> None:
    run("%unload_ext nbllm")
    shell.register_magic_function(lambda line: "theirs", magic_name="llm")
    shell.run_line_magic("load_ext", "nbllm")
    shell.run_line_magic("unload_ext", "nbllm")
    assert shell.run_line_magic("llm", "") == "theirs"


def test_a_key_is_allowed_for_an_address_by_the_line_of_the_message(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("LAB_KEY", "lab-0123456789")
    info = ModelInfo(
        name="lab",
        model_type="vllm",
        local=False,
        model="m",
        context_length=512,
        base_url="http://127.0.0.1:9/v1",  # where nobody listens
        api_key_env="LAB_KEY",
    )
    with pytest.raises(AuthenticationError) as caught:
        open_model(info, LoadControl())
    (line,) = [line for line in str(caught.value).splitlines() if "%llm_config" in line]
    run(line.removeprefix("or "))
    assert open_model(info, LoadControl()).usable
    with pytest.raises(NbllmError, match="address"):
        run("%llm_config --allow-key LAB_KEY")
    run("%llm_config --disallow-key LAB_KEY=http://127.0.0.1:9")
    with pytest.raises(AuthenticationError):
        open_model(info, LoadControl())
