"""Noise mechanisms as data: what was run on patients, in the numbers that fix its cost.

A mechanism here is a statement, not code: it is written into plans, reservations and receipts, and
`privacy.accounting` turns it into a cost. No noise is drawn here (`privacy.noise`) and no cost is computed.

Adjacency is add/remove of one patient. `noise_multiplier` is always the Gaussian's sigma divided by the L2
sensitivity; the `scale` of a Laplace distribution is divided by the L1 sensitivity.

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
MINIMUM_SCALE: Final = 0.01
"""The epsilon of one release is 1 / scale: 100 at the least scale."""
MAXIMUM_SCALE: Final = 1e6
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
        _check_number(
            self.noise_multiplier,
            what="the noise multiplier",
            bounds=(MINIMUM_NOISE_MULTIPLIER, MAXIMUM_NOISE_MULTIPLIER),
        )
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
        _check_number(
            self.noise_multiplier,
            what="the noise multiplier",
            bounds=(MINIMUM_NOISE_MULTIPLIER, MAXIMUM_NOISE_MULTIPLIER),
        )
        _check_count(self.count, what="count")

    def to_json(self) -> dict[str, JsonValue]:
        return {"kind": self.kind, "noise_multiplier": self.noise_multiplier, "count": self.count}

    @classmethod
    def from_json(cls, value: JsonValue) -> Gaussian:
        fields = _fields(value, kind="gaussian", names=("noise_multiplier", "count"))
        return cls(noise_multiplier=_number(fields, "noise_multiplier"), count=_integer(fields, "count"))


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscreteGaussian:
    """`count` releases of whole numbers, each with noise of the discrete Gaussian on every coordinate.

    The noise has probability proportional to exp(-x^2 / (2 sigma^2)) on the integers (Canonne, Kamath, Steinke
    2020, definition 1); `noise_multiplier` is this sigma, not the standard deviation, over the L2 sensitivity.
    What is released must be whole before the noise, or the cost is not what is said here.
    """

    noise_multiplier: float
    count: int
    kind: Literal["discrete-gaussian"] = "discrete-gaussian"

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    def __post_init__(self) -> None:
        _check_kind(self.kind, "discrete-gaussian")
        _check_number(
            self.noise_multiplier,
            what="the noise multiplier",
            bounds=(MINIMUM_NOISE_MULTIPLIER, MAXIMUM_NOISE_MULTIPLIER),
        )
        _check_count(self.count, what="count")

    def to_json(self) -> dict[str, JsonValue]:
        return {"kind": self.kind, "noise_multiplier": self.noise_multiplier, "count": self.count}

    @classmethod
    def from_json(cls, value: JsonValue) -> DiscreteGaussian:
        fields = _fields(value, kind="discrete-gaussian", names=("noise_multiplier", "count"))
        return cls(noise_multiplier=_number(fields, "noise_multiplier"), count=_integer(fields, "count"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Laplace:
    """`count` releases of the same L1 sensitivity about all patients, with Laplace noise on every coordinate.

    `scale` is the distribution's b divided by that sensitivity (its standard deviation is b times root 2).
    """

    scale: float
    count: int
    kind: Literal["laplace"] = "laplace"

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    def __post_init__(self) -> None:
        _check_kind(self.kind, "laplace")
        _check_number(self.scale, what="the scale", bounds=(MINIMUM_SCALE, MAXIMUM_SCALE))
        _check_count(self.count, what="count")

    def to_json(self) -> dict[str, JsonValue]:
        return {"kind": self.kind, "scale": self.scale, "count": self.count}

    @classmethod
    def from_json(cls, value: JsonValue) -> Laplace:
        fields = _fields(value, kind="laplace", names=("scale", "count"))
        return cls(scale=_number(fields, "scale"), count=_integer(fields, "count"))


Mechanism: TypeAlias = SubsampledGaussian | Gaussian | DiscreteGaussian | Laplace


def mechanism_from_json(value: JsonValue) -> Mechanism:
    """Read any mechanism by its `kind`; an unknown kind, field or type is refused."""
    match value.get("kind") if isinstance(value, dict) else None:
        case "subsampled-gaussian":
            return SubsampledGaussian.from_json(value)
        case "gaussian":
            return Gaussian.from_json(value)
        case "discrete-gaussian":
            return DiscreteGaussian.from_json(value)
        case "laplace":
            return Laplace.from_json(value)
    raise MechanismInvalidError(
        "a mechanism must be of kind subsampled-gaussian, gaussian, discrete-gaussian or laplace"
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_kind(kind: object, expected: str) -> None:
    if kind != expected:
        raise MechanismInvalidError(f"a mechanism of this class has the kind {expected}")


def _check_number(value: object, *, what: str, bounds: tuple[float, float]) -> None:
    """NaN compares false with everything, infinities and subnormals lie outside every range used here."""
    least, most = bounds
    if not (isinstance(value, int | float) and _is_number(value)) or not least <= value <= most:
        raise MechanismInvalidError(f"{what} must lie between {least} and {most:.0f}")


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
