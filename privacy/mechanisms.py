"""Noise mechanisms as data: what was run on patients, in the numbers that fix its cost.

A mechanism here is a statement, not code: it is written into plans, reservations and receipts, and
`privacy.accounting` turns it into a cost. No noise is drawn here (`privacy.noise`) and no cost is computed.

Adjacency is add/remove of one patient, sensitivity is in L2, and `noise_multiplier` is always the standard
deviation of the noise divided by that sensitivity.

Each class is a frozen dataclass that also nests in a pydantic model (closed, strict, told apart by `kind`);
there a wrong field is reported with all the others, because the error is a `ValueError` too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, Literal, TypeAlias

from pydantic import ConfigDict

from ledger.canonical import JsonValue
from ledger.errors import InputError

MINIMUM_NOISE_MULTIPLIER: Final = 0.01
"""Below it one step costs an epsilon in the hundreds or worse: no guarantee that anyone could mean."""
MAXIMUM_NOISE_MULTIPLIER: Final = 1e6
MAXIMUM_COUNT: Final = 100_000_000


class MechanismInvalidError(InputError, ValueError):
    code = "privacy.mechanism-invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class SubsampledGaussian:
    """DP-SGD: `steps` times, take each patient with probability `sampling_rate` and add Gaussian noise.

    The sampling must be Poisson (each patient on its own coin); shuffled batches cost more than this says.
    """

    noise_multiplier: float
    sampling_rate: float
    steps: int
    kind: Literal["subsampled-gaussian"] = "subsampled-gaussian"

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    def __post_init__(self) -> None:
        _check_kind(self.kind, "subsampled-gaussian")
        _check_noise_multiplier(self.noise_multiplier)
        if not (_is_number(self.sampling_rate) and 0 < self.sampling_rate <= 1):
            raise MechanismInvalidError("the sampling rate must be above 0 and at most 1")
        _check_count(self.steps, what="steps")

    def to_json(self) -> dict[str, JsonValue]:
        return {
            "kind": self.kind,
            "noise_multiplier": self.noise_multiplier,
            "sampling_rate": self.sampling_rate,
            "steps": self.steps,
        }

    @classmethod
    def from_json(cls, value: JsonValue) -> SubsampledGaussian:
        fields = _fields(
            value, kind="subsampled-gaussian", names=("noise_multiplier", "sampling_rate", "steps")
        )
        return cls(
            noise_multiplier=_number(fields, "noise_multiplier"),
            sampling_rate=_number(fields, "sampling_rate"),
            steps=_integer(fields, "steps"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaussian:
    """`count` releases of the same L2 sensitivity about all patients, each with Gaussian noise."""

    noise_multiplier: float
    count: int
    kind: Literal["gaussian"] = "gaussian"

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    def __post_init__(self) -> None:
        _check_kind(self.kind, "gaussian")
        _check_noise_multiplier(self.noise_multiplier)
        _check_count(self.count, what="count")

    def to_json(self) -> dict[str, JsonValue]:
        return {"kind": self.kind, "noise_multiplier": self.noise_multiplier, "count": self.count}

    @classmethod
    def from_json(cls, value: JsonValue) -> Gaussian:
        fields = _fields(value, kind="gaussian", names=("noise_multiplier", "count"))
        return cls(noise_multiplier=_number(fields, "noise_multiplier"), count=_integer(fields, "count"))


Mechanism: TypeAlias = SubsampledGaussian | Gaussian


def mechanism_from_json(value: JsonValue) -> Mechanism:
    """Read any mechanism by its `kind`; an unknown kind, field or type is refused."""
    kind = value.get("kind") if isinstance(value, dict) else None
    if kind == "subsampled-gaussian":
        return SubsampledGaussian.from_json(value)
    if kind == "gaussian":
        return Gaussian.from_json(value)
    raise MechanismInvalidError("a mechanism must be of kind subsampled-gaussian or gaussian")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_kind(kind: object, expected: str) -> None:
    if kind != expected:
        raise MechanismInvalidError(f"a mechanism of this class has the kind {expected}")


def _check_noise_multiplier(value: object) -> None:
    if not (isinstance(value, int | float) and _is_number(value)) or not (
        MINIMUM_NOISE_MULTIPLIER <= value <= MAXIMUM_NOISE_MULTIPLIER
    ):
        raise MechanismInvalidError(
            "the noise multiplier must lie between "
            f"{MINIMUM_NOISE_MULTIPLIER} and {MAXIMUM_NOISE_MULTIPLIER:.0f}"
        )


def _check_count(value: object, *, what: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAXIMUM_COUNT:
        raise MechanismInvalidError(f"{what} must be a whole number from 1 to {MAXIMUM_COUNT}")


def _fields(value: JsonValue, *, kind: str, names: tuple[str, ...]) -> dict[str, JsonValue]:
    if not isinstance(value, dict) or set(value) != {"kind", *names} or value["kind"] != kind:
        raise MechanismInvalidError(f"a {kind} mechanism has exactly the fields kind, {', '.join(names)}")
    return value


def _number(fields: dict[str, JsonValue], name: str) -> float:
    value = fields[name]
    # RFC 8785 writes 1.0 as 1, so a whole number may stand for a float.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MechanismInvalidError(f"{name} must be a number")
    try:
        return float(value)
    except OverflowError:
        raise MechanismInvalidError(f"{name} is too large") from None


def _integer(fields: dict[str, JsonValue], name: str) -> int:
    value = fields[name]
    if isinstance(value, bool) or not isinstance(value, int):
        raise MechanismInvalidError(f"{name} must be a whole number")
    return value
