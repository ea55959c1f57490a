"""What a template drops or refuses is found by rendering, and said in another way."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbllm.local.rendering.template_process import Template
from nbllm.local.request_refusals import TemplateRefusalError

Turn = dict[str, Any]

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_SYSTEM = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}"
)
DROPS_SYSTEM = (
    "{% for m in messages %}{% if m.role != 'system' %}[{{ m.role }}] {{ m.content }}{% endif %}"
    "{% endfor %}"
)
ALTERNATES = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate user/assistant') }}{% endif %}"
    "[{{ m.role }}] {{ m.content | trim }}\n{% endfor %}"
)
QWEN = (
    "{% if tools %}{% for t in tools %}{{ t | tojson }}{% endfor %}{% endif %}"
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}"
    "{% for c in m.tool_calls %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}"
    "{% endfor %}{% if enable_thinking is defined and not enable_thinking %}<think></think>"
    "{% else %}<think>\n{% endif %}"
)
DROPS_CALLS = "{% if tools %}{{ tools | tojson }}{% endif %}" + CHATML
DROPS_RESULTS = QWEN.replace(
    "<{{ m.role }}>{{ m.content }}",
    "{% if m.role != 'tool' %}<{{ m.role }}>{{ m.content }}{% endif %}",
)
ONE_CALL = (
    "{{ tools | tojson }}{% for m in messages %}[{{ m.role }}]{{ m.content }}"
    "{% if m.tool_calls %}{% if m.tool_calls | length != 1 %}"
    "{{ raise_exception('This model only supports single tool-calls at once!') }}{% endif %}"
    "{{ m.tool_calls[0].function | tojson }}{% endif %}{% endfor %}"
)
TOOL: Turn = {
    "type": "function",
    "function": {"name": "f", "description": "Does.", "parameters": {}},
}
SYSTEM = {"role": "system", "content": "Be brief."}
HI = {"role": "user", "content": "Hi"}
HELLO = {"role": "assistant", "content": "Hello"}


def called(*numbers: int, call_id: str = "abcdefgh") -> Turn:
    calls = [
        {
            "id": f"{call_id}{number}",
            "type": "function",
            "function": {"name": "f", "arguments": {"x": number}},
        }
        for number in numbers
    ]
    return {"role": "assistant", "content": "", "tool_calls": calls}


def result(number: int, call_id: str = "abcdefgh") -> Turn:
    content = f"result {number}"
    return {"role": "tool", "name": "f", "tool_call_id": f"{call_id}{number}", "content": content}


def rendered(source: str, *turns: Turn, marks: tuple[str, ...] = (), **options: Any) -> Any:
    return Template(source, bos="<s>", eos="</s>", marks=marks).render(turns, **options)


def text(source: str, *turns: Turn, **options: Any) -> str:
    return str(rendered(source, *turns, **options).text)


def test_a_conversation_is_rendered_by_the_template_as_it_is() -> None:
    told = text(CHATML, SYSTEM, {"role": "user", "content": "Hi {x} {{ y }}"})
    begin = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi {x} {{ y }}<|im_end|>\n"
    assert told == begin + "<|im_start|>assistant\n"


@pytest.mark.parametrize("source", [NO_SYSTEM, DROPS_SYSTEM, ALTERNATES])
def test_a_system_text_that_is_dropped_or_refused_stands_before_the_first_user_turn(
    source: str,
) -> None:
    told = text(source, SYSTEM, HI, HELLO, HI)
    assert told.removeprefix("<s>").startswith("[user] Be brief.\n\nHi")
    assert told.count("Be brief.") == 1


def test_instructions_for_tools_survive_a_template_without_system_role() -> None:
    for source in (NO_SYSTEM, DROPS_SYSTEM, ALTERNATES):
        told = rendered(source, SYSTEM, HI, tools=[TOOL])
        assert "Be brief.\n\nYou may call tools" in told.text
        assert '"name": "f"' in told.text
        assert not told.shows_tools


def test_later_system_turns_are_kept_too() -> None:
    told = text(ALTERNATES, HI, HELLO, {"role": "system", "content": "Now shout."}, HI)
    assert told == "[user] Hi\n[assistant] Hello\n[user] Now shout.\n\nHi\n"


def test_tools_calls_and_results_are_rendered_by_a_template_that_knows_them() -> None:
    told = rendered(QWEN, HI, called(7), result(7), tools=[TOOL])
    assert told.shows_tools
    assert '"description": "Does."' in told.text
    call = '<assistant><tool_call>{"name": "f", "arguments": {"x": 7}}</tool_call>'
    assert f"{call}<tool>result 7" in told.text


def test_a_template_without_tools_gets_them_as_text() -> None:
    told = text(CHATML, SYSTEM, HI, called(7), result(7), tools=[TOOL])
    assert told.startswith("<|im_start|>system\nBe brief.\n\nYou may call tools.")
    assert 'assistant\n{"tool_call": {"name": "f", "arguments": {"x": 7}}}' in told
    assert "user\nThe tool f gave:\nresult 7" in told


def test_calls_that_a_template_with_tools_drops_are_written_into_the_content() -> None:
    told = text(DROPS_CALLS, HI, called(7), result(7), HI, tools=[TOOL])
    assert '<|im_start|>assistant\n{"name": "f", "arguments": {"x": 7}}<|im_end|>' in told
    assert "<|im_start|>tool\nresult 7" in told
    assert "You may call tools" not in told


def test_results_that_a_template_with_tools_drops_become_a_users_words() -> None:
    told = text(DROPS_RESULTS, HI, called(7), result(7), tools=[TOOL])
    assert "<tool_call>" in told
    assert "<user>The tool f gave:\nresult 7" in told


def test_two_results_in_a_row_are_merged_where_roles_must_alternate() -> None:
    told = text(ALTERNATES, SYSTEM, HI, called(1, 2), result(1), result(2), tools=[TOOL])
    assert "[user] The tool f gave:\nresult 1\n\nThe tool f gave:\nresult 2\n" in told
    assert told.count("[user]") == 2
    assert text(CHATML, HI, HI).count("<|im_start|>user") == 2, "merged only where it is needed"
    assert text(ALTERNATES, HI, HI) == "[user] Hi\n\nHi\n"


def test_calls_at_once_become_pairs_where_a_template_takes_one_at_a_time() -> None:
    told = text(ONE_CALL, HI, called(1, 2), result(2), result(1), tools=[TOOL])
    first, second = '{"name": "f", "arguments": {"x": 1}}', '{"name": "f", "arguments": {"x": 2}}'
    assert f"[assistant]{first}[tool]result 1[assistant]{second}[tool]result 2" in told


def test_an_assistants_empty_turn_is_left_out_where_it_is_refused() -> None:
    source = ALTERNATES.replace(
        "{{ m.content", "{% if not m.content %}{{ 1/0 }}{% endif %}{{ m.content"
    )
    assert text(source, HI, {"role": "assistant", "content": ""}, HI) == "[user] Hi\n\nHi\n"


@pytest.mark.parametrize(
    "source",
    [
        "{{ tools | length }}{{ messages[0].content }}",
        "{% if tools is defined and tools %}no{% endif %}0{{ messages[0].content }}",
        "{% if tools is not none %}{{ tools | list }}{% endif %}0{{ messages[0].content }}",
        "{% if tools is defined %}no{% endif %}0{{ messages[0].content }}",
        "{{ '0' + (functions or '') }}{{ messages[0].content }}",
    ],
)
def test_no_tools_are_what_a_template_takes_for_none(source: str) -> None:
    assert text(source, HI) == "0Hi"


def test_tools_have_the_name_that_the_template_reads() -> None:
    for name in ("tools", "xml_tools", "functions"):
        source = f"{{% for t in {name} %}}{{{{ t | tojson }}}}{{% endfor %}}{CHATML}"
        assert rendered(source, HI, tools=[TOOL]).shows_tools, name
    as_text = "{{ '# ' + (functions or '') }}" + CHATML
    assert '# [{"name": "f"' in text(as_text, HI, tools=[TOOL])


def test_contents_are_parts_where_a_template_reads_parts() -> None:
    source = (
        "{% for m in messages %}[{{ m.role }}]{% for p in m.content %}"
        "{% if p.type == 'text' %}{{ p.text }}{% endif %}{% endfor %}{% endfor %}"
    )
    assert (
        text(source, SYSTEM, HI, HELLO, HI) == "[system]Be brief.[user]Hi[assistant]Hello[user]Hi"
    )


def test_arguments_are_json_text_where_a_template_prints_or_joins_them() -> None:
    for written in ("{{ c.function.arguments }}", "{{ '' + c.function.arguments }}"):
        source = QWEN.replace("{{ c.function | tojson }}", "{{ c.function.name }} " + written)
        assert 'f {"x": 7}' in text(source, HI, called(7), result(7), tools=[TOOL])


def test_ids_are_short_where_a_template_wants_them_so() -> None:
    source = QWEN.replace(
        "<tool_call>",
        "{% if c.id | length != 9 %}{{ raise_exception('9') }}{% endif %}<tool_call>{{ c.id }}",
    ).replace("{{ m.content }}", "{{ m.tool_call_id }}{{ m.content }}")
    told = text(source, HI, called(7, call_id="call_0123456789"), result(7, "call_0123456789"))
    (call_id,) = {part[:9] for part in (told.split("<tool_call>")[1], told.split("<tool>")[1])}
    assert call_id.isalnum()
    kept = text(source, HI, called(7), result(7))
    assert kept.count("abcdefgh7") == 2


def test_bare_parameters_get_what_a_template_reads_of_them() -> None:
    source = (
        "{% for t in tools %}{{ t.function.name + t.function.description }}"
        "{% for n, p in t.function.parameters.properties.items() %}"
        "{{ n + ': ' + p.description }}{% endfor %}{% endfor %}" + CHATML
    )
    bare = {"type": "object", "properties": {"x": {"type": "integer"}}}
    tool = {
        "type": "function",
        "function": {"name": "f", "description": "Does.", "parameters": bare},
    }
    for each in (TOOL, tool):
        assert rendered(source, HI, tools=[each]).shows_tools


# ---------------------------------------------------------------- going on from an answer


PREFILL = {"role": "assistant", "content": "Well, my friend, "}


@pytest.mark.parametrize(
    "content", ["{{ m.content }}", "{{ m.content | trim }}", "{{ m.content.strip() }}"]
)
def test_a_last_turn_of_the_models_is_gone_on_from(content: str) -> None:
    source = CHATML.replace("{{ m.content }}", content)
    told = text(source, HI, PREFILL)
    assert told.endswith("<|im_end|>\n<|im_start|>assistant\nWell, my friend, ")
    assert rendered(source, HI, PREFILL).begun == "Well, my friend, "


def test_a_last_turn_that_is_refused_stands_behind_the_place_of_an_answer() -> None:
    source = "{% if messages[-1].role != 'user' %}{{ 1/0 }}{% endif %}" + CHATML
    assert text(source, HI, PREFILL).endswith("<|im_start|>assistant\nWell, my friend, ")
    drops = CHATML.replace("messages %}<|im", "messages if m.role == 'user' %}<|im")
    assert text(drops, HI, PREFILL).endswith("<|im_start|>assistant\nWell, my friend, ")


def test_a_last_turn_that_says_nothing_is_the_place_of_the_answer() -> None:
    assert text(CHATML, HI, {"role": "assistant", "content": ""}) == text(CHATML, HI)


def test_calls_are_not_gone_on_from() -> None:
    assert text(QWEN, HI, called(7), tools=[TOOL]).endswith("</tool_call><think>\n")


# ---------------------------------------------------------------- reasoning and refusals


def test_reasoning_can_be_turned_off_where_a_template_knows_it() -> None:
    assert text(QWEN, HI).endswith("<think>\n")
    assert text(QWEN, HI, effort="none").endswith("<think></think>")
    for source in (CHATML, CHATML + "{# thinking #} no enable_thinking here"):
        with pytest.raises(TemplateRefusalError, match="does not support reasoning_effort"):
            rendered(source, HI, effort="low")


def test_a_refusal_of_the_template_is_told_in_its_own_words() -> None:
    source = "{{ raise_exception('No cats, please') }}"
    with pytest.raises(TemplateRefusalError, match="rejected the conversation: No cats, please"):
        rendered(source, HI)
    with pytest.raises(TemplateRefusalError, match=r"x…$"):
        rendered("{{ raise_exception('x' * 9999) }}", HI)


def test_hugging_faces_additions_to_jinja_work() -> None:
    source = (
        "{% generation %}{{ {'a': '<é>'} | tojson }}{% endgeneration %}"
        "{{ {'b': 1} | tojson(indent=1) }}"
        "{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}"
        "{{ strftime_now('%Y') | length }}{% set n = namespace(x=1) %}{% set n.x = 2 %}{{ n.x }}"
    )
    assert text(source, HI) == '{"a": "<é>"}{\n "b": 1\n}0142'


def test_half_surrogates_become_replacement_characters() -> None:
    assert text("{{ '\\ud800' }}{{ messages[0].content }}", HI) == "\ufffdHi"
    assert text(CHATML, {"role": "user", "content": "caf\ud83d"}).count("\ufffd") == 1


def test_a_conversation_is_not_changed_by_a_template_that_changes_lists() -> None:
    turns = [dict(HI)]
    source = "{% set _ = messages.append(messages[0]) %}{% set _ = messages[0].update(role='x') %}"
    template = Template(source + CHATML, bos="", eos="")
    assert template.render(turns).text == template.render(turns).text
    assert turns == [HI]


ROLES = ("system", "user", "assistant", "call", "tool")
TEMPLATES = (
    CHATML,
    NO_SYSTEM,
    DROPS_SYSTEM,
    ALTERNATES,
    QWEN,
    DROPS_CALLS,
    DROPS_RESULTS,
    ONE_CALL,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(ROLES), min_size=1, max_size=7), st.booleans())
def test_nothing_that_was_said_is_lost_whatever_the_template(roles: list[str], tools: bool) -> None:
    turns: list[Turn] = [dict(HI)]
    for number, role in enumerate(roles):
        said = {"role": role, "content": f"word{number}word"}
        turns.append({"call": called(number), "tool": result(number)}.get(role, said))
    for source in TEMPLATES:
        told = text(source, *turns, tools=[TOOL] if tools else [])
        for turn in turns:
            assert turn["content"] in told
            for call in turn.get("tool_calls", ()):
                assert json.dumps(call["function"]["arguments"]) in told


def test_what_is_written_of_calls_tells_their_format() -> None:
    turns = [HI, called(7), result(7)]
    for source, writes in (
        (QWEN, True),
        (DROPS_CALLS, False),
        (CHATML, False),
        ("{{ 1/0 }}", False),
    ):
        told = Template(source, bos="", eos="").written(turns, [TOOL])
        assert ("<tool_call>" in (told or "")) is writes
