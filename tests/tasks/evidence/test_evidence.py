"""Evidence packages of rounds that passed and rounds that did not: what is in them, and what an audit finds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from ledger import canonical
from ledger.errors import CodedError
from ledger.event import parse_entry
from ledger.finality import QuorumError
from ledger.report import VerificationFailedError
from policies.events import GateVerdict
from policies.state import FederationState
from privacy import accounting
from privacy.mechanisms import mechanism_from_json
from tasks.coordinator.applied_card import applied_model_card
from tasks.evidence.audit import OtherPolicyError, audit
from tasks.evidence.reading import RoundNotOverError
from tasks.evidence.rules import RuleFiles
from tests.plans import distributed_plan
from tests.policies.assembly import plan
from tests.policies.founding import COORDINATOR, SITES, named
from tests.tasks.evidence.witnessed import RULES, Witnessed, files_of, payload_of, written


@pytest.fixture(scope="module")
def passed() -> Witnessed:
    made = Witnessed()
    made.reach("registered")
    return made


@pytest.fixture(scope="module")
def refused() -> Witnessed:
    """Its model lies under the plan's floor."""
    made = Witnessed(plan=plan(gates={"minimum_auc": 1.0}))
    made.reach("judged")
    return made


@pytest.fixture(scope="module")
def settled() -> Witnessed:
    """One site gives its evaluation back, another everything; the round fails for want of sites."""
    made = Witnessed()
    made.reach("reserved")
    for site in SITES[:2]:
        made.say(site, made.receipt(site))
    made.say(SITES[0], made.settlement(SITES[0], "training"))
    made.say(SITES[3], made.settlement(SITES[3]))
    made.say(COORDINATOR, made.verdict(1))
    return made


@pytest.fixture(scope="module")
def files(passed: Witnessed) -> dict[str, bytes]:
    return files_of(passed.build())


def failure(path: Path, rules: RuleFiles = RULES) -> tuple[str, str]:
    """The check that fails, and what it says."""
    with pytest.raises(VerificationFailedError) as caught:
        audit(path, rules=rules)
    return caught.value.code.removeprefix("ledger.verify."), caught.value.public_message


# -- what is in it ---------------------------------------------------------------------------------------------


def test_a_round_that_passed_is_evidence_from_its_plan_to_its_model(
    passed: Witnessed, files: dict[str, bytes], tmp_path: Path
) -> None:
    found = audit(written(tmp_path / "x.zip", files), rules=RULES)
    assert found.passed and [check.outcome for check in found.report.checks] == ["passed"] * 16
    assert [check.name for check in found.report.checks][-3:] == ["rules", "accounting", "payload"]
    names = {name for name in files if not name.startswith("payload/ledger/")}
    assert names >= {f"payload/{name}" for name in (
        "plan.json", "accounting.json", "verdict.json", "validation.json", "evaluation.json", "model-card.md",
        "model-card.json", "ml-bom.json", "code.json", "policy/policy.json", "policy/budget.rego", "manifest.json",
    )}  # fmt: skip
    assert names >= {
        f"detached/{name}" for name in ("checkpoint", "consistency", "policy", "log.vkey", "sbom.json")
    }
    assert sum(name.startswith("payload/receipts/") for name in files) == 2 * len(SITES)
    assert canonical.digest(files["payload/plan.json"]) == passed.digest
    verdict = json.loads(files["payload/verdict.json"])
    assert verdict["passed"] and verdict["model"]["violations"] == []
    assert {report["site"] for report in verdict["counted"]["training"]["reports"]} == set(SITES)
    assert verdict["registered"]["run_id"] == "0" * 32


def test_a_refused_model_leaves_evidence_of_its_refusal(refused: Witnessed, tmp_path: Path) -> None:
    data = refused.build()
    found = audit(written(tmp_path / "x.zip", files_of(data)), rules=RULES)
    assert not found.passed
    verdict = json.loads(payload_of(data)["verdict.json"])
    assert not verdict["passed"] and verdict["registered"] is None
    assert verdict["model"]["violations"] == ["evaluation.below-floor"]
    assert (
        "evaluation.below-floor"
        in json.loads(payload_of(data)["model-card.json"])["ReleaseInfo"]["ReleaseStage"]
    )


def test_a_refused_plan_leaves_evidence_too(tmp_path: Path) -> None:
    made = Witnessed(plan=plan(budget={"epsilon_cap": 0.01, "delta": 1e-5}))
    made.reach("passed")
    data = made.build(0)
    found = audit(written(tmp_path / "x.zip", files_of(data)), rules=RULES)
    verdict = json.loads(payload_of(data)["verdict.json"])
    assert (
        not found.passed and verdict["plan"]["violations"] == ["budget.plan-cap"] and verdict["model"] is None
    )
    assert json.loads(payload_of(data)["evaluation.json"])["evaluated"] is False


