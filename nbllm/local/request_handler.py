"""What the parent asks for, made ready for the engine; runs on a thread beside it."""

from __future__ import annotations

import re
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import msgspec

from nbllm.core.texts import shown
from nbllm.local.engine import Engine
from nbllm.local.ipc.events import (
    ContextExceeded,
    Detokenized,
    OptionRefused,
    QueueFull,
    Tokenized,
    TokensCounted,
)
from nbllm.local.ipc.liveness import Stage
from nbllm.local.ipc.operations import (
    CountTokens,
    Decide,
    Detokenize,
    Embed,
    Generate,
    Rerank,
    Tokenize,
    Turn,
    WorkerOperation,
    WorkerRequest,
)
from nbllm.local.ipc.protocol import Cancel, Close, Event, Failed, assert_never, decode
from nbllm.local.ipc.threads import Pool
from nbllm.local.llama.chat import ChatTemplate, Prompt
from nbllm.local.llama.embedder import Embedder
from nbllm.local.llama.native import NativeModel
from nbllm.local.llama.sampling import Sampler
from nbllm.local.reading.output_format import OutputFormat
from nbllm.local.request_refusals import RefusedOptionError, TemplateRefusalError, unforeseen
from nbllm.local.scheduling.label_decisions import Decision, LabelTree
from nbllm.local.scheduling.prefixes import shared_length
from nbllm.local.scheduling.prompt_lookup import PromptLookupDrafter
from nbllm.local.scheduling.repetition import Repetition, is_watched
from nbllm.local.scheduling.request_queue import QUEUE_LIMIT
from nbllm.local.scheduling.tasks import Task
from nbllm.local.token_text import TextAssembler

__all__ = ["RequestHandler"]

_FIRST_TOKENS = 4
_KEPT_TREES = 32  # of labels that one row after the other is decided by
_PREPARERS = 4  # so many grammars are made at a time
_BOUND = ("response_schema", "grammar", "tools")
_OPERATIONS = msgspec.json.Decoder(WorkerOperation)
_NUMBER = re.compile(rb'\{"op":"[^"]*","id":(\d+)')


