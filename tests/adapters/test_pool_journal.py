"""A hospital's own account of its register: one cap over all federations, whoever asks first."""

from __future__ import annotations

import json
import multiprocessing
from hashlib import sha256
from pathlib import Path

import pytest

from adapters.pool_journal import JournalBehindError, JournalError, PoolJournal, ReleaseLostError
from adapters.pool_lines import Sum, Use
from ledger.errors import PolicyViolation
from policies.cost import round_cost, round_mechanisms
from policies.federation import Pool
from policies.receipt import Step
from privacy.accounting import Curve, total
from privacy.mechanisms import Gaussian
from tests.policies.assembly import at, plan
from tests.policies.founding import SITES

ROUND = round_mechanisms(plan(), 1)
NARROW = Pool.of(epsilon_cap_micro=4_000_000, delta=1e-5)
"""Room for two rounds of the tiny plan, not for three."""


def journal(folder: Path, pool: Pool = NARROW) -> PoolJournal:
    return PoolJournal(folder, pool, owner="hospital-a")


def use(number: int, *, origin: str = "wardround/one/term-1", attempt: int = 1) -> Use:
    return Use(
        origin=origin,
        founded_as=sha256(origin.encode()).hexdigest(),
        plan_digest="0" * 64,
        round=number,
        attempt=attempt,
    )


def room(pool: Pool = NARROW) -> int:
    """How many rounds the pool admits."""
    return pool.rdp_cap_micro // pool.rdp_micro(round_cost(plan(), 1))


def test_two_federations_draw_on_one_register(tmp_path: Path) -> None:
    """Each coordinator sees its own ledger alone; the hospital's journal sees both."""
    one, other = journal(tmp_path), journal(tmp_path)
    for number in range(1, room() + 1):
        side, origin = (one, "wardround/one/term-1") if number % 2 else (other, "wardround/other/term-1")
        side.reserve(use(number, origin=origin), ROUND)
    for side in (one, other):
        with pytest.raises(PolicyViolation) as refused:
            side.reserve(use(room() + 1), ROUND)
        assert refused.value.code == "budget.register-cap"
        assert "over all federations" in refused.value.public_message
        assert "of its cap 4 " in refused.value.public_message
    assert one.epsilon_spent_micro() == other.epsilon_spent_micro() <= 4_000_000


def _reserve_at_once(folder: str, number: int, ready: object, results: object) -> None:
    mine = journal(Path(folder))
    ready.wait()  # type: ignore[attr-defined]
    try:
        mine.reserve(use(number, origin=f"wardround/f{number}/term-1"), ROUND)
        results.put(True)  # type: ignore[attr-defined]
    except PolicyViolation:
        results.put(False)  # type: ignore[attr-defined]


