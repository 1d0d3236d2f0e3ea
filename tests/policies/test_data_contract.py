"""What a plan may say of data: one kind, labels that fit where they are kept, bounds that are some."""

from __future__ import annotations

import pytest

from ledger.canonical import JsonValue
from ledger.errors import InputError
from policies.contract import FACTS, TABLE_FACTS, facts, suite_digest
from policies.data_contract import DataContract

IMAGE: JsonValue = {"height_px": 8, "width_px": 9, "modalities": ["CR"]}
VOLUME: JsonValue = {"depth_px": 8, "height_px": 8, "width_px": 9, "modalities": ["CT"]}
AGE: JsonValue = {"kind": "number", "name": "age", "lower": 0, "upper": 100}
SEX: JsonValue = {"kind": "word", "name": "sex", "categories": ["female", "male"]}
TABLE: JsonValue = {"features": [AGE, SEX], "label": "ill"}


def contract(**fields: JsonValue) -> DataContract:
    value = {"labels": [0, 1], "minimum_patients": 5, "held_out_fraction": 0.2, **fields}
    return DataContract.from_value(value, what="data")


def test_each_kind_has_its_shape_its_facts_and_its_suite() -> None:
    image, volume, table = contract(image=IMAGE), contract(image=VOLUME), contract(table=TABLE)
    masks = contract(image=VOLUME, target="mask")
    assert (image.shape, volume.shape, table.shape) == ((1, 8, 9), (1, 8, 8, 9), (3,))
    assert facts(image) == FACTS and facts(table) == TABLE_FACTS
    assert {*facts(volume)} - {*FACTS} == {"depth"}
    assert {*facts(masks)} - {*facts(volume)} == {"mask_shape", "mask_values"}
    assert len({suite_digest(one) for one in (image, volume, table, masks)}) == 4


def test_the_suite_of_images_is_the_one_that_receipts_named_before() -> None:
    """A change of it would refuse the receipts of running federations."""
    known = DataContract.from_value(
        {
            "image": {"height_px": 28, "width_px": 28, "modalities": ["CR", "DX"]},
            "labels": [0, 1],
            "minimum_patients": 50,
            "held_out_fraction": 0.2,
        },
        what="data",
    )
    assert suite_digest(known) == "de853e9a7752296d59c38b1db219d98e3c391d5bbad3f59833b9e365a9779046"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"image": IMAGE, "table": TABLE},
        {"table": TABLE, "target": "mask"},
        {"image": IMAGE, "labels": [0, 300]},
        {"image": IMAGE, "labels": [-129, 0]},
        {"image": IMAGE, "target": "mask", "labels": [-1, 1]},
        {"image": IMAGE, "labels": [0, 1, 2]},
        {"table": {"features": [], "label": "ill"}},
        {"table": {"features": [AGE, AGE], "label": "ill"}},
        {"table": {"features": [AGE], "label": "age"}},
        {"table": {"features": [{**AGE, "lower": 100}], "label": "ill"}},  # type: ignore[dict-item]
        {"table": {"features": [{**AGE, "upper": 1e308}], "label": "ill"}},  # type: ignore[dict-item]
        {"table": {"features": [{**SEX, "categories": ["one"]}], "label": "ill"}},  # type: ignore[dict-item]
        {"table": {"features": [{**SEX, "categories": ["male", "male"]}], "label": "ill"}},  # type: ignore[dict-item]
        {"table": {"features": [{**SEX, "categories": ["Smith, John", "x"]}], "label": "ill"}},  # type: ignore[dict-item]
    ],
)
def test_what_describes_no_data_is_refused(fields: dict[str, JsonValue]) -> None:
    with pytest.raises(InputError) as refused:
        contract(**fields)
    assert refused.value.code == "data.malformed" and "Smith" not in refused.value.public_message
