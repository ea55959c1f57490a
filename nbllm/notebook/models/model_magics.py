"""``%llm_load``, ``%llm_unload``, ``%llm_models`` and ``%llm_devices``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from IPython.core.error import UsageError
from IPython.core.magic import line_magic, magics_class, no_var_expand

from nbllm.notebook.flags import LOAD, Help, flag, flagged_options, parser_of, with_help
from nbllm.notebook.magic_line import Flags, parse
from nbllm.notebook.running_cell import brief_errors
from nbllm.notebook.session import NotebookSession, SessionMagics

if TYPE_CHECKING:
    import pandas as pd

    from nbllm.core.model_interface import ModelInterface

__all__ = ["ModelMagics"]


class LoadFlags(Flags):
    """What ``LOAD`` explains besides load options; times are in seconds."""

    name: list[str]
    alias: str | None
    pin: bool | None
    wait: float | None
    config: str | None


UNLOAD = Help(
    """
    %llm_unload phi
    %llm_unload --all
""",
    (
        flag("name", nargs="?", help="The model; optional if only one is loaded."),
        flag("--all", action="store_true", help="All models."),
    ),
)


class UnloadFlags(Flags):
    """What ``UNLOAD`` explains."""

    name: str | None
    all: bool


MODELS = Help(
    """
    %llm_models                           the current folder, bundled and configured models
    %llm_models --all                     and those of Hugging Face, LM Studio, Ollama, …
    %llm_models --source ollama
    %llm_models --servers                 and those of servers that run on this machine
    models = %llm_models
    models[models["file size (MiB)"] < 4096]
""",
    (
        flag(
            "--all",
            action="store_true",
            help="Also the models that other programs keep on this machine.",
        ),
        flag("--source", metavar="NAME", help="Only the models of this source, such as ollama."),
        flag(
            "--servers",
            action="store_true",
            help="Also the models of servers that run on this machine.",
        ),
    ),
)


class ModelsFlags(Flags):
    """What ``MODELS`` explains."""

    all: bool
    source: str | None
    servers: bool


DEVICES = Help(
    """
    %llm_devices
    devices = %llm_devices
    devices["free (MiB)"].max()
    %llm_devices --rpc 192.168.1.20:50052 and those of another machine
""",
    options="load",
    only=("rpc", "rpc_public"),
)

_MODEL_TYPE = ("nbllm.core.model_interface", "ModelInterface")


@magics_class
class ModelMagics(SessionMagics):
    """The magics that load, unload and list."""

    def __init__(self, session: NotebookSession) -> None:
        super().__init__(session)
        self._load_seconds: WeakKeyDictionary[ModelInterface, float] = WeakKeyDictionary()
        formatter: Any = session.shell.display_formatter
        plain = formatter.formatters["text/plain"]
        plain.for_type_by_name(*_MODEL_TYPE, self._print_model)
        session.at_close(lambda: plain.pop(".".join(_MODEL_TYPE), None))

    @no_var_expand
    @with_help(LOAD)
    @line_magic
    def llm_load(self, line: str) -> ModelInterface:
        """Load a model, and return it."""
        if not line.strip():
            raise UsageError(
                "name a model, a file or a server; %llm_models lists the available models"
            )
        args = parse(parser_of(self, "llm_load"), line, LoadFlags())
        with brief_errors():
            return self._load(" ".join(args.name), args)  # a path with blanks need no quotes

    @no_var_expand
    @with_help(UNLOAD)
    @line_magic
    def llm_unload(self, line: str) -> pd.DataFrame:
        """Unload a model and free its memory; returns the unloaded models as a DataFrame."""
        args = parse(parser_of(self, "llm_unload"), line, UnloadFlags())
        with brief_errors():
            return self._unload(args.name, everything=args.all)

    @no_var_expand
    @with_help(MODELS)
    @line_magic
    def llm_models(self, line: str) -> pd.DataFrame:
        """List loaded and available models as a DataFrame."""
        args = parse(parser_of(self, "llm_models"), line, ModelsFlags())
        from nbllm.core.loading.admission import might_fit
        from nbllm.notebook.tables import models_table

        manager = self.session.manager
        with brief_errors():
            everything = args.all or args.source is not None
            found = (
                manager.search_all_models(args.source) if everything else manager.search_models()
            )
        models, statuses = [*found.models], manager.list_statuses()
        if args.servers:
            models += self.session.loop.run(manager.search_servers())
        if args.source is not None:
            sources = {each.source for each in models}
            statuses = [each for each in statuses if each.info.source in sources]
        fits = None
        if everything:
            resources = manager.detect_resources()
            fits = {m.name: might_fit(m.size_bytes, resources) for m in models if m.size_bytes}
        return models_table(statuses, models, found.notes, fits=fits)

    @no_var_expand
    @with_help(DEVICES)
    @line_magic
    def llm_devices(self, line: str) -> pd.DataFrame:
        """List the processors and memory that models can run on, as a DataFrame."""
        args = parse(parser_of(self, "llm_devices"), line, Flags())
        from nbllm.core.openers import engine_devices, with_servers
        from nbllm.core.resource_detector import ResourceDetector
        from nbllm.core.types import LoadOptions
        from nbllm.notebook.models.devices_table import devices_table

        found = ResourceDetector().detect()
        with brief_errors():
            options = LoadOptions.of({name: vars(args)[name] for name in DEVICES.only})
            if options.rpc:
                return devices_table(with_servers(found, options))
        # llama.cpp takes half a second to answer, which only matters where there are GPUs.
        return devices_table(replace(found, engine=engine_devices()) if found.gpus else found)

    def _load(self, name: str, args: LoadFlags) -> ModelInterface:
        from nbllm.core.model_manager import WAIT_SECONDS
        from nbllm.core.types import LoadOptions
        from nbllm.notebook.asking.waiting import load_model

        typed = vars(args)
        flags = LoadOptions.of({name: typed[name] for name in flagged_options("load")})
        if args.config:
            self.session.manager.add_config(args.config)
        view = self.session.open_view("llm_load")
        options = self.session.load_options().merged(flags)
        model, seconds = load_model(
            self.session,
            name,
            view,
            alias=args.alias,
            options=options,
            wait=WAIT_SECONDS if args.wait is None else args.wait,
        )
        if args.pin is not None:
            pin = self.session.manager.pin_model if args.pin else self.session.manager.unpin_model
            pin(model.name)
        view.drop_note(f"Loaded {model.name}.")
        self._load_seconds.setdefault(model, seconds)
        return model

    def _unload(self, name: str | None, *, everything: bool) -> pd.DataFrame:
        from nbllm.notebook.tables import unloaded_table

        manager = self.session.manager
        loaded = manager.list_loaded_models()
        if name is None and not everything and len(loaded) > 1:
            listed = ", ".join(info.name for info in loaded)
            raise UsageError(f"several models are loaded; name one, or use --all: {listed}")
        chosen = [info for info in loaded if name in (None, info.name)]
        for each in [info.name for info in chosen] if name is None else [name]:
            self.session.loop.run(manager.unload_model(each))
        return unloaded_table(chosen)

    def _print_model(self, model: ModelInterface, printer: Any, cycle: bool) -> None:  # noqa: FBT001 - IPython's way
        """How a model is shown that is the value of a cell."""
        from nbllm.notebook.status_messages import ready_words

        if model.usable:
            printer.text(ready_words(model.info, self._load_seconds.get(model), model.unready))
        else:
            printer.text(f"{model.name} is no longer loaded")
