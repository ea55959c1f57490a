"""The magics in a shell within this process, on fake models."""

import re
import threading
import traceback
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

from nbllm.core.errors import EngineCrashedError, ModelLoadError, ModelNotFoundError
from nbllm.core.model_manager import ModelManager
from nbllm.core.types import FinishReason, GenerationOptions, LoadOptions
from nbllm.notebook import extension as magics
from nbllm.testing import FakeOpener, fake_info

MAGICS = {name for group in magics.GROUPS for table in group.magics.values() for name in table}


class Bench:
    """A shell with the magics on a manager whose models are fakes."""

    def __init__(self, shell: InteractiveShell, folder: Path) -> None:
        self.shell, self._folder = shell, folder
        self.use(FakeOpener(text="Hello **you**."))

    def use(self, opener: FakeOpener) -> None:
        self.opener = opener
        infos = [fake_info("tiny", size_bytes=3 << 20), fake_info("other")]
        self.manager = ModelManager(infos, folder=self._folder, open_model=opener)
        magics.load(self.shell, lambda: self.manager)

    def run(self, cell: str) -> object:
        ran = self.shell.run_cell(cell)
        ran.raise_error()
        return ran.result

    def __getitem__(self, variable: str) -> object:
        return self.shell.user_ns[variable]


@pytest.fixture
def bench(shell: InteractiveShell, tmp_path: Path) -> Bench:
    return Bench(shell, tmp_path)


def registered(shell: InteractiveShell) -> set[str]:
    tables = shell.magics_manager.magics.values()
    return {name for table in tables for name in table if name.startswith("llm")}


def matchers(shell: InteractiveShell) -> list[object]:
    """What completes in the shell: newer versions of IPython look at one list, older at both."""
    return [*shell.Completer.custom_matchers, *shell.Completer.magic_arg_matchers]


def traces(shell: InteractiveShell) -> tuple[object, ...]:
    formatter = shell.display_formatter.formatters["text/plain"]
    return (
        {kind: dict(table) for kind, table in shell.magics_manager.magics.items()},
        dict(shell.magics_manager.registry),
        list(shell.configurables),
        list(shell.input_transformers_cleanup),
        matchers(shell),
        dict(formatter.deferred_printers),
        {name: list(calls) for name, calls in shell.events.callbacks.items()},
        set(shell.user_ns),
        {thread.name for thread in threading.enumerate()},
    )


# ------------------------------------------------------------ loading the extension


def test_load_ext_registers_the_magics(shell: InteractiveShell) -> None:
    shell.run_line_magic("load_ext", "nbllm")
    assert registered(shell) == MAGICS


def test_unload_ext_leaves_nothing_behind(shell: InteractiveShell) -> None:
    shell.run_line_magic("load_ext", "nbllm")
    shell.run_line_magic("unload_ext", "nbllm")
    before = traces(shell)
    shell.run_line_magic("load_ext", "nbllm")
    magics.load(shell, lambda: ModelManager([fake_info("tiny")], open_model=FakeOpener()))
    shell.run_cell("%%llm tiny\nHello").raise_error()
    assert "nbllm-loop" in {thread.name for thread in threading.enumerate()}
    shell.run_line_magic("unload_ext", "nbllm")
    left = traces(shell)
    assert left[:-2] == before[:-2]
    added = {name for name in left[-2] - before[-2] if not re.fullmatch(r"_\d+", name)}
    assert added == {"_llm"}, "the answer is the user's and stays"
    assert left[-1] == before[-1]


def test_reload_ext_is_safe_and_keeps_models(bench: Bench) -> None:
    known = matchers(bench.shell)
    bench.run("%llm_load tiny")
    bench.run("%reload_ext nbllm")
    bench.run("%reload_ext nbllm")
    assert registered(bench.shell) == MAGICS
    assert len(matchers(bench.shell)) == len(known)
    assert [info.name for info in bench.manager.list_loaded_models()] == ["tiny"]


def test_unloading_spares_a_magic_that_somebody_else_put_in_place(bench: Bench) -> None:
    bench.shell.register_magic_function(lambda line: "mine", magic_name="llm_models")
    bench.shell.run_line_magic("unload_ext", "nbllm")
    magics.unload(bench.shell)
    assert registered(bench.shell) == {"llm_models"}


# ------------------------------------------------------------ help and arguments


