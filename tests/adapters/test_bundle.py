"""A bundle's network is read, never run: whatever its author wrote, no Python of theirs starts here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from adapters.bundle import BundleCodeError, BundleContractError, BundleError, check_contract, read_bundle
from adapters.home import SiteConfig
from ledger.canonical import JsonValue
from ledger.errors import InputError
from policies.data_contract import DataContract, Image
from policies.plan import Plan
from policies.site_policy import SitePolicy, site_violations
from tasks.planning import parse_either, read_plan
from tests.plans import tiny_plan
from wardround.__main__ import run

UNET: dict[str, JsonValue] = {
    "_target_": "monai.networks.nets.unet.UNet",
    "_desc_": "as the spleen bundle has it",
    "spatial_dims": "@dims",
    "in_channels": 1,
    "out_channels": 2,
    "channels": [4, 8, 8],
    "strides": "@shape::strides",
    "norm": "batch",
}
REST: dict[str, JsonValue] = {"dims": 2, "shape": {"strides": [2, 2]}}
DATA = DataContract(
    image=Image(height_px=16, width_px=16, modalities=("CT",)),
    target="mask",
    labels=(0, 1),
    minimum_patients=20,
    held_out_fraction=0.5,
)


def bundle(tmp_path: Path, network: JsonValue = UNET, **beside: JsonValue) -> Path:
    folder = tmp_path / "bundle"
    (folder / "configs").mkdir(parents=True, exist_ok=True)
    config = {"imports": ["$import os"], "network_def": network, **REST, **beside}
    (folder / "configs" / "train.json").write_text(json.dumps(config))
    return folder


def plan_with(tmp_path: Path, network: dict[str, object]) -> Path:
    path = tmp_path / "plans" / "plan.yaml"
    path.parent.mkdir(exist_ok=True)
    value = {**tiny_plan().to_json(), "network": network, "data": DATA.to_json()}
    value["gates"] = {"minimum_dice": 0.0}
    path.write_text(yaml.safe_dump(value))
    return path


def test_the_class_and_its_literals_are_read(tmp_path: Path) -> None:
    found = read_bundle(bundle(tmp_path))
    assert found.name == "UNet"
    assert found.arguments == {"channels": [4, 8, 8], "strides": [2, 2], "norm": "batch"}
    assert found.settled == {"spatial_dims": 2, "in_channels": 1, "out_channels": 2}
    check_contract(found, DATA)


def test_names_are_those_of_plans(tmp_path: Path) -> None:
    assert read_bundle(bundle(tmp_path, {"_target_": "monai.networks.nets.resnet18"})).name == "ResNet18"
    assert read_bundle(bundle(tmp_path, {"_target_": "SegResNet"})).name == "SegResNet"


CODE: dict[str, tuple[JsonValue, str]] = {
    "an expression as argument": ({**UNET, "channels": "$[4] * 3"}, "network_def.channels: is an expression"),
    "an expression behind a reference": ({**UNET, "channels": "@code"}, "network_def.channels"),
    "an expression within a list": ({**UNET, "channels": [4, "$__import__('os')"]}, "network_def.channels.1"),
    "a file of somewhere": ({**UNET, "channels": "%/etc/passwd"}, "network_def.channels"),
    "an object as argument": (
        {**UNET, "norm": {"_target_": "os.system"}},
        "network_def.norm: makes an object",
    ),
    "an object behind a reference": ({**UNET, "norm": "@object"}, "network_def.norm: makes an object"),
    "a class of theirs": ({**UNET, "_target_": "scripts.my_net.Net"}, "network_def._target_"),
    "a function of torch": ({**UNET, "_target_": "torch.hub.load"}, "network_def._target_"),
    "a class of MONAI elsewhere": (
        {**UNET, "_target_": "monai.utils.optional_import"},
        "network_def._target_",
    ),
    "code before it": ({**UNET, "_requires_": "@object"}, "makes an object"),
    "a mode": ({**UNET, "_mode_": "callable"}, "network_def._mode_: steers"),
    "all of it": ("$build_network()", "network_def: is an expression"),
    "what is not there": (
        {**UNET, "strides": "@no::such"},
        "network_def.strides: refers to what is not there",
    ),
    "itself": ({**UNET, "strides": "@network_def"}, "network_def.strides: makes an object"),
    "a circle": ({**UNET, "strides": "@circle"}, "goes in a circle"),
    "sums of references": ({**UNET, "strides": "@dims + 1"}, "network_def.strides"),
}


@pytest.mark.parametrize("what", CODE)
def test_what_would_have_to_be_run_is_refused_and_named(tmp_path: Path, what: str) -> None:
    network, words = CODE[what]
    folder = bundle(
        tmp_path, network, code="$1", object={"_target_": "os.system"}, circle=["@circle", "@circle"]
    )
    with pytest.raises(BundleCodeError) as caught:
        read_bundle(folder)
    assert caught.value.code == "bundle.code" and words in str(caught.value)


def test_yaml_makes_no_objects_and_its_aliases_no_storm(tmp_path: Path) -> None:
    folder = bundle(tmp_path)
    (folder / "configs" / "train.json").unlink()
    train = folder / "configs" / "train.yaml"
    train.write_text("network_def: !!python/object/apply:os.system ['true']")
    with pytest.raises(BundleError):
        read_bundle(folder)
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    train.write_text("\n".join([*lines, "network_def: {_target_: UNet, channels: *a11}"]))
    with pytest.raises(BundleCodeError, match="too deep"):
        read_bundle(folder)


def test_configurations_that_disagree_are_refused(tmp_path: Path) -> None:
    folder = bundle(tmp_path)
    inference = folder / "configs" / "inference.json"
    inference.write_text(json.dumps({"network_def": {**UNET, "spatial_dims": 2, "strides": [2, 2]}}))
    read_bundle(folder)
    inference.write_text(json.dumps({"network_def": {**UNET, "spatial_dims": 2, "strides": [2, 1]}}))
    with pytest.raises(BundleError, match="different networks"):
        read_bundle(folder)
    inference.write_text("{")
    with pytest.raises(BundleError, match=r"inference\.json"):
        read_bundle(folder)
    with pytest.raises(BundleError, match="folder of a MONAI bundle"):
        read_bundle(tmp_path / "nothing")


def test_the_digest_names_what_the_network_comes_from(tmp_path: Path) -> None:
    folder = bundle(tmp_path)
    digests = [read_bundle(folder).digest]
    (folder / "docs").mkdir()
    (folder / "docs" / "README.md").write_text("prose")
    assert read_bundle(folder).digest == digests[0]
    (folder / "configs" / "logging.conf").write_text("x")
    digests.append(read_bundle(folder).digest)
    (folder / "models").mkdir()
    (folder / "models" / "model.pt").write_bytes(b"not a pickle, and never read as one")
    digests.append(read_bundle(folder).digest)
    (folder / "configs" / "train.json").write_text(json.dumps({"network_def": {"_target_": "UNet"}}))
    digests.append(read_bundle(folder).digest)
    assert len(set(digests)) == 4
    (folder / "configs" / "link.json").symlink_to("/etc/hostname")
    with pytest.raises(BundleError, match="is a link"):
        read_bundle(folder)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("spatial_dims", 3),
        ("in_channels", 3),
        ("in_channels", True),
        ("out_channels", 14),
        ("pretrained", True),
    ],
)
def test_a_network_for_other_data_is_refused(tmp_path: Path, argument: str, value: JsonValue) -> None:
    with pytest.raises(BundleContractError) as caught:
        check_contract(read_bundle(bundle(tmp_path, {**UNET, argument: value})), DATA)
    assert argument in str(caught.value)


def test_a_plan_names_it_by_path_and_carries_its_digest(tmp_path: Path) -> None:
    folder = bundle(tmp_path)
    plan = read_plan(plan_with(tmp_path, {"bundle": "../bundle", "norm_groups": 4}))
    assert plan.network.name == "UNet" and plan.network.norm_groups == 4
    assert plan.network.bundle == read_bundle(folder).digest
    assert plan.network.arguments == {"channels": [4, 8, 8], "strides": [2, 2], "norm": "batch"}
    # As it is published, it names no path any more, and reads the same where the bundle is not.
    assert "../bundle" not in plan.canonical_bytes().decode()
    assert parse_either(plan.canonical_bytes().decode(), folder=Path("/nowhere")) == plan


@pytest.mark.parametrize("beside", [{"name": "UNet"}, {"channels": [4]}])
def test_name_and_arguments_come_from_the_bundle_alone(tmp_path: Path, beside: dict[str, object]) -> None:
    bundle(tmp_path)
    with pytest.raises(InputError) as caught:
        read_plan(plan_with(tmp_path, {"bundle": "../bundle", **beside}))
    assert caught.value.code == "plan.malformed" and next(iter(beside)) in str(caught.value)


def test_a_hospital_that_did_not_approve_the_bundle_refuses_the_plan(tmp_path: Path) -> None:
    bundle(tmp_path)
    plan = read_plan(plan_with(tmp_path, {"bundle": "../bundle"}))
    policy = SitePolicy(epsilon_cap=100.0, delta=1e-5, plan_epsilon_cap=100.0, model_families=("UNet",))

    def codes(asked: Plan, approved: dict[str, str]) -> set[str]:
        found = site_violations(
            asked, policy, site="hospital-a", approved_by_steward=True, approved_bundles=approved
        )
        return {one.code for one in found}

    digest, seen = str(plan.network.bundle), plan.network.class_digest
    assert codes(plan, {digest: seen}) == set()
    assert codes(plan, {}) == codes(plan, {"0" * 64: seen}) == {"plan.bundle"}


def test_an_approved_bundles_digest_covers_no_other_network(tmp_path: Path) -> None:
    """A coordinator publishes the digest that stewards approved with a network of its own choice."""
    bundle(tmp_path)
    plan = read_plan(plan_with(tmp_path, {"bundle": "../bundle"}))
    policy = SitePolicy(epsilon_cap=100.0, delta=1e-5, plan_epsilon_cap=100.0, model_families=("UNet",))
    steward = {str(plan.network.bundle): plan.network.class_digest}
    network = plan.network.to_json()
    for other, refused in (
        ({"arguments": {**plan.network.arguments, "channels": [8, 8, 8]}}, True),
        ({"arguments": {"channels": [4, 8, 8], "strides": [2, 2]}}, True),
        ({"norm_groups": 2}, False),  # what stands beside a bundle is the plan's
    ):
        asked = plan.with_fields({"network": {**network, **other}})
        found = site_violations(
            asked, policy, site="hospital-a", approved_by_steward=True, approved_bundles=steward
        )
        assert {one.code for one in found} == ({"plan.bundle"} if refused else set())


def test_a_steward_gets_the_line_to_paste(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = bundle(tmp_path)
    assert run(["plan", "bundle", str(folder)]) == 0
    said = yaml.safe_load(capsys.readouterr().out)
    plan = read_plan(plan_with(tmp_path, {"bundle": "../bundle"}))
    assert said["approved_bundles"] == {plan.network.bundle: plan.network.class_digest}
    line = {"approved_bundles": said["approved_bundles"]}
    assert SiteConfig.model_fields.keys() >= line.keys()
    assert run(["plan", "bundle", str(tmp_path)]) == 2 and "bundle.unreadable" in capsys.readouterr().err
