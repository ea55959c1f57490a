"""Who looks at a dashboard, by what pages tell and do not tell."""

from __future__ import annotations

import pytest

from nbllm.notebook.dashboard.presence import (
    ANSWER_SECONDS,
    ASK_EVERY_SECONDS,
    FIRST_ANSWER_SECONDS,
    Presence,
)


class Room:
    """A presence, its clock, and whether pages answer at once."""

    def __init__(self) -> None:
        self.now, self.asked, self.answers = 100.0, 0, True
        self.presence = Presence(self._ask, clock=lambda: self.now)

    def _ask(self) -> None:
        self.asked += 1
        if self.answers:
            self.presence.answered()

    def wait(self, seconds: float) -> bool:
        """Check every second; whether somebody looked all the time."""
        looked = True
        for _ in range(int(seconds)):
            self.now += 1
            looked = looked and self.presence.check()
        return looked


@pytest.fixture
def room() -> Room:
    return Room()


def test_nobody_looks_before_it_is_shown(room: Room) -> None:
    assert not room.presence.check()


def test_pages_that_answer_are_asked_now_and_then(room: Room) -> None:
    room.presence.shown()
    assert room.wait(600)
    assert 25 <= room.asked <= 600 / ASK_EVERY_SECONDS + 2


def test_a_page_that_never_answers_is_given_up(room: Room) -> None:
    room.answers = False
    room.presence.shown()
    assert room.wait(FIRST_ANSWER_SECONDS - 1)
    assert not room.wait(2)


def test_a_page_that_was_closed_is_given_up(room: Room) -> None:
    room.presence.shown()
    room.wait(50)
    room.answers = False
    assert not room.wait(ASK_EVERY_SECONDS + ANSWER_SECONDS + 2)


def test_without_views_nobody_looks_at_once_and_a_new_view_wakes(room: Room) -> None:
    room.presence.shown()
    room.presence.count_views(2)
    room.presence.count_views(1)
    assert room.presence.check()
    room.presence.count_views(0)
    assert not room.presence.check()
    room.presence.count_views(1)
    assert room.presence.check()


def test_a_running_cell_keeps_answers_back(room: Room) -> None:
    room.presence.shown()
    room.wait(30)
    room.answers = False
    room.presence.cell_began()
    assert room.wait(1)
    assert not room.presence.buttons_wait
    assert room.wait(3)
    assert room.presence.buttons_wait
    assert room.wait(1_000)
    room.presence.cell_ended()
    assert not room.presence.buttons_wait
    room.presence.answered()
    room.answers = True
    assert room.wait(60)


def test_where_buttons_work_in_a_running_cell_nothing_is_said(room: Room) -> None:
    room.presence.shown()
    room.wait(30)
    room.presence.cell_began()
    assert room.wait(30)
    assert not room.presence.buttons_wait


def test_a_page_that_left_during_a_long_cell_is_given_up_after_it(room: Room) -> None:
    room.presence.shown()
    room.wait(30)
    room.answers = False
    room.presence.cell_began()
    assert room.wait(1_000)
    room.presence.cell_ended()
    assert not room.wait(ASK_EVERY_SECONDS + ANSWER_SECONDS + 2)


def test_pages_that_cannot_be_asked_are_believed(room: Room) -> None:
    room.presence = Presence(None, clock=lambda: room.now)
    room.presence.shown()
    room.presence.count_views(1)
    assert room.wait(10_000)
    room.presence.cell_began()
    assert room.wait(1)
    assert not room.presence.buttons_wait
    assert room.wait(3)
    assert room.presence.buttons_wait
    room.presence.cell_ended()
    assert room.wait(10_000)
    assert not room.presence.buttons_wait
    room.presence.count_views(0)
    assert not room.presence.check()
