"""A world for the agreement tests: honest witnesses on bad disks and clocks, everything else hostile.

    sequencer   holds the log key: forks, rewrites, withholds entries, claims any time, shows anybody anything
    network     two queues; requests and responses are lost, duplicated, delayed, delivered in any order
    liars       witnesses whose keys sign whatever the sequencer likes
    rollbacks   witnesses whose disks may silently go back in time. A witness that forgot what it signed can be made
                to sign a contradiction, so each of them counts as one of the f that the quorum survives
    honest      the real code: processes crash, are started twice, fail while they store, and resume from what they
                are shown; every clock differs and only advances

What is checked is independent of the code under test: it looks at the entries themselves. Here are the moves; the
sizes, and what an entry may be, are the tests'.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from typing import NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ledger import checkpoint, cosignature, note
from ledger.errors import CodedError
from ledger.finality import QuorumError, finalized, is_final, merge_cosignatures
from ledger.keys import MemorySigner
from ledger.log import Log
from ledger.memory import MemoryStorage
from ledger.policy import quorum_policy
from ledger.witness import FUTURE_S, PAST_S, EquivocationError, Witness, WitnessRefusedError
from tests.ledger.honest_site import Site

LOG = MemorySigner("log", seed=b"log")
PICK = st.integers(0, 99)
MOSTLY_NOW_S = st.sampled_from([0] * 9 + [200, FUTURE_S + 150, -10 * PAST_S, -PAST_S])
CHOICES = st.lists(PICK, min_size=1, max_size=3)
MANY, FEW = st.sampled_from([127, 127, 63, 15, 3, 5, 10, 48]), st.sampled_from([0, 0, 0, 1, 2, 12, 96])
TROUBLES = (
    "wait", "wait", "drift", "restart", "twin", "twin", "before", "after", "backup", "show",
)  # fmt: skip
DELAYS_S = st.sampled_from([1, FUTURE_S, PAST_S // 2, 2 * PAST_S, 20 * PAST_S])
FATES = ("once", "once", "again", "lost", "replayed")
CLAIMS_S = st.sampled_from([0, 0, 0, 0, -60, 200, FUTURE_S, FUTURE_S + 150, 10**6, -PAST_S, -10 * PAST_S])


class Request(NamedTuple):
    site: int
    body: bytes
    entries: list[bytes]
    branch: Log


class HostileSequencer(RuleBasedStateMachine):
    sites, liars, rollbacks = 4, 1, 0
    origin, start_s, past_s = "ledger.example/agreement", 1_800_000_000, PAST_S

    def gate(self):
        raise NotImplementedError

    def entry(self, branch, choice, time_s):
        """The next entry that the sequencer appends to `branch`; the gate may refuse it."""
        raise NotImplementedError

    def admissible(self, entries) -> bool:
        """Whether the gate should pass these entries, judged otherwise than by the gate."""
        raise NotImplementedError

    def time_of(self, entry) -> int:
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.now_s = self.start_s
        self.branches = [self.new_log([])]
        keys = [MemorySigner(f"w{number}", seed=b"%d" % number) for number in range(self.sites)]
        self.liar_keys = keys[: self.liars]
        self.honest = [Site(key) for key in keys[self.liars :]]
        for site in self.honest:
            found = functools.partial(Witness.create, log_vkey=self.branches[0].vkey)
            site.processes.append(self.started(found, site))
        vkeys = [cosignature.vkey_of(key.name, key) for key in keys]
        self.policy = quorum_policy(self.branches[0].vkey, vkeys)
        self.sent, self.requests, self.responses = [], [], []
        self.branch_of = {}  # checkpoint text -> (checkpoint, the branch it belongs to)
        self.signed = {}  # checkpoint text -> note with every cosignature ever made, lost ones too
        self.received = {}  # checkpoint text -> note with the cosignatures that arrived
        self.finals = {}  # checkpoint text -> (checkpoint, branch), once a quorum ever signed
        self.fresh = set()  # checkpoint texts that may have become final in this step

    # -- time ----------------------------------------------------------------------------------------------

    def clock(self, site):
        return lambda: self.now_s + site.skew_s

    @initialize(skews_s=st.lists(st.integers(-120, 120), min_size=7, max_size=7))
    def set_the_clocks(self, skews_s) -> None:
        for site, skew_s in zip(self.honest, skews_s, strict=False):
            site.skew_s = skew_s

    # -- the log, as the sequencer likes it ----------------------------------------------------------------

    def new_log(self, entries) -> Log:
        log = Log.create(MemoryStorage(), origin=self.origin, signer=LOG)
        log.append(entries)
        return log

    def branch(self, number) -> Log:
        return self.branches[number % len(self.branches)]

    @rule(number=PICK, cut=st.none() | st.integers(0, 5), choices=CHOICES, claim_s=CLAIMS_S)
    def extend(self, number, cut, choices, claim_s) -> None:
        """Append to a branch, or to a new one that lacks its last entries; time races ahead, or is frozen."""
        log = self.branch(number)
        if cut is not None:
            log = self.new_log(list(log.entries(0, max(0, log.size - cut))))
            self.branches.append(log)
        for choice in choices:
            log.append([self.entry(log, choice, self.now_s + claim_s)])

    # -- requests ------------------------------------------------------------------------------------------

    @rule(number=PICK, site=PICK, told=st.none() | st.integers(0, 9), at_once=st.booleans(),
          tamper=st.sampled_from(["", "", "", "first", "last", "twice", "swapped"]), process=PICK)  # fmt: skip
    def ask(self, number, site, told, tamper, at_once, process=0) -> None:
        """An honest request starts where the witness stands and carries all that is new; others do not."""
        branch, site = self.branch(number), site % len(self.honest)
        start = min(self.honest[site].process(process).size if told is None else told, branch.size)
        entries = list(branch.entries(start, branch.size))
        altered = {
            "first": entries[1:],
            "last": entries[:-1],
            "twice": entries + entries[-1:],
            "swapped": entries[::-1],
        }
        request = Request(site, branch.witness_request(start), altered.get(tamper, entries), branch)
        self.sent.append(request)
        if at_once:
            self.answer(request, process)
        else:
            self.requests.append(request)

    @rule(
        number=PICK,
        cut=st.integers(0, 5),
        choices=CHOICES,
        claim_s=MOSTLY_NOW_S,
        asked=MANY,
        same=st.booleans(),
    )
    def split(self, number, cut, choices, claim_s, asked, same) -> None:
        """Some are shown one branch and others another, or the same are, by way of their older processes."""
        self.poll(number, choices, claim_s, asked, 0, 0)
        self.extend(number, cut, choices, claim_s)
        self.poll(len(self.branches) - 1, choices, claim_s, asked if same else ~asked, 0, 0, process=1)

    @rule(number=PICK, choices=CHOICES, claim_s=MOSTLY_NOW_S, asked=MANY, lost=FEW, unheard=FEW)
    def poll(self, number, choices, claim_s, asked, lost, unheard, process=0) -> None:
        """A round as it mostly goes: something is appended, some are asked, some answers are lost."""
        self.extend(number, None, choices, claim_s)
        waiting = len(self.responses)
        for site in range(len(self.honest)):
            if asked >> site & 1:
                self.ask(number, site, None, "", not lost >> site & 1, process)
        for answer in range(len(self.responses) - waiting):
            self.hear(waiting, again=False, lost=bool(unheard >> answer & 1))

    @rule(which=PICK, site=PICK, process=PICK, fate=st.sampled_from(FATES))
    def deliver(self, which, site, process, fate) -> None:
        """Something in flight, or sent long ago, arrives once, arrives and stays in flight, or is lost."""
        if fate == "replayed" and self.sent:
            old = self.sent[which % len(self.sent)]
            self.answer(old._replace(site=site % len(self.honest)), process)
        elif self.requests and which % 2:
            at = which % len(self.requests)
            request = self.requests[at] if fate == "again" else self.requests.pop(at)
            if fate != "lost":
                self.answer(request, process)
        elif self.responses:
            self.hear(which % len(self.responses), again=fate == "again", lost=fate == "lost")

    def answer(self, request, process) -> None:
        site = self.honest[request.site]
        convinced = bool(site.disk.evidence())
        witness = site.process(process)
        try:
            line = witness.add_checkpoint(request.body, request.entries)
        except CodedError as error:
            if isinstance(error, EquivocationError):
                assert witness.evidence()
            return
        assert not convinced, "a witness that holds evidence signed"
        assert not site.knows, "a witness that knows it was rolled back signed"
        data = request.body.partition(b"\n\n")[2]
        head, signed = checkpoint.parse(data)
        self.branch_of[signed.text] = head, request.branch
        self.check_signed(site, head, request.branch)
        self.responses.append((signed.text, data, line))
        lies = [cosignature.sign(signed.text, name=key.name, signer=key, time_s=self.start_s).line()
                for key in self.liar_keys]  # fmt: skip
        self.signed[signed.text] = self.merge(self.signed.get(signed.text, data), [line, *lies])
        if signed.text not in self.finals:
            self.fresh.add(signed.text)

    def check_signed(self, site, head, branch) -> None:
        """What one honest witness never does, whatever the others do."""
        now_s, before = self.clock(site)(), site.signed[-1] if site.signed else None
        entries = list(branch.entries(0, head.size))
        log_time_s = max(map(self.time_of, entries), default=0)
        assert log_time_s <= now_s + FUTURE_S, "an honest witness signed a time ahead of its clock"
        assert log_time_s >= site.log_time_s or site.rolled_back, "log time went back"
        if head.size > (before[0].size if before else 0):
            assert log_time_s >= now_s - self.past_s, "an honest witness signed a frozen time"
        assert self.admissible(entries), "an honest witness signed a refused entry"
        if before and not site.rolled_back:
            assert head.size >= before[0].size, "an honest witness went back"
            assert branch.root_at(before[0].size) == before[0].root, (
                "an honest witness signed a contradiction"
            )
        site.signed.append((head, branch))
        site.log_time_s = log_time_s

    # -- responses -----------------------------------------------------------------------------------------

    def hear(self, at, *, again, lost) -> None:
        text, data, line = self.responses[at] if again else self.responses.pop(at)
        if lost:
            return
        before = self.received.get(text, data)
        after = self.received[text] = self.merge(before, [line])
        size = self.branch_of[text][0].size
        for index in {0, size - 1, size}:
            if is_final(index, before, log_vkey=None, policy=self.policy):
                assert is_final(index, after, log_vkey=None, policy=self.policy), "finality was taken back"

    def merge(self, data, lines) -> bytes:
        return merge_cosignatures(data, lines, policy=self.policy)

    # -- clocks, processes and disks ------------------------------------------------------------------------

    @rule(what=st.sampled_from(TROUBLES), site=PICK, number=PICK, copy=PICK, passed_s=DELAYS_S)
    def happen(self, what, site, number, copy, passed_s) -> None:
        site = self.honest[site % len(self.honest)]
        match what:
            case "wait":
                self.now_s += passed_s
            case "drift":
                site.skew_s += min(passed_s, 600)
            case "restart":
                self.restart(site, number, twin=False)
            case "twin":
                for each in self.honest:
                    self.restart(each, number, twin=True)
            case "before" | "after":
                site.disk.fault = what
            case "backup":
                self.restore_a_backup(site, copy, number)
            case "show":
                for text in list(self.signed)[-8:]:
                    self.show(site, text)

    def started(self, start, site) -> Witness:
        clock = self.clock(site)
        return start(site.disk, signer=site.signer, gate=self.gate(), clock=clock, past_s=self.past_s)

    def restart(self, site, number, *, twin) -> None:
        """Resume from whatever branch is shown first; a twin leaves the old process running on the same disk."""
        opened = self.started(Witness.open, site)
        for branch in (self.branch(number), *self.branches):
            with contextlib.suppress(CodedError):
                opened.resume(branch.entries(0, opened.size))
        site.processes = [*site.processes[-1:], opened] if twin else [opened]

    def restore_a_backup(self, site, copy, number) -> None:
        fallen = sum(other.rolled_back for other in self.honest)
        if site.disk.backups and (site.rolled_back or fallen < self.rollbacks):
            site.disk.restore(copy)
            site.rolled_back, site.knows = True, False
            self.restart(site, number, twin=False)
            if copy % 3:
                self.happen("show", self.honest.index(site), 0, 0, 0)

    def show(self, site, text) -> None:
        """A witness sees any cosigned checkpoint: its own later cosignature tells it that its disk went back."""
        shown = self.signed[text]
        own = cosignature.find(note.parse(shown), note.parse_vkey(site.process(0).vkey))
        forgot = own is not None and self.branch_of[text][0].size > site.disk.load().size
        try:
            site.process(0).observe(shown)
        except WitnessRefusedError:
            site.knows = site.knows or forgot
        else:
            assert not forgot, "a witness overlooked its own later cosignature"

    # -- what must hold after every step -------------------------------------------------------------------

    @invariant()
    def what_became_final_is_admissible(self) -> None:
        while self.fresh:
            text = self.fresh.pop()
            with contextlib.suppress(QuorumError):
                finalized(self.signed[text], log_vkey=None, policy=self.policy)
                head, branch = self.finals[text] = self.branch_of[text]
                assert self.admissible(list(branch.entries(0, head.size))), "a refused entry became final"

    @invariant()
    def no_two_final_checkpoints_contradict(self) -> None:
        for (one, _), (other, branch) in itertools.permutations(self.finals.values(), 2):
            if one.size <= other.size:
                assert branch.root_at(one.size) == one.root, "two final checkpoints contradict each other"
