from __future__ import annotations

import pytest

from nbllm.local.llama.chat import ChatTemplate, Prompt, TemplateRefusalError

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_SYSTEM = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}"
)

TOOL = {"type": "function", "function": {"name": "f", "description": "Does.", "parameters": {}}}
QWEN = (
    "{% if tools %}{% for t in tools %}{{ t | tojson }}{% endfor %}{% endif %}"
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}"
    "{% for c in m.tool_calls %}<tool_call>{{ c.function.arguments.x }}</tool_call>{% endfor %}"
    "{% endfor %}{% if enable_thinking is defined and not enable_thinking %}<think></think>"
    "{% else %}<think>\n{% endif %}"
)
CALLED = [
    {"role": "user", "content": "Hi"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"function": {"name": "f", "arguments": {"x": 7}}}],
    },
    {"role": "tool", "name": "f", "content": "eight"},
]


def template(source: str | None, bos: str = "<s>") -> ChatTemplate:
    return ChatTemplate(source, bos=bos, eos="</s>")


def test_a_conversation_is_rendered_by_the_files_template() -> None:
    prompt = template(CHATML).render([{"role": "user", "content": "Hi {x}"}])
    assert prompt.text == "<|im_start|>user\nHi {x}<|im_end|>\n<|im_start|>assistant\n"
    assert prompt.add_special


def test_a_template_without_a_system_role_gets_the_system_text_in_the_first_turn() -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    prompt = template(NO_SYSTEM).render(turns)
    assert prompt.text == "<s>[user] Be brief.\n\nHi"
    assert not prompt.add_special, "the template wrote the beginning-of-text token itself"


def test_a_base_model_gets_the_text_as_it_is() -> None:
    turns = [{"role": "user", "content": "Once"}]
    assert template(None).render(turns) == Prompt("Once", add_special=True)
    with pytest.raises(TemplateRefusalError, match="base model"):
        template(None).render(turns, tools=[TOOL])


def test_a_refusal_of_the_template_is_told_in_its_own_words() -> None:
    source = "{{ raise_exception('Roles must alternate') }}"
    with pytest.raises(TemplateRefusalError, match="Roles must alternate"):
        template(source).render([{"role": "user", "content": "Hi"}])


def test_a_template_that_is_no_jinja_is_refused() -> None:
    with pytest.raises(TemplateRefusalError, match="not valid"):
        template("{% for %}")


def test_a_hostile_template_cannot_reach_python() -> None:
    source = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    with pytest.raises(TemplateRefusalError):
        template(source).render([{"role": "user", "content": "Hi"}])


def test_tools_calls_and_results_are_rendered_by_a_template_that_knows_them() -> None:
    prompt = template(QWEN).render(CALLED, tools=[TOOL])
    assert '"name": "f"' in prompt.text
    assert "<assistant><tool_call>7</tool_call><tool>eight" in prompt.text
    assert prompt.form.style == "tags"


def test_a_template_without_tools_gets_them_as_text() -> None:
    prompt = template(CHATML).render([{"role": "system", "content": "Be."}, *CALLED], tools=[TOOL])
    assert prompt.text.startswith("<|im_start|>system\nBe.\n\nYou may call tools.")
    assert '{"name": "f", "description": "Does."' in prompt.text
    assert 'assistant\n{"tool_call": {"name": "f", "arguments": {"x": 7}}}' in prompt.text
    assert "user\nThe tool f gave:\neight" in prompt.text
    assert prompt.form.style == "generic"


def test_reasoning_that_the_template_opened_is_known_and_can_be_turned_off() -> None:
    turns = [{"role": "user", "content": "Hi"}]
    thinking = template(QWEN).render(turns).form.thinking
    assert thinking is not None
    assert thinking.close == "</think>"
    quiet = template(QWEN).render(turns, effort="none")
    assert quiet.text.endswith("<think></think>")
    assert quiet.form.thinking is None
    with pytest.raises(TemplateRefusalError, match="leave reasoning_effort out"):
        template(CHATML).render(turns, effort="low")
