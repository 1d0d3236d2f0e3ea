"""Evidence packages of phases: what officers are given to sign, and what an audit finds in one that was bent."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ledger import canonical, evidence_manifest
from ledger.evidence_package import Cut, PackageContentsError, package
from ledger.evidence_subject import PhaseSubject, RoundSubject
from ledger.evidence_verify import verify_package
from ledger.report import VerificationFailedError
from policies.events import IncidentReported
from policies.rollout.statements import DrillRecorded, ModelRolledBack
from tasks.evidence.audit import audit
from tasks.evidence.building import build_phase
from tasks.evidence.reading import NotMeasuredError
from tests.policies.assembly import plan
from tests.policies.founding import COORDINATOR, SITES, named
from tests.policies.rollout.phases import (
    SURE,
    advanced,
    again,
    clinical_plan,
    clinical_terms,
    drill_report,
    measured,
    measurement,
    promoted,
    signatures,
    worked,
)
from tests.tasks.evidence.witnessed import RULES, Witnessed, cosigned, files_of, payload_of, written

REPORT = drill_report("poisoning")


def told() -> Witnessed:
    made = Witnessed(plan=plan(rounds=2))
    measured(made.reach("founded"))  # type: ignore[arg-type]
    return made


def drilled() -> Witnessed:
    """A pilot whose terms ask for a drill, which was passed."""
    made = Witnessed(plan=plan(rounds=2))
    worked(made.reach("founded"), drills=["poisoning"])  # type: ignore[arg-type]
    made.say(COORDINATOR, DrillRecorded(drill="poisoning", report_digest=canonical.digest(REPORT)))
    made.say(COORDINATOR, measurement(made))
    return made


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return files_of(told().build_phase())


def failure(path: Path) -> tuple[str, str]:
    with pytest.raises(VerificationFailedError) as caught:
        audit(path, rules=RULES)
    return caught.value.code.removeprefix("ledger.verify."), caught.value.public_message


def bent(files: dict[str, bytes], **changed: object) -> dict[str, bytes]:
    manifest = evidence_manifest.parse(files["payload/manifest.json"])
    return {**files, "payload/manifest.json": replace(manifest, **changed).encode()}  # type: ignore[arg-type]


def test_a_measured_phase_is_evidence_from_its_terms_to_its_figures(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    found = audit(written(tmp_path / "x.zip", files), rules=RULES)
    assert found.passed and [check.outcome for check in found.report.checks] == ["passed"] * 16
    document = json.loads(files["payload/phase.json"])
    assert document["phase"] == "pilot" and document["terms"]["minimum_figure"] == 0.51
    assert document["exit"]["rounds"] == {"minimum": 1, "registered": 1, "pending": 0}
    (counted,) = document["rounds"]
    assert counted["figure_micro"] >= 510_000 and counted["reported"] == list(SITES)
    assert {one["site"] for one in document["conformance"]} == set(SITES)
    assert document["sign_offs_needed"] == {"data-steward": 2, "compliance-officer": 1}
    plan_file = files[f"payload/plans/{counted['plan_digest']}.json"]
    assert canonical.digest(plan_file) == counted["plan_digest"]
    assert "payload/accounting.json" in files and "payload/policy/budget.rego" in files


def test_the_ledger_package_alone_checks_it_too(files: dict[str, bytes], tmp_path: Path) -> None:
    with verify_package(written(tmp_path / "x.zip", files)) as found:
        assert found.manifest.subject == PhaseSubject(
            "pilot", json.loads(files["payload/phase.json"])["measured"]["entry_digest"]
        )


def test_the_evidence_has_one_digest_whoever_builds_it_and_whenever() -> None:
    made = told()
    before = payload_of(made.build_phase())
    made.say(SITES[0], IncidentReported(severity="minor", kind="other"))
    later = payload_of(
        made.build_phase(measured=json.loads(before["phase.json"])["measured"]["entry_digest"])
    )
    assert later == before == payload_of(told().build_phase())


def test_evidence_of_every_phase_stays_evidence_after_it() -> None:
    made = told()
    first = made.build_phase()
    document = json.loads(payload_of(first)["phase.json"])
    digest = canonical.digest(payload_of(first)["manifest.json"])
    signed = signatures(made, evidence_digest=digest)
    made.say(COORDINATOR, advanced(made, evidence_digest=digest, sign_offs=signed))
    # The newest measurement is gone with its phase; its entry still names it.
    log = made.log()
    rebuilt = build_phase(
        log, measured=document["measured"]["entry_digest"], final_checkpoint=cosigned(log), policy=made.quorum,
        rules=RULES, tighter=False,
    )  # fmt: skip
    assert payload_of(rebuilt) == payload_of(first)


def test_nothing_of_a_phase_that_was_not_measured_is_evidence() -> None:
    made = told()
    with pytest.raises(NotMeasuredError):
        made.build_phase(measured=named("nothing"))
    opened = made.state.rollout.opened
    assert opened is not None
    with pytest.raises(NotMeasuredError):
        made.build_phase(measured=opened.entry_digest)  # an entry, and no measurement


def test_a_package_is_of_the_phase_that_it_says(files: dict[str, bytes], tmp_path: Path) -> None:
    subject = evidence_manifest.parse(files["payload/manifest.json"]).subject
    assert isinstance(subject, PhaseSubject)
    for other in (
        PhaseSubject("clinical", subject.measured),
        PhaseSubject("pilot", named("another measurement")),
        RoundSubject(subject.measured, 1),
    ):
        check, _ = failure(written(tmp_path / "x.zip", bent(files, subject=other)))
        assert check == "end"


def test_every_derived_file_is_made_again(files: dict[str, bytes], tmp_path: Path) -> None:
    for name, data in files.items():
        if not name.startswith("payload/") or "ledger/" in name or name.endswith("manifest.json"):
            continue
        check, message = failure(written(tmp_path / "x.zip", {**files, name: data + b" "}))
        assert check in ("accounting", "payload") and name.removeprefix("payload/") in message
    document = json.loads(files["payload/phase.json"])
    document["rounds"][0]["figure_micro"] += 1
    prettier = {**files, "payload/phase.json": canonical.encode(document)}
    assert failure(written(tmp_path / "x.zip", prettier))[0] == "payload"


def test_reports_of_drills_lie_beside_the_evidence_under_their_digests(tmp_path: Path) -> None:
    made = drilled()
    data = made.build_phase(reports=[REPORT, b"of another phase"])
    files = files_of(data)
    name = f"detached/reports/{canonical.digest(REPORT)}"
    assert files[name] == REPORT and sum(one.startswith("detached/reports/") for one in files) == 1
    found = audit(written(tmp_path / "x.zip", files), rules=RULES)
    assert found.missing_reports == ()
    without = audit(written(tmp_path / "y.zip", files_of(made.build_phase())), rules=RULES)
    assert without.missing_reports == ("poisoning",)
    assert any("poisoning" in notice for notice in without.report.notices)


def test_evidence_of_the_clinic_has_limits_calibration_decision_curve_and_change_plan(tmp_path: Path) -> None:
    made = Witnessed(plan=clinical_plan(), phase="clinical", histogram=SURE)
    again(made.reach("founded"), clinical_terms(change_plan=canonical.digest(REPORT)))
    made.say(COORDINATOR, measurement(made))
    reports = [REPORT, *(drill_report(drill) for drill in ("rollback", "drift"))]
    files = files_of(made.build_phase(reports=reports))
    found = audit(written(tmp_path / "x.zip", files), rules=RULES)
    assert set(found.missing_reports) == {"drift", "rollback"}  # reports of other drills than these
    document = json.loads(files["payload/phase.json"])
    newest, told = document["newest"], document["exit"]
    limits = newest["limits_micro"]
    assert told["figure_micro"] == limits["low"] < newest["figure_micro"] < limits["high"]
    assert [one["subgroup"] for one in newest["subgroups"]] == ["female", "male"]
    assert sum(group["weight_micro"] for group in newest["reliability"]) == pytest.approx(10**6, abs=10)
    assert newest["decision_curve"][0]["model_micro"] > newest["decision_curve"][-1]["treat_all_micro"]
    assert f"detached/reports/{canonical.digest(REPORT)}" in files
    without = audit(written(tmp_path / "y.zip", files_of(made.build_phase())), rules=RULES)
    assert "change-plan" in without.missing_reports


def test_a_champion_and_its_rollback_are_in_the_evidence_of_the_next(tmp_path: Path) -> None:
    made = Witnessed(plan=clinical_plan(), phase="clinical", histogram=SURE)
    again(made.reach("founded"), clinical_terms())
    made.say(COORDINATOR, measurement(made))
    made.say(COORDINATOR, promoted(made))
    made.say(COORDINATOR, ModelRolledBack(study="tiny-study", kind="model-harm"))
    again(made, clinical_terms(), edition="2")
    made.say(COORDINATOR, measurement(made))
    files = files_of(made.build_phase())
    assert audit(written(tmp_path / "x.zip", files), rules=RULES).passed
    up, down = json.loads(files["payload/phase.json"])["champions"]
    assert up["promoted"] == named("model 1") and down["rolled_back_to"] is None


def test_a_report_that_is_not_the_one_on_the_ledger_is_found(files: dict[str, bytes], tmp_path: Path) -> None:
    report = b"all is well"
    named_so = {**files, f"detached/reports/{canonical.digest(report)}": report}
    assert failure(written(tmp_path / "x.zip", named_so))[0] == "payload"  # of no drill
    exchanged = files_of(drilled().build_phase(reports=[REPORT]))
    exchanged[f"detached/reports/{canonical.digest(REPORT)}"] = report
    assert failure(written(tmp_path / "x.zip", exchanged))[0] == "manifest"


@pytest.mark.parametrize(
    "report",
    [
        drill_report("poisoning", passed=False),
        drill_report("poisoning", sabotaged=True),
        drill_report("quarantine"),
        b"the poisoned site was found in round 1",
    ],
    ids=["failed", "sabotaged", "another drill's", "words"],
)
def test_a_drill_that_was_not_passed_is_found_though_the_ledger_names_it(
    report: bytes, tmp_path: Path
) -> None:
    """A coordinator that records what failed: whoever signs sees it."""
    made = Witnessed(plan=plan(rounds=2))
    worked(made.reach("founded"), drills=["poisoning"])  # type: ignore[arg-type]
    made.say(COORDINATOR, DrillRecorded(drill="poisoning", report_digest=canonical.digest(report)))
    made.say(COORDINATOR, measurement(made))
    named_so = files_of(made.build_phase(reports=[report]))
    assert failure(written(tmp_path / "x.zip", named_so))[0] == "payload"


def test_a_round_s_evidence_has_no_reports(tmp_path: Path) -> None:
    made = Witnessed()
    made.reach("registered")
    beside = {**files_of(made.build()), f"detached/reports/{canonical.digest(REPORT)}": REPORT}
    assert failure(written(tmp_path / "x.zip", beside))[0] == "manifest"
    log = made.log()
    with pytest.raises(PackageContentsError):
        package(
            log, Cut(subject=RoundSubject(made.digest, 1), size=log.size), derived={}, policy=made.quorum,
            final_checkpoint=cosigned(log), extras={f"reports/{canonical.digest(REPORT)}": REPORT},
        )  # fmt: skip
