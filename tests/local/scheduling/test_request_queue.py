"""The engine's queue, without a model."""

from __future__ import annotations

import threading
from typing import Any

from nbllm.local.scheduling.request_queue import QUEUE_LIMIT, RequestQueue
from nbllm.local.scheduling.tasks import Task
from nbllm.local.token_text import TextAssembler


def request(number: int, **fields: Any) -> Task:
    nobody: Any = None
    task = Task(number, [1, 2, 3], 100, nobody, TextAssembler(), **fields)
    task.arrived += number * 1e-3
    return task


def filled(*tasks: Task) -> RequestQueue:
    requests = RequestQueue()
    assert all(map(requests.submit, tasks))
    return requests


def test_interactive_requests_come_first_and_then_who_came_first() -> None:
    background, first, second = request(0, background=True), request(1), request(2)
    requests = filled(background, second, first)
    order = []
    while (task := requests.next_waiting()) is not None:
        requests.take(task)
        order.append(task)
    assert order == [first, second, background]


def test_a_request_is_open_until_it_ends_with_a_slot_or_without() -> None:
    task = request(0)
    requests = filled(task)
    requests.take(task)
    assert task in requests
    assert requests.next_waiting() is None
    requests.put_back(task)
    assert requests.next_waiting() is task
    requests.end(task)
    assert task not in requests
    assert requests.is_empty
    assert requests.next_waiting() is None
    requests.end(task)


def test_a_later_request_of_the_same_id_is_another_one() -> None:
    first, second = request(7), request(7)
    requests = filled(first)
    requests.end(first)
    assert requests.submit(second)
    assert first not in requests
    assert second in requests


def test_only_open_requests_can_be_cancelled() -> None:
    task = request(0)
    requests = filled(task, request(1))
    assert requests.cancel(0)
    assert requests.cancelled() == [task]
    requests.end(task)
    assert not requests.cancel(0)
    assert not requests.cancelled()


def test_those_that_were_cancelled_take_no_place_of_the_limit() -> None:
    requests = filled(*(request(number) for number in range(QUEUE_LIMIT)))
    assert not requests.submit(request(QUEUE_LIMIT))
    requests.cancel(3)
    assert requests.submit(request(QUEUE_LIMIT))


def test_who_waits_wakes_by_a_request_by_the_close_or_in_time() -> None:
    requests = RequestQueue()
    assert not requests.wait(0)
    threading.Timer(0.01, requests.submit, [request(0)]).start()
    assert requests.wait(None)
    requests = RequestQueue()
    threading.Timer(0.01, requests.close).start()
    assert requests.wait(None)
    assert requests.is_closed
    assert requests.is_empty