@pytest.mark.parametrize("name", sorted(MAGICS))
def test_every_magic_explains_itself(bench: Bench, name: str) -> None:
    found = bench.shell.object_inspect(f"%{name}")
    assert f"%{name}" in found["docstring"]
    assert len(found["docstring"].splitlines()) >= 5
    assert "Examples::" in found["docstring"]


def test_help_names_every_flag(bench: Bench) -> None:
    help_text = bench.shell.object_inspect("%llm")["docstring"]
    flags = "-o --system --max-tokens --temperature --top-p --top-k --min-p --repeat-penalty --seed"
    for flag in [*flags.split(), "--stop", "--model"]:
        assert f"{flag} " in help_text


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("%%llm --max-tocens 3\nHi", "%llm has no flag --max-tocens. Did you mean '--max-tokens'?"),
        ("%llm --sistem x Hi", "%llm has no flag --sistem. Did you mean '--system'?"),
        ("%llm_load x --context 3", "%llm_load has no flag --context."),
        ("%llm --top 1 Hi", "%llm: --top can be --top-k or --top-p"),
        ("%%llm tiny -m other\nHi", "two models given: tiny and other; give one"),
        ("%%llm tiny\n  \n", "no prompt: write it after"),
        ("%llm --seed 1", "no prompt: write it after"),
        ("%llm_load", "name a model, a file or a server; %llm_models lists the available models"),
        ("%llm_models tiny", "unrecognized arguments: tiny. %llm_models takes flags only"),
    ],
)
def test_a_wrong_line_fails_with_one_line(
    bench: Bench, capsys: pytest.CaptureFixture[str], cell: str, message: str
) -> None:
    assert bench.shell.run_cell(cell).success is False
    shown = capsys.readouterr().err.strip()
    assert message in shown
    assert len(shown.splitlines()) == 1


# ------------------------------------------------------------ asking


