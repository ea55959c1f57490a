"""Completion of the magics' flags, values, models and names, in JupyterLab and IPython."""

from __future__ import annotations

import re
import time
from argparse import Action, ArgumentParser
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from nbllm.core.model_manager import ModelManager
    from nbllm.notebook.magic_settings import NbLLM

__all__ = ["Completions", "Found"]

Words: TypeAlias = Callable[[], Iterable[str]]

_LINE = re.compile(r"\s*(?:[^\W\d]\w*\s*=\s*)?(?P<kind>%%?)(?P<name>\w+)[ \t]+(?P<rest>.*)$")
MODELS_SECONDS = 5.0
"""How long the names of models are remembered: finding them searches folders."""


class Found(NamedTuple):  # defined in a sixth of a dataclass's time, for %load_ext
    """The ``word`` that the cursor is behind, and the ``words`` that begin like it."""

    word: str
    words: list[str]


class Completions:
    """What can stand where the cursor is, in a line that begins with one of the magics.

    ``words`` gives the values of an argument by the name that argparse knows it by; a group of
    magics adds what it can list: ``session.completions.words["chat"] = list_names``. Values of
    settings, which are no arguments, have keys such as "llm_config.model=".
    """

    def __init__(
        self,
        shell: InteractiveShell,
        settings: NbLLM,
        get_manager: Callable[[], ModelManager],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shell, self._settings, self._get_manager = shell, settings, get_manager
        self._clock = clock
        self._models: tuple[float, list[str]] = (-MODELS_SECONDS, [])
        self.words: dict[str, Words] = {
            "model": self._model_names,
            "models": self._model_names,
            "llm.name": self._model_names,
            "llm_load.name": self._model_names,
            "llm_load.draft_model": self._file_names,
            "llm_load.chat_template": self._file_names,
            "llm_unload.name": self._loaded_names,
        }

    def find(self, text: str, line_number: int = 0) -> Found | None:
        """What can follow ``text``, the line up to the cursor; None for other lines than ours."""
        line = _LINE.match(text)
        if line is None or (line["kind"] == "%%" and line_number > 0):
            return None
        found = self._found(line)
        if found is None:
            return None
        word, words = found
        start = word.casefold()
        return Found(word, [each for each in words if each.casefold().startswith(start)])

    def _found(self, line: re.Match[str]) -> tuple[str, Iterable[str]] | None:
        """The word that the cursor is behind, and all that could stand there."""
        magic = "llm" + line["name"].removeprefix(self._settings.magic_prefix)
        parser = self._parser(line["name"])
        if parser is None:
            return None
        flags = parser._option_string_actions  # noqa: SLF001 - no public way to ask for flags
        *before, word = line["rest"].split(" ")
        flag, has_value, value = word.partition("=")
        if has_value and flag in flags:
            return self._last_name(value, flags[flag]), self._values(magic, flags[flag])
        if has_value and magic == "llm_config":
            return value, self._setting_values(flag)
        if before and before[-1] in flags and flags[before[-1]].nargs != 0:
            action = flags[before[-1]]
            return self._last_name(word, action), self._values(magic, action)
        if word.startswith("-"):
            return word, sorted(name for name in flags if name.startswith("--"))
        if line["kind"] == "%" and magic == "llm":
            return None  # the prompt
        return word, self._place_values(magic, parser, _places(before, flags))

    @staticmethod
    def _last_name(word: str, action: Action) -> str:
        """What is to be completed: behind the comma where a flag takes several names."""
        return word.rpartition(",")[2] if action.dest == "models" else word

    def _parser(self, name: str) -> ArgumentParser | None:
        """The parser of one of nbllm's magics; None for all else."""
        if not name.startswith(self._settings.magic_prefix):
            return None
        magic = self._shell.magics_manager.magics["line"].get(name)
        session = getattr(getattr(magic, "__self__", None), "session", None)
        if getattr(session, "completions", None) is not self:
            return None
        from nbllm.notebook.flags import parser_for

        return parser_for(magic)

    def _place_values(self, magic: str, parser: ArgumentParser, place: int) -> Iterable[str]:
        places = [action for action in parser._actions if not action.option_strings]  # noqa: SLF001
        if places and places[-1].nargs == "*":
            place = min(place, len(places) - 1)
        return self._values(magic, places[place]) if place < len(places) else ()

    def _values(self, magic: str, action: Action) -> Iterable[str]:
        words = self.words.get(f"{magic}.{action.dest}") or self.words.get(action.dest)
        return words() if words is not None else action.choices or _option_values(action.dest)

    def _setting_values(self, name: str) -> Iterable[str]:
        words = self.words.get(f"llm_config.{name}=")
        return words() if words is not None else _option_values(name)

    def _model_names(self) -> list[str]:
        found_at, names = self._models
        if self._clock() - found_at >= MODELS_SECONDS:
            names = self._find_model_names()
            self._models = self._clock(), names
        return list(dict.fromkeys([*self._loaded_names(), *names]))

    def _find_model_names(self) -> list[str]:
        from nbllm.core.catalogue.ollama import ollama_names
        from nbllm.core.naming.providers import PROVIDERS
        from nbllm.core.openers import known_vendor_models

        available = self._get_manager().search_all_models().models
        fetched = [f"ollama/{name}" for name in ollama_names()]
        prefixes = [f"{each.prefixes[0]}/" for each in PROVIDERS]
        return [*(info.name for info in available), *known_vendor_models(), *fetched, *prefixes]

    def _file_names(self) -> list[str]:
        available = self._get_manager().search_all_models().models
        return [info.name for info in available if info.path is not None]

    def _loaded_names(self) -> list[str]:
        return [info.name for info in self._get_manager().list_loaded_models()]


def _option_values(name: str) -> tuple[str, ...]:
    """Those of a generation or load option; () where nothing is called so."""
    from nbllm.core.option_table import options_of
    from nbllm.core.types import GenerationOptions, LoadOptions

    declared = {**options_of(LoadOptions), **options_of(GenerationOptions)}
    return declared[name].values if name in declared else ()


def _places(words: list[str], flags: Mapping[str, Action]) -> int:
    """How many of the ``words`` are neither flags nor the values of flags."""
    count, is_value = 0, False
    for word in filter(None, words):
        if word.startswith("-"):
            is_value = word in flags and flags[word].nargs != 0
        else:
            count, is_value = count + (not is_value), False
    return count