def test_processes_that_reserve_at_the_same_instant_cannot_overspend(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("fork")
    ready, results = spawn.Barrier(6), spawn.Queue()
    runs = [
        spawn.Process(target=_reserve_at_once, args=(str(tmp_path), number, ready, results))
        for number in range(1, 7)
    ]
    for run in runs:
        run.start()
    admitted = sum(results.get(timeout=30) for _ in runs)
    for run in runs:
        run.join()
    assert admitted == room() < len(runs)
    assert journal(tmp_path).epsilon_spent_micro() <= 4_000_000


def test_a_crash_leaves_it_spent_and_the_same_attempt_is_not_drawn_twice(tmp_path: Path) -> None:
    journal(tmp_path).reserve(use(1), ROUND)
    again = journal(tmp_path)
    spent = again.epsilon_spent_micro()
    again.reserve(use(1), ROUND)
    assert again.epsilon_spent_micro() == spent > 0
    with pytest.raises(JournalError) as refused:
        again.reserve(use(1), ROUND[:1])
    assert refused.value.code == "budget.journal-twice"


def test_one_release_leaves_for_a_sum_and_as_often_as_it_is_sent(tmp_path: Path) -> None:
    first, other = "1" * 64, "2" * 64

    def about(number: int, step: Step = "training") -> Sum:
        of = use(number)
        return Sum(
            origin=of.origin, founded_as=of.founded_as, plan_digest=of.plan_digest, round=number, step=step
        )

    mine = journal(tmp_path)
    mine.require_unsent(about(1))
    mine.reserve(use(1), ROUND)
    mine.leave(about(1), release=first)
    size = (tmp_path / "journal.jsonl").stat().st_size
    again = journal(tmp_path)
    again.leave(about(1), release=first)
    assert (tmp_path / "journal.jsonl").stat().st_size == size
    for refused in (
        lambda: again.leave(about(1), release=other),
        lambda: mine.require_unsent(about(1)),
    ):
        with pytest.raises(ReleaseLostError):
            refused()
    again.leave(about(1, "evaluation"), release=other)
    again.leave(about(2), release=other)
    assert again.epsilon_spent_micro() == mine.epsilon_spent_micro() > 0


def test_a_sum_for_which_noise_was_drawn_gets_no_other_noise(tmp_path: Path) -> None:
    of = use(1)
    about = Sum(
        origin=of.origin, founded_as=of.founded_as, plan_digest=of.plan_digest, round=1, step="evaluation"
    )
    mine = journal(tmp_path)
    mine.begin(about)
    for again in (mine, journal(tmp_path)):
        with pytest.raises(ReleaseLostError):
            again.begin(about)
    journal(tmp_path).begin(about.with_fields({"round": 2}))
    # What was drawn may leave, once.
    journal(tmp_path).leave(about, release="1" * 64)
    with pytest.raises(ReleaseLostError):
        journal(tmp_path).leave(about, release="2" * 64)


def test_what_never_ran_is_given_back_once(tmp_path: Path) -> None:
    mine = journal(tmp_path)
    mine.reserve(use(1), ROUND)
    mine.give_back(use(1), ROUND[1:])
    left = journal(tmp_path).epsilon_spent_micro()
    for never in (ROUND[1:], ROUND, (Gaussian(noise_multiplier=1.0, count=1),)):
        with pytest.raises(JournalError) as refused:
            mine.give_back(use(1), never)
        assert refused.value.code == "budget.journal-not-drawn"
    mine.give_back(use(1), ROUND[:1])
    assert journal(tmp_path).epsilon_spent_micro() == 0 < left


@pytest.mark.parametrize("what", ["mechanism", "kind", "dropped", "swapped", "added"])
def test_an_edited_journal_is_refused(tmp_path: Path, what: str) -> None:
    mine = journal(tmp_path, Pool.of(epsilon_cap_micro=50_000_000, delta=1e-5))
    for number in (1, 2, 3):
        mine.reserve(use(number), ROUND)
    path = tmp_path / "journal.jsonl"
    lines = path.read_text().splitlines()
    value = json.loads(lines[1])
    if what == "mechanism":
        value["draw"]["mechanisms"][0]["noise_multiplier"] = 100.0
    elif what == "kind":
        value["draw"]["kind"] = "given-back"
    lines[1] = json.dumps(value, sort_keys=True, separators=(",", ":"))
    if what == "dropped":
        del lines[1]
    elif what == "swapped":
        lines[1], lines[2] = lines[2], lines[1]
    elif what == "added":
        lines.append(lines[-1])
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(JournalError) as refused:
        journal(tmp_path).epsilon_spent_micro()
    assert refused.value.code == "budget.journal-tampered"


def test_a_torn_line_was_never_acknowledged(tmp_path: Path) -> None:
    mine = journal(tmp_path)
    mine.reserve(use(1), ROUND)
    spent = mine.epsilon_spent_micro()
    path = tmp_path / "journal.jsonl"
    path.write_bytes(path.read_bytes() + b'{"draw":{"kind":"reser')
    after = journal(tmp_path)
    assert after.epsilon_spent_micro() == spent
    after.reserve(use(2), ROUND)
    assert journal(tmp_path).epsilon_spent_micro() > spent


def test_a_journal_that_was_cut_off_is_found_by_the_ledger_and_restored_from_it(tmp_path: Path) -> None:
    said = at("reserved").state
    mine = journal(tmp_path)
    with pytest.raises(JournalBehindError):
        mine.require_covers(said, SITES[0])
    assert mine.restore(said, SITES[0]) == 1
    mine.require_covers(said, SITES[0])
    assert mine.restore(said, SITES[0]) == 0
    assert mine.epsilon_spent_micro() == NARROW.epsilon_micro(said.spent_by(SITES[0]))


def test_a_journal_without_a_release_that_the_ledger_shows_is_an_old_copy(tmp_path: Path) -> None:
    said = at("reported").state
    mine = journal(tmp_path)
    mine.restore(at("reserved").state, SITES[0])
    with pytest.raises(JournalBehindError):
        mine.require_covers(said, SITES[0])
    assert mine.restore(said, SITES[0]) == 0  # draws: there are no more
    mine.require_covers(said, SITES[0])
    ((digest, number, step, _), receipt) = next(
        (key, receipt) for key, receipt in said.receipts.items() if key[-1] == SITES[0]
    )
    about = Sum(origin=said.origin, founded_as=said.founded_as, plan_digest=digest, round=number, step=step)
    mine.leave(about, release=receipt.entry_digest)
    with pytest.raises(ReleaseLostError):
        mine.require_unsent(about)


@pytest.mark.parametrize("gone", ["journal.jsonl", "journal.key"])
def test_a_file_that_is_gone_is_noticed(tmp_path: Path, gone: str) -> None:
    mine = journal(tmp_path)
    mine.reserve(use(1), ROUND)
    (tmp_path / gone).unlink()
    for reader in (mine, journal(tmp_path)):
        with pytest.raises(JournalError):
            reader.epsilon_spent_micro()


def test_lines_cut_off_at_the_end_are_missed(tmp_path: Path) -> None:
    """The draw of another federation, which no ledger here would show."""
    mine = journal(tmp_path, Pool.of(epsilon_cap_micro=50_000_000, delta=1e-5))
    mine.reserve(use(1), ROUND)
    mine.reserve(use(2, origin="wardround/other/term-1"), ROUND)
    path = tmp_path / "journal.jsonl"
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    for reader in (mine, journal(tmp_path)):
        with pytest.raises(JournalError) as refused:
            reader.epsilon_spent_micro()
        assert refused.value.code == "budget.journal-cut"


def test_a_crash_before_the_mark_loses_nothing(tmp_path: Path) -> None:
    mine = journal(tmp_path)
    mine.reserve(use(1), ROUND)
    mark = (tmp_path / "journal.mark").read_bytes()
    mine.reserve(use(2), ROUND[1:])
    (tmp_path / "journal.mark").write_bytes(mark)
    assert journal(tmp_path).epsilon_spent_micro() == mine.epsilon_spent_micro()


def test_another_cap_does_not_change_the_order_of_a_register_that_was_begun(tmp_path: Path) -> None:
    begun = Pool.of(epsilon_cap_micro=2_000_000, delta=1e-5)
    wider = Pool.of(epsilon_cap_micro=8_000_000, delta=1e-5)
    assert begun.order != wider.order
    journal(tmp_path, begun).reserve(use(1), ROUND[1:])
    later = journal(tmp_path, wider)
    spent = Curve.zero() + total(ROUND[1:])
    assert later.epsilon_spent_micro() == wider.with_fields({"order": begun.order}).epsilon_micro(spent)
    (tmp_path / "journal.mark").write_bytes(b'{"lines":0,"order":3,"tag":"00"}')
    with pytest.raises(JournalError) as refused:
        journal(tmp_path, wider).epsilon_spent_micro()
    assert refused.value.code == "budget.journal-tampered"
