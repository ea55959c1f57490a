"""Answers in JupyterLab's own renderers, of trusted and of untrusted notebooks.

``NBLLM_MIXTURES`` says how many mixtures are tried (each in both ways); a second is enough for
some hundreds.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import islice
from typing import Any

import pytest
import pytest_asyncio
from hostile_markdown import IMAGE, mixtures

from nbllm.core.rendering.formulas import COMMANDS
from nbllm.core.rendering.markdown_html import answer_html

MIXTURES = int(os.environ.get("NBLLM_MIXTURES", "1000"))
BATCH = 250
Open = Callable[[str], Awaitable[Any]]
pytestmark = [
    pytest.mark.asyncio(loop_scope="package"),
    pytest.mark.timeout(180 + MIXTURES // 20),
]

SHOW = r"""
async ([pages, trusted]) => {
    const rendermime = window.jupyterapp.shell.currentWidget.content.rendermime;
    document.getElementById('nbllm-host')?.remove();
    const host = document.createElement('div');
    host.id = 'nbllm-host';
    document.body.append(host);
    for (const html of pages) {
        const model = rendermime.createModel({data: {'text/html': html}, trusted});
        const renderer = rendermime.createRenderer('text/html');
        await renderer.renderModel(model);
        host.append(renderer.node);
    }
    await rendermime.latexTypesetter.typeset(host);
}
"""
FAULTS = r"""
() => {
    const host = document.getElementById('nbllm-host');
    const plain = new Set(('A BLOCKQUOTE BR CODE DIV EM H1 H2 H3 H4 H5 H6 HR LI OL P PRE S SPAN '
        + 'STRONG TABLE TBODY TD TH THEAD TR UL').split(' '));
    const faults = [];
    for (const element of host.querySelectorAll('*')) {
        const drawn = element.closest('mjx-container');
        const listed = drawn ? !/^(A|IMG|SCRIPT|IFRAME|FORM|INPUT|STYLE|OBJECT|EMBED)$/i
            .test(element.tagName) : plain.has(element.tagName);
        const live = [...element.attributes].filter(each => /^on|^src|^action|^formaction|^xlink/i
            .test(each.name) || (each.name === 'href'
                && (drawn || !/^(https?:\/\/|mailto:)/i.test(each.value))));
        if (!listed || live.length || element.id) faults.push(element.outerHTML.slice(0, 200));
    }
    if (window.nbllmRan) faults.push('a script ran');
    return {faults, typeset: host.querySelectorAll('mjx-container').length,
        unknown: [...host.querySelectorAll('mtext[mathcolor="red"]')].map(each => each.textContent),
        text: host.innerText};
}
"""


class Page:
    """A notebook's page, in which HTML is shown; ``requests`` are those that left for elsewhere."""

    def __init__(self, notebook: Any, url: str) -> None:
        self.notebook, self.requests = notebook, []
        notebook.page.on("request", lambda request: self._note(request.url, url))

    def _note(self, address: str, url: str) -> None:
        if not address.startswith((url, "data:", "blob:")):
            self.requests.append(address)

    async def show(self, pages: list[str], *, trusted: bool) -> dict[str, Any]:
        await self.notebook.page.evaluate(SHOW, [pages, trusted])
        found: dict[str, Any] = await self.notebook.page.evaluate(FAULTS)
        return found


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def page(server: Any, open_shared_notebook: Open) -> AsyncIterator[Page]:
    server.add_notebook("hostile.ipynb", ["1"])
    notebook = await open_shared_notebook("hostile.ipynb")
    yield Page(notebook, server.url)
    await notebook.page.evaluate("document.getElementById('nbllm-host').remove()")


async def test_what_is_live_is_found(page: Page) -> None:
    found = await page.show([f"<p>{IMAGE}</p>", "<p>$x^2$</p>"], trusted=True)
    assert "<img" in "".join(found["faults"])
    assert found["typeset"] == 1
    await page.notebook.page.wait_for_function("window.nbllmRan")
    await page.notebook.page.evaluate("() => { delete window.nbllmRan }")
    page.requests.clear()


@pytest.mark.parametrize("trusted", [True, False])
async def test_no_mixture_is_live(page: Page, trusted: bool) -> None:
    pages = (answer_html(text) for text in mixtures(MIXTURES, MIXTURES))
    typeset = 0
    while batch := list(islice(pages, BATCH)):
        found = await page.show(batch, trusted=trusted)
        assert found["faults"] == []
        typeset += found["typeset"]
    await asyncio.sleep(0.5)  # for an image that would be asked for late
    assert not await page.notebook.page.evaluate("window.nbllmRan")
    assert page.requests == []
    assert typeset > MIXTURES / 100


NEEDS_MORE = {  # commands that mean something only beside others
    *("begin", "end", "left", "right", "middle", "over", "atop", "choose", "root", "of", "cr"),
    *("limits", "nolimits", "hline", "hdashline", "tag", "tag*", "notag", "nonumber", "newline"),
    *("sideset", "displaystyle", "not"),
}


async def test_every_listed_command_is_known(page: Page) -> None:
    assert (await page.show(["<p>$\\unheard$</p>"], trusted=True))["unknown"] == ["\\unheard"]
    simple = sorted(COMMANDS - NEEDS_MORE)
    pages = [answer_html(f"$\\{word}{{a}}{{b}}$") for word in simple]
    found = await page.show(pages, trusted=True)
    assert found["typeset"] == len(simple)
    assert " ".join(found["unknown"]) == ""


async def test_formulas_are_typeset_and_money_is_not(page: Page) -> None:
    text = (
        r"It costs $5 and $10, US\$3 or \\$4: $a^2$, \(b\), $$c$$ and" + "\n\n"
        "\\[\nd\n\\]\n\n\\begin{align}\ne&=f\n\\end{align}"
    )
    found = await page.show([answer_html(text)], trusted=False)
    assert found["typeset"] == 5
    assert "It costs $5 and $10, US$3 or \\$4: " in found["text"]
