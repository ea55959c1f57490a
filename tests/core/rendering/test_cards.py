"""Tables in HTML: escaped, readable where they are narrow, and told where something is hidden."""

from __future__ import annotations

import re

from nbllm.core.rendering.cards import Column, card_html, list_html, table_html


def test_everything_is_escaped() -> None:
    evil = "<img src=x onerror=alert(1)>$x$"
    html = card_html(evil, [(evil, evil)]) + list_html([Column(evil, [evil], goes=1)])
    assert "<img" not in html
    assert "$x$" not in html


def test_what_is_not_known_is_left_out() -> None:
    assert "None" not in (html := card_html("m", [("a", "1"), ("b", "")]))
    assert ">b<" not in html
    assert ">b<" not in list_html([Column("a", ["1"]), Column("b", [""])])


def test_text_keeps_a_readable_width_and_numbers_are_not_broken() -> None:
    long = Column("words", ["a long sentence of more than a few words"])
    assert "min-width: 12em" in table_html([long])
    assert "text-align: left" not in table_html([Column("n", ["1"], is_number=True)])


def test_the_first_to_go_goes_first_and_is_named_below() -> None:
    columns = [
        Column("name", ["x" * 20]),
        Column("b", ["y" * 9], goes=2),
        Column("a", ["1"], goes=1),
    ]
    html = table_html(columns)
    widths = [float(width) for width in re.findall(r"max-width:(\d+)px", html)]
    assert widths == sorted(widths, reverse=True)
    assert len(widths) == 2
    (first,) = re.findall(r'<th class="(nbllm-\w+-0)"', html)
    assert re.search(rf'<td class="{first}"[^>]*>1<', html)
    assert "Not shown here: " in html
    assert "<style>" not in table_html(columns[:1])
    assert "overflow-x: auto" in table_html(columns[:1])
