"""A hospital takes a registered model home and tries it on its own files."""

from __future__ import annotations

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adapters import objects
from adapters.exchange import DirectoryExchange
from adapters.home import Home
from adapters.institution_log import policy_of, read_state
from adapters.mask_files import MaskExistsError, MaskUnwritableError
from adapters.sources import items, unusable
from adapters.sources.medmnist import NpzSource
from ledger import canonical, checkpoint
from ledger.checkpoint import Checkpoint
from ledger.errors import VerificationError
from ledger.event import parse_entry, sign_event
from ledger.policy import NO_QUORUM, Policy
from ledger.proof import TlogProof
from ledger.tree import leaf_hash
from tasks.model import standing
from tasks.model.exported import (
    CARD,
    CARD_JSON,
    ENTRY,
    FILES,
    MODEL,
    NETWORK,
    PLAN,
    PROOF,
    ExportContradictsError,
    ExportedModel,
)
from tasks.own_figures import scored
from tasks.site.calibration import keep_head, read_head
from tasks.train import networks
from tasks.train.calibration import CalibrationHead
from tasks.worker.site_session import SiteSession
from tests.plans import tiny_plan
from tests.wardround.conftest import Command

pytestmark = pytest.mark.xdist_group("wardround-run")


@pytest.fixture
def exported(run_once: Path, tmp_path: Path, wardround: Command) -> Path:
    out = tmp_path / "model"
    assert wardround("model", "export", run_once / "coordinator", "--out", out).code == 0
    return out


def test_predictions_of_an_export_are_the_scores_of_the_session(
    run_once: Path, exported: Path, wardround: Command
) -> None:
    plan, home = tiny_plan(), run_once / "sites" / "hospital-a"
    key = (plan.content_digest(), 1)
    digest = read_state(Home(run_once / "coordinator"))[0].registered[key].model_digest
    model = objects.load(DirectoryExchange(run_once / "exchange"), digest)
    shard = run_once / "data" / "hospital-a.npz"
    session = SiteSession(home)
    cohort = NpzSource(shard, site="hospital-a", secret=Home(home).patient_secret()).load(plan.data)
    module = networks.loaded(plan.network, plan.data, session._weights(plan, model))
    scores, _ = scored(module, cohort, plan.data, "cpu")

    done = wardround("predict", exported, shard, "--json")
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert done.code == 0 and [row["file"] for row in rows[:2]] == ["hospital-a.npz#0", "hospital-a.npz#1"]
    # A patient has one image here; the cohort is in the order of patients' keys.
    np.testing.assert_allclose(sorted(row["probability"] for row in rows), sorted(scores), atol=1e-6)


def test_a_site_exports_the_same_model_as_the_coordinator(
    run_once: Path, exported: Path, tmp_path: Path, wardround: Command
) -> None:
    other = tmp_path / "theirs.zip"
    assert wardround("model", "export", run_once / "sites" / "hospital-b", "--out", other).code == 0
    mine, theirs = ExportedModel.open(exported), ExportedModel.open(other)
    assert (mine.weights, mine.about, mine.plan) == (theirs.weights, theirs.about, theirs.plan)
    verified = wardround("model", "verify", other, "--json", "--federation", document(run_once))
    assert verified.code == 0 and json.loads(verified.out)["ok"] and json.loads(verified.out)["final"]
    again = wardround("model", "export", run_once / "sites" / "hospital-b", "--out", other)
    assert again.code == 2 and "model.exists" in again.error


def test_what_is_not_registered_is_not_exported(run_once: Path, tmp_path: Path, wardround: Command) -> None:
    done = wardround("model", "export", run_once / "coordinator", "--out", tmp_path / "m", "--round", 2)
    assert done.code == 2 and "model.not-registered" in done.error and not (tmp_path / "m").exists()


