"""The cell that asks what the playground asked."""

from __future__ import annotations

from nbllm.core.types import GenerationOptions

__all__ = ["cell_source"]

_FLAGS = {
    "max_tokens": "--max-tokens",
    "temperature": "--temperature",
    "seed": "--seed",
}


def cell_source(
    magic: str, model: str, prompt: str, system: str, options: GenerationOptions
) -> str:
    """A cell of ``%%magic``; braces in the prompt are sent as they are, as the playground does."""
    name = [model] if model and not model.startswith("-") else ["--model", model] if model else []
    values = options.set_values()
    given = [word for key, flag in _FLAGS.items() if key in values for word in (flag, values[key])]
    words = [
        *map(_quoted, name),
        *map(str, given),
        *(["--system", _quoted(" ".join(system.split()))] if system else []),
        *(["--raw"] if "{" in prompt else []),
    ]
    return "\n".join([" ".join([f"%%{magic}", *words]), prompt])


def _quoted(word: str) -> str:
    """``word`` as magics read it: either quotation mark keeps what is inside as it stands."""
    if word and not any(each.isspace() or each in "\"'" for each in word):
        return word
    if '"' not in word:
        return f'"{word}"'
    return "'\"'".join(f'"{part}"' if part else "" for part in word.split('"'))
