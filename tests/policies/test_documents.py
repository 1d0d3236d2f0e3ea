"""Plans, federations, code digests, costs and gates: what they refuse, and that their numbers stay."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from ledger.canonical import JsonValue
from ledger.cosignature import vkey_of as cosigner_vkey
from ledger.errors import InputError
from ledger.keys import MemorySigner
from ledger.note import vkey_of
from policies.code import CONSTRAINTS, PACKAGES, covered_files, digest_of
from policies.cost import epsilon_micro, plan_cost, round_cost, round_mechanisms
from policies.document import mapping_of
from policies.events import IdentityRotated
from policies.federation import Federation, PublicKey
from policies.gates import plan_violations, release_violations
from policies.plan import Plan
from privacy.accounting import Curve
from tests.plans import TINY_PLAN
from tests.policies.assembly import STAGES, at, plan
from tests.policies.founding import COORDINATOR, LOG, ORIGIN, SIGNERS, SITES, WITNESSES, federation


def test_every_wrong_field_of_a_plan_is_named_at_once_and_no_value_is_repeated() -> None:
    text = (
        TINY_PLAN.replace("rounds: 1", "rounds: 0")
        .replace("seed: 0", "seed: 'SECRET'")
        .replace("minimum_sites: 3", "minimum_sites: 2")
        .replace("noise_multiplier: 2.0", "noise_multiplier: .inf")
        .replace("scheme: masked", "scheme: none")
    ) + "surprise: 1\n"
    with pytest.raises(InputError) as refused:
        Plan.from_yaml(text.replace(".inf", "-1.0"), what="plan")
    message = refused.value.public_message
    for name in (
        "rounds", "seed", "participation.minimum_sites", "training.noise_multiplier", "protection.scheme",
        "surprise",
    ):  # fmt: skip
        assert f"{name}:" in message, name
    assert refused.value.code == "plan.malformed"
    assert "SECRET" not in message


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (TINY_PLAN + "rounds: 3\n", "the key 'rounds' stands twice at line"),
        (
            TINY_PLAN.replace("minimum_sites: 3", "minimum_sites: 3, minimum_sites: 4"),
            "'minimum_sites' stands",
        ),
        ("a: &a [*a]\n", "not valid YAML at line 1"),
        ("b: 1\na: &a {b: {c: *a}}\n", "not valid YAML at line 2"),
        ("? [a, b]\n: 1\n", "not valid YAML at line 1"),
        ("a: " + "[" * 5000, "a value cannot be read"),
        ("a: 2026-13-45\n", "a value cannot be read"),
    ],
    ids=(
        "twice",
        "twice within",
        "holds itself",
        "holds itself within",
        "a list as key",
        "nested",
        "no date",
    ),
)
def test_a_document_says_everything_once_and_nothing_of_itself(text: str, named: str) -> None:
    with pytest.raises(InputError) as refused:
        Plan.from_yaml(text, what="plan")
    assert refused.value.code == "plan.malformed" and named in refused.value.public_message


def test_what_is_named_once_may_be_meant_twice() -> None:
    assert mapping_of("a: &a [1]\nb: *a\nc: {<<: {d: 1}, d: 2}\n", what="plan") == {
        "a": [1],
        "b": [1],
        "c": {"d": 2},
    }


@pytest.mark.parametrize(
    ("written", "meant"),
    [("1.0e12", "1.0e+12"), ("1e-5", "1.0e-5"), ("-2.5E3", "-2.5e+3"), ("1.e2", "1.0e+2")],
)
def test_a_number_that_yaml_reads_as_text_is_named_as_it_is_to_be_written(written: str, meant: str) -> None:
    with pytest.raises(InputError) as refused:
        Plan.from_yaml(
            TINY_PLAN.replace("noise_multiplier: 2.0", f"noise_multiplier: {written}"), what="plan"
        )
    assert f"reads this one as text: write {meant}" in refused.value.public_message
    assert isinstance(yaml.safe_load(meant), float)


@pytest.mark.parametrize("text", ["", "- a", "{", "rounds: [", "!!python/object/apply:os.system ['true']"])
def test_what_is_no_plan_is_refused_as_one(text: str) -> None:
    with pytest.raises(InputError) as refused:
        Plan.from_yaml(text, what="plan")
    assert refused.value.code == "plan.malformed"
    assert refused.value.kind == "input"


@pytest.mark.parametrize("value", ["true", "1.5", "'1'"])
def test_an_integer_is_an_integer(value: str) -> None:
    with pytest.raises(InputError):
        Plan.from_yaml(TINY_PLAN.replace("rounds: 1", f"rounds: {value}"), what="plan")


def test_a_federation_that_contradicts_itself_is_refused() -> None:
    honest = federation().to_json()
    members = honest["members"]
    assert isinstance(members, list)
    for changed, reason in (
        ({"members": [*members, members[1]]}, "names must differ"),
        ({"members": members[1:]}, "exactly one member is the coordinator"),
        ({"members": [*members[:-1], {**members[-1], "key": members[1]["key"]}]}, "keys .* must differ"),
        ({"members": [*members[:-1], {**members[-1], "pool": None}]}, "a site needs"),
        ({"members": [{**members[0], "pool": members[1]["pool"]}, *members[1:]]}, "a coordinator has no"),
        ({"key_holders": ["site-a", "site-z"]}, "key holders must be sites"),
        ({"key_holders": ["site-a", "site-a"]}, "key holders must differ"),
        ({"key_holders": ["site-a", COORDINATOR]}, "key holders must be sites"),
        ({"key_holders": ["site-a"]}, "key_holders"),
    ):
        with pytest.raises(InputError, match=reason):
            Federation.from_value({**honest, **changed}, what="federation")
    assert federation().openings_required() == 2


def changed_member(at: int, **fields: JsonValue) -> dict[str, JsonValue]:
    members = federation().to_json()["members"]
    assert isinstance(members, list)
    member = members[at]
    assert isinstance(member, dict)
    return {"members": [*members[:at], {**member, **fields}, *members[at + 1 :]]}


A, B = SITES[:2]
DIFFER = "member keys, witness keys and the log key must differ"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        # one key for two purposes, or for two members
        (changed_member(2, key=SIGNERS[A].public.to_json()), DIFFER),
        (changed_member(2, witness_vkey=str(cosigner_vkey(B, WITNESSES[A]))), DIFFER),
        (changed_member(1, witness_vkey=str(cosigner_vkey(A, SIGNERS[A]))), DIFFER),
        (changed_member(1, key=WITNESSES[B].public.to_json()), DIFFER),
        (changed_member(1, witness_vkey=str(cosigner_vkey(A, LOG))), DIFFER),
        (changed_member(0, key=LOG.public.to_json()), DIFFER),
        ({"log_vkey": str(vkey_of(ORIGIN, SIGNERS[COORDINATOR]))}, DIFFER),
        (changed_member(2, sealing_key=federation().members[1].sealing_key), "sealing keys must differ"),
        # a key that cannot be read
        (changed_member(1, witness_vkey=f"{A}+00000000+AA=="), f"the witness_vkey of {A}: .*type is unknown"),
        (changed_member(1, witness_vkey=f"{A}+00000000+AA"), f"the witness_vkey of {A}: "),
        ({"log_vkey": f"{ORIGIN}+00000000+{str(vkey_of(ORIGIN, LOG)).rpartition('+')[2]}"}, "log_vkey: .*id"),
        (changed_member(1, key={"scheme": "ed25519", "public": "AAAA"}), f"the key of {A}: "),
        # a key of another type
        (changed_member(1, witness_vkey=str(vkey_of(A, WITNESSES[A]))), f"{A} is of .* 0x01, not 0x04"),
        ({"log_vkey": str(cosigner_vkey(ORIGIN, LOG))}, "log_vkey is of .* 0x04, not 0x01"),
        # a key of another name
        (changed_member(1, witness_vkey=str(cosigner_vkey("site-z", WITNESSES[A]))), f"{A} must be named {A}"),
        ({"log_vkey": str(vkey_of("other", LOG))}, f"log_vkey must be named {ORIGIN}"),
    ],
)  # fmt: skip
def test_one_key_serves_one_member_and_one_purpose(changed: dict[str, JsonValue], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        Federation.from_value({**federation().to_json(), **changed}, what="federation")


@pytest.mark.parametrize("key", [WITNESSES[A], WITNESSES[B], LOG])
def test_a_rotation_to_a_key_of_another_purpose_is_refused_and_breaks_nothing(
    key: MemorySigner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SIGNERS, "taken", key)
    assembly = at("founded")
    rotation = IdentityRotated(purpose="identity", name=A, key=PublicKey.of(key.public))
    assert assembly.refusals(assembly.entry(A, rotation, signer=f"{A} taken")) == {"member.key"}


def test_any_changed_byte_name_or_file_of_the_code_is_another_digest(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    for path in covered_files(root):
        copy = tmp_path / path.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    digests = {digest_of(tmp_path)}
    assert digests == {digest_of(root)}
    for package in PACKAGES:
        victim = next((tmp_path / package).rglob("*.py"))
        kept = victim.read_bytes()
        victim.write_bytes(kept + b"\n")
        digests.add(digest_of(tmp_path))
        victim.write_bytes(kept)
    (tmp_path / CONSTRAINTS).write_bytes(b"torch==0\n")
    digests.add(digest_of(tmp_path))
    (tmp_path / "policies" / "extra.rego").write_text("package extra")
    digests.add(digest_of(tmp_path))
    moved = tmp_path / "policies" / "gates.py"
    moved.rename(moved.with_name("gate.py"))
    digests.add(digest_of(tmp_path))
    assert len(digests) == 1 + len(PACKAGES) + 3
    (tmp_path / "policies" / "__pycache__").mkdir()
    (tmp_path / "policies" / "__pycache__" / "x.py").write_text("")
    assert digest_of(tmp_path) in digests


def test_costs_are_the_same_integers_on_every_machine() -> None:
    """Golden figures of the tiny plan: a change here changes what is on every ledger."""
    tiny = plan(rounds=3)
    assert [mechanism.kind for mechanism in round_mechanisms(tiny, 1)] == ["subsampled-gaussian", "gaussian"]
    assert plan_cost(tiny) == round_cost(tiny, 1).scaled(3)
    assert epsilon_micro(Curve.zero(), 1e-5) == 0
    assert (epsilon_micro(round_cost(tiny, 1), 1e-5), epsilon_micro(plan_cost(tiny), 1e-5)) == GOLDEN


GOLDEN = (1_669_208, 2_922_934)


def test_the_entry_gate_collects_every_reason_in_words_for_a_steward() -> None:
    state = at("founded", cap=0.01).state
    hopeless = plan(
        participation={"required": ["site-x"], "minimum_sites": 9, "deadline_s": 5},
        budget={"epsilon_cap": 0.01, "delta": 1e-5},
    ).with_fields({"code_digests": []})
    found = {violation.code: violation.message for violation in plan_violations(state, hopeless)}
    assert set(found) == {
        "plan.no-code", "plan.too-few-members", "plan.unknown-site", "budget.plan-cap", "budget.pool-cap",
    }  # fmt: skip
    assert "the plan needs 9 sites, the federation has 4" in found["plan.too-few-members"]
    assert "site-x" in found["plan.unknown-site"]
    assert len(plan_violations(state, plan())) == len(SITES)  # each site's cap is its own reason
    assert len(plan_violations(state, plan(), site="site-b")) == 1


def test_the_model_gate_asks_in_order() -> None:
    assembly = at("approved", plan=plan(gates={"minimum_auc": 0.95}))
    digest, state = assembly.digest, assembly.state
    assert codes_of(state, digest) == ["participation.too-few"]
    for stage in STAGES[STAGES.index("rostered") : STAGES.index("closed") + 1]:
        assembly._take(stage)
    assert codes_of(state, digest) == ["aggregate.missing"]
    assembly._take("released")
    assert codes_of(state, digest) == ["evaluation.missing"]
    for stage in ("scored", "fixed"):
        assembly._take(stage)
    undefined = state.fork()
    undefined.evaluated[digest, 1] = assembly.evaluation(auc_micro=None)
    assert codes_of(undefined, digest) == ["evaluation.missing"]
    assembly._take("evaluated")  # 0.9
    (violation,) = release_violations(state, digest, 1)
    assert violation.code == "evaluation.below-floor"
    assert "0.750" in violation.message
    assert "0.95" in violation.message


def codes_of(state: object, digest: str) -> list[str]:
    return [one.code for one in release_violations(state, digest, 1)]  # type: ignore[arg-type]