def test_an_answer_is_shown_once_and_kept(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.run("%%llm tiny -o mine\nSay hello.")
    assert capsys.readouterr().out.count("Hello **you**.") == 1
    assert bench["_llm"] is bench["mine"]
    assert bench["_llm"].text == "Hello **you**."
    (request,) = bench.opener.opened[0].requests
    assert request.messages[-1].text.strip() == "Say hello."


def test_the_status_line_tells_how_it_went(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.run("%%llm tiny\nSay hello.")
    status = capsys.readouterr().out.splitlines()[-1]
    assert status.startswith("tiny · CPU · 2 tokens · ")
    assert "tokens/s · first token 0." in status


def test_options_reach_the_model(bench: Bench) -> None:
    bench.run(
        "%%llm tiny --system 'Be brief.' --max-tokens 7 --temperature 0 --top-p 0.9 --top-k 5 "
        "--min-p 0.1 --repeat-penalty 1.1 --seed 3 --stop END --stop '\\n'\nHi"
    )
    (request,) = bench.opener.opened[0].requests
    assert [(m.role, m.text.strip()) for m in request.messages] == [
        ("system", "Be brief."),
        ("user", "Hi"),
    ]
    assert request.options == GenerationOptions(
        max_tokens=7,
        temperature=0.0,
        top_p=0.9,
        top_k=5,
        min_p=0.1,
        repeat_penalty=1.1,
        seed=3,
        stop=("END", "\n"),
    )


PROMPTS = ['{"a": {x}} {undefined} {{}} $x $HOME \\frac{1}{2}', "What's 5 % of 3?", "Who? Me??"]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_raw_prompt_is_sent_as_typed(bench: Bench, prompt: str) -> None:
    bench.run("x = 5")
    bench.run(f"%%llm tiny --raw\n{prompt}\n")
    bench.run(f"%llm --raw {prompt}")
    cell, line = (request.messages[0].text for request in bench.opener.opened[0].requests)
    assert cell == prompt
    assert line == prompt


def test_a_completion_goes_on_from_the_text_alone(bench: Bench) -> None:
    bench.run("%llm_config system='Be brief.'")
    bench.run("x = 5")
    bench.run("%%llm tiny --completion --max-tokens 3\nOnce {x} upon\n")
    (request,) = bench.opener.opened[0].requests
    assert [(m.role, m.text) for m in request.messages] == [("user", "Once 5 upon")]
    assert request.options == GenerationOptions(max_tokens=3, raw=True)


@pytest.mark.parametrize("flag", ["--system 'Be brief.'", "--chat trip", "--as json", "--schema x"])
def test_a_completion_refuses_what_only_conversations_have(
    bench: Bench, capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    assert not bench.shell.run_cell(f"%%llm tiny --completion {flag}\nOnce").success
    assert (
        "completion: it continues a text and cannot be "
        f"combined with {flag.split()[0]}" in capsys.readouterr().out
    )


def test_the_line_form_may_be_assigned(bench: Bench) -> None:
    bench.run("%llm_load tiny")
    bench.run("answer = %llm --max-tokens 1 Is it?\nsame = answer is _llm")
    assert bench["same"]
    assert bench["answer"].text == "Hello"


def test_earlier_answers_can_be_had_again(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.run("%%llm tiny --max-tokens 1\nHi")
    bench.run("%%llm tiny\nHi")
    assert bench.run("%llm_last") is bench["_llm"]
    assert bench.run("%llm_last 2").text == "Hello"
    assert not bench.shell.run_cell("%llm_last 3").success
    assert "there is no answer 3; this kernel keeps 2" in capsys.readouterr().err


def test_an_earlier_answer_has_its_status_line_again(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.run("%%llm tiny --max-tokens 1\nHi")
    answer, status = capsys.readouterr().out.strip().splitlines()[-3::2]
    assert status.startswith("cut off at the token limit · tiny · CPU · 1 token")
    for value in ("%llm_last", "_llm"):
        bench.run(value)
        shown = capsys.readouterr().out.splitlines()[1:4]
        assert shown[:2] == [answer, ""]
        assert status.removesuffix(" · %llm --continue goes on") == shown[2]
    bench.run("earlier = %llm_last")
    assert capsys.readouterr().out == ""


def test_the_model_used_last_answers(bench: Bench) -> None:
    bench.run("%llm_load tiny")
    bench.run("%llm_load other")
    bench.run("%llm -m tiny Hello")
    bench.run("%llm Hello again")
    assert bench["_llm"].model == "tiny"


def test_a_named_model_is_loaded_when_it_is_needed(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.run("%%llm tiny\nHi")
    assert capsys.readouterr().out.startswith("tiny ready on CPU in ")
    bench.run("%%llm tiny\nHi")
    assert "ready" not in capsys.readouterr().out
    assert len(bench.opener.opened) == 1


def test_with_nothing_loaded_the_bundled_model_answers_and_is_named(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.run("%%llm\nHi")
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("No model was loaded, so the bundled one answers: SmolLM2-135M")
    assert bench["_llm"].model == bench.manager.bundled_model().name


# ------------------------------------------------------------ failing and stopping


def test_an_unknown_model_fails_with_one_line_and_its_type(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = bench.shell.run_cell("%%llm tinny\nHi")
    assert isinstance(ran.error_in_exec, ModelNotFoundError)
    shown = capsys.readouterr().out.strip()
    assert shown.count("\n") == 0
    assert "No model is called 'tinny'. Did you mean 'tiny'?" in shown


def test_a_failure_keeps_the_partial_answer(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    crash = EngineCrashedError("tiny", "its process was killed by SIGKILL; load it again")
    bench.use(FakeOpener(text="One two three", error=crash, fail_after=2))
    ran = bench.shell.run_cell("%%llm tiny -o mine\nHi")
    assert ran.error_in_exec is crash
    assert crash.partial_text == "One two"
    result = bench["mine"]
    assert (result.text, result.finish_reason) == ("One two", FinishReason.FAILED)
    assert result.raw_finish_reason == "EngineCrashedError"
    shown = capsys.readouterr().out
    assert "One two\n\n✗ failed · tiny" in shown
    assert "Traceback" not in shown
    assert "its process was killed by SIGKILL" in shown.splitlines()[-1]


def test_who_catches_a_failure_gets_all_of_it(bench: Bench) -> None:
    bench.use(FakeOpener(load_error=ModelLoadError("tiny", "its file is gone")))
    with pytest.raises(ModelLoadError, match="its file is gone") as caught:
        bench.shell.run_line_magic("llm_load", "tiny")
    assert "raise self._load_error" in "".join(traceback.format_tb(caught.value.__traceback__))


def test_an_error_of_nbllm_itself_shows_where_it_is(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.use(FakeOpener(text="One two", error=ZeroDivisionError("bug"), fail_after=1))
    assert isinstance(bench.shell.run_cell("%%llm tiny\nHi").error_in_exec, ZeroDivisionError)
    shown = capsys.readouterr().out
    assert "Traceback" in shown
    assert bench["_llm"].text == "One"


# ------------------------------------------------------------ loading and unloading models


def test_a_path_with_blanks_needs_no_quotes(
    bench: Bench, bundled_gguf: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "my models"
    folder.mkdir()
    (folder / "x y.gguf").symlink_to(bundled_gguf)
    for number, written in enumerate((f"{folder}/x y.gguf", f'"{folder}/x y.gguf"', str(folder))):
        model = bench.shell.run_line_magic("llm_load", f"{written} --as name{number}")
        assert (model.name, model.info.path) == (f"name{number}", folder / "x y.gguf")


def test_llm_load_returns_the_model_and_says_that_it_is_ready(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    model = bench.run("model = %llm_load tiny --as small --ctx 2048 --threads 2\nmodel")
    assert model is bench.manager.get_model("small")
    assert model.info.load == LoadOptions(context_length=2048, threads=2)
    shown = capsys.readouterr().out
    assert re.search(r"small ready on CPU in [\d.]+ s · context 4,096 · memory 3 MiB", shown)
    assert bench.run("(await model.generate('Hi')).text") == "Hello **you**."


def test_all_load_options_reach_the_opener(bench: Bench) -> None:
    flags = "--ctx 512 --threads 1 --gpu-layers -1 --parallel 2 --chat-template 'my own.jinja'"
    model = bench.run(f"%llm_load tiny {flags}")
    wanted = {"context_length": 512, "threads": 1, "gpu_layers": -1, "parallel": 2}
    assert model.info.load == LoadOptions(**wanted, chat_template="my own.jinja")  # type: ignore[arg-type]


def test_llm_load_reads_a_config_first(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "my models.json").write_text(
        '{"name": "written", "model_type": "llama", "local": true, "path": "x.gguf"}'
    )
    model = bench.run(f"%llm_load written --config '{tmp_path / 'my models.json'}'")
    assert model.info.path == tmp_path / "x.gguf"


def test_an_impossible_option_fails_with_one_line(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not bench.shell.run_cell("%llm_load tiny --threads 0").success
    assert "threads must be between 1 and 1,024 (got 0)" in capsys.readouterr().out
    assert not bench.opener.opened


def test_an_unloaded_model_says_so(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.run("model = %llm_load tiny")
    bench.run("%llm_unload")
    bench.run("model")
    assert "tiny is no longer loaded" in capsys.readouterr().out


@pytest.mark.parametrize("line", ["%llm_unload tiny", "%llm_unload"])
def test_unloading_one_model(bench: Bench, line: str) -> None:
    bench.run("%llm_load tiny")
    table = bench.run(line)
    assert table.to_dict("records") == [
        {"name": "tiny", "device": "CPU", "memory freed (MiB)": 3.0}
    ]
    assert bench.manager.list_loaded_models() == []
    assert not bench.opener.opened[0].usable


def test_unloading_several_needs_a_word(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.run("%llm_load tiny")
    bench.run("%llm_load other")
    assert not bench.shell.run_cell("%llm_unload").success
    assert "name one, or use --all: tiny, other" in capsys.readouterr().err
    assert set(bench.run("%llm_unload --all")["name"]) == {"tiny", "other"}
    assert bench.manager.list_loaded_models() == []


def test_unloading_what_is_not_loaded_fails(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not bench.shell.run_cell("%llm_unload tiny").success
    assert "No model is called 'tiny'. No model is loaded." in capsys.readouterr().out


def test_llm_devices_is_a_dataframe(bench: Bench) -> None:
    table = bench.run("%llm_devices").set_index("device")
    assert table.index[0] == "CPU"
    assert table.loc["RAM", "free (MiB)"] > 0
    assert table.loc["CPU", "usable cores"] > 0


def test_llm_models_is_a_dataframe(bench: Bench) -> None:
    bench.run("%llm_load tiny --as small")
    table = bench.run("%llm_models").set_index("name")
    assert table.index[0] == "small"
    assert {"tiny", "other"} < set(table.index)
    assert table.loc["small", "loaded on"] == "CPU"
    assert table.loc["tiny", "file size (MiB)"] == 3.0