def test_a_round_that_is_not_over_has_no_evidence(passed: Witnessed) -> None:
    open_round = Witnessed()
    open_round.reach("judged")  # passed its gates; its model is not registered yet
    for made, number in ((open_round, 1), (passed, 2), (passed, 0)):
        with pytest.raises(RoundNotOverError):
            made.build(number)


def test_a_checkpoint_that_nobody_cosigned_makes_no_evidence(passed: Witnessed) -> None:
    with pytest.raises(QuorumError):
        passed.build(final_checkpoint=passed.log().checkpoint())


def test_what_comes_after_the_round_changes_nothing_of_its_payload(passed: Witnessed, tmp_path: Path) -> None:
    later = Witnessed()
    later.reach("registered")
    before = payload_of(later.build())
    later.say(SITES[0], later.settlement(SITES[0], "training", "evaluation"))
    data = later.build()
    assert payload_of(data) == before == payload_of(passed.build())
    audit(written(tmp_path / "x.zip", files_of(data)), rules=RULES)


@pytest.mark.parametrize("name", ["payload/ml-bom.json", "detached/sbom.json"])
def test_bills_of_materials_are_valid_cyclonedx(
    passed: Witnessed, refused: Witnessed, settled: Witnessed, name: str
) -> None:
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    for made in (passed, refused, settled) if name.startswith("payload") else (passed,):
        document = files_of(made.build())[name].decode()
        assert validator.validate_str(document) is None
    model = json.loads(files_of(passed.build())["payload/ml-bom.json"])["components"][0]
    assert model["type"] == "machine-learning-model"
    assert model["hashes"] == [{"alg": "SHA-256", "content": named("model 1")}]
    assert len(model["modelCard"]["modelParameters"]["datasets"]) == 2 * len(SITES)


def test_the_model_card_has_the_fields_of_the_applied_model_card(files: dict[str, bytes]) -> None:
    card = json.loads(files["payload/model-card.json"])
    assert list(card) == sorted(
        ("BasicInfo", "ReleaseInfo", "ModelSummary", "UsesAndDirections", "Warnings", "TrustIngredients",
         "KeyMetrics", "Resources", "Bibliography")
    )  # fmt: skip
    for metric in card["KeyMetrics"].values():
        assert set(metric) == {
            "MetricGoal", "Results", "Interpretation", "TestType", "TestingDataDescription",
            "ValidationProcessAndJustification",
        }  # fmt: skip
        assert all(set(result) == {"Label", "ValueJson"} for result in metric["Results"])
        assert all(isinstance(json.loads(result["ValueJson"]), str) for result in metric["Results"])
    text = files["payload/model-card.md"].decode()
    assert "ε spent at site-a" in text and "## Uses and directions" in text


@pytest.mark.parametrize("noise", ["local", "distributed"])
def test_a_card_says_what_the_noise_makes_private(noise: str) -> None:
    """Whoever reads ε must know whether a hospital's update has it, or only the sum of all."""
    made = Witnessed(
        plan=plan()
        if noise == "local"
        else plan().with_fields(
            {name: distributed_plan().to_json()[name] for name in ("training", "update", "participation")}
        )
    )
    made.reach("registered")
    payload = payload_of(made.build())
    card = json.loads(payload["model-card.json"])
    said = (
        card["TrustIngredients"]["AISystemFacts"]["Transparency"],
        card["KeyMetrics"]["SafetyReliability"]["Interpretation"],
        json.loads(payload["ml-bom.json"])["components"][0]["modelCard"]["considerations"][
            "ethicalConsiderations"
        ][0]["mitigationStrategy"],
    )
    of_all = "the sum of at least 4 sites' updates, as long as 3 of them add their share"
    for text in said:
        assert ("Private as a sum" in text and of_all in text and "1 may collude" in text) == (
            noise != "local"
        )
        assert ("Each site's update is private by its own noise" in text) == (noise == "local")


def test_a_card_tells_of_other_plans_whose_draws_it_counts() -> None:
    made = Witnessed()
    made.reach("registered")
    published = made.state.plans[made.digest]
    assert "other plans" not in json.dumps(applied_model_card(made.state, published, 1))
    made.state.plans["0" * 64] = published.model_copy(update={"plan": distributed_plan()})
    card = json.dumps(applied_model_card(made.state, published, 1))
    assert "What other plans of this federation drew with noise: distributed is private as a sum only" in card


