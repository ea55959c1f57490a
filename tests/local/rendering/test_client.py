"""Templates that never end, take all memory, or break Jinja: refused, for one request alone."""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbllm.local.rendering import client
from nbllm.local.rendering.client import Renderer
from nbllm.local.request_refusals import TemplateRefusalError

Make = Callable[..., Renderer]

HI = [{"role": "user", "content": "Hi"}]
QUIET = "{% if messages[-1].content == 'go' %}%s{% endif %}{{ messages[-1].content }}"
HOSTILE = {
    "division": "{{ 1/0 }}",
    "range": "{% for i in range(10**12) %}x{% endfor %}",
    "nested ranges": "{% for i in range(99999) %}{% for j in range(99999) %}"
    "{% for k in range(99999) %}{% endfor %}{% endfor %}{% endfor %}",
    "multiplied": "{{ 'x' * 10000000000 }}",
    "multiplied list": "{{ ([1] * 10**10) | length }}",
    "width": "{{ '%99999999999d' % 1 }}",
    "format": "{{ '{:>99999999999}'.format(1) }}",
    "power": "{{ (messages|length + 1) ** (10**10) }}",
    "centred": "{{ 'x' | center(10**10) }}",
    "indented": "{{ ('x\n' * messages|length * 100000) | indent(100000) }}",
    "replaced": "{{ ('x' * 1000000) | replace('x', 'y' * 1000000) }}",
    "batch": "{{ range(3) | batch(10**9, 'x') | list }}",
    "slice": "{{ range(3) | slice(10**9) | list }}",
    "wrapped": "{{ ('x ' * messages|length * 10000000) | wordwrap(1) | length }}",
    "joined": "{{ range(99999) | join('x' * 100000) }}",
    "endless macro": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "two macros": "{% macro a(n) %}{{ a(n+1) }}{{ a(n+1) }}{% endmacro %}{{ a(0) }}",
    "doubled": "{% set n = namespace(x='x') %}{% for i in range(99) %}"
    "{% set n.x = n.x + n.x %}{% endfor %}{{ n.x }}",
    "doubled list": "{% set n = namespace(x=[1]) %}{% for i in range(99) %}"
    "{% set n.x = n.x + n.x %}{% endfor %}",
    "appended": "{% set x = [1] %}{% for i in x %}{% set _ = x.append(i) %}{% endfor %}",
    "printed web": "{% set n = namespace(x=[1]) %}{% for i in range(60) %}"
    "{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}",
    "compared webs": "{% set n = namespace(x=[1], y=[1]) %}{% for i in range(60) %}"
    "{% set n.x = [n.x, n.x] %}{% set n.y = [n.y, n.y] %}{% endfor %}{{ n.x == n.y }}",
    "cycle": "{% set x = [1] %}{% set _ = x.append(x) %}{{ x | tojson }}",
    "output": "{% for i in range(9999) %}{{ 'x' * 100000 }}{% endfor %}",
    "sandbox": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "loop of joins": "{% set n = namespace(x='') %}{% for i in range(99999) %}"
    "{% for j in range(99999) %}{% set n.x = n.x ~ 'x' %}{% endfor %}{% endfor %}",
    "half surrogates": "{{ '\\ud800' * 9 }}{{ 1/0 }}",
}
UNREADABLE = {
    "unclosed": "{% for %}",
    "parentheses": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "lists": "{{ " + "[" * 5000 + "]" * 5000 + " }}",
    "minus signs": "{{ " + "-" * 100000 + "1 }}",
    "nots": "{{ " + "not " * 100000 + "1 }}",
    "nested ifs": "{% if 1 %}" * 3000 + "{% endif %}" * 3000,
    "nested loops": "{% for i in x %}" * 300 + "{% endfor %}" * 300,
    "dots": "{{ a" + ".a" * 100000 + " }}",
    "too long": "x" * (2**20 + 1),
    "included": "{% include 'x' %}{% extends 'y' %}",
    "constant": "{{ 'x' * 10**10 }}{{ 2 ** 10**10 }}",
}


@pytest.fixture(autouse=True)
def short_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "CPU_SECONDS", 0.4)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_is_refused_within_its_limits(renderer: Make, name: str) -> None:
    """It behaves until it is to ``go``, so that nothing is noticed before."""
    made = renderer(QUIET.replace("%s", HOSTILE[name]))
    assert made.render(HI).text == "Hi"
    began = time.process_time()
    with pytest.raises(TemplateRefusalError, match=r"^its chat template "):
        made.render([{"role": "user", "content": "go"}])
    assert time.process_time() - began < 1, "the worker itself has nothing to compute"
    assert made.render(HI).text == "Hi", "another request is answered as before"