class RequestHandler:
    """Turns the parent's requests into tasks and replies, which ``send`` takes.

    Templates and tokenizers work here, so that a long prompt does not hold up running answers.
    Whatever goes wrong with a request ends it and no other. ``embedder_stage`` is where the
    embedder tells what it is at.
    """

    def __init__(
        self,
        model: NativeModel,
        engine: Engine,
        send: Callable[[Event], None],
        template: ChatTemplate,
        embedder_stage: Stage | None = None,
    ) -> None:
        self._template = template
        model.vocabulary.write_out(self._template.all_marks)
        self._model, self._engine, self._send = model, engine, send
        self._embedder = Embedder(model, send, embedder_stage or Stage())
        self._lock = threading.Lock()
        self._preparing, self._cancelled = set[int](), set[int]()
        self._turns_reasoning_off = True
        self._tree = lru_cache(_KEPT_TREES)(self._tree_of)
        self._preparers = Pool(_PREPARERS)

    def read(self, line: bytes) -> bool:
        """Do what a line of the parent says; False where that is to leave.

        A line that cannot be read ends the request that it is of, and no other. Raises
        ``ValueError`` for one that is of none.
        """
        try:
            operation = decode(line, _OPERATIONS)
        except ValueError as error:
            number = _NUMBER.match(line)
            if number is None:
                raise
            problem = f"its worker could not read the request: {error}"
            self._send(Failed(int(number[1]), problem))
            return True
        if isinstance(operation, Close):
            return False
        self.handle(operation)
        return True

    def handle(self, request: WorkerRequest) -> None:
        """Do what a request asks for, or say why not.

        A grammar may take seconds to be made, so that an answer that needs one is prepared on
        another thread.
        """
        bound = isinstance(request, Generate) and any(map(request.options.get, _BOUND))
        if bound:
            with self._lock:
                self._preparing.add(request.id)
            self._preparers.submit(partial(self._prepare, request))
        else:
            self._serve(request)

    def _prepare(self, request: WorkerRequest) -> None:
        try:
            self._serve(request)
        finally:
            with self._lock:
                self._preparing.discard(request.id)
                self._cancelled.discard(request.id)

    def _serve(self, request: WorkerRequest) -> None:
        try:
            event = self._reply(request)
        except RefusedOptionError as error:
            event = OptionRefused(request.id, error.option, str(error))
        except (TemplateRefusalError, ValueError) as error:
            event = Failed(request.id, str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this request's alone
            traceback.print_exc()
            event = Failed(request.id, unforeseen(error))
        if event is not None:
            self._send(event)

    def _reply(self, request: WorkerRequest) -> Event | None:
        """The event to send now; None where the engine or the embedder sends it, or none is due."""
        match request:
            case Generate():
                return self._generate(request)
            case Decide():
                return self._decide(request)
            case Cancel(number):
                self._cancel(number)
                return None
            case CountTokens():
                return self._count(request)
            case Tokenize(number, text):
                tokens = self._model.vocabulary.tokenize(
                    text, add_special=False, parse_special=True
                )
                return Tokenized(number, tokens)
            case Detokenize():
                return self._detokenize(request)
            case Embed():
                return self._embedder.embed(request)
            case Rerank():
                return self._embedder.rerank(request)
            case _:
                return assert_never(request)

    def _tokens(self, prompt: Prompt) -> list[int]:
        return self._model.vocabulary.tokenize_prompt(
            prompt.text, add_special=prompt.add_special, guard=prompt.guard
        )

    # ------------------------------------------------------------ answers

    def _generate(self, request: Generate) -> Event | None:
        prompt, limit = self._prompt(request), self._model.context_length
        vocabulary, suffix = self._model.vocabulary, request.suffix
        if vocabulary.exceeds(prompt.text + (suffix or ""), limit):
            return ContextExceeded(request.id, None, limit)
        if suffix is None:
            tokens = self._tokens(prompt)
        else:
            tokens = vocabulary.gap_between(prompt.text, suffix)
        if not tokens:
            return Failed(request.id, "the prompt is empty")
        if len(tokens) >= limit:
            return ContextExceeded(request.id, len(tokens), limit)
        return self._submit(self._task(request, tokens, prompt.form), prompt.form)

    def _prompt(self, request: Generate) -> Prompt:
        options = request.options
        if request.suffix is not None:
            return Prompt(request.messages[0]["content"], add_special=False)
        if options.get("raw"):
            return Prompt(request.messages[0]["content"], add_special=True)
        effort = options.get("reasoning_effort")
        return self._template.render(request.messages, tools=_offered(options), effort=effort)

    def _submit(self, task: Task, form: OutputFormat) -> Event | None:
        submitted = False
        try:
            self._send(form.to_event(task.id))
            with self._lock:  # a cancel is either seen here, or comes to the engine behind it
                is_wanted = task.id not in self._cancelled
                submitted = is_wanted and self._engine.submit(task)
        finally:
            if not submitted:
                task.sampler.close()
        return QueueFull(task.id, QUEUE_LIMIT) if is_wanted and not submitted else None

    def _task(self, request: Generate, tokens: list[int], form: OutputFormat) -> Task:
        options = request.options
        shifts = options.get("on_full") == "shift"
        if shifts and not self._model.cells.can_shift:
            problem = "this model does not support context shift; leave it unset"
            raise RefusedOptionError("on_full", problem)
        looks_up = options.get("prompt_lookup", True) and self._model.can_copy_prefix
        text = TextAssembler(tuple(options.get("stop", ())))
        keep = self._kept_length(request, tokens) if shifts else 0
        return Task(
            request.id,
            tokens,
            options.get("max_tokens") or (sys.maxsize if shifts else self._model.context_length),
            Sampler(options, self._model, tokens, form),
            text,
            tuple(options.get("adapters", self._model.scales)),
            background=options.get("priority") == "background",
            shifts=shifts,
            keep=keep,
            lookup=PromptLookupDrafter() if looks_up else None,
            repetition=Repetition() if is_watched(options) else None,
        )

    def _kept_length(self, request: Generate, tokens: list[int]) -> int:
        """How many tokens a shift leaves at the beginning: the system message, and a few always.

        Attention leans on the first tokens (https://arxiv.org/abs/2309.17453).
        """
        system = [turn for turn in request.messages[:1] if turn["role"] == "system"]
        if not system:
            return _FIRST_TOKENS
        with suppress(TemplateRefusalError):
            begin = self._tokens(self._template.render(system, tools=_offered(request.options)))
            return max(_FIRST_TOKENS, shared_length(begin, tokens))
        return _FIRST_TOKENS

    def _cancel(self, number: int) -> None:
        with self._lock:
            if number in self._preparing:
                self._cancelled.add(number)
            self._engine.cancel(number)
        self._embedder.cancel(number)

    # ------------------------------------------------------------ decisions

    def _decide(self, request: Decide) -> Event | None:
        prompt, limit = self._prompt_of_labels(request), self._model.context_length
        if self._model.vocabulary.exceeds(prompt.text, limit):
            return ContextExceeded(request.id, None, limit)
        tokens, tree = self._tokens(prompt), self._tree(tuple(request.labels))
        if not tokens:
            return Failed(request.id, "the prompt is empty")
        if len(tokens) + tree.depth > limit:
            return ContextExceeded(request.id, len(tokens) + tree.depth, limit)
        task = Task(
            request.id,
            tokens,
            sys.maxsize,
            Sampler({"temperature": 0.0}, self._model, ()),
            TextAssembler(),
            tuple(request.options.get("adapters", self._model.scales)),
            background=request.options.get("priority") == "background",
            decision=Decision(tree),
        )
        if self._engine.submit(task):
            return None
        task.sampler.close()
        return QueueFull(task.id, QUEUE_LIMIT)

    def _prompt_of_labels(self, request: Decide) -> Prompt:
        """The prompt up to where an answer begins, behind all reasoning."""
        if request.options.get("raw"):
            return Prompt(request.messages[0]["content"], add_special=True)
        prompt = self._without_reasoning(request.messages)
        thinking = prompt.form.thinking
        closed = f"\n{thinking.close}\n\n" if thinking else ""
        return replace(prompt, text=prompt.text + closed + prompt.form.answer_open)

    def _without_reasoning(self, messages: Sequence[Turn]) -> Prompt:
        if self._turns_reasoning_off:
            with suppress(TemplateRefusalError):
                return self._template.render(messages, effort="none")
        prompt = self._template.render(messages)
        self._turns_reasoning_off = False  # it was that which the template refused
        return prompt

    def _tree_of(self, labels: tuple[str, ...]) -> LabelTree:
        """The tree of the tokens of labels, in all forms. Raises ``RefusedOptionError``."""
        forms = [[*map(self._label_tokens, _forms(label))] for label in labels]
        owners: dict[tuple[int, ...], str] = {}
        for label, (tokens, *_) in zip(labels, forms, strict=True):
            other = owners.setdefault(tuple(tokens), label)
            if not tokens or other != label:
                what = f"is the same as {shown(other)}" if tokens else "has no tokens"
                raise RefusedOptionError(
                    "decide", f"the label {shown(label)} {what} for this model; rename it"
                )
        return LabelTree.of(forms)

    def _label_tokens(self, text: str) -> list[int]:
        return self._model.vocabulary.tokenize(text, add_special=False, parse_special=False)

    # ------------------------------------------------------------ tokens

    def _count(self, request: CountTokens) -> Event:
        if request.raw:
            prompt = Prompt(request.messages[0]["content"], add_special=True)
        else:
            prompt = self._template.render(request.messages)
        return TokensCounted(request.id, len(self._tokens(prompt)))

    def _detokenize(self, request: Detokenize) -> Event:
        vocabulary = self._model.vocabulary
        strangers = [token for token in request.tokens if token not in vocabulary]
        if strangers:
            problem = (
                f"{strangers[0]} is not a token id of this model (0 to {vocabulary.size - 1:,})"
            )
            raise RefusedOptionError("tokens", problem)
        text = vocabulary.detokenize(request.tokens).decode(errors="replace")
        return Detokenized(request.id, text)


def _offered(options: dict[str, Any]) -> Sequence[Turn]:
    """The tools that may be called."""
    return options.get("tools", ()) if options.get("tool_choice") != "none" else ()


def _forms(label: str) -> tuple[str, ...]:
    """How a label may be written, itself first: its first letter in either case, behind a space."""
    other = label[:1].swapcase() + label[1:]
    return label, other, f" {label}", f" {other}"