# -- accounting ------------------------------------------------------------------------------------------------


def test_a_stranger_recomputes_every_epsilon_from_the_file_alone(settled: Witnessed) -> None:
    """With json and the published accounting alone: none of the code that built or checks packages."""
    told = json.loads(payload_of(settled.build())["accounting.json"])
    for pool in told["pools"]:
        curve = accounting.Curve.zero()
        for use in pool["uses"]:
            back = [] if use["settled"] is None else use["settled"]["given_back"]
            kept = [one for one in use["mechanisms"] if one not in back]
            curve = curve + accounting.total(mechanism_from_json(one) for one in kept)
        assert list(curve.rdp_micro) == pool["spent_rdp_micro"]
        spent = (
            0
            if curve == accounting.Curve.zero()
            else accounting.epsilon_micro_at(curve, float(pool["delta"]), order=pool["order"])
        )
        assert spent == pool["spent_epsilon_micro"]


def test_what_was_given_back_is_not_spent(settled: Witnessed, tmp_path: Path) -> None:
    found = audit(written(tmp_path / "x.zip", files_of(settled.build())), rules=RULES)
    spent = {account.site: account.epsilon_micro for account in found.accounts}
    assert spent["site-d"] == 0 < spent["site-a"] < spent["site-b"] == spent["site-c"]
    assert spent["site-a"] == settled.state.founded().member("site-a").pool.epsilon_micro(  # type: ignore[union-attr]
        settled.state.spent_by("site-a")
    )


def test_a_tampered_account_is_found_by_recounting(settled: Witnessed, tmp_path: Path) -> None:
    files = files_of(settled.build())
    told = json.loads(files["payload/accounting.json"])
    told["pools"][1]["spent_epsilon_micro"] -= 1  # one micro-unit
    files["payload/accounting.json"] = canonical.encode(told)
    assert failure(written(tmp_path / "x.zip", files))[0] == "accounting"


