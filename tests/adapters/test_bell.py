"""The bell beside an exchange, and the thread that it wakes."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest

from adapters import mail
from adapters.bell import listen
from adapters.exchange import DirectoryExchange, Exchange, MemoryExchange
from tasks.background import Background, DeadlineError

ENOUGH_S = 30.0


def exchanges(folder: Path) -> list[Exchange]:
    return [MemoryExchange(), DirectoryExchange(folder)]


@pytest.mark.parametrize("which", [0, 1])
def test_whoever_it_concerns_hears_a_write_after_it_can_be_read(tmp_path: Path, which: int) -> None:
    exchange = exchanges(tmp_path)[which]
    heard: list[bytes | None] = []
    end = listen(exchange, "inbox/a".__eq__, lambda: heard.append(exchange.get("inbox/a")))
    exchange.put("inbox/a", b"first")
    exchange.replace("inbox/a", b"second")
    exchange.put("inbox/b", b"of no concern")
    end()
    exchange.replace("inbox/a", b"third")
    assert heard == [b"first", b"second"]


def test_two_who_open_one_folder_hear_each_other(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "shared")
    one, other = DirectoryExchange(tmp_path / "shared"), DirectoryExchange(tmp_path / "link")
    heard: list[int] = []
    listen(one, lambda _: True, lambda: heard.append(1))
    other.put("x", b"")
    assert heard == [1]


def test_an_exchange_without_a_bell_is_listened_to_in_vain() -> None:
    listen(object(), lambda _: True, lambda: None)()


def test_each_party_hears_what_it_reads_and_nothing_else() -> None:
    of_a = mail.concerns_witness("site-a")
    assert of_a(mail.request("site-a"))
    assert of_a(mail.FINAL_CHECKPOINT)
    assert not of_a(mail.request("site-b"))
    assert mail.concerns_log(f"{mail.inbox('site-a', 3)}/x")
    assert mail.concerns_log(mail.response("site-b"))
    assert not mail.concerns_log(mail.request("site-b"))
    assert mail.concerns_sums(f"{mail.answers('p', 1, 'training')}/site-a")
    assert mail.concerns_sums(mail.refused("0" * 64))


class Counted:
    """Turns that find a letter now and then."""

    def __init__(self) -> None:
        self.letters, self.read, self.turns = 0, 0, 0
        self.fails = False
        self.turned = threading.Event()

    def turn(self) -> bool:
        self.turns += 1
        self.turned.set()
        if self.fails:
            raise RuntimeError("the disk is full")
        news, self.read = self.letters > self.read, self.letters
        return news


def test_a_nudge_makes_the_turn_and_the_turn_wakes_who_waits() -> None:
    async def main() -> float:
        subject = Counted()
        async with Background(subject, interval_s=ENOUGH_S) as background:
            await asyncio.to_thread(subject.turned.wait, ENOUGH_S)

            def post() -> None:
                time.sleep(0.05)
                subject.letters = 1
                background.nudge()

            began = time.monotonic()
            threading.Thread(target=post).start()
            await background.until(
                lambda: subject.read or None, timeout_s=2 * ENOUGH_S, waiting_for="a letter"
            )
            return time.monotonic() - began

    assert asyncio.run(main()) < ENOUGH_S


def test_what_nobody_rings_for_is_found_by_looking() -> None:
    async def main() -> int:
        looks = iter((None, None, 3))
        async with Background(Counted(), interval_s=0.001) as background:
            return await background.until(lambda: next(looks), timeout_s=ENOUGH_S, waiting_for="x")

    assert asyncio.run(main()) == 3


def test_what_the_thread_raises_reaches_who_waits_and_nobody_waits_beyond_the_deadline() -> None:
    async def main() -> None:
        subject = Counted()
        async with Background(subject, interval_s=0.001) as background:
            with pytest.raises(DeadlineError, match="a letter"):
                await background.until(lambda: None, timeout_s=0.01, waiting_for="a letter")
            subject.fails = True
            with pytest.raises(RuntimeError, match="disk"):
                await background.until(lambda: None, timeout_s=ENOUGH_S, waiting_for="a letter")

    asyncio.run(main())
