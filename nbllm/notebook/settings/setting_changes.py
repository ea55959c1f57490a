"""Settings as names and values: typed by a person, written to a file, read from one."""

from __future__ import annotations

import ast
import json
import reprlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from traitlets import Bool, Dict, Integer, List, TraitError, TraitType, Unicode

from nbllm.core.config_json import replace_text
from nbllm.core.errors import ConfigError
from nbllm.core.json_checks import parse_json
from nbllm.core.option_table import options_of
from nbllm.core.paths import absolute_path, read_text, reason
from nbllm.core.suggest import did_you_mean
from nbllm.core.types import GenerationOptions
from nbllm.notebook.magic_settings import NbLLM

__all__ = [
    "OPTIONS",
    "change_all",
    "changed",
    "defaults",
    "load",
    "parse_setting",
    "save",
    "split_words",
]

_MAX_BYTES = 2**20

_KINDS: dict[type[TraitType[Any, Any]], tuple[type, str]] = {
    Bool: (bool, "True or False"),
    Integer: (int, "an integer"),
    Unicode: (str, "a string"),
    List: (list, "a string or a list of strings"),
    Dict: (dict, "a dict, such as {'temperature': 0.2}"),
}
_CONSENTS = ("prompt_files", "nest_asyncio")
"""What the reader allows in this kernel, or cannot be taken back; no file can say it, since files
come from elsewhere."""
OPTIONS = options_of(GenerationOptions)
"""The generation options, which are set by their names as settings are."""


def parse_setting(word: str) -> tuple[str, Any]:
    """Name and value of "name=value"; no value is None, the default.

    A value is a Python literal, else a text.
    """
    name, _, text = word.partition("=")
    try:
        return name, ast.literal_eval(text) if text else None
    except (ValueError, SyntaxError):
        return name, text


def split_words(settings: NbLLM, words: Sequence[str]) -> tuple[list[str], list[tuple[str, Any]]]:
    """The names that stand alone, and the settings with their values.

    A value stands behind "=", with blanks about it or not, or behind the name: "temperature 0.5".
    Raises ``ConfigError`` for names that there are not.
    """
    names: list[str] = []
    pairs: list[tuple[str, Any]] = []
    for name, text in _name_and_text(settings, words):
        check_name(settings, name)
        if text is None:
            names.append(name)
        else:
            pairs.append(parse_setting(f"{name}={text}"))
    return names, pairs


def _name_and_text(settings: NbLLM, words: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    rest = list(words)
    while rest:
        name, equals, text = rest.pop(0).partition("=")
        if not equals and rest and rest[0].startswith("="):
            equals, text = "=", rest.pop(0).removeprefix("=")
        is_known = _is_name(settings, name)
        if is_known and not text and rest and not _is_name(settings, rest[0].partition("=")[0]):
            equals, text = "=", rest.pop(0)
            _check_whole(settings, name, [text, *rest])
        yield name, text if equals else None


def _check_whole(settings: NbLLM, name: str, words: Sequence[str]) -> None:
    """Raises ``ConfigError`` where a value of several words has no quotation marks around it."""
    if len(words) > 1 and not _is_name(settings, words[1].partition("=")[0]):
        raise ConfigError(f'put a value of several words in quotation marks: {name}="{words[0]} …"')


def _is_name(settings: NbLLM, name: str) -> bool:
    return name in OPTIONS or name in settings.trait_names(config=True)


def check_name(settings: NbLLM, name: str) -> None:
    """Raises ``ConfigError`` where no setting and no generation option is called so."""
    known = settings.trait_names(config=True)
    if name not in (*known, *OPTIONS):
        all_there_are = ", ".join([*known, "and the generation options"])
        hint = did_you_mean(name, [*known, *OPTIONS]) or f" Settings: {all_there_are}."
        raise ConfigError(f"there is no setting {name!r}.{hint}")


def _change(settings: NbLLM, name: str, value: Any) -> None:
    """Set one setting or generation option; None is its default. Raises ``ConfigError``."""
    check_name(settings, name)
    if isinstance(settings.traits().get(name), List) and isinstance(value, str):
        value = [value]  # of one: prompt_files=data/
    if value is not None and (problem := _problem(settings, name, value)):
        raise ConfigError(problem)
    try:
        if name in OPTIONS:
            options = {**settings.options, name: value}
            settings.options = {key: each for key, each in options.items() if each is not None}
        else:
            setattr(settings, name, _default(settings, name) if value is None else value)
    except TraitError as error:
        raise ConfigError(str(error)) from None


def _problem(settings: NbLLM, name: str, value: Any) -> str:
    """What is wrong with the kind of a value, in plainer words than traitlets has; else ""."""
    for kind, (wanted, words) in _KINDS.items():
        if isinstance(settings.traits().get(name), kind) and not _is_a(value, wanted):
            return f"{name} must be {words} (got {reprlib.repr(value)})"
    return ""


def _is_a(value: object, kind: type) -> bool:
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def change_all(settings: NbLLM, values: Iterable[tuple[str, Any]]) -> None:
    """Set all of them, or none where one is wrong. Raises ``ConfigError``."""
    pairs = list(values)
    _try_out(settings, pairs)
    for name, value in pairs:
        _change(settings, name, value)


def _try_out(settings: NbLLM, values: Iterable[tuple[str, Any]]) -> None:
    """Raises the ``ConfigError`` that setting them would, and sets nothing."""
    trial = NbLLM(parent=settings.parent)
    trial.options = settings.options
    for name, value in values:
        _change(trial, name, value)


def defaults(settings: NbLLM) -> list[tuple[str, None]]:
    """What sets everything to its default."""
    return [(name, None) for name in changed(settings)]


def changed(settings: NbLLM) -> dict[str, Any]:
    """The settings that differ from their defaults."""
    values = {name: getattr(settings, name) for name in settings.trait_names(config=True)}
    return {name: value for name, value in values.items() if value != _default(settings, name)}


def save(settings: NbLLM, file: str) -> None:
    """Write what differs from the defaults to a JSON file, but nothing that the reader allowed.

    All or nothing. Raises ``ConfigError``.
    """
    values = {name: value for name, value in changed(settings).items() if name not in _CONSENTS}
    replace_text(_path(file), json.dumps(values, indent=2, default=asdict) + "\n")


def load(settings: NbLLM, file: str) -> list[tuple[str, Any]]:
    """What a JSON file would set, checked as if it were typed.

    Raises ``ConfigError`` that names the file and the key.
    """
    path = _path(file)
    try:
        values = parse_json(read_text(path, _MAX_BYTES))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot be read: {reason(error)}", file=path) from None
    if not isinstance(values, dict):
        raise ConfigError("this is not a JSON object of settings", file=path)
    for name in _CONSENTS:
        if values.get(name):
            problem = f"{name} cannot be set by a file; set it with %llm_config {name}=…"
            raise ConfigError(problem, file=path)
    try:
        _try_out(settings, values.items())
    except ConfigError as error:
        raise ConfigError(str(error), file=path) from None
    return list(values.items())


def _path(file: str) -> Path:
    try:
        return absolute_path(file)
    except ValueError as error:
        raise ConfigError(str(error), file=Path(file)) from None


def _default(settings: NbLLM, name: str) -> Any:
    return settings.trait_defaults(name)