@pytest.mark.parametrize("source", [*list(HOSTILE.values())[:6], *UNREADABLE.values()])
def test_a_template_that_is_hostile_from_the_start_is_refused(renderer: Make, source: str) -> None:
    made = renderer(source)
    for _ in range(2):
        with pytest.raises(TemplateRefusalError, match=r"^its chat template "):
            made.render(HI)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''|attr('__class__') }}{{ (''|attr('__class__')).__mro__ }}",
        "{{ raise_exception.__globals__ }}{{ strftime_now.__code__ }}",
        "{{ self._TemplateReference__context }}{{ namespace.__init__.__globals__ }}",
        "{{ ['']|map(attribute='__class__')|list }}{{ '{0.__class__}'.format('') }}",
        "{{ '%s'|format(''.__class__) }}{{ cycler.__init__.__globals__.os }}",
    ],
)
def test_a_hostile_template_reaches_nothing_of_python(renderer: Make, source: str) -> None:
    try:
        assert "class" not in renderer(source).render(HI).text
    except TemplateRefusalError as error:
        assert "class" not in str(error) or "unsafe" in str(error)  # noqa: PT017 - either will do


def test_the_memory_of_a_template_is_bounded(renderer: Make) -> None:
    made = renderer(QUIET.replace("%s", HOSTILE["doubled list"]))
    made.render(HI)
    with pytest.raises(TemplateRefusalError, match=r"memory|MiB|CPU time"):
        made.render([{"role": "user", "content": "go"}])


def test_a_template_that_is_no_template_says_what_to_do(renderer: Make) -> None:
    with pytest.raises(TemplateRefusalError, match=r"not valid.*\(line 1\).*chat_template.*raw"):
        renderer("{% for %}").check()


def test_a_process_that_ended_is_started_anew(renderer: Make) -> None:
    made = renderer("{{ messages[-1].content }}")
    made.check()
    assert made.pid is not None
    psutil.Process(made.pid).kill()
    with pytest.raises(TemplateRefusalError, match="rendering process exited"):
        made.render(HI)
    assert made.render(HI).text == "Hi"


def test_what_is_written_of_calls_is_asked_of_the_process(renderer: Make) -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
    turns = [*HI, {"role": "assistant", "content": "", "tool_calls": [call]}]
    function = {"name": "f", "description": "Does.", "parameters": {}}
    tools = [{"type": "function", "function": function}]
    source = "{{ tools | tojson }}{% for m in messages %}{{ m.content }}{{ m.tool_calls | tojson "
    told = renderer(source + "if m.tool_calls }}{% endfor %}").written(turns, tools)
    assert '"arguments": {"x": 1}' in (told or "")
    for refuses in ("{{ 1/0 }}", "{% for %}", "{% for i in range(10**12) %}"):
        assert renderer(refuses).written(turns, tools) is None


def test_the_process_leaves_with_the_one_that_started_it(renderer: Make) -> None:
    made = renderer("{{ messages[-1].content }}")
    made.check()
    process = psutil.Process(made.pid)
    made.close()
    assert not process.is_running()


WORDS = """{{ }} {% %} for i in range(9**9) if endfor endif set x = messages |join |tojson |list ( )
*10**9 'x' [ ] ~ macro m() endmacro namespace(a=1) .append(x) |indent(10**9) % 1/0 {# #} break
|attr('__class__') raise_exception('no') loop recursive loop(x) generation i x"""
PIECES = WORDS.split()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=24))
def test_a_mixture_of_template_pieces_renders_or_is_refused(pieces: list[str]) -> None:
    made = Renderer()
    try:
        made.set_up(" ".join(pieces), bos="", eos="", marks=[], own=[])
        made.render(HI)
    except TemplateRefusalError as error:
        assert str(error).startswith("its chat template ")  # noqa: PT017 - either will do
    finally:
        made.close()


def test_a_conversation_that_is_nested_too_deeply_is_refused(renderer: Make) -> None:
    deep: object = "x"
    for _ in range(800):
        deep = [deep]
    function = {"name": "f", "description": "", "parameters": {"enum": deep}}
    made = renderer("{{ tools }}{{ messages[-1].content }}")
    with pytest.raises(TemplateRefusalError, match="nested too deeply"):
        made.render(HI, tools=[{"type": "function", "function": function}])
    assert made.render(HI).text == "Hi"


def test_where_no_process_can_be_started_a_later_request_tries_again(
    renderer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = renderer("{{ messages[-1].content }}")
    made.close()
    with monkeypatch.context() as patch:
        patch.setattr(client, "_Process", _no_process)
        with pytest.raises(TemplateRefusalError, match="could not be started"):
            made.render(HI)
    assert made.render(HI).text == "Hi"


def _no_process() -> None:
    raise OSError("Cannot allocate memory")