@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_is_noticed(name: str, exported: Path, wardround: Command) -> None:
    """Somebody on the way swaps the weights, the network line, the plan, the card or the proof."""
    path = exported / name
    data = path.read_bytes()
    at = min(60, len(data) // 2)  # of the proof: a hash, as cosignatures count only under a policy
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    assert wardround("model", "verify", exported).code in (2, 3)
    path.unlink()
    done = wardround("predict", exported, exported)
    assert done.code == 2 and "model.not-exported" in done.error


def document(run: Path) -> Path:
    return run / "sites" / "hospital-a" / "federation.json"


def test_what_a_proof_shows_is_said(run_once: Path, exported: Path, wardround: Command) -> None:
    federation = Home(run_once / "coordinator").federation
    (exported.parent / "policy").write_bytes(policy_of(federation).serialise())
    (exported.parent / "nobody").write_text(f"log {federation.log_vkey}\nquorum none\n")
    home = run_once / "sites" / "hospital-a"
    for options, final, card in (
        ([], False, False),
        (["--vkey", federation.log_vkey], False, False),
        (["--policy", exported.parent / "policy"], True, False),
        (["--policy", exported.parent / "nobody"], False, False),
        (["--federation", document(run_once)], True, False),
        (["--home", home], True, True),
        (["--home", run_once / "coordinator"], True, True),
    ):
        said = wardround("model", "verify", exported, "--json", *options)
        told = json.loads(said.out)
        assert (told["final"], told["ok"], told["card_verified"]) == (final, final, card)
        assert said.code == (0 if final else 1)
        shown = wardround("model", "verify", exported, *options)
        assert ("NOT shown to be final" in shown.out) == (not final)
        assert ("NOT verified: no signature covers it" in shown.out) == (not card)
    assert wardround("model", "verify", exported, "--home", home, "--vkey", "x").code == 2


def forge(run: Path, exported: Path, *, by: str = "coordinator") -> None:
    """The export of a model that nobody saw: its registration in a tree that only the log's key signed."""
    home = Home(run / "coordinator")
    origin = home.federation.origin
    data = bytearray((exported / MODEL).read_bytes())
    data[-1] ^= 1
    digest = canonical.digest(bytes(data))
    true = parse_entry((exported / ENTRY).read_bytes()).event
    member = home if by == "coordinator" else Home(run / "sites" / by)
    event = replace(true, institution=by, body={**true.body, "model_digest": digest})
    entry = sign_event(event, [member.signer("signing", by)])
    head = checkpoint.sign(Checkpoint(origin, 1, leaf_hash(entry)), home.signer("log", origin))
    about = json.loads((exported / NETWORK).read_bytes())
    for name, content in (
        (MODEL, bytes(data)),
        (NETWORK, canonical.encode({**about, "model_digest": digest})),
        (ENTRY, entry),
        (PROOF, TlogProof(0, (), head).encode()),
    ):
        (exported / name).write_bytes(content)


def test_the_coordinators_word_alone_makes_no_model_final(
    run_once: Path, exported: Path, wardround: Command
) -> None:
    """A hostile coordinator registers a model that failed its gate, in a tree of its own that its log key signs."""
    forge(run_once, exported)
    key = Home(run_once / "coordinator").federation.log_vkey
    lone = wardround("model", "verify", exported, "--vkey", key)
    assert lone.code == 1 and "NOT shown to be final" in lone.out
    shard = run_once / "data" / "hospital-a.npz"
    for option, given in (
        ("--federation", document(run_once)),
        ("--home", run_once / "sites" / "hospital-a"),
    ):
        for command in (("model", "verify", exported), ("predict", exported, shard)):
            done = wardround(*command, option, given)
            assert done.code == 3 and "ledger.finality.quorum" in done.error and not done.out
    # Without either it is tried, as the user asked, and said not to be verified.
    assert "model not verified" in wardround("predict", exported, shard).err


@pytest.mark.parametrize("fault", ["institution", "signature"])
def test_a_registration_that_is_not_the_coordinators_is_refused(
    fault: str, run_once: Path, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though a quorum of hostile witnesses cosigned it."""
    home = Home(run_once / "coordinator")
    true = json.loads((exported / ENTRY).read_bytes())
    forge(run_once, exported, by="hospital-b" if fault == "institution" else "coordinator")
    monkeypatch.setattr(standing, "policy_of", lambda _: Policy((), (), (), NO_QUORUM))
    if fault == "signature":
        standing.by_federation(ExportedModel.open(exported), home.federation)
        forged = json.loads((exported / ENTRY).read_bytes())
        entry = canonical.encode({**forged, "signatures": true["signatures"]})
        origin = home.federation.origin
        head = checkpoint.sign(Checkpoint(origin, 1, leaf_hash(entry)), home.signer("log", origin))
        (exported / ENTRY).write_bytes(entry)
        (exported / PROOF).write_bytes(TlogProof(0, (), head).encode())
    with pytest.raises(VerificationError) as refused:
        standing.by_federation(ExportedModel.open(exported), home.federation)
    assert refused.value.code == (
        "model.registrar" if fault == "institution" else "ledger.envelope.signature"
    )


def test_a_rewritten_card_is_refused(run_once: Path, exported: Path, wardround: Command) -> None:
    """Whoever passes the model on lets it be a medical device, and makes the digests fit."""
    about = json.loads((exported / NETWORK).read_bytes())
    for name, field in ((CARD, "card_text_digest"), (CARD_JSON, "card_digest")):
        text = (exported / name).read_bytes()
        assert b"Not a medical device" in text
        (exported / name).write_bytes(text.replace(b"Not a medical device", b"A medical device"))
        assert wardround("model", "verify", exported, "--federation", document(run_once)).code == 3
        about[field] = canonical.digest((exported / name).read_bytes())
        (exported / NETWORK).write_bytes(canonical.encode(about))
    blind = wardround("model", "verify", exported, "--federation", document(run_once))
    assert blind.code == 0 and "may have rewritten it" in blind.out
    done = wardround("model", "verify", exported, "--home", run_once / "sites" / "hospital-b")
    assert done.code == 3 and "model.card" in done.error


def test_another_models_weights_do_not_fit_the_digest(exported: Path, wardround: Command) -> None:
    weights = exported / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    done = wardround("predict", exported, exported)
    assert done.code == 3 and "model.digest" in done.error


def test_a_contract_that_the_plan_does_not_have_is_refused(exported: Path) -> None:
    """Whoever turned the labels round would turn every answer round."""
    about = json.loads((exported / NETWORK).read_bytes())
    about["data"]["labels"] = about["data"]["labels"][::-1]
    (exported / NETWORK).write_bytes(canonical.encode(about))
    with pytest.raises(ExportContradictsError):
        ExportedModel.open(exported)
    plan = json.loads((exported / PLAN).read_bytes())
    plan["data"]["labels"] = plan["data"]["labels"][::-1]
    (exported / PLAN).write_bytes(canonical.encode(plan))
    with pytest.raises(ExportContradictsError):
        ExportedModel.open(exported)


def test_no_home_path_and_no_patient_is_in_an_export(run_once: Path, exported: Path) -> None:
    for file in exported.iterdir():
        data = file.read_bytes()
        for marker in (b"invented-", str(run_once).encode(), str(Path.home()).encode() + b"/"):
            assert marker not in data, file.name


def test_bad_files_are_named_and_the_others_predicted(
    exported: Path, tmp_path: Path, wardround: Command
) -> None:
    folder = tmp_path / "files"
    (folder / "nested").mkdir(parents=True)
    grey = np.linspace(0, 255, 20 * 16).reshape(20, 16).astype(np.uint8)
    Image.fromarray(grey).save(folder / "a.png")
    Image.fromarray(grey).save(folder / "nested" / "b.jpg")
    Image.fromarray(grey.astype(np.uint16) * 257).save(folder / "c.png")
    alike = np.stack([grey] * 3, axis=-1)
    Image.fromarray(alike).save(folder / "grey-in-colour.png")
    Image.fromarray(np.dstack([alike, np.full_like(grey, 255)])).save(folder / "opaque.png")
    Image.fromarray(np.dstack([alike, grey])).save(folder / "transparent.png")
    Image.fromarray(np.stack([grey, grey, 255 - grey], axis=-1)).save(folder / "colour.png")
    (folder / "cohort.csv").write_text("age,ill\n63,1\n")
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "deep.png").write_bytes((folder / "a.png").read_bytes())
    (folder / "nested" / ".DS_Store").write_bytes(b"x")
    (folder / "nested" / "gone.png").symlink_to(tmp_path / "nothing.png")
    (folder / "broken.dcm").write_bytes(b"no image")
    (folder / "cut.png").write_bytes((folder / "a.png").read_bytes()[:60])
    (folder / "notes.txt").write_text("beside the images")
    table = tmp_path / "found.csv"
    done = wardround("predict", exported, folder, "--csv", table)
    assert done.code == 1
    rows = {row["file"]: row for row in csv.DictReader(table.open())}
    assert {name for name, row in rows.items() if row["probability"]} == {
        "a.png", "nested/b.jpg", "c.png", "grey-in-colour.png", "opaque.png",
    }  # fmt: skip
    assert {name: row["error"] for name, row in rows.items() if row["error"]} == {
        "broken.dcm": "data.dicom-unreadable",
        "cohort.csv": "data.not-image",
        "colour.png": "data.picture-color",
        "transparent.png": "data.picture-color",
        "cut.png": "data.picture-unreadable",
    }
    assert "skipped broken.dcm: cannot be read" in done.err and "5 could not be used" in done.err
    assert "skipped cohort.csv: a table, and the model takes images (data.not-image)" in done.err
    assert len(done.out.splitlines()) == 5
    for name in (".hidden", "nested/.DS_Store", "nested/gone.png", "notes.txt"):
        assert f"passed over {name}: " in done.err and name not in rows
    assert "deep.png" not in done.out + done.err
    for name in ("grey-in-colour.png", "opaque.png"):
        assert float(rows[name]["probability"]) == pytest.approx(
            float(rows["a.png"]["probability"]), abs=1e-6
        )
    # Sixteen bits of the same picture say the same.
    assert float(rows["a.png"]["probability"]) == pytest.approx(float(rows["c.png"]["probability"]), abs=1e-4)
    assert wardround("predict", exported, folder / "a.png", "--csv", table).code == 2


def test_what_lies_beside_items_is_no_fault(exported: Path, tmp_path: Path, wardround: Command) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "a.png")
    (folder / "labels.csv").write_text("patient_id,label\n")
    done = wardround("predict", exported, folder)
    assert done.code == 0 and "passed over labels.csv: " in done.err and "could not be used" not in done.err
    (folder / "a.png").unlink()
    assert "data.empty" in wardround("predict", exported, folder).error


def test_every_code_of_a_file_has_words() -> None:
    sources = Path(items.__file__).parent
    modules = ("items", "nifti", "dicom_image", "npz")
    text = "".join((sources / f"{name}.py").read_text() for name in modules)
    codes = set(re.findall(r'"(data\.[a-z-]+)"', text))
    # Of masks that are given, and of a whole folder; `predict` takes no masks.
    assert codes - {"data.mask-shape", "data.mask-place", "data.mask-values", "data.empty"} <= set(
        unusable.WORDS
    )
    assert {MaskExistsError.code, MaskUnwritableError.code, "data.table-number", "data.table-word"} <= set(
        unusable.WORDS
    )


def test_a_file_name_is_neither_a_formula_nor_a_command_to_the_terminal(
    exported: Path, tmp_path: Path, wardround: Command
) -> None:
    """Whoever sends the hospital a study names its files."""
    folder = tmp_path / "files"
    folder.mkdir()
    names = ["=HYPERLINK(1).png", "+1.png", "-1.png", "@a.png", "'=b.png", "c\x1b[2Jc.png", "d\udcff.png"]
    for name in names:
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / name)
    (folder / "=broken\x1b].png").write_bytes(b"")
    table = tmp_path / "found.csv"
    done = wardround("predict", exported, folder, "--csv", table)
    assert done.code == 1 and "\x1b" not in done.out + done.err
    assert "c?[2Jc.png" in done.out and "skipped =broken?].png" in done.err
    cells = {row["file"] for row in csv.DictReader(table.open(encoding="utf-8"))}
    assert {f"'{name}" for name in names[:5]} < cells and "d\\udcff.png" in cells
    # Programs get the very names.
    rows = [json.loads(line) for line in wardround("predict", exported, folder, "--json").out.splitlines()]
    assert {*names} < {row["file"] for row in rows}


def test_the_sites_head_is_applied_to_its_own_model_alone(
    run_once: Path, exported: Path, tmp_path: Path, wardround: Command
) -> None:
    shutil.copytree(run_once / "sites" / "hospital-a", tmp_path / "home")
    home, model = Home(tmp_path / "home"), ExportedModel.open(exported)
    shutil.rmtree(home.root / "calibration", ignore_errors=True)
    digest = model.about.model_digest
    keep_head(home, CalibrationHead(schema_version=1, model_digest="0" * 64, slope=1.0, offset=9.0))
    shard = run_once / "data" / "hospital-a.npz"
    plain = wardround("predict", exported, shard)
    other = wardround("predict", exported, shard, "--home", home.root)
    assert other.out == plain.out and "no calibration head for this model" in other.err
    keep_head(home, CalibrationHead(schema_version=1, model_digest=digest, slope=1.0, offset=9.0))
    mine = wardround("predict", exported, shard, "--home", home.root)
    assert mine.out != plain.out and "is applied" in mine.err
    assert read_head(home, digest) is not None
    assert ((home.root / "calibration" / f"{digest}.json").stat().st_mode & 0o777) == 0o600
