"""Recorded requests, read into our messages and written again: they must come out the same.

Requests with what we do not model (documents, audio, tools that run at the vendor) are left out.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Any

import pytest

from nbllm.cloud.vendors.anthropic import AnthropicAdapter
from nbllm.cloud.vendors.gemini import GeminiAdapter
from nbllm.cloud.vendors.openai import OpenAIAdapter
from nbllm.core.types import (
    ContentPart,
    ImagePart,
    Message,
    ReasoningPart,
    TextPart,
    Tool,
    ToolCall,
    ToolResult,
)


class NotModelledError(Exception):
    """A request has what our messages have no word for."""


def options(body: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {ours: body[theirs] for theirs, ours in names.items() if body.get(theirs) is not None}


def image(url: str) -> ImagePart:
    if not url.startswith("data:"):
        return ImagePart(url=url)
    media_type, data = url.removeprefix("data:").split(";base64,")
    return ImagePart(media_type, base64.b64decode(data))


# ---------------------------------------------------------------- OpenAI


def chat_message(turn: dict[str, Any]) -> Message:
    content = turn.get("content")
    pieces = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
    parts: list[ContentPart] = []
    for piece in pieces:
        if piece["type"] == "text":
            parts.append(TextPart(piece["text"]))
        elif piece["type"] == "image_url" and set(piece["image_url"]) == {"url"}:
            parts.append(image(piece["image_url"]["url"]))
        else:
            raise NotModelledError
    if turn["role"] == "tool":
        text = "".join(part.text for part in parts if isinstance(part, TextPart))
        return Message("tool", (ToolResult(turn["tool_call_id"], "", text),))
    for call in turn.get("tool_calls") or []:
        function = call["function"]
        parts.append(ToolCall(call["id"], function["name"], function["arguments"]))
    if turn["role"] == "developer" or {"function_call", "name"} & turn.keys():
        raise NotModelledError
    return Message(turn["role"], tuple(parts))


def plain_chat(turn: dict[str, Any]) -> dict[str, Any]:
    """A turn without the fields that say nothing, and with text as one string."""
    kept = {key: turn[key] for key in ("role", "tool_calls", "tool_call_id") if turn.get(key)}
    content = turn.get("content") or ""
    if isinstance(content, list) and all(piece["type"] == "text" for piece in content):
        content = "".join(piece["text"] for piece in content)
    return {**kept, "content": content}


CHAT_OPTIONS = {
    "max_completion_tokens": "max_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "seed": "seed",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "reasoning_effort": "reasoning_effort",
}


def test_chat(recordings: Any, info: Any, ask: Any) -> None:
    compared = 0
    every = recordings("openai", "ep:chat.completions")
    for recording in every:
        theirs = recording.request
        try:
            messages = tuple(map(chat_message, theirs["messages"]))
        except (NotModelledError, TypeError):
            continue
        chosen = options(theirs, CHAT_OPTIONS)
        tools = [tool["function"] for tool in theirs.get("tools") or []]
        if tools:
            chosen["tools"] = tuple(
                Tool(t["name"], t.get("description", ""), t.get("parameters", {})) for t in tools
            )
        model = info(api="chat", model=theirs["model"])
        request = OpenAIAdapter().generation_request(
            model, ask(messages, **chosen), stream=bool(theirs.get("stream"))
        )
        ours = request.body
        assert list(map(plain_chat, ours["messages"])) == list(map(plain_chat, theirs["messages"]))
        for key in CHAT_OPTIONS:
            assert ours.get(key) == theirs.get(key), (recording.name, key)
        for mine, tool in zip(ours.get("tools", []), tools, strict=True):
            assert mine["type"] == "function"
            assert {key: mine["function"][key] for key in tool if key != "strict"} == {
                key: value for key, value in tool.items() if key != "strict"
            }
        compared += 1
    assert compared > len(every) / 2


# ---------------------------------------------------------------- Anthropic


def claude_part(block: dict[str, Any]) -> ContentPart:
    match block:
        case {"type": "text", "text": text}:
            return TextPart(text)
        case {"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}}:
            return ImagePart(kind, base64.b64decode(data))
        case {"type": "image", "source": {"type": "url", "url": url}}:
            return ImagePart(url=url)
        case {"type": "thinking", "thinking": text, "signature": signature}:
            return ReasoningPart(text, signature)
        case {"type": "tool_use", "id": identity, "name": name, "input": value}:
            return ToolCall(identity, name, json.dumps(value))
        case {"type": "tool_result", "tool_use_id": identity, "content": str(content)}:
            return ToolResult(identity, "", content, bool(block.get("is_error")))
    raise NotModelledError


def plain_claude(turn: dict[str, Any]) -> dict[str, Any]:
    content = turn["content"]
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    ignored = ("cache_control", "citations", "caller")
    plain = [{k: v for k, v in block.items() if k not in ignored} for block in blocks]
    for block in plain:
        if not block.get("is_error", True):
            del block["is_error"]
    return {"role": turn["role"], "content": plain}


def test_messages(recordings: Any, info: Any, ask: Any) -> None:
    compared = 0
    every = recordings("anthropic", "ep:messages")
    for recording in every:
        theirs = recording.request
        if not isinstance(theirs, dict) or "messages" not in theirs:
            continue
        turns = list(map(plain_claude, theirs["messages"]))
        try:
            messages = tuple(
                Message(turn["role"], tuple(map(claude_part, turn["content"]))) for turn in turns
            )
        except NotModelledError:
            continue
        names = {"max_tokens": "max_tokens", "temperature": "temperature"}
        request = AnthropicAdapter().generation_request(
            info("anthropic", model=theirs["model"]),
            ask(messages, **options(theirs, names), prompt_caching=False),
            stream=bool(theirs.get("stream")),
        )
        assert request.body["messages"] == turns, recording.name
        for key in (*names, "model"):
            assert request.body.get(key) == theirs.get(key), recording.name
        assert bool(request.body.get("stream")) == bool(theirs.get("stream"))
        compared += 1
    assert compared > len(every) / 2


# ---------------------------------------------------------------- Gemini


def gemini_part(part: dict[str, Any]) -> Iterable[ContentPart]:
    signature = part.get("thoughtSignature")
    match part:
        case {"text": text} if len(part) == 1:
            return [TextPart(text)]
        case {"inlineData": {"mimeType": kind, "data": data}} if kind.startswith("image/"):
            return [ImagePart(kind, google_bytes(data))]
        case {"functionCall": {"name": name, "args": value, **more}}:
            return [ToolCall(more.get("id", ""), name, json.dumps(value), signature)]
        case {"functionResponse": {"name": name, "response": {"result": str(text)}, **more}}:
            return [ToolResult(more.get("id", ""), name, text)]
    raise NotModelledError


def test_contents(recordings: Any, info: Any, ask: Any) -> None:
    compared = 0
    kinds = ("ep:streamGenerateContent", "ep:generateContent")
    every = [r for kind in kinds for r in recordings("gemini", kind)]
    for recording in every:
        theirs = recording.request
        try:
            messages = tuple(
                Message(
                    "assistant" if turn.get("role") == "model" else "user",
                    tuple(part for item in turn["parts"] for part in gemini_part(item)),
                )
                for turn in theirs["contents"]
            )
        except NotModelledError:
            continue
        config = theirs.get("generationConfig") or {}
        request = GeminiAdapter().generation_request(
            info("gemini"),
            ask(messages, **options(config, {"temperature": "temperature"})),
            stream=True,
        )
        assert parts_of(request.body) == parts_of(theirs), recording.name
        if "temperature" in config:
            sent = request.body["generationConfig"]["temperature"]
            assert sent == pytest.approx(config["temperature"])
        compared += 1
    assert compared > len(every) / 2


def google_bytes(data: str) -> bytes:
    """Google's SDK writes base64 in its form for addresses, and the API reads both forms."""
    return base64.urlsafe_b64decode(data.replace("+", "-").replace("/", "_") + "==")


def parts_of(body: dict[str, Any]) -> list[tuple[str, Any]]:
    """Every part with its role; consecutive turns of one role are one for the vendor."""
    return [
        (turn.get("role", "user"), with_bytes(part))
        for turn in body["contents"]
        for part in turn["parts"]
    ]


def with_bytes(part: dict[str, Any]) -> dict[str, Any]:
    image = part.get("inlineData")
    return {"image": (image["mimeType"], google_bytes(image["data"]))} if image else part
