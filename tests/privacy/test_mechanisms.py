from __future__ import annotations

import math
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ledger import canonical
from privacy.mechanisms import (
    DiscreteGaussian,
    DistributedGaussian,
    Gaussian,
    Laplace,
    Mechanism,
    MechanismInvalidError,
    RandomisedResponse,
    SubsampledGaussian,
    mechanism_from_json,
)

SIGMAS = st.floats(0.01, 1e6)
RATES = st.floats(0, 1, exclude_min=True)
STEPS = st.integers(1, 10_000_000)
MECHANISMS: st.SearchStrategy[Mechanism] = st.one_of(
    st.builds(SubsampledGaussian, noise_multiplier=SIGMAS, sampling_rate=RATES, steps=STEPS),
    st.builds(
        DistributedGaussian,
        noise_multiplier=SIGMAS,
        sampling_rate=RATES,
        steps=STEPS,
        shares=st.integers(1, 50),
        share_bits=st.integers(6, 24),
    ),
    st.builds(Gaussian, noise_multiplier=SIGMAS, count=STEPS),
    st.builds(DiscreteGaussian, noise_multiplier=SIGMAS, count=STEPS),
    st.builds(Laplace, scale=SIGMAS, count=STEPS),
    st.builds(RandomisedResponse, epsilon=st.floats(0.01, 20.0), count=STEPS),
)


@given(MECHANISMS)
def test_a_mechanism_survives_canonical_json(mechanism: Mechanism) -> None:
    received = canonical.decode(canonical.encode(mechanism.to_json()))
    assert mechanism_from_json(received) == mechanism


MEANINGLESS = [math.nan, math.inf, -math.inf, 0, 0.0, -0.0, -1.0, 5e-324, 1e-9, 1e7, 10**400, True, "1", None]


@pytest.mark.parametrize("sigma", MEANINGLESS)
def test_a_noise_multiplier_without_meaning_is_refused(sigma: float) -> None:
    with pytest.raises(MechanismInvalidError) as refusal:
        SubsampledGaussian(noise_multiplier=sigma, sampling_rate=0.1, steps=1)
    assert refusal.value.code == "privacy.mechanism-invalid"
    with pytest.raises(MechanismInvalidError):
        Gaussian(noise_multiplier=sigma, count=1)
    with pytest.raises(MechanismInvalidError):
        DiscreteGaussian(noise_multiplier=sigma, count=1)


@pytest.mark.parametrize("scale", MEANINGLESS)
def test_a_scale_without_meaning_is_refused(scale: float) -> None:
    with pytest.raises(MechanismInvalidError) as refusal:
        Laplace(scale=scale, count=1)
    assert refusal.value.code == "privacy.mechanism-invalid"


@pytest.mark.parametrize("epsilon", [*MEANINGLESS, 0.0099, 20.1])
def test_an_answer_of_no_epsilon_that_anyone_could_mean_is_refused(epsilon: float) -> None:
    with pytest.raises(MechanismInvalidError) as refusal:
        RandomisedResponse(epsilon=epsilon, count=1)
    assert refusal.value.code == "privacy.mechanism-invalid"


@pytest.mark.parametrize("rate", [math.nan, math.inf, 0.0, -0.1, 1.0000001, True, "0.1", None])
def test_a_sampling_rate_outside_its_range_is_refused(rate: float) -> None:
    with pytest.raises(MechanismInvalidError):
        SubsampledGaussian(noise_multiplier=1.0, sampling_rate=rate, steps=1)


