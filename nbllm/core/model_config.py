"""Models in JSON: configs are read into ``ModelInfo`` and written from it.

A config holds one object or a list of them. Every problem is a ``ConfigError`` that names the
file, the entry and the key. A config never holds an API key, only the name of the environment
variable that does; one that seems to hold a key is refused, and the key is not shown.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from nbllm.core.api_keys import walk, where_is_key
from nbllm.core.budgets.budget import Budget
from nbllm.core.config_json import (
    MODEL_KEYS,
    JsonObject,
    decode,
    encode,
    kind_of,
    read_text,
    replace_text,
)
from nbllm.core.errors import ConfigError, InvalidOptionError
from nbllm.core.load_options import template_path
from nbllm.core.option_table import OptionSet, options_of
from nbllm.core.paths import absolute_path, current_folder, expanded, is_gguf
from nbllm.core.routing.router_settings import (
    ROUTER_KEYS,
    RouterSettings,
    router_key_hint,
    written_settings,
)
from nbllm.core.suggest import did_you_mean
from nbllm.core.types import GenerationOptions, LoadOptions, ModelInfo

__all__ = [
    "UNREAD_TYPE",
    "entry_of",
    "load_config",
    "parse_entry",
    "save_config",
]

Options = TypeVar("Options", bound=OptionSet)

UNREAD_TYPE = "gguf"
"""The ``model_type`` of a GGUF that nobody has looked into: its header tells when it is opened."""

_CLOUD_ONLY = ("api_key_env", "base_url", "model", "api")
_OF_ROUTERS = ("name", "model_type", "local", "options", "context_length")
_KEY_REFUSED = (
    "this looks like an API key (not shown), and a config must not contain keys. Put the "
    "key into an environment variable and the variable's name into the config, as in "
    '"api_key_env": "OPENAI_API_KEY"'
)


def parse_entry(entry: object, *, file: Path | None = None, index: int | None = None) -> ModelInfo:
    """The model that a JSON object describes.

    ``file`` is the config that it is from, whose folder relative paths start at (without it,
    the current folder); ``index`` is its place in the file's list. Raises ``ConfigError``.
    """
    place = where_is_key(entry)
    if place is not None:  # before anything else, so that no other message can show it
        raise ConfigError(_KEY_REFUSED, file=file, entry=index, key=place or None)
    if not isinstance(entry, dict):
        problem = f"an entry must be an object (got {kind_of(entry)})"
        raise ConfigError(problem, file=file, entry=index)
    name = entry.get("name")
    named = isinstance(name, str) and name.strip()
    return _Entry(entry, file, name if named else index).model()


@dataclass(frozen=True, slots=True)
class _Entry:
    """An entry with what its errors must name."""

    values: Mapping[str, Any]
    file: Path | None
    label: str | int | None

    def model(self) -> ModelInfo:
        self._check_json()
        is_router = self.values.get("model_type") == "router"
        of_router = ROUTER_KEYS if is_router else ()
        if "members" in self.values and not is_router:
            raise self._error("model_type", 'must be "router" for an entry that has members')
        self._check_names(self.values, (*MODEL_KEYS, *of_router))
        self._check_beside(of_router)
        given = {key: value for key, value in self.values.items() if value is not None}
        read = {key: self._read(key) for key in given if key not in of_router}
        read.setdefault("local", "path" in read)
        if read["local"] and is_gguf(read.get("path", Path())):
            read.setdefault("model_type", UNREAD_TYPE)
        if is_router:
            settings = {key: given[key] for key in of_router if key in given}
            read["router"] = self._router(read, settings)
        self._check_together(read)
        folder = self._folder()
        if "path" in read:
            read["path"] = folder / read["path"]
        if "budgets" in read:
            own = {"model": read["name"]}
            read["budgets"] = tuple(b if b.model else replace(b, **own) for b in read["budgets"])
        if "options" in read:
            read["options"] = self._options("options", read["options"], GenerationOptions)
        if "load" in read:
            load = self._options("load", read["load"], LoadOptions)
            read["load"] = _with_paths(load, folder)
        return ModelInfo(**read, config_file=self.file)

    def _router(self, read: Mapping[str, Any], settings: Mapping[str, Any]) -> RouterSettings:
        """What the keys of a router say; of the others it has but a few."""
        if "name" not in read:
            raise self._error("name", "this key is required")
        for key in read:
            if key not in _OF_ROUTERS:
                raise self._error(key, "must not be set for a router; set it in its members")
        if read["local"]:
            raise self._error("local", "must not be true for a router; its members may be local")
        if "members" not in settings:
            raise self._error("members", 'this key is required when "model_type" is "router"')
        try:
            router = RouterSettings(**settings)
            router.check_named(read["name"])
        except InvalidOptionError as error:
            raise self._error(error.option, error.problem) from None
        return router

    def _folder(self) -> Path:
        """Where relative paths start; the empty path where the current folder was deleted."""
        if self.file is None:
            return current_folder() or Path()
        try:
            return absolute_path(self.file).parent
        except ValueError as error:
            raise ConfigError(str(error), file=self.file) from None

    def _check_json(self) -> None:
        """Refuse what JSON allows but no model config can use."""
        for place, _, value in walk(self.values):
            if isinstance(value, JsonObject) and value.repeated is not None:
                inside = f"{place}.{value.repeated}" if place else value.repeated
                raise self._error(inside, "duplicate key")
            if re.fullmatch(r"(options|load)\.\w+", place):
                continue  # an option checks its number itself
            if isinstance(value, float) and not math.isfinite(value):
                raise self._error(place, f"must be a finite number (got {value})")
            if isinstance(value, int) and abs(value) >= 2**63:
                raise self._error(place, "the number is too large")

    def _check_names(self, given: Iterable[str], known: Iterable[str], within: str = "") -> None:
        for name in given:
            if name not in known:
                hint = did_you_mean(name, known)
                value = {} if within else self.values[name]
                is_router = self.values.get("model_type") == "router"
                if not within and (is_router or (isinstance(value, dict) and "members" in value)):
                    hint = router_key_hint(name, value, known)
                raise self._error(within + name, f"unknown key.{hint}")

    def _check_beside(self, of_router: Iterable[str]) -> None:
        """That what belongs beside ``options`` is not in it."""
        options = self.values.get("options")
        given = options if isinstance(options, dict) else {}
        for key in of_router:
            if key in given:
                raise self._error(f"options.{key}", 'belongs beside "options", not into it')

    def _read(self, key: str) -> Any:
        try:
            return MODEL_KEYS[key](self.values[key])
        except ValueError as error:
            raise self._error(key, str(error)) from None

    def _check_together(self, read: Mapping[str, Any]) -> None:
        """That what is required is there, and that the keys go together."""
        for key in ("name", "model_type"):
            if key not in read:
                raise self._error(key, "this key is required")
        if not read["local"] and "path" in read:
            raise self._error("path", 'must not be set when "local" is false')
        if read["local"] and "path" not in read:
            raise self._error("path", 'this key is required when "local" is true')
        for key in _CLOUD_ONLY if read["local"] else ():
            if key in read:
                raise self._error(key, "must not be set for a local model")

    def _options(self, key: str, given: Mapping[str, Any], make: type[Options]) -> Options:
        """The options under ``key``, of the dataclass ``make``."""
        self._check_names(given, options_of(make), f"{key}.")
        try:
            return make.of(given)
        except InvalidOptionError as error:
            raise self._error(f"{key}.{error.option}", error.problem) from None

    def _error(self, key: str, problem: str) -> ConfigError:
        return ConfigError(problem, file=self.file, entry=self.label, key=key)


def entry_of(info: ModelInfo, folder: Path) -> dict[str, Any]:
    """The JSON object of a model in a config in ``folder``: what is set, and no defaults."""
    entry: dict[str, Any] = {
        key: value for key in MODEL_KEYS if (value := getattr(info, key)) is not None
    }
    if info.router is not None:
        entry.update(written_settings(info.router))
    if info.path is not None:
        entry["path"] = _written(info.path, folder)
        if info.model_type == UNREAD_TYPE and is_gguf(info.path):
            del entry["model_type"]
    options = info.options.set_values()
    if "tools" in options:
        options["tools"] = [asdict(tool) for tool in options["tools"]]
    load = info.load.set_values()
    if "adapters" in load:
        load["adapters"] = {_written(Path(p), folder): scale for p, scale in load["adapters"]}
    if "chat_template" in load and (template := template_path(load["chat_template"])):
        load["chat_template"] = _written(template, folder)
    if "draft_model" in load:
        load["draft_model"] = _written(Path(load["draft_model"]), folder)
    budgets = [_written_budget(budget, info.name) for budget in info.budgets]
    for key, values in (("options", options), ("load", load), ("budgets", budgets)):
        entry[key] = values
        if not values:
            del entry[key]
    return entry


def _written_budget(budget: Budget, name: str) -> dict[str, Any]:
    """What is set of a budget; the model of its own entry goes without saying."""
    values = budget.set_values()
    return {key: value for key, value in values.items() if (key, value) != ("model", name)}


def _with_paths(load: LoadOptions, folder: Path) -> LoadOptions:
    """The options with the paths in them taken from ``folder``."""
    adapters, draft, template = load.adapters, load.draft_model, load.chat_template
    return load.replaced(
        adapters=adapters and tuple((str(folder / path), scale) for path, scale in adapters),
        draft_model=draft and str(folder / expanded(draft)),
        chat_template=str(folder / template) if template and template_path(template) else template,
    )


def _written(path: Path, folder: Path) -> str:
    """Relative to the folder for what is in it, and never taken for a path from ``~``."""
    path = absolute_path(path)
    if not path.is_relative_to(folder) or path == folder:
        return str(path)
    text = path.relative_to(folder).as_posix()
    return f"./{text}" if text.startswith("~") else text


def load_config(path: str | Path) -> list[ModelInfo]:
    """The models of the JSON config at ``path``; relative paths in it start at its folder.

    Raises ``ConfigError``.
    """
    file = _absolute(path)
    return _models(decode(read_text(file), file), file)


def save_config(path: str | Path, infos: Iterable[ModelInfo]) -> None:
    """Write the models to ``path``, all or nothing; ``load_config`` gives them back equal.

    Paths of models below the config's folder are written relative to it, so that both can move
    together. Raises ``ConfigError`` for what cannot be written or would not be read again,
    before the file is touched.
    """
    file = _absolute(path)
    try:
        entries = [entry_of(info, file.parent) for info in infos]
    except ValueError as error:
        raise ConfigError(f"a model's path cannot be written: {error}", file=file) from None
    text = encode(entries, file)
    _models(decode(text, file), file)
    replace_text(file, text + "\n")


def _absolute(path: str | Path) -> Path:
    try:
        return absolute_path(path)
    except ValueError as error:
        raise ConfigError(str(error), file=Path(path)) from None


def _models(content: object, file: Path) -> list[ModelInfo]:
    if not isinstance(content, list):
        return [parse_entry(content, file=file)]
    infos = [parse_entry(entry, file=file, index=index) for index, entry in enumerate(content)]
    first_with: dict[str, int] = {}
    for index, info in enumerate(infos):
        first = first_with.setdefault(info.name, index)
        if first != index:
            problem = f"entries {first} and {index} have the same name; change one of them"
            raise ConfigError(problem, file=file, entry=info.name, key="name")
    return infos
