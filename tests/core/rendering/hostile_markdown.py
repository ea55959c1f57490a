"""Mixtures of pieces that have come through other renderers, and a judge of what came out."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from html.parser import HTMLParser

IMAGE = '<img src=x onerror="window.nbllmRan=1">'
REMOTE = "http://stranger.test/x"
PIECES = (
    # marks of Markdown
    *("`", "``", "```", "~~~", "\n", "\n\n", "\r", "\r\n", "- ", "> ", "1. ", "   ", "    ", "\t"),
    *("\\", "|", "*", "**", "_", "~~", "# ", "---", "===", "|-|-|", "| a | b |\n|---|:-:|\n", "!"),
    *("[", "]", "(", ")", "<", ">", "&", '"', "'", "$", "$$", "\\(", "\\)", "\\[", "\\]", "{", "}"),
    *(
        "a",
        " ",
        "é",
        "1",
        "\u2028",
        "\x00",
        "\x0b",
        "\ud83d",
        "\u202e",
        "\ufeff",
        "\u200b",
        "\uff1a//",
    ),
    # HTML
    *(IMAGE, "<b>", "</b>", "<!--", "-->", "<![CDATA[", "]]>", "<?php", "?>", "</p>", "</pre>"),
    *("<script>window.nbllmRan=1</script>", "</script>", "</code></pre>", "<style>*{color:red}"),
    *("<svg onload=window.nbllmRan=1>", "<iframe src=javascript:window.nbllmRan=1>", "<math>"),
    *(
        "<a href=javascript:window.nbllmRan=1>",
        "<form action=http://stranger.test>",
        "<base href=x>",
    ),
    *("<body onload=window.nbllmRan=1>", "<details open ontoggle=window.nbllmRan=1>", "<noscript>"),
    *('" onmouseover="window.nbllmRan=1', "' autofocus onfocus='window.nbllmRan=1", "<img/src=x"),
    *("&lt;img src=x onerror=window.nbllmRan=1&gt;", "&#60;script&#62;", "&Tab;", "&colon;"),
    # links and images
    *(
        "](javascript:window.nbllmRan=1)",
        "](JaVaScRiPt:x)",
        "](java\tscript:x)",
        "](&#106;avascript:x)",
    ),
    *(
        "](data:text/html,<script>1</script>)",
        "](vbscript:x)",
        f"![alt]({REMOTE}.png)",
        "![",
        "[x]",
    ),
    *(
        "<javascript:window.nbllmRan=1>",
        "<data:text/html;base64,PHNjcmlwdD4=>",
        "[x]: javascript:x\n",
    ),
    *('[x]: http://a.b "t"\n', "[x]: data:text/html,1\n", "](http://a.b)", '](http://a.b "', "](<"),
    *(
        "http://a.b/?q=`",
        f"{REMOTE}?q={IMAGE}",
        "https://a.b/\\",
        "javascript://x",
        "//stranger.test",
    ),
    *("mailto:a@b.c", "<http://a.b>", "<a@b.c>", "http://a.b/'onclick='x", "file:///etc/passwd"),
    *(
        "](blob:x)",
        "](file:///x)",
        "](//stranger.test/x)",
        "](\\\\stranger.test\\x)",
        "](#x)",
        "](x)",
    ),
    # diagrams, fences, formulas
    *("```mermaid\ngraph LR\nX[\"<img src='http://stranger.test/m'>\"]\n```\n", "```mermaid\n"),
    *(f"``` {IMAGE}\n", f'~~~ "{IMAGE}\n', "```python\n", "```html\n", "```json\n", "```math\n"),
    *('Z@{ img: "http://stranger.test/m4" }\n', "%%{init: {'securityLevel': 'loose'}}%%\n"),
    *("$x^2$", "$$\nx\n$$\n", "\\(x\\)", "\\[x\\]", "$5 and $10", "\\begin{align}", "\\end{align}"),
    *(
        "$\\href{javascript:window.nbllmRan=1}{x}$",
        "\\require{html}",
        "\\class{x}{y}",
        "\\cssId{x}{y}",
    ),
    *(
        "\\style{background:url(http://stranger.test)}{x}",
        "\\unicode{60}",
        "\\def\\a{b}",
        "\\text{",
    ),
    *(
        "$\\text{</span><script>window.nbllmRan=1</script>}$",
        "$a<b>c$",
        "\\href{",
        "\\includegraphics{",
    ),
    *(
        "$$\\mmlToken{mi}[onclick=window.nbllmRan=1]{x}$$",
        "\\data{onclick=x}{y}",
        "\\url{",
        "\\let",
    ),
    *("- [ ] ", "- [x] ", "* * *\n", "+ ", "  \n", "\\\n", "::: warning\n", "[^1]", "{onclick=x}"),
)
SIDES = ("left", "center", "right")
ATTRIBUTES = {
    "li": {("style", "list-style-type:none")},
    "pre": {
        ("style", "margin:1em 2em"),
        ("style", "white-space: pre-wrap; overflow-wrap: anywhere; margin: 0"),
    },
    "th": {("style", f"text-align:{side}") for side in SIDES},
    "td": {("style", f"text-align:{side}") for side in SIDES},
}
PLAIN = """
    blockquote br code em h1 h2 h3 h4 h5 h6 hr ol p s span strong table tbody thead tr ul
"""
VOID = {"br", "hr"}
ADDRESS = re.compile(r"(https?://|mailto:)[!-~]+", re.IGNORECASE)
COLOUR = re.compile(
    r"color:(#\w{6});color:var\(--jp-mirror-editor-[a-z]+-color,\1\)(;font-\w+:\w+)?"
)


def mixtures(seed: int, count: int) -> Iterator[str]:
    """So many mixtures; the same for the same seed."""
    choose = random.Random(seed)
    for _ in range(count):
        yield "".join(choose.choices(PIECES, k=choose.randint(1, 14)))


class Judge(HTMLParser):
    """Reads HTML as it comes and notes whatever is not listed; ``text`` is what a reader sees."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.faults: list[str] = []
        self.text = ""
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self._open.append(tag)
        if not self._is_listed(tag, attrs):
            self.faults.append(f"<{tag} {attrs}>")

    def _is_listed(self, tag: str, attrs: list[tuple[str, str | None]]) -> bool:
        if tag == "a":
            (name, address), *rest = attrs
            fixed = [("target", "_blank"), ("rel", "noopener noreferrer")]
            return name == "href" and bool(ADDRESS.fullmatch(address or "")) and rest == fixed
        if tag == "ol" and attrs:
            return len(attrs) == 1 and attrs[0][0] == "start" and (attrs[0][1] or "").isdecimal()
        if tag == "span" and attrs:
            return len(attrs) == 1 and bool(COLOUR.fullmatch(attrs[0][1] or ""))
        known = tag in PLAIN.split() or tag in ATTRIBUTES
        return known and len(attrs) <= 1 and set(attrs) <= ATTRIBUTES.get(tag, set())

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.faults.append(f"</{tag}> closes something else")

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        self.faults.append(f"a comment: {data}")

    def handle_decl(self, decl: str) -> None:
        self.faults.append(f"a declaration: {decl}")

    unknown_decl = handle_pi = handle_decl

    def close(self) -> None:
        super().close()
        if self._open:
            self.faults.append(f"left open: {self._open}")


def judged(html: str) -> Judge:
    """What the judge says of ``html``."""
    judge = Judge()
    judge.feed(html)
    judge.close()
    if re.search(r"\n[ \t]*\n", html):
        judge.faults.append("a blank line, which ends HTML in a Markdown file")
    return judge
