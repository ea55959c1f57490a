"""Data, code and plain prose that repeat themselves for a reason, by name."""

from __future__ import annotations

import base64
import itertools
import json
import random

from text_makers import dates, drawn, hex_dump, lines, words

__all__ = ["CODE", "DATA", "PROSE"]

BEASTS = ["cow", "pig", "duck", "horse", "sheep", "hen", "cat", "dog", "goat", "turkey"]
COUNTRIES = ["France", "Spain", "Italy", "Norway", "Japan", "Egypt", "Peru", "Chile", "Kenya"]

DATA = {
    "CSV": "\n".join(f"2026-01-{n % 28 + 1:02},sensor A,{n * 37 % 101}.5" for n in range(300)),
    "CSV with empty fields": lines("{n},{word},,,,,,,", 80),
    "TSV": lines("{n}\t{word}\t0\t0\t0\tok", 120),
    "Markdown table": "| name | city | sum |\n|------|------|-----|\n"
    + lines("| {word} | Rome | {n} |", 200),
    "Markdown table with empty cells": "| Task | Mon | Tue | Wed | Thu | Fri | Sat | Sun |\n"
    + "|---" * 8
    + "|\n"
    + lines("| {word} |     |     |     |     |     |     |     |", 30),
    "timetable": "\n".join(f"| {h:02}:00 |  |  |  |  |  |  |  |" for h in range(24)),
    "calendar": "| Mo | Tu | We | Th | Fr | Sa | Su |\n" + lines("| | | | | | | {n} |", 40),
    "table of ticks": lines("| {word} | ✓ | ✗ | ✓ | ✓ | ✗ |", 60),
    "capitals": "\n".join(
        f"The capital of {c} is {words(1, n)}." for n, c in enumerate(COUNTRIES * 6)
    ),
    "ISO dates": dates(365, "%Y-%m-%d"),
    "dates in words": dates(200, "%A, %d %B %Y"),
    "dates with a status": dates(120, "%d.%m.%Y: closed"),
    "times": "\n".join(f"{h:02}:{m:02} - free" for h in range(24) for m in range(0, 60, 15)),
    "server log": "\n".join(
        f'192.168.1.{n % 7} - - [28/Nov/2026:10:{n // 60:02}:{n % 60:02}] "GET /index.html '
        'HTTP/1.1" 200 512'
        for n in range(120)
    ),
    "log of heartbeats": "\n".join(
        f"2026-11-28 10:{n // 60:02}:{n % 60:02} INFO heartbeat ok" for n in range(180)
    ),
    "training log": "\n".join(f"Epoch {n}/100 loss: {1 / n:.4f} acc: 0.99" for n in range(1, 101)),
    "ping": lines("64 bytes from 10.0.0.1: icmp_seq={n} ttl=64 time=0.0{square} ms", 80),
    "compiler output": lines("[{n}/120] Building CXX object src/{word}.o", 120),
    "test run": lines("tests/test_{word}.py::test_{word} PASSED", 120),
    "JSON records": json.dumps([{"id": n, "ok": True, "name": words(1, n)} for n in range(150)]),
    "JSON records with nulls": json.dumps(
        [{"id": n, "name": None, "age": None, "city": None, "phone": None} for n in range(60)],
        indent=2,
    ),
    "JSON points": json.dumps([{"x": n, "y": n * n} for n in range(150)]),
    "YAML": lines("- name: {word}\n  image: nginx:latest\n  replicas: 1\n  port: 80{n}", 50),
    "TOML": lines("[[item]]\nname = '{word}'\nenabled = true\nretries = 3\n", 50),
    "INI": lines("[section{n}]\nenabled = yes\ntimeout = 30\n", 60),
    "SQL inserts": lines(
        "INSERT INTO users (id, name, role) VALUES ({n}, '{word}', 'member');", 120
    ),
    "SQL inserts of one form": lines("INSERT INTO seats (row, taken) VALUES ({n}, FALSE);", 120),
    "HTML rows": "<tr><td></td><td></td><td></td></tr>\n" * 12,
    "HTML cards": (
        '<div class="card">\n  <img src="image.jpg" alt="Image">\n  <h2>Title</h2>\n'
        "  <p>Lorem ipsum dolor sit amet.</p>\n</div>\n"
    )
    * 6,
    "HTML list": lines('<li><a href="/{word}">{word}</a></li>', 120),
    "HTML options": lines('<option value="{n}">{n}</option>', 150),
    "SVG": lines('<circle cx="{n}" cy="{square}" r="2" fill="black" />', 120),
    "XML": lines('<user id="{n}"><active>true</active><role>user</role></user>', 100),
    "LaTeX rows": lines(r"{n} & {word} & $\alpha$ & $\beta$ \\ \hline", 100),
    "bibliography": lines("@article{{{word}, author = {{{two}}}, year = 2020}}", 60),
    "base64 of zeros": "AAAA" * 90,
    "base64": base64.b64encode(random.Random(1).randbytes(1500)).decode(),
    "hex dump of noise": hex_dump(random.Random(2).randbytes(1024)),
    "hex dump of zeros": hex_dump(bytes(512)),
    "DNA": drawn("ACGT", 1200),
    "FASTA": "\n".join(f">seq{n}\n{drawn('ACGT', 120, seed=n)}" for n in range(12)),
    "DNA with a repeat": drawn("ACGT", 300) + "CAG" * 60 + drawn("ACGT", 300, seed=4),
    "proteins": drawn("ACDEFGHIKLMNPQRSTVWY", 900),
    "chess moves": "\n".join(
        f"{n}. {drawn('abcdefgh', 1, seed=n)}{n % 8 + 1} {drawn(['Nf6', 'Qe7', 'Rd8'], 1, seed=n)}"
        for n in range(1, 90)
    ),
    "chess by repetition": "1. Nf3 Nf6 2. Ng1 Ng8 " * 6,
    "IP addresses": "\n".join(f"10.0.{n // 256}.{n % 256}" for n in range(256)),
    "UUIDs": "\n".join(random.Random(n).randbytes(16).hex() for n in range(40)),
    "guitar tab": "\n".join(
        f"{string}|--{drawn('0123-', 30, '--', seed=n)}--|" for n, string in enumerate("eBGDAE" * 6)
    ),
    "drum pattern": ("HH|x-x-x-x-|\nSD|----o---|\nBD|o-----o-|\n\n") * 8,
    "morse": drawn([".-", "-...", "-.-.", ".", "--"], 300, " "),
    "knitting": lines("Row {n}: K2, P2, K2, P2, K2, P2, K2, P2.", 60),
}
CODE = {
    "assertions": lines("    assert f({n}) == {square}, 'f({n})'", 150),
    "equal lines": "    print()\n" * 30,
    "getters": lines("    def get_{word}(self):\n        return self._{word}\n", 60),
    "Java getters": lines(
        "    public String get{word}() {{\n        return this.{word};\n    }}\n", 60
    ),
    "imports": lines("from package.{word} import {word}", 150),
    "switch": lines('        case {n}:\n            return "{word}";', 90),
    "elif chain": lines("    elif code == {n}:\n        return None", 100),
    "enum": lines("    STATE_{n} = {n}", 200),
    "unit tests": lines(
        "def test_{word}():\n    result = add({n}, 1)\n    assert result is not None\n", 60
    ),
    "dataclass": "@dataclass\nclass Row:\n" + lines("    {word}: int = 0", 150),
    "CSS": lines(".{word} {{\n  margin: 0;\n  padding: 0;\n  border: none;\n}}\n", 50),
    "assembler": "    nop\n" * 60,
    "brainfuck": "++++++++[>++++[>++>+++>+++>+<<<<-]>+>+>->>+[<]<-]>>.>---.+++++++..+++." * 3,
    "nested loops": "\n".join("    " * n + f"for i{n} in range(10):" for n in range(20)),
    "closing brackets": "\n".join("  " * n + "}" for n in range(40, 0, -1)),
    "program told three times": "\nOnce more, as a whole:\n".join([words(500)] * 3),
    "diff": lines("-    old_{word} = None\n+    new_{word} = None", 80),
    "makefile": lines("{word}.o: {word}.c\n\t$(CC) $(CFLAGS) -c -o $@ $<\n", 60),
}
PROSE = {
    "prose": words(5000),
    "questions and answers": lines("Q: What is {word}?\nA: It is a kind of {two}.\n", 80),
    "definitions": lines("**{word}**: a word that means {two}.", 120),
    "lorem ipsum": ("Lorem ipsum dolor sit amet, consectetur adipiscing elit. " * 4 + "\n\n") * 4,
    "chat": "\n".join(
        f"User: {words(3, n)}\nAssistant: I am sorry, I can't do that." for n in range(50)
    ),
    "conjugations": "\n".join(
        f"I {v}, you {v}, he {v}s, we {v}, you {v}, they {v}." for v in words(40, 8).split()
    ),
    "affirmations": lines("I am {word}. I am enough.", 80),
    "quiz": lines("{n}. {two}?\n   a) yes\n   b) no\n   c) maybe\n   d) none of these", 50),
    "form to fill in": ("Name: ____________\nDate: ____________\nSignature: ____________\n\n") * 8,
    "invoice": lines("{word:<12} 1 x 9.99 EUR  =  9.99 EUR", 60),
    "bingo": "\n".join(f"**{a}** is like **{b}**." for a, b in itertools.permutations(BEASTS, 2)),
}
