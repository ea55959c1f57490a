"""Loopback servers of the vendors' batch APIs, after their documentation. They keep state.

https://platform.openai.com/docs/api-reference/batch, https://platform.claude.com/docs/en/api/messages/batches,
https://ai.google.dev/api/batch-api
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar


class Refusal(Exception):  # noqa: N818 - it is an answer
    def __init__(self, status: int, message: str, **headers: str) -> None:
        self.status, self.message, self.headers = status, message, headers


@dataclass
class Batch:
    """A batch that is done after ``polls`` looks at it."""

    id: str
    rows: dict[str, dict[str, Any]]
    about: dict[str, Any]
    created: float = field(default_factory=time.time)
    looks: int = 0
    ending: str = ""
    """How it ended: completed, expired, cancelled, failed; "" while it is worked on."""


class Server:
    """What is common; the tests set its attributes.

    ``fate`` says what becomes of a row by its prompt: "" (answered), "failed", "expired", "lost".
    ``trap`` is called with the method and path of each request, before and after it is carried
    out, and may raise ``Refusal`` or ``ConnectionError``, which cuts the connection.
    """

    model = ""
    model_type: ClassVar[str]
    base: ClassVar[str] = ""
    api: ClassVar[str | None] = None

    def __init__(self) -> None:
        self.batches: dict[str, Batch] = {}
        self.files: dict[str, bytes] = {}
        self.polls, self.extra_lines = 2, b""
        self.expires = False
        self.repeats = False
        self.fails_whole = ""
        self.fate: Callable[[str], str] = lambda prompt: ""
        self.trap: Callable[[str, str, bool], None] = lambda method, path, after: None
        self.seen: list[tuple[str, str]] = []
        self.asked: Counter[str] = Counter()
        self.cut_results = 0
        self.lock = threading.RLock()

    # ------------------------------------------------------------ what tests look at

    @property
    def prompts(self) -> Counter[str]:
        """How often each prompt was sent in a batch."""
        return Counter(
            self.prompt(row) for batch in self.batches.values() for row in batch.rows.values()
        )

    def count(self, pattern: str) -> int:
        return sum(bool(re.fullmatch(pattern, f"{method} {path}")) for method, path in self.seen)

    # ------------------------------------------------------------ the protocol

    def prompt(self, body: dict[str, Any]) -> str:
        raise NotImplementedError

    def answer(self, text: str) -> dict[str, Any]:
        raise NotImplementedError

    def respond(self, method: str, path: str, query: str, body: bytes, headers: Any) -> Any:
        raise NotImplementedError

    def look(self, batch: Batch) -> None:
        batch.looks += 1
        if not batch.ending and batch.looks >= self.polls:
            batch.ending = "expired" if self.expires else "completed"
            if self.fails_whole:
                batch.ending = "failed"

    def fates(self, batch: Batch) -> Iterator[tuple[str, str, str]]:
        """Key, prompt and fate of the rows, in another order than they came in."""
        for place, (key, row) in enumerate(reversed(batch.rows.items())):
            prompt = self.prompt(row)
            fate = self.fate(prompt)
            if batch.ending in ("expired", "cancelled") and place % 2:
                fate = batch.ending
            yield key, prompt, fate
            if self.repeats:
                yield key, "another", ""
                yield key, prompt, "failed"

    def get(self, batch_id: str) -> Batch:
        if batch_id not in self.batches:
            raise Refusal(404, f"no such batch: {batch_id}")
        return self.batches[batch_id]

    def keep(self, batch_id: str, rows: list[tuple[str, dict[str, Any]]], **about: Any) -> Batch:
        keys = [key for key, _ in rows]
        if len(set(keys)) != len(keys) or not all(re.fullmatch(r"[\w-]{1,64}", k) for k in keys):
            raise Refusal(400, "custom_id must be unique and match ^[a-zA-Z0-9_-]{1,64}$")
        batch = self.batches[batch_id] = Batch(batch_id, dict(rows), about)
        return batch

    def text_of(self, prompt: str) -> str:
        return prompt.upper()

    @contextmanager
    def running(self) -> Iterator[str]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}{self.base}"
        finally:
            server.shutdown()
            server.server_close()


def _handler(vendor: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            self._serve("GET", b"")

        def do_POST(self) -> None:
            self._serve("POST", self.rfile.read(int(self.headers.get("content-length") or 0)))

        def _serve(self, method: str, body: bytes) -> None:
            path, _, query = self.path.partition("?")
            try:
                with vendor.lock:
                    vendor.seen.append((method, path))
                    vendor.trap(method, path, False)
                    found = vendor.respond(method, path, query, body, self.headers)
                    vendor.trap(method, path, True)
            except ConnectionError:
                self.close_connection = True
                self.connection.close()
            except Refusal as refusal:
                error = {"type": "error", "error": {"message": refusal.message, "type": "x"}}
                self._send(refusal.status, json.dumps(error).encode(), refusal.headers)
            else:
                data = found if isinstance(found, bytes) else json.dumps(found).encode()
                self._send(200, data, {})

        def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
            cut = status == 200 and vendor.cut_results > 0
            is_result = self.path.endswith(("/content", "/results"))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            if cut and is_result:
                vendor.cut_results -= 1
                self.wfile.write(data[: len(data) // 2])
                self.wfile.flush()
                self.close_connection = True
                self.connection.close()
                return
            self.wfile.write(data)

    return Handler


class OpenAI(Server):
    model_type = "openai"
    base = "/v1"
    endpoint = "/v1/chat/completions"

    def prompt(self, body: dict[str, Any]) -> str:
        return str(body["messages"][-1]["content"])

    def answer(self, text: str) -> dict[str, Any]:
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "model": "gpt-4o-mini",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text},
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500},
        }

    def respond(self, method: str, path: str, query: str, body: bytes, headers: Any) -> Any:
        if (headers.get("authorization") or "") != "Bearer test-key":
            raise Refusal(401, "Incorrect API key provided")
        match [method, *path.removeprefix("/v1/").split("/")]:
            case ["POST", "files"]:
                return self._upload(body, headers)
            case ["POST", "batches"]:
                return self._create(json.loads(body))
            case ["GET", "batches"]:
                newest = list(reversed(self.batches.values()))
                page = dict(pair.split("=") for pair in query.split("&")).get("after")
                if page:
                    newest = newest[[b.id for b in newest].index(page) + 1 :]
                shown = newest[:2]  # short pages, so that there are several
                return {
                    "object": "list",
                    "data": [self._shown(batch) for batch in shown],
                    "has_more": len(newest) > 2,
                }
            case ["GET", "batches", batch_id]:
                batch = self.get(batch_id)
                self.look(batch)
                return self._shown(batch)
            case ["POST", "batches", batch_id, "cancel"]:
                batch = self.get(batch_id)
                if batch.ending:
                    raise Refusal(409, f"Cannot cancel a batch with status '{batch.ending}'.")
                batch.ending = "cancelled"
                return self._shown(batch)
            case ["POST", "chat", "completions"]:
                return self.answer(self.text_of(self.prompt(json.loads(body))))
            case ["GET", "files", file_id, "content"] if file_id in self.files:
                return self.files[file_id]
        raise Refusal(404, f"Invalid URL ({method} {path})")

    def _upload(self, body: bytes, headers: Any) -> dict[str, Any]:
        boundary = headers["content-type"].partition("boundary=")[2].encode()
        assert body.endswith(b"\r\n--" + boundary + b"--\r\n")
        purpose, file = (part.strip(b"\r\n") for part in body.split(b"--" + boundary)[1:3])
        assert purpose == b'Content-Disposition: form-data; name="purpose"\r\n\r\nbatch'
        head, _, lines = file.partition(b"\r\n\r\n")
        assert b'name="file"; filename="' in head
        name = f"file-{len(self.files)}"
        self.files[name] = lines
        return {"id": name, "object": "file", "purpose": "batch", "bytes": len(lines)}

    def _create(self, body: dict[str, Any]) -> dict[str, Any]:
        lines = [json.loads(line) for line in self.files[body["input_file_id"]].split(b"\n")]
        for line in lines:
            assert line["method"] == "POST"
            assert line["url"] == body["endpoint"] == self.endpoint
            assert not line["body"].get("stream")
        assert body["completion_window"] == "24h"
        rows = [(line["custom_id"], line["body"]) for line in lines]
        batch = self.keep(f"batch_{len(self.batches)}", rows, metadata=body.get("metadata"))
        return self._shown(batch)

    def _shown(self, batch: Batch) -> dict[str, Any]:
        shown = {
            "id": batch.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "status": batch.ending or "in_progress",
            "created_at": int(batch.created),
            "metadata": batch.about["metadata"],
            "request_counts": {"total": len(batch.rows), "completed": 0, "failed": 0},
            "errors": None,
            "output_file_id": None,
            "error_file_id": None,
        }
        if batch.ending == "failed":
            error = {"code": "invalid_json_line", "message": self.fails_whole, "line": 3}
            shown["errors"] = {"object": "list", "data": [error]}
        elif batch.ending:
            shown |= self._results(batch)
        return shown

    def _results(self, batch: Batch) -> dict[str, Any]:
        good, bad = [], []
        for key, prompt, fate in self.fates(batch):
            line: dict[str, Any] = {"id": "batch_req_1", "custom_id": key}
            if not fate:
                body = self.answer(self.text_of(prompt))
                response = {"status_code": 200, "request_id": "r", "body": body}
                good.append({**line, "response": response, "error": None})
            elif fate == "failed":
                body = {"error": {"message": f"bad row {prompt}", "type": "invalid_request_error"}}
                response = {"status_code": 400, "request_id": "r", "body": body}
                bad.append({**line, "response": response, "error": None})
            elif fate != "lost":
                code = {"expired": "batch_expired", "cancelled": "batch_cancelled"}[fate]
                bad.append({**line, "response": None, "error": {"code": code, "message": "m"}})
        found = {}
        for name, lines in (("output_file_id", good), ("error_file_id", bad)):
            if lines:
                self.files[f"{batch.id}-{name}"] = self.extra_lines + b"".join(
                    json.dumps(line).encode() + b"\n" for line in lines
                )
                found[name] = f"{batch.id}-{name}"
        return found


class OpenAIResponses(OpenAI):
    api = "responses"
    endpoint = "/v1/responses"

    def prompt(self, body: dict[str, Any]) -> str:
        content = body["input"][-1]["content"]
        return content if isinstance(content, str) else str(content[-1]["text"])

    def answer(self, text: str) -> dict[str, Any]:
        content = [{"type": "output_text", "text": text, "annotations": []}]
        return {
            "id": "resp_1",
            "object": "response",
            "status": "completed",
            "model": "gpt-4o-mini",
            "output": [{"type": "message", "id": "m", "role": "assistant", "content": content}],
            "usage": {"input_tokens": 1000, "output_tokens": 500, "total_tokens": 1500},
        }


def _time(moment: float) -> str:
    return datetime.fromtimestamp(moment, timezone.utc).isoformat().replace("+00:00", "Z")


class Anthropic(Server):
    model_type = "anthropic"

    def prompt(self, body: dict[str, Any]) -> str:
        content = body["messages"][-1]["content"]
        return content if isinstance(content, str) else "".join(each["text"] for each in content)

    def answer(self, text: str) -> dict[str, Any]:
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude-haiku-4-5",
            "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 1000, "output_tokens": 500},
        }

    def respond(self, method: str, path: str, query: str, body: bytes, headers: Any) -> Any:
        if headers.get("x-api-key") != "test-key" or not headers.get("anthropic-version"):
            raise Refusal(401, "invalid x-api-key")
        match [method, *path.removeprefix("/v1/messages/").split("/")]:
            case ["POST", "batches"]:
                rows = []
                for row in json.loads(body)["requests"]:
                    assert set(row) == {"custom_id", "params"}
                    assert not row["params"].get("stream")
                    assert row["params"]["max_tokens"] >= 1
                    rows.append((row["custom_id"], row["params"]))
                return self._shown(self.keep(f"msgbatch_{len(self.batches)}", rows))
            case ["GET", "batches"]:
                newest = reversed(self.batches.values())
                return {"data": [self._shown(batch) for batch in newest], "has_more": False}
            case ["GET", "batches", batch_id]:
                batch = self.get(batch_id)
                self.look(batch)
                return self._shown(batch)
            case ["POST", "batches", batch_id, "cancel"]:
                batch = self.get(batch_id)
                if batch.ending:
                    raise Refusal(400, "the batch has ended")
                batch.ending = "cancelled"
                return self._shown(batch)
            case ["GET", "batches", batch_id, "results"]:
                return self._results(self.get(batch_id))
        raise Refusal(404, f"not found: {path}")

    def _shown(self, batch: Batch) -> dict[str, Any]:
        ended = {"succeeded": len(batch.rows)} if batch.ending else {"processing": len(batch.rows)}
        zero = dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0)
        return {
            "id": batch.id,
            "type": "message_batch",
            "processing_status": "ended" if batch.ending else "in_progress",
            "request_counts": {**zero, **ended},
            "created_at": _time(batch.created),
            "results_url": "https://elsewhere.invalid/results" if batch.ending else None,
        }

    def _results(self, batch: Batch) -> bytes:
        lines = [self.extra_lines]
        for key, prompt, fate in self.fates(batch):
            if fate == "failed":
                error = {"type": "invalid_request_error", "message": f"bad row {prompt}"}
                result: Any = {"type": "errored", "error": {"type": "error", "error": error}}
            elif fate:
                result = {"type": fate.replace("cancelled", "canceled")}
            else:
                result = {"type": "succeeded", "message": self.answer(self.text_of(prompt))}
            if fate != "lost":
                lines.append(json.dumps({"custom_id": key, "result": result}).encode() + b"\n")
        return b"".join(lines)


class Gemini(Server):
    model_type = "gemini"

    def prompt(self, body: dict[str, Any]) -> str:
        return "".join(each["text"] for each in body["contents"][-1]["parts"])

    def answer(self, text: str) -> dict[str, Any]:
        return {
            "candidates": [
                {"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP"}
            ],
            "usageMetadata": {"promptTokenCount": 1000, "candidatesTokenCount": 500},
            "modelVersion": "gemini-2.5-flash",
        }

    def respond(self, method: str, path: str, query: str, body: bytes, headers: Any) -> Any:
        if headers.get("x-goog-api-key") != "test-key":
            raise Refusal(401, "API key not valid")
        match [method, *path.removeprefix("/v1beta/").split("/")]:
            case ["POST", "models", name] if name.endswith(":batchGenerateContent"):
                sent = json.loads(body)["batch"]
                rows = [
                    (each["metadata"]["key"], each["request"])
                    for each in sent["inputConfig"]["requests"]["requests"]
                ]
                number = len(self.batches)
                batch = self.keep(f"batches/{number}", rows, name=sent["displayName"])
                return self._shown(batch)
            case ["GET", "batches"]:
                newest = reversed(self.batches.values())
                return {"operations": [self._shown(batch) for batch in newest]}
            case ["GET", "batches", number]:
                batch = self.get(f"batches/{number}")
                self.look(batch)
                return self._shown(batch)
            case ["POST", "batches", name] if name.endswith(":cancel"):
                batch = self.get(f"batches/{name.removesuffix(':cancel')}")
                if batch.ending:
                    raise Refusal(400, "the batch is over")
                batch.ending = "cancelled"
                return {}
        raise Refusal(404, f"not found: {path}")

    def _shown(self, batch: Batch) -> dict[str, Any]:
        states = {"completed": "SUCCEEDED", "": "RUNNING"}
        state = states.get(batch.ending, batch.ending.upper())
        shown: dict[str, Any] = {
            "name": batch.id,
            "metadata": {
                "displayName": batch.about["name"],
                "createTime": _time(batch.created),
                "batchStats": {"requestCount": str(len(batch.rows))},
                "state": f"BATCH_STATE_{state}",
                "name": batch.id,
            },
        }
        if batch.ending == "failed":
            shown |= {"done": True, "error": {"code": 3, "message": self.fails_whole}}
        elif batch.ending:
            results = {"inlinedResponses": {"inlinedResponses": list(self._results(batch))}}
            shown |= {"done": True, "response": results}
        return shown

    def _results(self, batch: Batch) -> Iterator[dict[str, Any]]:
        if self.extra_lines:
            yield {"response": self.answer("stray"), "metadata": {"key": "unknown"}}
        for key, prompt, fate in self.fates(batch):
            about = {"metadata": {"key": key}}
            if fate == "failed":
                yield {**about, "error": {"code": 3, "message": f"bad row {prompt}"}}
            elif fate == "cancelled":
                yield {**about, "error": {"code": 1, "message": "cancelled"}}
            elif fate == "expired":
                yield {**about, "error": {"code": 4, "message": "deadline exceeded: expired"}}
            elif not fate:
                yield {**about, "response": self.answer(self.text_of(prompt))}
