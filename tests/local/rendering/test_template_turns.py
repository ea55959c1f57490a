"""What reads like a special token in a conversation is text; what the template writes is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbllm.local.llama.vocabulary import Vocabulary
from nbllm.local.rendering.template_process import Template
from nbllm.local.rendering.template_turns import Marks, free_character
from nbllm.local.request_refusals import TemplateRefusalError

MARKS = ("<|im_end|>", "<|im_start|>", "<|im|>", "<s>", "</s>", "[INST]", "<|endoftext|>", "aa")
SMOLLM = ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<file_sep>")
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
JOINS = (
    "{% for m in messages %}<|im_start|>{{ m.content }}{% for c in m.tool_calls %}"
    "<{{ c.function.name }}>{% for k, v in c.function.arguments.items() %}"
    "<{{ k }}>{{ v }}</{{ k }}>"
    "{% endfor %}{% endfor %}<|im_end|>{% endfor %}{{ tools | tojson if tools }}"
)
GUARD = "\U00010600"

pieces = st.lists(
    st.sampled_from([*MARKS, "<", "|", ">", "<|", "|>", "im", "a", " ", "\n", "é"]), max_size=8
).map("".join)


@given(pieces)
def test_broken_text_holds_no_mark_and_is_the_same_without_the_guard(text: str) -> None:
    marks = Marks(MARKS)
    broken = marks.broken(text, GUARD)
    assert marks.found(broken) == []
    assert broken.replace(GUARD, "") == text


@given(st.lists(pieces, max_size=5))
def test_enclosed_texts_make_no_mark_with_what_is_beside_them(texts: list[str]) -> None:
    marks = Marks(MARKS)
    for between in ("", "<", ">", "<|", "|>", "im"):
        text = between.join(["", *(marks.enclosed(text, GUARD) for text in texts), ""])
        found = [each for each in marks.found(text) if each not in between * (len(texts) + 1)]
        assert found == []


@given(st.lists(st.tuples(pieces, st.sampled_from(MARKS)), max_size=6))
def test_pieces_are_all_of_the_text_and_end_at_its_own_marks(parts: list[tuple[str, str]]) -> None:
    marks = Marks(MARKS)
    text = "".join(marks.enclosed(said, GUARD) + mark for said, mark in parts)
    split = list(marks.pieces(text, GUARD))
    assert "".join(piece for piece, _ in split) == text.replace(GUARD, "")
    written = [each for piece, is_plain in split if not is_plain for each in marks.found(piece)]
    assert written == [mark for _, mark in parts]


def test_thousands_of_marks_are_found_in_linear_time() -> None:
    marks = Marks([f"<unused{n}>" for n in range(6000)] + ["<pad>", "<mask>"])
    text = "<unused5999><unused1>" + "<unused" * 20_000 + "<pad>"
    assert marks.found(text) == ["<unused5999>", "<unused1>", "<pad>"]
    assert marks.found("<unused12>") == ["<unused12>"]


def test_no_marks_and_marks_of_one_letter_are_no_marks() -> None:
    assert Marks([]).broken("<s>", GUARD) == "<s>"
    assert Marks(["x", ""]).found("xx") == []


def test_the_guard_is_a_character_that_the_text_has_not() -> None:
    assert free_character("Hi") == GUARD
    assert free_character(GUARD, but="\U00010601") == "\U00010602"
    with pytest.raises(TemplateRefusalError, match="every character"):
        free_character("".join(map(chr, range(0x10600, 0x10737))))


# ---------------------------------------------------------------- in a template


def called(name: str, **arguments: str) -> dict[str, Any]:
    call = {
        "id": "abcdefgh1",
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }
    return {"role": "assistant", "content": "", "tool_calls": [call]}


def forged(source: str, turns: list[dict[str, Any]], **options: Any) -> list[str]:
    template = Template(source, bos="", eos="", marks=SMOLLM)
    harmless = [{**turn, "content": "x"} if turn["content"] else turn for turn in turns]
    wanted = Marks(SMOLLM).found(template.render(harmless, **options).text)
    told = template.render(turns, **options)
    own = [
        mark
        for piece, is_plain in Marks(SMOLLM).pieces(told.text, told.guard or GUARD)
        if not is_plain
        for mark in Marks(SMOLLM).found(piece)
    ]
    return own if own != wanted else []


@settings(max_examples=80, deadline=None)
@given(st.lists(pieces, min_size=1, max_size=5))
def test_no_content_forges_a_turn(contents: list[str]) -> None:
    for source in (CHATML, CHATML.replace("{{ m.content }}", "{{ m.content | trim }}"), JOINS):
        roles = ("user", "assistant")
        turns = [{"role": roles[n % 2], "content": each} for n, each in enumerate(contents)]
        turns.append({"role": "user", "content": "end"})
        assert forged(source, turns) == []


@pytest.mark.parametrize("name", ["|im_end|", "<|im_end|>", "|im_", "x", "im_start"])
def test_names_and_arguments_forge_no_mark_with_the_templates_text(name: str) -> None:
    turns = [
        {"role": "user", "content": "Hi"},
        called("f", x="1"),
        {"role": "user", "content": "Go"},
    ]
    template = Template(JOINS, bos="", eos="", marks=SMOLLM)
    wanted = Marks(SMOLLM).found(template.render(turns).text)
    for call in (called(name), called("f", **{name: name}), called("f", x=f"<{name}>")):
        told = template.render([turns[0], call, turns[2]])
        split = Marks(SMOLLM).pieces(told.text, told.guard or GUARD)
        own = [each for piece, plain in split if not plain for each in Marks(SMOLLM).found(piece)]
        assert own == wanted, told.text


def test_tools_forge_no_mark() -> None:
    parameters = {"type": "object", "properties": {"<|im_end|>": {"enum": ["<|im_start|>"]}}}
    function = {"name": "f", "description": "Ends <|im_end|>.", "parameters": parameters}
    told = Template(JOINS, bos="", eos="", marks=SMOLLM).render(
        [{"role": "user", "content": "Hi"}], tools=[{"type": "function", "function": function}]
    )
    assert Marks(SMOLLM).found(told.text) == ["<|im_start|>", "<|im_end|>"]


def test_the_marks_of_reasoning_are_the_models_own_in_its_own_turns() -> None:
    template = Template(CHATML, bos="", eos="", marks=[*SMOLLM, "<think>"], own=["<think>"])
    told = template.render(
        [
            {"role": "user", "content": "<think>"},
            {"role": "assistant", "content": "<think>\nWell <|im_end|>"},
        ]
    )
    assert Marks(["<think>"]).found(told.text) == ["<think>"]
    assert told.text.replace(told.guard, "").endswith("assistant\n<think>\nWell <|im_end|>")


def test_escaped_json_keeps_no_guard() -> None:
    source = "{{ messages[0].content | tojson(ensure_ascii=True) }}{{ [messages[0].content] }}"
    told = Template(source, bos="", eos="", marks=SMOLLM).render(
        [{"role": "user", "content": "<|im_end|>"}]
    )
    assert told.text.replace(told.guard, "") == "\"<|im_end|>\"['<|im_end|>']"


# ---------------------------------------------------------------- in a vocabulary


@pytest.fixture(scope="module")
def vocabulary(native: Callable[..., Any]) -> Vocabulary:
    words: Vocabulary = native().vocabulary
    return words


def test_a_vocabulary_knows_its_special_tokens(vocabulary: Vocabulary) -> None:
    assert set(SMOLLM) <= set(vocabulary.marks.texts)
    assert len(vocabulary.marks.texts) == 17


@settings(max_examples=60, deadline=None)
@given(st.lists(pieces, min_size=1, max_size=4))
def test_a_prompts_control_tokens_are_those_of_the_template(
    vocabulary: Vocabulary, contents: list[str]
) -> None:
    turns = [{"role": "user", "content": each} for each in contents]
    template = Template(CHATML, bos="", eos="", marks=vocabulary.marks.texts)
    told = template.render(turns)
    tokens = vocabulary.tokenize_prompt(told.text, add_special=True, guard=told.guard)
    text = told.text.replace(told.guard, "") if told.guard else told.text
    assert vocabulary.detokenize(tokens).decode() == text
    control = [t for t in tokens if vocabulary.text(t).decode() in vocabulary.marks.texts]
    assert len(control) == 2 * len(turns) + 1


def test_guarded_content_has_the_tokens_of_plain_text(vocabulary: Vocabulary) -> None:
    said = "What does <|endoftext|> mean?"
    told = Template(CHATML, bos="", eos="", marks=vocabulary.marks.texts).render(
        [{"role": "user", "content": said}]
    )
    tokens = vocabulary.tokenize_prompt(told.text, add_special=True, guard=told.guard)
    begin, end = (
        vocabulary.tokenize(text, add_special=False, parse_special=True)
        for text in ("<|im_start|>", "<|im_end|>\n<|im_start|>assistant\n")
    )
    plain = vocabulary.tokenize(f"user\n{said}", add_special=False, parse_special=False)
    assert tokens == [*begin, *plain, *end]


def test_text_without_marks_has_the_tokens_that_it_had(vocabulary: Vocabulary) -> None:
    text = "<|im_start|>user\nHi\n\n  there <|im_end|>\n"
    usual = vocabulary.tokenize(text, add_special=True, parse_special=True)
    assert vocabulary.tokenize_prompt(text, add_special=True, guard="") == usual
    guarded = text.replace("Hi", f"H{GUARD}i")
    assert vocabulary.tokenize_prompt(guarded, add_special=True, guard=GUARD) == usual
