"""Pulls from a hub on the loopback: real bytes, real files, and everything that can break."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_hub import COMMIT, MIB, FakeHub, digest_of, made_model
from huggingface_hub import scan_cache_dir, try_to_load_from_cache

from nbllm.core.downloads import PullProgress
from nbllm.core.errors import DownloadError, InvalidOptionError, MissingDependencyError
from nbllm.core.model_manager import ModelManager
from nbllm.hub import pulling, transfer

MODEL = made_model()
PULL = """
import asyncio, sys
from nbllm.core.model_manager import ModelManager
def show(progress):
    print(progress.phase, progress.received_bytes, flush=True)
print(asyncio.run(ModelManager().pull_model(sys.argv[1], progress=show)).path, flush=True)
"""


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


async def sent(hub: FakeHub, count: int) -> None:
    """Wait until the hub has sent so many bytes."""
    while hub.sent < count:  # noqa: ASYNC110 - it runs in threads, which set no events
        await asyncio.sleep(0.01)


def names_in(folder: Path, pattern: str) -> list[str]:
    return sorted(path.name for path in folder.glob(pattern))


def start_pull(name: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PULL, name],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def test_a_pull_goes_into_the_cache_as_the_hubs_own_library_writes_it(
    hub: FakeHub, cache: Path, manager: ModelManager
) -> None:
    hub.add("org/tiny-GGUF", **{"tiny.Q4_K_M.gguf": MODEL, "README.md": b"hello"})
    told: list[PullProgress] = []
    info = await manager.pull_model("hf.co/org/tiny-GGUF", progress=told.append)
    assert info.path is not None
    assert sha256(info.path) == digest_of(MODEL)
    assert info.path == cache / "models--org--tiny-GGUF/snapshots" / COMMIT / "tiny.Q4_K_M.gguf"
    assert str(info.path.readlink()) == f"../../blobs/{digest_of(MODEL)}"
    assert try_to_load_from_cache("org/tiny-GGUF", "tiny.Q4_K_M.gguf", cache) == str(info.path)
    found = scan_cache_dir(cache)
    assert not found.warnings
    assert found.size_on_disk == len(MODEL)
    assert sorted(path.name for path in info.path.resolve().parent.iterdir()) == [digest_of(MODEL)]
    assert hub.sent == len(MODEL)
    assert told[-1].phase == "done"
    assert told[-1].fraction == 1
    listed = manager.search_all_models("huggingface").models
    assert [each.name for each in listed] == ["tiny.Q4_K_M"]
    assert manager.find_model("tiny.Q4_K_M").path == info.path


async def test_what_is_here_is_not_downloaded_again(hub: FakeHub, manager: ModelManager) -> None:
    hub.add("org/tiny", **{"tiny.gguf": MODEL})
    await manager.pull_model("org/tiny")
    hub.requests.clear()
    await manager.pull_model("org/tiny")
    assert not hub.requests_to("cdn")


async def test_a_name_and_a_quantization_that_contradict_each_other_are_refused_unasked(
    hub: FakeHub, manager: ModelManager
) -> None:
    hub.add("org/tiny", **{"tiny-Q8_0.gguf": MODEL})
    told = "the name asks for .* already, not 'q4_0'; give one of them"
    for name in ("org/tiny:Q8_0", "org/tiny/tiny-Q8_0.gguf"):
        with pytest.raises(InvalidOptionError, match=told):
            await manager.plan_pull(name, quant="q4_0")
    with pytest.raises(InvalidOptionError, match="quant: it is empty"):
        await manager.plan_pull("org/tiny", quant=" ")
    assert not hub.requests
    for name in ("org/tiny:Q8_0", "org/tiny/tiny-Q8_0.gguf"):
        assert (await manager.plan_pull(name, quant="q8_0")).chosen.label == "Q8_0"


async def test_a_blob_of_another_revision_is_linked(
    hub: FakeHub, cache: Path, manager: ModelManager
) -> None:
    hub.add("org/tiny", **{"tiny.gguf": MODEL})
    blob = cache / "models--org--tiny/blobs" / digest_of(MODEL)
    blob.parent.mkdir(parents=True)
    blob.write_bytes(MODEL)
    info = await manager.pull_model("org/tiny")
    assert info.path is not None
    assert info.path.samefile(blob)
    assert not hub.requests_to("cdn")


async def test_twenty_cut_connections_cost_no_bytes(hub: FakeHub, manager: ModelManager) -> None:
    content = made_model(8 * MIB)
    hub.add("org/tiny", **{"tiny.gguf": content})
    hub.cuts = 20
    info = await manager.pull_model("org/tiny")
    assert info.path is not None
    assert sha256(info.path) == digest_of(content)
    assert hub.cuts == 0
    assert hub.sent <= 1.02 * len(content)


def test_a_killed_pull_goes_on_where_it_was(hub: FakeHub, cache: Path) -> None:
    content = made_model(8 * MIB)
    hub.add("org/tiny", **{"tiny.gguf": content})
    hub.rate = 2 * MIB
    process = start_pull("org/tiny")
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("downloading") and int(line.split()[1]) > len(content) // 3:
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not list(cache.glob("models--*/snapshots/*/*"))
    hub.rate = 0
    output, errors = start_pull("org/tiny").communicate(timeout=60)
    path = Path(output.splitlines()[-1])
    assert sha256(path) == digest_of(content), errors
    assert hub.sent <= 1.02 * len(content) + 4 * 2 * 2**16  # and what was on its way


def test_two_processes_download_a_file_once(hub: FakeHub) -> None:
    content = made_model(4 * MIB)
    hub.add("org/tiny", **{"tiny.gguf": content})
    hub.rate = MIB
    processes = [start_pull("org/tiny"), start_pull("org/tiny")]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    paths = {Path(output.splitlines()[-1]) for output in outputs}
    assert len(paths) == 1
    assert sha256(paths.pop()) == digest_of(content)
    assert hub.sent == len(content)
    waited = [
        int(line.split()[1])
        for output in outputs
        for line in output.splitlines()
        if line.startswith("waiting")
    ]
    assert max(waited) > 0, "who waits shows what the other has"


async def test_two_pulls_in_one_process_download_a_file_once(
    hub: FakeHub, manager: ModelManager
) -> None:
    hub.add("org/tiny", **{"tiny.gguf": MODEL})
    hub.rate = 2 * MIB
    first, second = await asyncio.gather(
        manager.pull_model("org/tiny"), manager.pull_model("org/tiny")
    )
    assert first.path == second.path
    assert hub.sent == len(MODEL)


async def test_a_cancelled_pull_ends_at_once_and_keeps_what_arrived(
    hub: FakeHub, cache: Path, manager: ModelManager
) -> None:
    content = made_model(4 * MIB)
    hub.add("org/tiny", **{"tiny.gguf": content})
    hub.rate = MIB // 4
    some = asyncio.Event()
    loop = asyncio.get_running_loop()

    def show(progress: PullProgress) -> None:
        if progress.received_bytes > 100_000:
            loop.call_soon_threadsafe(some.set)

    task = asyncio.ensure_future(manager.pull_model("org/tiny", progress=show))
    await asyncio.wait_for(some.wait(), 20)
    began = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - began < 0.5
    hub.rate = 0
    await manager.pull_model("org/tiny")
    assert hub.sent < 1.2 * len(content)


async def test_a_changed_file_is_not_mixed_with_the_old_one(
    hub: FakeHub, cache: Path, manager: ModelManager
) -> None:
    repository = hub.add("org/tiny", **{"tiny.gguf": MODEL})
    plan = await manager.plan_pull("org/tiny")
    hub.rate = MIB // 2
    task = asyncio.ensure_future(manager.pull_model(plan))
    await sent(hub, 200_000)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    hub.rate, other = 0, made_model(seed=1)
    repository.files["tiny.gguf"] = other
    info = await manager.pull_model("org/tiny")
    assert info.path is not None
    assert sha256(info.path) == digest_of(other)


# ---------------------------------------------------------------- servers


async def test_a_server_without_ranges(hub: FakeHub, manager: ModelManager) -> None:
    hub.add("org/tiny", **{"tiny.gguf": MODEL})
    hub.ranges, hub.cuts = False, 2
    info = await manager.pull_model("org/tiny")
    assert info.path is not None
    assert sha256(info.path) == digest_of(MODEL)


@pytest.mark.parametrize("told", [len(MODEL) - 1, len(MODEL) + 1, 2**60])
@pytest.mark.parametrize("ranges", [True, False])
async def test_sizes_that_lie_are_refused(
    hub: FakeHub, manager: ModelManager, told: int, ranges: bool
) -> None:
    hub.add("org/tiny", **{"tiny.gguf": MODEL})
    hub.total_told, hub.ranges = told, ranges
    with pytest.raises(DownloadError, match="by its listing, but"):
        await manager.pull_model("org/tiny")


async def test_a_body_without_a_length_that_is_longer_than_listed(
    hub: FakeHub, manager: ModelManager
) -> None:
    hub.add("org/tiny", **{"tiny.gguf": MODEL})
    hub.endless.add(f"/{digest_of(MODEL)}")
    with pytest.raises(DownloadError, match="sends more"):
        await asyncio.wait_for(manager.pull_model("org/tiny"), 20)


async def test_a_wrong_checksum_is_discarded(
    hub: FakeHub, cache: Path, manager: ModelManager
) -> None:
    hub.add("org/tiny", **{"tiny.gguf": MODEL})
    hub.corrupt = True
    with pytest.raises(DownloadError, match=r"checksum of tiny\.gguf is wrong"):
        await manager.pull_model("org/tiny")
    assert not names_in(cache, "models--*/blobs/*")
    hub.corrupt = False
    await manager.pull_model("org/tiny")


async def test_an_expired_address_is_asked_for_again(hub: FakeHub, manager: ModelManager) -> None:
    content = made_model(8 * MIB)
    hub.add("org/tiny", **{"tiny.gguf": content})
    hub.rate = 4 * MIB
    task = asyncio.ensure_future(manager.pull_model("org/tiny"))
    await sent(hub, MIB // 2)
    hub.raw[f"/{digest_of(content)}"] = (403, {}, b"<Error>Request has expired</Error>")
    await asyncio.sleep(0.05)
    hub.raw.clear()
    assert (await task).size_bytes == len(content)


async def test_a_server_that_asks_to_wait_is_waited_for(
    hub: FakeHub, manager: ModelManager
) -> None:
    hub.add("org/tiny", **{"tiny.gguf": MODEL})
    hub.refusals = [(429, {"Retry_After": "0"}), (503, {})]
    assert (await manager.pull_model("org/tiny")).size_bytes == len(MODEL)


async def test_a_long_delay_is_told(hub: FakeHub, manager: ModelManager) -> None:
    hub.add("org/tiny", **{"tiny.gguf": MODEL})
    hub.refusals = [(429, {"Retry_After": "600"})] * 4
    with pytest.raises(
        DownloadError, match=r"limiting requests .* in 10 min, or set HF_TOKEN"
    ) as e:
        await manager.pull_model("org/tiny")
    assert (e.value.status, e.value.retry_after_seconds) == (429, 600)


async def test_a_server_that_fails_again_and_again(
    hub: FakeHub, manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_LONGEST_PAUSE", 0.01)
    hub.add("org/tiny", **{"tiny.gguf": MODEL})
    hub.refusals = [(502, {})] * 100
    with pytest.raises(DownloadError, match=r"failed \(HTTP 502\)\. Try again later"):
        await manager.pull_model("org/tiny")


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("org/none", "no such repository, or it is private"),
        ("org/private", "for a private one set HF_TOKEN"),
        ("org/gated", r"is gated\. Accept its terms at https://huggingface\.co/org/gated"),
        ("org/tiny@none", "no revision 'none'"),
        ("org/tiny:q2_k", r"'q2_k' matches no variant\. It has Q4_K_M \(3 MiB\)"),
        ("https://huggingface.co/org/tiny/blob/main/none.gguf", "no complete model 'none.gguf'"),
        ("org/empty", "it has no GGUF files"),
    ],
)
async def test_each_refusal_is_one_line_with_its_remedy(
    hub: FakeHub, manager: ModelManager, name: str, expected: str
) -> None:
    hub.add("org/tiny", **{"tiny.Q4_K_M.gguf": MODEL})
    hub.add("org/gated", **{"tiny.gguf": MODEL}).gated = True
    hub.add("org/private", **{"tiny.gguf": MODEL}).private = True
    hub.add("org/empty", **{"model.safetensors": b"1"})
    with pytest.raises(DownloadError, match=expected) as caught:
        await manager.pull_model(name)
    assert "\n" not in str(caught.value)


async def test_the_token_opens_what_is_gated_and_private(
    hub: FakeHub, manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = hub.add("org/gated", **{"tiny.gguf": MODEL})
    repository.gated = repository.private = True
    hub.token = "hf_secret"
    monkeypatch.setenv("HF_TOKEN", hub.token)
    await manager.pull_model("org/gated")
    assert all("authorization" in each.headers for each in hub.requests_to("hub"))
    assert not any("authorization" in each.headers for each in hub.requests_to("cdn"))


async def test_a_token_that_is_not_accepted(
    hub: FakeHub, manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("org/tiny", **{"tiny.gguf": MODEL})
    hub.token = "hf_secret"
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(DownloadError, match="does not accept the token in HF_TOKEN") as caught:
        await manager.pull_model("org/tiny")
    assert "hf_wrong" not in str(caught.value)


async def test_no_network(
    hub: FakeHub, manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    told = r"no connection to 127\.0\.0\.1; check that it is running .* is online$"
    with pytest.raises(DownloadError, match=told):
        await manager.pull_model("org/tiny")


async def test_offline_mode(
    hub: FakeHub, manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadError, match="turned off by HF_HUB_OFFLINE"):
        await manager.pull_model("org/tiny")


async def test_a_missing_library_is_named(
    hub: FakeHub, manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "nbllm\[hub\]"'):
        await manager.pull_model("org/tiny")


async def test_a_disk_without_room_is_told_before_anything_is_downloaded(
    hub: FakeHub, manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("org/tiny", **{"tiny.gguf": MODEL})
    monkeypatch.setattr(pulling, "free_bytes", lambda folder: 66 * MIB)
    with pytest.raises(
        DownloadError, match=r"another 3 MiB must be downloaded, .* has 66 MiB free"
    ):
        await manager.pull_model("org/tiny")
    assert not hub.requests_to("cdn")


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENOSPC, r"is full\. Another 3 MiB are needed\. Free some space"),
        (errno.EFBIG, r"takes no file that large: .*Set HF_HOME to a folder on another disk"),
        (errno.EROFS, "cannot be written: Read-only"),
    ],
)
async def test_a_disk_that_fills_meanwhile(
    hub: FakeHub, manager: ModelManager, monkeypatch: pytest.MonkeyPatch, number: int, told: str
) -> None:
    hub.add("org/tiny", **{"tiny.gguf": MODEL})
    full = OSError(number, os.strerror(number))

    def write(*args: object) -> None:
        raise full

    monkeypatch.setattr("nbllm.hub.parts.PartFile.write", write)
    with pytest.raises(DownloadError, match=told):
        await manager.pull_model("org/tiny")


# ---------------------------------------------------------------- strangers


@pytest.mark.parametrize(
    "path",
    [
        "../../x.gguf",
        "/etc/x.gguf",
        "a/../../x.gguf",
        "a//x.gguf",
        "NUL.gguf",
        "sub/com1.gguf",
        "x\0.gguf",
        "x\n.gguf",
        "a\\..\\x.gguf",
        "C:x.gguf",
        "x" * 300 + ".gguf",
        "\u202efugg.gguf",
        "x:y.gguf",
    ],
)
async def test_hostile_names_are_refused_by_name(
    hub: FakeHub, cache: Path, manager: ModelManager, path: str
) -> None:
    hub.add("org/tiny", **{"tiny.gguf": MODEL, path: b"evil"})
    plan = await manager.plan_pull("org/tiny")
    assert [each.files[0].path for each in plan.variants] == ["tiny.gguf"]
    assert plan.notes[0].startswith("Refused: ")


@pytest.mark.parametrize(
    "listed",
    [
        {"type": "file", "path": "x.gguf", "oid": "a" * 40, "size": -1},
        {"type": "file", "path": "x.gguf", "oid": "a" * 40, "size": True},
        {"type": "file", "path": "x.gguf", "oid": "a" * 40, "size": 2**70},
        {"type": "file", "path": "x.gguf", "oid": "a" * 40, "size": "9"},
        {"type": "file", "path": "x.gguf", "oid": "../../../x", "size": 9},
        {"type": "file", "path": "x.gguf", "size": 9, "lfs": {"oid": "../x", "size": 9}},
        {"type": "file", "path": "x.gguf", "size": 9, "lfs": {"oid": None, "size": 9}},
        {"type": "file", "path": "x.gguf", "size": 9, "lfs": []},
        {"type": "file", "path": 7},
        {"path": None},
        None,
        [],
        "x.gguf",
    ],
)
async def test_entries_that_are_none_are_passed_over(
    hub: FakeHub, manager: ModelManager, listed: object
) -> None:
    hub.add("org/tiny", **{"tiny.gguf": MODEL}).listed = [listed]
    plan = await manager.plan_pull("org/tiny")
    assert [each.files[0].path for each in plan.variants] == ["tiny.gguf"]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("http://169.254.169.254/latest", "without encryption"),
        ("https://169.254.169.254/latest", "inside a private network"),
        ("https://10.0.0.1/x", "inside a private network"),
        ("https://[::1]/x", "inside a private network"),
        ("https://[::ffff:10.0.0.1]/x", "inside a private network"),
        ("http://example.org/x", "without encryption"),
        ("file:///etc/passwd", "another scheme"),
        ("ftp://example.org/x", "another scheme"),
        ("https://user:secret@example.org/x", "with a password"),
        ("http://[", "is not followed"),
    ],
)
async def test_redirects_into_the_network_are_not_followed(
    hub: FakeHub, manager: ModelManager, where: str, expected: str
) -> None:
    hub.add("org/tiny", **{"tiny.gguf": MODEL})
    hub.redirect = where
    with pytest.raises(DownloadError, match=expected):
        await manager.pull_model("org/tiny")


async def test_redirects_in_a_circle(hub: FakeHub, manager: ModelManager) -> None:
    hub.add("org/tiny", **{"tiny.gguf": MODEL})
    hub.redirect = f"{hub.endpoint}/org/tiny/resolve/main/tiny.gguf"
    with pytest.raises(DownloadError, match="redirects more than 5 times"):
        await manager.pull_model("org/tiny")


@pytest.mark.parametrize(
    "body",
    [b"<html>Sign in</html>", b"", b"[" * 100_000, b"7", b"[]", b'{"sha": "../../x"}', b"\xff\xfe"],
)
async def test_answers_that_no_hub_gives(hub: FakeHub, manager: ModelManager, body: bytes) -> None:
    hub.raw["/api/models/org/tiny/revision/main"] = (200, {"Content_Type": "text/html"}, body)
    with pytest.raises(DownloadError, match="did not answer as a hub does"):
        await manager.pull_model("org/tiny")


async def test_an_answer_without_end(hub: FakeHub, manager: ModelManager) -> None:
    hub.endless.add("/api/models/org/tiny/revision/main")
    with pytest.raises(DownloadError, match="a listing of more than 16 MiB"):
        await manager.pull_model("org/tiny")


async def test_a_listing_in_pages(hub: FakeHub, manager: ModelManager) -> None:
    hub.page_size = 2
    hub.add("org/tiny", **{f"tiny.Q{bits}_0.gguf": MODEL[:-bits] for bits in range(2, 9)})
    assert len((await manager.plan_pull("org/tiny")).variants) == 7


async def test_a_listing_that_goes_on_elsewhere(hub: FakeHub, manager: ModelManager) -> None:
    link = {"Link": '<https://example.org/more>; rel="next"'}
    hub.add("org/tiny", **{"tiny.gguf": MODEL})
    hub.raw[f"/api/models/org/tiny/tree/{COMMIT}"] = (200, link, json.dumps([{}]).encode())
    with pytest.raises(DownloadError, match="goes on at another server"):
        await manager.pull_model("org/tiny")


# ---------------------------------------------------------------- files of a model


async def test_a_split_model_is_one_and_loads_by_its_first_part(
    hub: FakeHub, manager: ModelManager
) -> None:
    parts = {f"big/tiny-Q8_0-0000{n}-of-00003.gguf": made_model(seed=n) for n in (1, 2, 3)}
    half = {"tiny-Q4_0-00002-of-00002.gguf": MODEL}
    hub.add("org/tiny", **parts, **half)
    plan = await manager.plan_pull("org/tiny")
    assert [each.label for each in plan.variants] == ["Q8_0"]
    assert "parts of it are missing: tiny-Q4_0.gguf" in plan.notes[0]
    path = await pulling.carry_out(plan, lambda progress: None)
    assert sorted(each.name for each in path.parent.iterdir()) == [
        name.partition("/")[2] for name in parts
    ]
    assert path.name.endswith("00001-of-00003.gguf")


async def test_companions_come_on_request(hub: FakeHub, manager: ModelManager) -> None:
    hub.add(
        "org/tiny",
        **{
            "tiny.Q8_0.gguf": MODEL,
            "mmproj-F32.gguf": MODEL[:-2],
            "mmproj-F16.gguf": MODEL[:-1],
            "imatrix.gguf": MODEL[:-3],
        },
    )
    plan = await manager.plan_pull("org/tiny")
    assert [file.name for file in plan.files] == ["tiny.Q8_0.gguf"]
    assert [file.name for file in plan.offered] == ["mmproj-F16.gguf", "mmproj-F32.gguf"]
    plan = await manager.plan_pull("org/tiny", companions=True)
    assert [file.name for file in plan.files] == ["tiny.Q8_0.gguf", "mmproj-F16.gguf"]
    info = await manager.pull_model(plan)
    assert info.path is not None
    assert (info.path.parent / "mmproj-F16.gguf").stat().st_size == len(MODEL) - 1


async def test_companions_are_deleted_on_request(hub: FakeHub, manager: ModelManager) -> None:
    hub.add("org/tiny", **{"tiny.Q8_0.gguf": MODEL, "mmproj-F16.gguf": MODEL[:-1]})
    info = await manager.pull_model("org/tiny", companions=True)
    assert info.path is not None
    projector = info.path.parent / "mmproj-F16.gguf"
    deletion = manager.delete_model("tiny.Q8_0")
    assert (deletion.kept, deletion.freed_bytes) == ((projector,), len(MODEL))
    assert projector.exists()
    assert not info.path.exists()
    with pytest.raises(DownloadError, match=r"only its companions are left here.*--companions"):
        manager.delete_model("tiny.Q8_0")
    assert manager.delete_model("tiny.Q8_0", companions=True).freed_bytes == len(MODEL) - 1
    assert not projector.exists()
    assert manager.list_pulled_models() == []


async def test_a_companion_stays_that_another_model_has(
    hub: FakeHub, manager: ModelManager
) -> None:
    files = {"tiny.Q8_0.gguf": MODEL, "tiny.Q4_0.gguf": MODEL + b"x", "mmproj-F16.gguf": MODEL[:-1]}
    hub.add("org/tiny", **files)
    first = await manager.pull_model("org/tiny:Q8_0", companions=True)
    second = await manager.pull_model("org/tiny:Q4_0", companions=True)
    assert first.path is not None
    projector = first.path.parent / "mmproj-F16.gguf"
    assert manager.delete_model(first.name, companions=True).kept == ()
    assert projector.exists()
    assert projector in manager.delete_model(second.name, companions=True).files


async def test_without_links_the_file_itself_is_in_the_snapshot(
    hub: FakeHub, cache: Path, manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("a required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    hub.add("org/tiny", **{"tiny.gguf": MODEL})
    info = await manager.pull_model("org/tiny")
    assert info.path is not None
    assert not info.path.is_symlink()
    assert sha256(info.path) == digest_of(MODEL)
    await manager.pull_model("org/tiny")
    assert hub.sent == len(MODEL)
    assert manager.delete_model("tiny").freed_bytes == len(MODEL)
    assert not info.path.exists()


# ---------------------------------------------------------------- addresses


async def test_a_file_at_an_address(hub: FakeHub, manager: ModelManager) -> None:
    hub.add("org/tiny", **{"tiny.gguf": MODEL})
    address = f"{hub.endpoint}/org/tiny/resolve/main/tiny.gguf?key=secret"
    plan = await manager.plan_pull(address)
    assert "secret" not in plan.name
    info = await manager.pull_model(plan)
    assert info.path is not None
    assert sha256(info.path) == digest_of(MODEL)
    assert [each.name for each in manager.search_all_models("downloads").models] == ["tiny"]
    assert manager.delete_model("tiny").freed_bytes == len(MODEL)
    assert not info.path.parent.exists()


async def test_a_fragment_is_no_part_of_an_address(hub: FakeHub, manager: ModelManager) -> None:
    hub.add("org/tiny", **{"tiny.gguf": MODEL})
    address = f"{hub.endpoint}/org/tiny/resolve/main/tiny.gguf"
    first = await manager.pull_model(address)
    assert (await manager.pull_model(f"{address}#files")).path == first.path
    assert hub.sent <= len(MODEL) + 2


async def test_a_web_page_in_place_of_a_model_is_not_kept(
    hub: FakeHub, manager: ModelManager
) -> None:
    hub.add("org/tiny", **{"tiny.gguf": b"<!doctype html><html>Please log in</html>"})
    with pytest.raises(DownloadError, match="is not a GGUF, so it was discarded"):
        await manager.pull_model(f"{hub.endpoint}/org/tiny/resolve/main/tiny.gguf")
    assert manager.search_all_models("downloads").models == ()
    (note,) = manager.search_all_models("downloads").notes
    assert note.startswith("downloads: no models; looked in ")


async def test_an_address_that_does_not_tell_its_size(hub: FakeHub, manager: ModelManager) -> None:
    hub.endless.add("/x.gguf")
    with pytest.raises(DownloadError, match="does not tell the size"):
        await manager.pull_model(f"{hub.endpoint}/x.gguf")


@pytest.mark.parametrize("name", ["http://example.org/x.gguf", "ftp://example.org/x.gguf", "x", ""])
async def test_names_that_mean_nothing(hub: FakeHub, manager: ModelManager, name: str) -> None:
    with pytest.raises(InvalidOptionError):
        await manager.pull_model(name)
    assert not hub.requests


# ---------------------------------------------------------------- off the disk


async def stopped_pull(hub: FakeHub, manager: ModelManager, name: str) -> None:
    """A pull that is broken off when some of it has arrived."""
    hub.rate, before = MIB // 4, hub.sent
    task = asyncio.ensure_future(manager.pull_model(name))
    await sent(hub, before + MIB // 4)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    hub.rate = 0


async def test_what_a_stopped_pull_left_is_deleted_too(
    hub: FakeHub, cache: Path, manager: ModelManager
) -> None:
    hub.add("org/tiny", **{"tiny.gguf": MODEL})
    await stopped_pull(hub, manager, "org/tiny")
    assert manager.list_pulled_models() == ["tiny"]
    assert 0 < manager.plan_deletion("org/tiny").freed_bytes < len(MODEL)
    manager.delete_model("hf.co/org/tiny")
    assert not names_in(cache, "models--*")
    assert manager.list_pulled_models() == []


async def test_what_others_link_to_stays(hub: FakeHub, cache: Path, manager: ModelManager) -> None:
    hub.add("org/tiny", **{"a.gguf": MODEL, "b.gguf": made_model(seed=2)})
    first = await manager.pull_model("org/tiny", quant="a.gguf")
    await manager.pull_model("org/tiny", quant="b.gguf")
    assert first.path is not None
    other = cache / "models--org--tiny/snapshots/other/a.gguf"
    other.parent.mkdir()
    other.symlink_to(f"../../blobs/{digest_of(MODEL)}")
    with pytest.raises(
        DownloadError, match="several models were pulled from there; name one: a, b"
    ):
        manager.delete_model("org/tiny")
    assert manager.delete_model("a").freed_bytes == 0
    assert sha256(other) == digest_of(MODEL)
    assert manager.delete_model("b").freed_bytes == len(MODEL)
    found = scan_cache_dir(cache)
    assert not found.warnings
    assert found.size_on_disk == len(MODEL)


async def test_what_another_program_brought_is_not_deleted(
    hub: FakeHub, cache: Path, manager: ModelManager
) -> None:
    hub.add("org/tiny", **{"tiny.gguf": MODEL})
    path = cache / "models--org--tiny/snapshots" / COMMIT / "tiny.gguf"
    path.parent.mkdir(parents=True)
    path.write_bytes(MODEL)
    assert (await manager.pull_model("org/tiny")).path == path
    with pytest.raises(
        DownloadError, match=r"not downloaded by %llm_pull, so it is not deleted \("
    ):
        manager.delete_model("tiny")


async def test_a_damaged_record_deletes_nothing(
    hub: FakeHub, manager: ModelManager, tmp_path: Path
) -> None:
    hub.add("org/tiny", **{"tiny.gguf": MODEL})
    info = await manager.pull_model("org/tiny")
    record = tmp_path / "data/nbllm/pulled.json"
    victim = tmp_path / "victim.gguf"
    victim.write_bytes(b"mine")
    record.write_text(
        json.dumps({str(info.path): {"from": "x", "files": [str(victim)], "parts": []}})
    )
    with pytest.raises(DownloadError, match="was not downloaded by %llm_pull"):
        manager.delete_model("tiny")
    assert victim.exists()
    for damaged in ("", "[]", "{", '{"x": 1}', '{"x": {"from": "y", "files": [1], "parts": []}}'):
        record.write_text(damaged)
        assert manager.list_pulled_models() == []


async def test_responses_that_hold_nothing_are_not_asked_for_without_end(
    hub: FakeHub, manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_LONGEST_PAUSE", 0.01)
    content = made_model(MIB // 2)
    hub.add("org/tiny", **{"tiny.gguf": content})
    told = {"Content_Range": f"bytes 0-0/{len(content)}"}
    hub.raw[f"/{digest_of(content)}"] = (206, told, b"")
    with pytest.raises(DownloadError, match="keeps sending too little"):
        await asyncio.wait_for(manager.pull_model("org/tiny"), 20)
