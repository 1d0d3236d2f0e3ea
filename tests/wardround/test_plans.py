"""`wardround plan`: what it writes, what it names, and the exit codes that a build gates on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from policies.code import running_code_digest
from policies.cost import epsilon_micro, plan_cost
from policies.gates import epsilon_text
from privacy.accounting import MICRO
from tasks.planning import parse_either, read_plan
from tests.consortium import tiny_plan
from tests.wardround.conftest import Command
from wardround.examples import EXAMPLES

DICE = {"minimum_dice": 0.0}


def write(path: Path, **fields: object) -> Path:
    path.write_text(yaml.safe_dump({**tiny_plan().to_json(), **fields}))
    return path


@pytest.mark.parametrize("example", sorted(path.stem for path in EXAMPLES.glob("*.yaml")))
def test_new_keeps_the_comments_and_stamps_the_code(wardround: Command, tmp_path: Path, example: str) -> None:
    out = tmp_path / "plan.yaml"
    done = wardround("plan", "new", "--from", example, "--out", out, "--name", "our-plan")
    assert done.code == 0 and str(out) in done.out
    text = out.read_text()
    plan = parse_either(text)
    assert plan.name == "our-plan" and plan.code_digests == (running_code_digest(),)
    comments = [
        line for line in (EXAMPLES / f"{example}.yaml").read_text().splitlines() if line.startswith("#")
    ]
    assert comments and all(comment in text for comment in comments)
    assert wardround("plan", "validate", out).code == 0
    assert example in wardround("plan", "examples").out


def test_new_refuses_to_overwrite_and_writes_nothing_that_is_malformed(
    wardround: Command, tmp_path: Path
) -> None:
    out = tmp_path / "plan.yaml"
    refused = wardround("plan", "new", "--out", out, "--name", "Not A Name")
    assert refused.code == 2 and "name:" in refused.error and not out.exists()
    out.write_text("mine")
    refused = wardround("plan", "new", "--out", out)
    assert refused.code == 2 and refused.error.startswith("[plan.exists]") and out.read_text() == "mine"
    assert wardround("plan", "new", "--out", tmp_path / "no" / "plan.yaml").code == 2
    refused = wardround("plan", "new", "--from", "nothing", "--out", tmp_path / "p.yaml")
    assert refused.code == 2 and "chest-xray" in refused.error


def test_a_draft_validates_with_a_warning(wardround: Command, tmp_path: Path) -> None:
    out = tmp_path / "plan.yaml"
    assert "draft" in wardround("plan", "new", "--draft", "--out", out).out
    done = wardround("plan", "validate", out)
    assert done.code == 0 and "warning: a draft" in done.err
    done = wardround("plan", "validate", write(out, code_digests=["0" * 64]))
    assert done.code == 0 and running_code_digest() in done.err and "not approved" in done.err


def test_validate_prices_the_plan(wardround: Command, tmp_path: Path) -> None:
    path = write(tmp_path / "plan.yaml")
    cost = epsilon_micro(plan_cost(tiny_plan()), 1e-5)
    done = wardround("plan", "validate", path)
    assert (
        done.code == 0
        and tiny_plan().content_digest() in done.out
        and f"ε={epsilon_text(cost)} at δ=1e-05" in done.out
    )
    value = json.loads(wardround("plan", "validate", path, "--json").out)
    assert value["digest"] == tiny_plan().content_digest() and value["epsilon"] == cost / MICRO
    assert value["order"] > 1 and value["warnings"] == [] == value["violations"]


def test_validate_names_every_wrong_field_at_once(wardround: Command, tmp_path: Path) -> None:
    path = write(
        tmp_path / "plan.yaml",
        rounds=0,
        seed="x",
        surprise=1,
        network={"name": "classifier", "norm_groups": 0},
    )
    done = wardround("plan", "validate", path)
    assert done.code == 2 and done.error.startswith("[plan.malformed]")
    for field in ("rounds", "seed", "surprise", "network.name", "network.norm_groups"):
        assert f"{field}: " in done.error
    for text in (": not yaml: [", "- a list", ""):
        path.write_text(text)
        assert wardround("plan", "validate", path).code == 2
    path.write_bytes(b"\xff\xfe")
    assert wardround("plan", "validate", path).error.startswith("[plan.unreadable]")
    assert wardround("plan", "validate", tmp_path / "nothing.yaml").code == 2
    assert wardround("plan", "validate", tmp_path).code == 2


def test_validate_refuses_over_a_cap_with_every_reason(wardround: Command, tmp_path: Path) -> None:
    path = write(tmp_path / "plan.yaml", budget={"epsilon_cap": 1.0, "delta": 1e-5})
    done = wardround("plan", "validate", path, "--epsilon-cap", "0.5", "--sites", "2")
    assert done.code == 3
    for code in ("budget.plan-cap", "budget.epsilon-cap", "plan.too-few-members"):
        assert f"[{code}]" in done.error
    done = wardround("plan", "validate", path, "--json", "--epsilon-cap", "0.5", "--sites", "51")
    codes = {item["code"] for item in json.loads(done.out)["violations"]}
    assert done.code == 3 and codes == {"budget.plan-cap", "budget.epsilon-cap", "plan.too-many-members"}
    assert wardround("plan", "validate", path, "--epsilon-cap", "0").code == 2
    assert wardround("plan", "validate", path, "--epsilon-cap", "nan").code == 2
    assert wardround("plan", "validate", path, "--sites", "0").code == 2


def test_validate_says_what_the_network_becomes_and_refuses_one_that_cannot_be(
    wardround: Command, tmp_path: Path
) -> None:
    small = {"name": "ResNet18", "norm_groups": 4, "widen_factor": 0.125}
    data = {**tiny_plan().data.to_json(), "image": {"height_px": 32, "width_px": 32, "modalities": ["CR"]}}
    path = write(tmp_path / "plan.yaml", network=small, data=data)
    done = wardround("plan", "validate", path)
    assert done.code == 0 and "ResNet18" in done.out and "trained" in done.out
    assert "BatchNorm2d by GroupNorm of 4 groups" in done.out
    network = json.loads(wardround("plan", "validate", path, "--json").out)["network"]
    assert network["parameters"] == network["trained"] > 100_000
    assert network["replaced"]["classifier.bn1"].startswith("BatchNorm2d") and network["frozen"] == {}
    assert network["replaced"]["classifier.act"] == "ReLU in place by an ordinary one"
    assert network["forward_in_place_replaced"] and "(x += y) by ordinary ones" in done.out

    path = write(tmp_path / "plan.yaml", network={"name": "DensNet121"}, data=data)
    refused = wardround("plan", "validate", path)
    assert refused.code == 2 and refused.error.startswith("[network.unknown]")
    assert "DenseNet121" in refused.error
    path = write(tmp_path / "plan.yaml", network={**small, "strides": [2]}, data=data)
    assert wardround("plan", "validate", path).error.startswith("[network.argument]")


def test_validate_names_operations_in_place_though_nothing_else_was_replaced(
    wardround: Command, tmp_path: Path
) -> None:
    image = {"height_px": 16, "width_px": 16, "modalities": ["CR"]}
    data = {**tiny_plan().data.to_json(), "image": image, "target": "mask"}
    path = write(
        tmp_path / "plan.yaml", network={"name": "SegResNet", "init_filters": 8}, data=data, gates=DICE
    )
    shown = wardround("plan", "validate", path).out
    assert "replaced operations in place of its forward pass (x += y)" in shown and "× ReLU in place" in shown
    assert "Norm" not in shown  # it has group norms of its own


def test_validate_says_nothing_of_norms_where_none_were_replaced(wardround: Command, tmp_path: Path) -> None:
    image = {"height_px": 16, "width_px": 16, "modalities": ["CR"]}
    data = {**tiny_plan().data.to_json(), "image": image, "target": "mask"}
    unet = {"name": "UNet", "channels": [4, 8], "strides": [2], "num_res_units": 1}
    shown = wardround(
        "plan", "validate", write(tmp_path / "plan.yaml", network=unet, data=data, gates=DICE)
    ).out
    assert "network UNet" in shown and "replaced" not in shown and "norm" not in shown.partition("network")[2]
    attention = {"name": "AttentionUnet", "channels": [4, 8], "strides": [2], "norm_groups": 1}
    shown = wardround(
        "plan", "validate", write(tmp_path / "plan.yaml", network=attention, data=data, gates=DICE)
    ).out
    assert "GroupNorm of 1 group" in shown and "1 groups" not in shown


def test_a_point_of_the_sweep_is_picked_as_a_plan(wardround: Command, tmp_path: Path) -> None:
    plan, out = EXAMPLES / "readmission.yaml", tmp_path / "picked.yaml"
    point = ("--clip", "3", "--rounds", "12", "--out", out)
    done = wardround("plan", "pick", plan, "--epsilon", "4", *point)
    assert done.code == 0 and "training noise" in done.out, done.err
    picked, before = read_plan(out), read_plan(plan)
    assert (picked.rounds, picked.evaluation.every, picked.training.clip_l2) == (12, 12, 3.0)
    assert picked.budget.epsilon_cap == 4.0 and 3.96 < epsilon_micro(plan_cost(picked), 1e-5) / 1e6 <= 4.0
    factor = picked.training.noise_multiplier / before.training.noise_multiplier
    assert picked.evaluation.noise_std == pytest.approx(before.evaluation.noise_std * factor, rel=1e-3)
    assert wardround("plan", "pick", plan, "--epsilon", "4", *point).error.startswith("[plan.exists]")
    free = ("--out", tmp_path / "free.yaml")
    refused = wardround("plan", "pick", plan, "--epsilon", "1e-4", "--clip", "3", "--rounds", "12", *free)
    assert refused.code == 2 and refused.error.startswith("[sweep.nothing]")
    for epsilon, clip in (("0", "1"), ("1", "-1"), ("nan", "1"), ("1", "nan")):
        wrong = wardround("plan", "pick", plan, "--epsilon", epsilon, "--clip", clip, "--rounds", "1", *free)
        assert wrong.code == 2 and not (tmp_path / "free.yaml").exists()


def test_a_sweep_prints_its_points_and_says_that_they_are_of_nobody(
    wardround: Command, tmp_path: Path
) -> None:
    plan = EXAMPLES / "readmission.yaml"
    done = wardround("plan", "sweep", plan, "--out", tmp_path / "s", "--epsilon", "8")
    assert done.code == 0 and "Synthetic stand-in data" in done.out, done.err
    assert {path.name for path in (tmp_path / "s").iterdir()} == {"sweep.csv", "sweep.svg"}
    assert wardround("plan", "sweep", plan, "--out", tmp_path / "s", "--epsilon", "-1").code == 2
    assert wardround("plan", "sweep", plan, "--out", plan).code == 2
