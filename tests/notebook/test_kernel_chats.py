"""Conversations, forms and errors in a real kernel, with what a front end sends and gets."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

SETUP = """
%load_ext nbllm
import os, json
from nbllm.core.model_manager import ModelManager
from nbllm.notebook import extension as magics
from nbllm.testing import FakeOpener, fake_info

def use(context=4096, **arguments):
    global opener, manager
    opener = FakeOpener(**arguments)
    manager = ModelManager([fake_info("tiny", context_length=context)], open_model=opener)
    magics.load(get_ipython(), lambda: manager)

def sent(number=-1):
    return [message.text.strip() for message in opener.opened[0].requests[number].messages]
"""


@pytest.fixture(scope="module")
def fake_kernel(kernel, tmp_path_factory: pytest.TempPathFactory):
    kernel.ok(SETUP)
    kernel.ok(f"os.chdir({str(tmp_path_factory.mktemp('cells'))!r})")
    return kernel


def value(kernel, expression: str) -> object:
    return eval(kernel.ok(expression).result)


def status(ran) -> str:
    return str(ran.contents("display_data")[-1]["data"]["text/plain"])


# ------------------------------------------------------------ conversations


def test_a_cell_that_runs_again_replaces_its_turn(fake_kernel) -> None:
    fake_kernel.ok("use(text='Yes.')\n%llm_load tiny")
    first = fake_kernel.ok("%%llm --chat trip --system Brief.\nOne?", cell="a")
    fake_kernel.ok("%%llm --chat trip\nTwo?", cell="b")
    assert value(fake_kernel, "sent()") == ["Brief.", "One?", "Yes.", "Two?"]
    again = fake_kernel.ok("%%llm --chat trip\nOther?", cell="a")
    assert value(fake_kernel, "sent()") == ["Brief.", "Other?"]
    assert "chat trip, turn 1 · 3 of 4,096 tokens of context" in status(first)
    assert "chat trip, turn 1 re-run (the 1 after it was answered before)" in status(again)
    fake_kernel.ok("%%llm --chat trip\nTwo?", cell="b")
    assert value(fake_kernel, "sent()") == ["Brief.", "Other?", "Yes.", "Two?"]
    table = value(fake_kernel, "t = %llm_chat\nt.iloc[0].to_dict()")
    assert (table["turns"], table["stale"], table["incomplete"]) == (2, 0, 0)


def test_the_calls_of_a_loop_are_turns_and_running_it_again_replaces_them_all(fake_kernel) -> None:
    fake_kernel.ok("use(text='Yes.')\n%llm_load tiny")
    loop = "for n in range({}):\n    get_ipython().run_cell_magic('llm', '--chat c', f'Q{{n}}')"
    fake_kernel.ok(loop.format(3), cell="loop")
    fake_kernel.ok("%%llm --chat c\nlast", cell="z")
    assert value(fake_kernel, "sent()[::2]") == ["Q0", "Q1", "Q2", "last"]
    fake_kernel.ok(loop.format(2), cell="loop")
    fake_kernel.ok("%%llm --chat c\nlast", cell="z")
    assert value(fake_kernel, "sent()[::2]") == ["Q0", "Q1", "last"]


def test_a_stopped_answer_is_recorded_as_such(fake_kernel) -> None:
    fake_kernel.ok("use(text='word ' * 500, token_seconds=0.01)\n%llm_load tiny")
    fake_kernel.run("%%llm --chat c\nGo", cell="a", interrupt_when_shown="word")
    turn = fake_kernel.ok("t = %llm_chat show c\nprint(t)").contents("stream")[0]["text"]
    assert "**Answer** (tiny, stopped)" in turn
    assert "\nword" in turn


def test_a_failed_answer_is_recorded_with_what_had_come(fake_kernel) -> None:
    fake_kernel.ok("use(text='One two', fail_after=1, error=RuntimeError('broke'))")
    assert fake_kernel.run("%%llm tiny --chat c\nGo", cell="a").reply["status"] == "error"
    turn = fake_kernel.ok("t = %llm_chat show c\nprint(t)").contents("stream")[0]["text"]
    assert turn.endswith("**Answer** (tiny, failed)\n\nOne\n\n")


def test_a_saved_conversation_survives_a_restart(fake_kernel) -> None:
    fake_kernel.ok("use(text='Yes.')\n%llm_load tiny")
    fake_kernel.ok("%%llm --chat kept\nOne?", cell="a")
    fake_kernel.ok("%llm_chat save kept")
    fake_kernel.ok("%%llm --chat kept\nTwo?", cell="b")
    fake_kernel.ok("use(text='Yes.')\n%llm_load tiny")  # a new session, as after a restart
    fake_kernel.ok("%%llm --chat kept\nTwo, again?", cell="b")
    assert value(fake_kernel, "sent()") == ["One?", "Yes.", "Two, again?"]
    fake_kernel.ok("%llm_chat delete kept")
    assert value(fake_kernel, "os.listdir()") == []


def test_what_does_not_fit_is_the_readers_choice(fake_kernel) -> None:
    fake_kernel.ok("use(60, text='Yes.')\n%llm_load tiny")
    for n in range(2):
        fake_kernel.ok("%%llm --chat c\n" + f"q{n} " * 18, cell=str(n))
    ran = fake_kernel.run("%%llm --chat c\n" + "more " * 18, cell="x")
    assert "add --overflow drop-oldest or --overflow summarise" in str(ran.contents("error"))
    ran = fake_kernel.ok("%%llm --chat c --overflow drop-oldest\n" + "more " * 18, cell="x")
    assert "the oldest turn was left out" in status(ran)
    assert len(value(fake_kernel, "sent()")) == 3


def test_a_summary_that_takes_long_is_told_and_can_be_stopped(fake_kernel) -> None:
    fake_kernel.ok("use(60, text='Short.')\n%llm_load tiny")
    for n in range(2):
        fake_kernel.ok("%%llm --chat c\n" + f"q{n} " * 18, cell=str(n))
    fake_kernel.ok("opener.opened[0]._prompt_seconds = 0.5")
    question = "%%llm --chat c --overflow summarise\n" + "more " * 10
    stopped = fake_kernel.run(question, cell="x", interrupt_when_shown="fitting the")
    assert stopped.reply["evalue"] == "Stopped before the prompt was sent."
    ran = fake_kernel.ok(question, cell="x")
    assert "the 2 oldest turns were summarised" in status(ran)
    assert "Short." in value(fake_kernel, "sent()")[0]


def test_nbclient_tells_no_ids_and_the_same_source_is_the_same_cell(tmp_path: Path) -> None:
    cells = [
        SETUP,
        "use(text='Yes.')\n%llm_load tiny",
        "%%llm --chat c\nOne?",
        "%%llm --chat c\nTwo?",
    ]
    shown = "print([t.question.text.strip() for t in get_ipython().magics_manager.registry"
    shown += "['ChatMagics'].session.chats.get('c').turns])"
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(c) for c in [*cells, shown]]
    )
    client = NotebookClient(notebook, timeout=60, kernel_name="python3")
    with client.setup_kernel():
        for index in (0, 1, 2, 3, 2, 3, 3, 4):
            client.execute_cell(notebook.cells[index], index)
    assert notebook.cells[4].outputs[0].text == "['One?', 'Two?']\n"
    assert "chat c, turn 2 re-run" in notebook.cells[3].outputs[-1].data["text/plain"]


# ------------------------------------------------------------ what is sent


def test_variables_tables_figures_and_errors_reach_the_model(fake_kernel) -> None:
    fake_kernel.ok("use(text='Yes.')\n%llm_load tiny\nimport pandas as pd\nname = 'Ada'")
    fake_kernel.ok("df = pd.DataFrame({'n': [1, 2]})\nbraces = '{name}'")
    fake_kernel.run("1/0")
    fake_kernel.ok('%%llm\n{name} {braces} {df} {"json": {name}} {unknown} {In[1]!r:.4} {Err}')
    (text,) = value(fake_kernel, "sent()")
    assert text.startswith("Ada {name} DataFrame: 2 rows, 1 column\n")
    assert '{"json": Ada} {unknown}' in text
    assert text.endswith("ZeroDivisionError: division by zero")
    fake_kernel.ok("from matplotlib.figure import Figure\nfig = Figure(figsize=(1, 1))")
    ran = fake_kernel.ok("%%llm\nWhat is {fig}? {fig.nothing}")
    kinds = "[type(p).__name__ for p in opener.opened[0].requests[-1].messages[0].parts]"
    assert value(fake_kernel, kinds) == ["TextPart", "ImagePart", "TextPart"]
    assert "with {fig}" in status(ran)
    assert "{fig.nothing} left as typed: AttributeError" in status(ran)
    fake_kernel.ok("%%llm --raw\n{name}")
    assert value(fake_kernel, "sent()") == ["{name}"]
    fake_kernel.ok('%llm --system "Speak to {name}" Hi')
    assert value(fake_kernel, "sent()") == ["Speak to Ada", "Hi"]


def test_a_file_that_is_not_there_stops_before_anything_is_asked(fake_kernel) -> None:
    fake_kernel.ok("use(text='Yes.')\n%llm_load tiny")
    ran = fake_kernel.run("%%llm\nSum up {file:absent.txt}")
    (error,) = ran.contents("error")
    assert "{file:absent.txt}: No such file or directory; --raw sends" in error["evalue"]
    assert value(fake_kernel, "len(opener.opened[0].requests)") == 0


def test_show_prompt_sends_nothing(fake_kernel) -> None:
    fake_kernel.ok("use(text='Yes.')\nname = 'Ada <b>'\n%llm_load tiny")
    fake_kernel.ok("%%llm --chat c\nOne?", cell="a")
    ran = fake_kernel.ok("%%llm --chat c --show-prompt --as json\nTwo, {name}?", cell="b")
    assert ran.result == (
        "user:\nOne?\n\nassistant:\nYes.\n\nuser:\nTwo, Ada <b>?\n\nAnswer with JSON only.\n\n"
        "{name} became 7 characters\nNot sent. 45 characters, 9 of 4,096 tokens, for tiny"
    )
    html = ran.contents("execute_result")[0]["data"]["text/html"]
    assert "Ada &lt;b&gt;?" in html
    assert value(fake_kernel, "len(opener.opened[0].requests)") == 1


# ------------------------------------------------------------ forms

FENCED = "Here: \\n\\n```python\\nprint(1)\\n```\\n"


def test_code_goes_into_a_new_cell_and_does_not_run(fake_kernel) -> None:
    fake_kernel.ok(f"use(text='{FENCED}')")
    ran = fake_kernel.ok("%%llm tiny --as code -o code\nPrint one.")
    (payload,) = [p for p in ran.reply["payload"] if p["source"] == "set_next_input"]
    assert payload["text"] == "print(1)"
    assert payload["replace"] is False
    assert not ran.contents("stream")
    assert ran.answers[-1] == "```python\nprint(1)\n```"
    assert value(fake_kernel, "code") == "print(1)"
    assert value(fake_kernel, "_llm.text.startswith('Here: ')") is True


@pytest.mark.parametrize(
    ("flags", "text", "expression", "expected"),
    [
        ("--as json", '```json\\n{"a": [1]}\\n```', "v", {"a": [1]}),
        ("--as dataframe", '[{"a": 1}, {"a": 2}]', "v.a.tolist()", [1, 2]),
        ("--as table", "| a |\\n|---|\\n| x |", "v.a.tolist()", ["x"]),
        ("--as math", "It is $$x^2$$.", "v", "x^2"),
        ("--as text", "*Plain*", "v", "*Plain*"),
        ("--schema S", '{"a": 1}', "v", {"a": 1}),
        ("--schema D", '{"a": 1}', "v.a", 1),
        ("--schema S2 --as dataframe", '[{"a": 1}]', "v.a.tolist()", [1]),
    ],
)
def test_each_form_gives_its_value(fake_kernel, flags, text, expression, expected) -> None:
    fake_kernel.ok(
        f"use(text={text.encode().decode('unicode_escape')!r})\n"
        "from dataclasses import dataclass\n"
        "S = {'type': 'object', 'required': ['a']}\nS2 = {'type': 'array'}\n"
        "@dataclass\nclass D:\n    a: int"
    )
    fake_kernel.ok(f"%%llm tiny {flags} -o v\nGive it.")
    assert value(fake_kernel, expression) == expected
    (prompt,) = value(fake_kernel, "sent()")
    assert prompt.startswith("Give it.\n\nAnswer ")
    schema = value(fake_kernel, "opener.opened[0].requests[-1].options.response_schema is not None")
    assert schema is any(word in flags for word in ("--schema", "json", "dataframe", "table"))


def test_tables_and_diffs_are_shown_as_such_with_all_text_escaped(fake_kernel) -> None:
    fake_kernel.ok("""use(text='[{"a": "<script>", "b": 1}]')""")
    for form in ("dataframe", "table"):
        ran = fake_kernel.ok(f"%%llm tiny --as {form}\nGo")
        html = ran.contents("display_data")[-2]["data"]["text/html"]
        assert "<table" in html
        assert "&lt;script&gt;" in html
        assert "<script" not in html
    fake_kernel.ok("use(text='```diff\\n@@ -1 +1 @@\\n-<b>old</b>\\n+new\\n```')")
    ran = fake_kernel.ok("%%llm tiny --as diff\nGo")
    html = ran.contents("display_data")[-2]["data"]["text/html"]
    assert "&lt;b&gt;old&lt;/b&gt;" in html
    assert "<b>" not in html


def test_an_answer_without_the_form_stays_and_its_variable_goes(fake_kernel) -> None:
    fake_kernel.ok("use(text='No JSON, sorry.')\nv = 'of an earlier run'")
    ran = fake_kernel.run("%%llm tiny --as json -o v\nGive it.")
    assert ran.reply["status"] == "error"
    (error,) = ran.contents("error")
    assert error["traceback"][0].endswith(
        "no valid JSON in the answer: it has no object or array. The whole text is shown above "
        "and in _llm.text"
    )
    assert ran.answers[-1] == "No JSON, sorry."
    assert value(fake_kernel, "_llm.text, 'v' in globals()") == ("No JSON, sorry.", False)


def test_a_cut_off_answer_names_the_remedy(fake_kernel) -> None:
    fake_kernel.ok("use(text='It is [1, 2, 3, 4]')")
    ran = fake_kernel.run("%%llm tiny --as json --max-tokens 2\nGo")
    assert "raise --max-tokens" in ran.contents("error")[0]["evalue"]


def test_what_is_complete_of_a_cut_off_table_is_kept(fake_kernel) -> None:
    fake_kernel.ok("""use(text='[{"a": 1}, {"a": 2}, {"a": 3}]')""")
    ran = fake_kernel.ok("%%llm tiny --as dataframe --max-tokens 5 -o v\nGo")
    assert value(fake_kernel, "v.a.tolist()") == [1, 2]
    assert "the value holds the complete part only" in str(ran.contents("display_data"))


# ------------------------------------------------------------ errors


def test_explain_sends_the_error_without_secrets(fake_kernel) -> None:
    fake_kernel.ok("use(text='You divide by zero.')\n%llm_load tiny")
    fake_kernel.run("key = 'sk-abcdefghijklmnop'\nimport json\njson.loads('{')")
    ran = fake_kernel.ok("%llm_explain Is it mine?")
    assert ran.answers[-1] == "You divide by zero."
    (prompt,) = value(fake_kernel, "sent()")
    assert "> " in prompt
    assert "json.loads('{')" in prompt
    assert "In json.decoder.raw_decode" in prompt
    assert "JSONDecodeError: Expecting property name" in prompt
    assert prompt.endswith("Is it mine?")
    assert "Python 3." in prompt
    assert "sk-abc" not in prompt


def test_fix_proposes_a_diff_and_inserts_it_when_accepted(fake_kernel) -> None:
    fixed = "a = [1]\\nprint(a[0])"
    fake_kernel.ok(f"use(text='```python\\n{fixed}\\n```')\n%llm_load tiny")
    fake_kernel.run("a = [1]\nprint(a[1])")
    ran = fake_kernel.ok("%llm_fix")
    assert not ran.reply["payload"]
    diff, told = ran.contents("display_data", "update_display_data")[-2:]
    assert diff["data"]["text/plain"].splitlines()[-2:] == ["-print(a[1])", "+print(a[0])"]
    assert "%llm_fix --accept inserts it as a new cell below" in told["data"]["text/plain"]
    accepted = fake_kernel.ok("%llm_fix --accept")
    (payload,) = accepted.reply["payload"]
    assert (payload["text"], payload["replace"]) == ("a = [1]\nprint(a[0])", False)
    assert fake_kernel.run("%llm_fix --accept").reply["status"] == "error"


def test_a_fix_that_changes_nothing_says_so(fake_kernel) -> None:
    fake_kernel.ok("use(text='```\\n1/0\\n```')\n%llm_load tiny")
    fake_kernel.run("1/0")
    ran = fake_kernel.run("%llm_fix")
    assert "no valid fix in the answer: it changes nothing" in ran.contents("error")[0]["evalue"]


def test_nothing_failed_nothing_to_fix(fake_kernel) -> None:
    fake_kernel.ok("use(text='x')")
    ran = fake_kernel.run("%llm_fix")
    assert "no cell has failed yet" in str(ran.contents("stream"))


def test_the_bundled_model_keeps_a_conversation_and_a_schema(kernel, bundled_gguf: Path) -> None:
    kernel.ok("%load_ext nbllm\n%reload_ext nbllm")
    kernel.ok("%%llm --chat real --max-tokens 8 --temperature 0\nMy name is Ada.", cell="a")
    ran = kernel.ok("%%llm --chat real --max-tokens 8 --temperature 0\nWho am I?", cell="b")
    assert "chat real, turn 2 · " in status(ran)
    assert "tokens of context" in status(ran)
    kernel.ok("S = {'type': 'object', 'properties': {'n': {'type': 'integer', 'maximum': 9}},"
              " 'required': ['n'], 'additionalProperties': False}")  # fmt: skip
    kernel.ok("%%llm --schema S -o v --temperature 0 --max-tokens 200\nHow many legs has a cat?")
    assert isinstance(value(kernel, "v['n']"), int)
    kernel.ok("%llm_unload --all")