@pytest.mark.parametrize("steps", [0, -1, 1.0, True, 10**9, None])
def test_a_number_of_steps_that_is_no_count_is_refused(steps: int) -> None:
    with pytest.raises(MechanismInvalidError):
        SubsampledGaussian(noise_multiplier=1.0, sampling_rate=0.1, steps=steps)
    for kind in (Gaussian, DiscreteGaussian):
        with pytest.raises(MechanismInvalidError):
            kind(noise_multiplier=1.0, count=steps)
    with pytest.raises(MechanismInvalidError):
        Laplace(scale=1.0, count=steps)
    with pytest.raises(MechanismInvalidError):
        RandomisedResponse(epsilon=1.0, count=steps)


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"kind": "laplace", "noise_multiplier": 1.0, "count": 1},
        {"kind": "laplace", "scale": "1", "count": 1},
        {"kind": "randomised-response", "scale": 1.0, "count": 1},
        {"kind": "randomised-response", "epsilon": "1", "count": 1},
        {"kind": "laplace", "scale": 1.0, "count": 1, "noise_multiplier": 1.0},
        {"kind": "discrete-gaussian", "scale": 1.0, "count": 1},
        {"kind": "discrete-gaussian", "noise_multiplier": 1.0, "count": 0},
        {"kind": "gaussian", "noise_multiplier": 1.0},
        {"kind": "gaussian", "noise_multiplier": 1.0, "count": 1, "free": 1},
        {"kind": "gaussian", "noise_multiplier": "1", "count": 1},
        {"kind": "gaussian", "noise_multiplier": True, "count": 1},
        {"kind": "gaussian", "noise_multiplier": 1.0, "count": 1.0},
        {"kind": "gaussian", "noise_multiplier": 1.0, "count": True},
        {"kind": "gaussian", "noise_multiplier": 10**400, "count": 1},
        {"kind": "subsampled-gaussian", "noise_multiplier": 1.0, "sampling_rate": None, "steps": 1},
    ],
)
def test_json_that_is_no_mechanism_is_refused(value: canonical.JsonValue) -> None:
    with pytest.raises(MechanismInvalidError):
        mechanism_from_json(value)


class _Receipt(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    mechanisms: tuple[Mechanism, ...]


@given(st.lists(MECHANISMS, max_size=3))
def test_mechanisms_nest_in_a_document(mechanisms: list[Mechanism]) -> None:
    receipt = _Receipt(mechanisms=tuple(mechanisms))
    assert receipt.model_dump(mode="json")["mechanisms"] == [item.to_json() for item in mechanisms]
    assert _Receipt.model_validate_json(receipt.model_dump_json()) == receipt


def test_a_document_names_a_wrong_mechanism_and_an_unknown_field() -> None:
    good = Gaussian(noise_multiplier=1.0, count=1).to_json()
    for wrong in ({"count": 0}, {"noise_multiplier": -1.0}, {"free": 1}):
        with pytest.raises(ValidationError):
            _Receipt.model_validate_json(canonical.encode({"mechanisms": [{**good, **wrong}]}))


def test_the_kind_cannot_be_chosen() -> None:
    with pytest.raises(MechanismInvalidError):
        Gaussian(noise_multiplier=1.0, count=1, kind="laplace")  # type: ignore[arg-type]
    with pytest.raises(MechanismInvalidError):
        SubsampledGaussian(noise_multiplier=1.0, sampling_rate=0.1, steps=1, kind="gaussian")  # type: ignore[arg-type]
    with pytest.raises(MechanismInvalidError):
        DiscreteGaussian(noise_multiplier=1.0, count=1, kind="gaussian")  # type: ignore[arg-type]
    with pytest.raises(MechanismInvalidError):
        Laplace(scale=1.0, count=1, kind="gaussian")  # type: ignore[arg-type]
    with pytest.raises(MechanismInvalidError):
        RandomisedResponse(epsilon=1.0, count=1, kind="laplace")  # type: ignore[arg-type]


def test_a_document_tells_mechanisms_apart_by_their_kind() -> None:
    """A discrete Gaussian has the fields of a continuous one; only the kind says which ran."""
    adapter: TypeAdapter[Mechanism] = TypeAdapter(Annotated[Mechanism, Field(discriminator="kind")])
    for mechanism in (
        DiscreteGaussian(noise_multiplier=2.0, count=3),
        Gaussian(noise_multiplier=2.0, count=3),
        Laplace(scale=2.0, count=3),
        RandomisedResponse(epsilon=2.0, count=3),
    ):
        read = adapter.validate_json(canonical.encode(mechanism.to_json()))
        assert read == mechanism and type(read) is type(mechanism)
    for unknown in ({"kind": "laplacian", "scale": 1.0, "count": 1}, {"scale": 1.0, "count": 1}):
        with pytest.raises(ValidationError):
            adapter.validate_python(unknown)


def test_a_mechanism_is_closed_by_itself_not_by_the_document_around_it() -> None:
    adapter: TypeAdapter[Mechanism] = TypeAdapter(Mechanism)
    for good in (
        Gaussian(noise_multiplier=1.0, count=1),
        SubsampledGaussian(noise_multiplier=1.0, sampling_rate=0.1, steps=1),
    ):
        assert adapter.validate_json(canonical.encode(good.to_json())) == good
        for wrong in ({"free": 1}, {"noise_multiplier": "1"}):
            with pytest.raises(ValidationError):
                adapter.validate_json(canonical.encode({**good.to_json(), **wrong}))