def test_a_fold_that_forgets_a_use_is_found_by_recounting(
    settled: Witnessed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The running sums of the state and the recount share nothing: a bug in one shows in the other."""
    path = written(tmp_path / "x.zip", files_of(settled.build()))
    whole = FederationState.spent_by

    def forgetful(state: FederationState, site: str) -> accounting.Curve:
        ended = state.verdicts.get((settled.digest, 1)) is not None
        return accounting.Curve.zero() if ended and site == "site-b" else whole(state, site)

    monkeypatch.setattr(FederationState, "spent_by", forgetful)
    check, message = failure(path)
    assert check == "accounting" and "site-b" in message


# -- rules and payload -----------------------------------------------------------------------------------------


def test_every_derived_file_is_made_again(files: dict[str, bytes], tmp_path: Path) -> None:
    """Whoever tampers makes the manifest fit; the ledger says otherwise."""
    for name, data in files.items():
        if (
            not name.startswith("payload/")
            or name.startswith("payload/ledger/")
            or name.endswith("manifest.json")
        ):
            continue
        changed = data.replace(b"site-a", b"site-b") if b"site-a" in data else data + b" "
        check, message = failure(written(tmp_path / "x.zip", {**files, name: changed}))
        assert check in ("accounting", "payload") and name.removeprefix("payload/") in message
        without = {other: kept for other, kept in files.items() if other != name}
        assert failure(written(tmp_path / "x.zip", without))[0] in ("accounting", "payload")
    more = {**files, "payload/receipts/9.json": b"{}"}
    assert failure(written(tmp_path / "x.zip", more))[0] == "payload"


def test_a_verdict_that_does_not_follow_from_the_ledger_is_found(tmp_path: Path) -> None:
    """Coordinator and every witness agree to wave a model through that no rule lets pass."""
    made = Witnessed(plan=plan(gates={"minimum_auc": 1.0}))
    made.reach("evaluated")
    waved = GateVerdict(plan_digest=made.digest, round=1, passed=True, violations=())
    entry = made.entry(COORDINATOR, waved)
    made.entries.append(entry)
    event = parse_entry(entry)
    # What follows continues the coordinator's chain, which no honest state would.
    made.state.chain = made.state.chain.fork()
    made.state.chain.take_in(made.state.size, entry)
    made.entries.append(made.entry(COORDINATOR, made.registration()))
    assert event.event.body["passed"] is True
    with pytest.raises(CodedError, match="rule-broken"):
        made.build()
    honest = Witnessed(plan=made.plan)
    honest.reach("judged")
    files = files_of(honest.build())
    forged = _with_ledger(files, made)
    check, message = failure(written(tmp_path / "x.zip", forged))
    assert check == "rules" and f"entry {len(made.entries) - 2}" in message


def test_nothing_follows_the_end_of_a_round_unread(tmp_path: Path) -> None:
    """A second end behind the first, which no rule would let stand, and between them whatever one likes."""
    made = Witnessed(plan=plan(gates={"minimum_auc": 1.0}))
    made.reach("judged")
    files = files_of(made.build())
    made.entries.append(made.entry(COORDINATOR, made.verdict(1)))
    check, message = failure(written(tmp_path / "x.zip", _with_ledger(files, made)))
    assert check == "rules" and "ended earlier" in message


class _NoRules:
    """A federation whose rules refuse nothing."""

    digest = "0" * 64

    def decide(self, decision: str, facts: object) -> tuple[str, ...]:
        return ()


def test_a_pool_over_its_cap_is_found_whatever_the_rules_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("budget", "gates", "rounds"):
        monkeypatch.setattr(f"policies.{module}.installed_rules", _NoRules)
    made = Witnessed(cap=0.5)
    made.reach("registered")
    check, message = failure(written(tmp_path / "x.zip", files_of(made.build())))
    assert check == "accounting" and "site-a is over its cap" in message


def _with_ledger(files: dict[str, bytes], made: Witnessed) -> dict[str, bytes]:
    """The same package over another ledger, which the log key signed and all witnesses cosigned."""
    from ledger import evidence_manifest
    from ledger.export import static_files
    from ledger.witness_request import encode_request
    from tests.tasks.evidence.witnessed import cosigned

    log = made.log()
    kept = {name: data for name, data in files.items() if not name.startswith("payload/ledger/")}
    kept |= {f"payload/ledger/{name}": data for name, data in static_files(log, 0, log.size)}
    manifest = evidence_manifest.parse(files["payload/manifest.json"])
    kept["payload/manifest.json"] = replace(manifest, size=log.size, root=log.root).encode()
    kept["detached/checkpoint"] = cosigned(log)
    kept["detached/consistency"] = encode_request(log.size, (), b"").removesuffix(b"\n")
    return kept


def test_another_version_judges_nothing(files: dict[str, bytes], tmp_path: Path) -> None:
    path = written(tmp_path / "x.zip", files)
    with pytest.raises(OtherPolicyError) as caught:
        audit(path, rules=RuleFiles(named("another policy"), {}))
    assert caught.value.kind == "input" and "judged by policy" in caught.value.public_message


@pytest.mark.parametrize("honest", [RULES, RuleFiles(named("another policy"), {})])
def test_a_package_that_lies_about_its_policy_is_not_excused_by_it(
    files: dict[str, bytes], tmp_path: Path, honest: RuleFiles
) -> None:
    """It neither escapes judgement by naming a policy that nobody has, nor is judged by one that was not in force."""
    lie = named("nobody's policy") if honest is RULES else honest.policy_digest
    said = json.loads(files["payload/policy/policy.json"]) | {"policy_digest": lie}
    tampered = {**files, "payload/policy/policy.json": canonical.encode(said)}
    assert failure(written(tmp_path / "x.zip", tampered), honest)[0] == "payload"


def test_a_builder_of_another_version_encloses_no_rules(passed: Witnessed, tmp_path: Path) -> None:
    data = passed.build(rules=RuleFiles(named("newer policy"), {"x.rego": b"x"}))
    assert "policy/x.rego" not in payload_of(data)
    found = audit(written(tmp_path / "x.zip", files_of(data)), rules=RULES)
    assert any("encloses no rules" in notice for notice in found.report.notices)


def test_nothing_is_read_of_what_lies_beside_the_evidence(files: dict[str, bytes], tmp_path: Path) -> None:
    tampered = {**files, "detached/sbom.json": b"anything"}
    assert audit(written(tmp_path / "x.zip", tampered), rules=RULES).passed


def test_the_tighter_figure_lies_beside_and_is_not_above(passed: Witnessed) -> None:
    figures = json.loads(files_of(passed.build(tighter=True))["detached/pld.json"])["figures"]
    told = json.loads(payload_of(passed.build())["accounting.json"])["pools"]
    for figure, pool in zip(figures, told, strict=True):
        assert figure["site"] == pool["site"]
        assert 0 < float(figure["epsilon"]) <= pool["spent_epsilon_micro"] / 1e6 + 1e-3
