"""Plans whose server remembers: every party arrives at the same state, and a coordinator that makes up another,
replays an old one or keeps it to itself gets nowhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from adapters import objects
from adapters.exchange import DirectoryExchange, Exchange
from ledger.errors import CodedError
from policies.plan import Plan
from policies.state import FederationState
from tasks.aggregate import Aggregate, encoding_of, lane_count, lanes_from_bytes, support_of
from tasks.site.opening import follow_model
from tasks.site.party import opened_site
from tasks.train import networks, weights
from tasks.train.server_optimizer import ServerState
from tasks.worker.coordinator_session import CoordinatorSession
from tasks.worker.model_session import ModelSession
from tasks.worker.site_session import SiteSession
from tests.consortium import SITES, Consortium, PowerCut, coordinator_worker, site_worker
from tests.flows.test_resume import at
from tests.plans import tiny_plan

pytestmark = pytest.mark.xdist_group("rounds-3")

UPDATE = {"clip_l2": 8.0, "lane_bits": 22, "maximum_sites": 50, "server_learning_rate": 0.05}


def adaptive(optimizer: str = "adam", *, schedule: str = "constant", **fields: object) -> Plan:
    server = {"optimizer": optimizer, "tau": 0.01, "schedule": schedule}
    return tiny_plan(**{"rounds": 2, "update": {**UPDATE, "server": server}, **fields})


def brief(**fields: object) -> Plan:
    return adaptive(participation={"required": [], "minimum_sites": 3, "deadline_s": 12}, **fields)


def exchange_of(consortium: Consortium) -> DirectoryExchange:
    return DirectoryExchange(consortium.founded.exchange)


def check_by_hand(consortium: Consortium, state: FederationState, plan: Plan) -> None:
    """Redo every round in plain numpy out of the opened sums, from fresh state: each model and each state must be the
    one on the ledger."""
    exchange, digest, terms = exchange_of(consortium), plan.content_digest(), plan.update.server
    like = networks.template(plan.network, plan.data)
    before, base = (
        None,
        weights.from_bytes(objects.load(exchange, state.plans[digest].base_model_digest), like),
    )
    x = weights.flatten(base)
    m, v = np.zeros(len(x)), np.full(len(x), terms.tau * terms.tau)
    for number in range(1, plan.rounds + 1):
        released = state.released[digest, number]
        sites = len(state.closed[digest, number, "training"].receipts)
        lanes = lanes_from_bytes(
            objects.load(exchange, released.sum_digest), count=lane_count(plan, "training")
        )
        d = np.zeros(len(x))
        chosen = support_of(plan, number, base, before)
        d[slice(None) if chosen is None else chosen] = (
            encoding_of(plan).decode_sum(lanes, sites=sites) / sites
        )
        rate = plan.update.server_learning_rate
        if terms.schedule == "linear":
            rate = rate * (plan.rounds - number + 1) / plan.rounds
        moves = rate * d
        if terms.optimizer != "average":
            m = terms.beta1 * m + (1 - terms.beta1) * d
            less = (1 - terms.beta2) * (d * d)
            v = terms.beta2 * v + less if terms.optimizer == "adam" else v - less * np.sign(v - d * d)
            moves = rate * m / (np.sqrt(v) + terms.tau)
            assert released.server_state_digest is not None
            kept = ServerState.from_bytes(objects.load(exchange, released.server_state_digest), size=len(x))
            assert kept.m.tobytes() == m.tobytes() and kept.v.tobytes() == v.tobytes()
        else:
            assert released.server_state_digest is None
        x = (x.astype(np.float64) + moves).astype(np.float32)
        before, base = base, weights.unflatten(x, like)
        assert objects.load(exchange, released.model_digest) == weights.to_bytes(base)


@pytest.mark.parametrize(
    ("optimizer", "fields"),
    [
        ("average", {"schedule": "linear"}),
        ("adam", {"rounds": 3}),
        ("yogi", {"schedule": "linear", "compression": {"keep": 0.1}}),
    ],
)
async def test_a_federation_learns_under_every_optimiser_and_everybody_arrives_at_the_same(
    consortium: Consortium, optimizer: str, fields: dict[str, object]
) -> None:
    plan = adaptive(optimizer, **fields)  # type: ignore[arg-type]
    outcome = await consortium.run(plan)
    assert outcome.errors == {} and consortium.registered_versions() == plan.rounds
    check_by_hand(consortium, outcome.state, plan)


async def test_a_plan_that_goes_on_with_the_newest_model_begins_with_fresh_state(
    consortium: Consortium,
) -> None:
    assert (await consortium.run(adaptive())).errors == {}
    second = adaptive(base="latest", edition="2", rounds=1)
    outcome = await consortium.run(second)
    assert outcome.errors == {}
    check_by_hand(consortium, outcome.state, second)


class Remembering(ModelSession):
    """Gives, from round 2 on, the state that came of round 1."""

    first: bytes | None = None

    def next_model(
        self,
        plan: Plan,
        round_number: int,
        base: bytes,
        opened: bytes,
        *,
        sizes: tuple[int, ...],
        previous: bytes | None,
        server_state: bytes | None = None,
    ) -> Aggregate:
        honest = super().next_model(
            plan, round_number, base, opened, sizes=sizes, previous=previous, server_state=server_state
        )
        if self.first is None:
            self.first = honest.server_state
        return replace(honest, server_state=self.first)


class Starting(ModelSession):
    """Begins every round with the state that the first one ended with."""

    first: bytes | None = None

    def next_model(
        self,
        plan: Plan,
        round_number: int,
        base: bytes,
        opened: bytes,
        *,
        sizes: tuple[int, ...],
        previous: bytes | None,
        server_state: bytes | None = None,
    ) -> Aggregate:
        self.first = self.first or server_state
        return super().next_model(
            plan,
            round_number,
            base,
            opened,
            sizes=sizes,
            previous=previous,
            server_state=self.first if server_state else None,
        )


class Inventing(ModelSession):
    """Adds momentum that no site sent."""

    def next_model(
        self,
        plan: Plan,
        round_number: int,
        base: bytes,
        opened: bytes,
        *,
        sizes: tuple[int, ...],
        previous: bytes | None,
        server_state: bytes | None = None,
    ) -> Aggregate:
        honest = super().next_model(
            plan, round_number, base, opened, sizes=sizes, previous=previous, server_state=server_state
        )
        assert honest.server_state is not None
        state = ServerState.from_bytes(honest.server_state, size=len(honest.server_state) // 16 - 8)
        return replace(honest, server_state=ServerState(m=state.m + 1, v=state.v).to_bytes())


@pytest.mark.parametrize(("lie", "caught_in"), [(Inventing, 1), (Remembering, 2), (Starting, 3)])
async def test_a_state_that_does_not_follow_from_the_sums_finds_no_key_holder(
    consortium: Consortium, lie: type[ModelSession], caught_in: int
) -> None:
    """The model of the round is the honest one, at first: what is spoilt is where the next round would begin."""

    class Lying(lie, CoordinatorSession):  # type: ignore[misc, valid-type]
        pass

    consortium.coordinator = coordinator_worker(Lying)
    plan = brief(rounds=3)
    outcome = await consortium.run(plan, leave=True)
    assert outcome.code("coordinator") == "opening.too-few"
    assert set(outcome.state.released) == {(plan.content_digest(), number) for number in range(1, caught_in)}


async def test_a_state_that_holders_and_coordinator_made_up_together_is_followed_by_no_honest_site(
    consortium: Consortium, impatient: None
) -> None:
    """Two of four are more hostile sites than the federation is made for: the ledger takes their word. A site that
    computes the round itself does not, and goes no further."""

    class LyingCoordinator(Inventing, CoordinatorSession):
        pass

    class LyingSite(Inventing, SiteSession):
        pass

    liars = consortium.founded.federation.key_holders[: consortium.founded.federation.openings_required()]
    consortium.coordinator = coordinator_worker(LyingCoordinator)
    for liar in liars:
        consortium.workers[liar] = site_worker(LyingSite)
    outcome = await consortium.run(brief())
    honest = set(SITES) - {*liars}
    assert {site: outcome.code(site) for site in honest} == dict.fromkeys(honest, "aggregate.model")
    assert consortium.registered_versions() == 0


class Withholding:
    """An exchange that shows no object which is the state of a server."""

    def __init__(self, shared: Exchange) -> None:
        self._shared = shared
        self.put, self.replace, self.names = shared.put, shared.replace, shared.names
        self.bell = getattr(shared, "bell", None)

    def get(self, name: str, *, at_most_bytes: int | None = None) -> bytes | None:
        data = self._shared.get(name, at_most_bytes=at_most_bytes)
        is_state = data is not None and name.startswith("objects/") and b'"v":{"dtype":"F64"' in data[:200]
        return None if is_state else data


async def test_a_coordinator_that_keeps_the_state_to_itself_holds_nobody_up(consortium: Consortium) -> None:
    """Sites compute it themselves out of the sums, those too that were cut off and begin anew."""
    for site in SITES:
        consortium.exchanges[site] = Withholding
    plan = adaptive(rounds=3)
    cut = await consortium.run(plan, cut_at=at("hospital-b", "train", 3))
    assert isinstance(cut.errors["hospital-b"], PowerCut)
    outcome = await consortium.run(plan)
    assert outcome.errors == {}
    state_digest = outcome.state.released[plan.content_digest(), 2].server_state_digest or ""
    assert Withholding(exchange_of(consortium)).get(objects.name_of(state_digest)) is None
    check_by_hand(consortium, outcome.state, plan)


async def test_a_run_that_was_cut_off_goes_on_with_the_ledgers_state_or_not_at_all(
    consortium: Consortium,
) -> None:
    plan = brief(rounds=3)
    digest = plan.content_digest()
    await consortium.run(plan, cut_at=at("coordinator", "collect (training)", 3))
    exchange = exchange_of(consortium)
    names = [consortium.state().released[digest, number].server_state_digest or "" for number in (1, 2)]
    older, newer = (objects.load(exchange, name) for name in names)
    stored = consortium.founded.exchange / objects.name_of(names[1])
    for bytes_there, code in ((older, "exchange.altered"), (None, "exchange.missing")):
        stored.unlink()
        if bytes_there is not None:
            stored.write_bytes(bytes_there)
        assert (await consortium.run(plan, leave=True)).code("coordinator") == code
        stored.write_bytes(newer)
    outcome = await consortium.run(plan)
    assert outcome.errors == {}
    check_by_hand(consortium, outcome.state, plan)
    # A site that comes in late, without the rounds before, takes the state that the ledger names and no other.
    published = outcome.state.plans[digest]
    base = objects.load(exchange, outcome.state.released[digest, 2].model_digest)
    async with opened_site(consortium.founded.sites[SITES[0]], worker=site_worker()) as site:
        await site.until(
            lambda state: state.registered.get((digest, 3)), timeout_s=20.0, waiting_for="the ledger"
        )
        stored.write_bytes(older)
        with pytest.raises(CodedError) as refused:
            await follow_model(site, published, base, 3)
        assert refused.value.code == "exchange.altered"
        stored.write_bytes(newer)
        followed = await follow_model(site, published, base, 3)
        assert followed == objects.load(exchange, outcome.state.released[digest, 3].model_digest)
