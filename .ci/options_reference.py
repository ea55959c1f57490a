"""Writes docs/options.md from the option table: options_reference.py [--check].

With ``--check`` it writes nothing, and fails where the file says something else.
"""

from __future__ import annotations

import sys
from pathlib import Path

from nbllm import GenerationOptions, LoadOptions
from nbllm.core.option_table import Backend, Option, OptionSet, options_of

FILE = Path(__file__).parent.parent / "docs" / "options.md"
NAMES = {
    Backend.LLAMA_CPP: "local models",
    Backend.OPENAI_CHAT: "OpenAI (Chat Completions)",
    Backend.OPENAI_RESPONSES: "OpenAI (Responses)",
    Backend.ANTHROPIC: "Anthropic",
    Backend.GEMINI: "Gemini",
    Backend.SERVERS: "servers like OpenAI's",
}
TITLE = """# Options

Written by `.ci/options_reference.py` from the declarations in `nbllm/core/options.py` and
`nbllm/core/load_options.py`. An option is given by its name to `generate`, `stream`, `ask` and the
other methods of a model, under `"options"` or `"load"` in a config, with `%llm_config NAME=VALUE`,
and with its flag in a magic. What is not set is left to the model's config, then to the engine or
the vendor.
"""
GENERATION = """
## Generation options

Who does not follow an option refuses it with `UnsupportedError`, or answers as if it were not set
where the last column says "ignored by".
"""
LOAD = """
## Load options

Options of `load_model` and `%llm_load`.
"""


def backends(declared: Option) -> str:
    """Who follows an option, and who ignores it."""
    if declared.backends == Backend.EVERY:
        return "all"
    ignored = f"; ignored by {in_words(declared.ignored_by)}" if declared.ignored_by else ""
    return in_words(declared.backends) + ignored


def in_words(several: Backend) -> str:
    """Several backends."""
    if several == Backend.CLOUD:
        return "all but local models"
    return ", ".join(name for each, name in NAMES.items() if each & several)


def rows(kind: type[OptionSet], *, with_backends: bool) -> list[str]:
    """The table of a class of options."""
    head = ["Option", "Values", "Flag", "What it does", *(["Followed by"] * with_backends)]
    lines = [head, ["---"] * len(head)]
    for name, each in options_of(kind).items():
        flags = ", ".join(f"`{flag}`" for flag in each.flags)
        line = [f"`{name}`", each.kind.words, flags, each.reference]
        lines.append([*line, *([backends(each)] * with_backends)])
    return [f"| {' | '.join(line)} |" for line in lines]


def reference() -> str:
    """The whole file."""
    generation = rows(GenerationOptions, with_backends=True)
    load = rows(LoadOptions, with_backends=False)
    return "\n".join([TITLE + GENERATION, *generation, LOAD, *load, ""])


def main() -> int:
    """The exit status."""
    text = reference()
    if "--check" in sys.argv:
        is_same = FILE.read_text(encoding="utf-8") == text
        print("up to date" if is_same else "run python .ci/options_reference.py")
        return int(not is_same)
    FILE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
