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
MINIMUM_EPSILON: Final = 0.01
MAXIMUM_EPSILON: Final = 20.0
"""Of one randomised response: beyond it the answer is the truth but for two in a thousand million."""
MAXIMUM_COUNT: Final = 100_000_000
MAXIMUM_SHARES: Final = 50
MINIMUM_SHARE_BITS: Final = 6
MAXIMUM_SHARE_BITS: Final = 24
MAXIMUM_COORDINATES: Final = 2**30
"""Of a sum with shared noise: more weights than any network that is trained so."""


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
        _check_sampling_rate(self.sampling_rate)
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
class DistributedGaussian:
    """DP-SGD whose noise is shared out: `steps` times, each site takes each of its patients with probability
    `sampling_rate`, and the sites' sum carries at least `shares` discrete Gaussians of sigma 2^`share_bits`.

    `noise_multiplier` is 2^share_bits sqrt(shares) over the L2 sensitivity after rounding, both in lanes
    (`privacy.distributed_noise`). It holds for the sum alone, and as long as so many sites add their share and do not
    give it away: what one site sends by itself is hidden by the protected sum, not by this noise.

    Why it costs what the subsampled Gaussian does, at whole orders a:
    (1) For discrete Gaussians at a distance v on the lattice, E[(N_v / N_0)^k] = exp(k (k-1) |v|^2 / (2 sigma^2)),
        as for continuous ones: the sum over the lattice is shifted by k v, which is on it (Canonne, Kamath, Steinke
        2020, proposition 5). The binomial expansion of Mironov, Talwar, Zhang 2019, section 3.3, has no other terms.
    (2) That is the divergence of the mixture from the base. Theirs of the base from the mixture is no larger by
        theorem 5, which wants a map that keeps the measure and swaps N_0 and N_v: x to v - x, on the lattice too.
        In which direction the patient moves the rounded sum depends on who else is sampled; what holds for each such
        set holds for their mixture.
    (3) The sum of n discrete Gaussians is not one of variance n sigma^2, but its probabilities are within exp(±tau) a
        coordinate of one, tau = 10 sum over k < n of exp(-2 pi^2 sigma^2 k / (k+1)) (Kairouz, Liu, Steinke 2021,
        theorem 1). Over d coordinates a divergence of order a >= 2 grows by at most
        (2a-1) / (a-1) tau d <= 3 tau d. With a sigma of 2^6 or more and d <= 2^30 that is below 10^-8000;
        `privacy.rdp` adds it all the same.
    """

    noise_multiplier: float
    sampling_rate: float
    steps: int
    shares: int
    share_bits: int
    kind: Literal["distributed-gaussian"] = "distributed-gaussian"

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    def __post_init__(self) -> None:
        _check_kind(self.kind, "distributed-gaussian")
        _check_noise_multiplier(self.noise_multiplier)
        _check_sampling_rate(self.sampling_rate)
        _check_count(self.steps, what="steps")
        for value, bounds in (
            (self.shares, (1, MAXIMUM_SHARES)),
            (self.share_bits, (MINIMUM_SHARE_BITS, MAXIMUM_SHARE_BITS)),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or not bounds[0] <= value <= bounds[1]:
                raise MechanismInvalidError(
                    f"shares are 1 to {MAXIMUM_SHARES}, of a sigma of 2^{MINIMUM_SHARE_BITS} to "
                    f"2^{MAXIMUM_SHARE_BITS}"
                )

    def to_json(self) -> dict[str, JsonValue]:
        return {
            "kind": self.kind,
            "noise_multiplier": self.noise_multiplier,
            "sampling_rate": self.sampling_rate,
            "steps": self.steps,
            "shares": self.shares,
            "share_bits": self.share_bits,
        }

    @classmethod
    def from_json(cls, value: JsonValue) -> DistributedGaussian:
        names = ("noise_multiplier", "sampling_rate", "steps", "shares", "share_bits")
        fields = _fields(value, kind="distributed-gaussian", names=names)
        return cls(
            noise_multiplier=_number(fields, "noise_multiplier"),
            sampling_rate=_number(fields, "sampling_rate"),
            steps=_integer(fields, "steps"),
            shares=_integer(fields, "shares"),
            share_bits=_integer(fields, "share_bits"),
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
        _check_noise_multiplier(self.noise_multiplier)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomisedResponse:
    """`count` answers yes or no about all patients, each the truth with probability e^epsilon / (1 + e^epsilon) and
    a lie otherwise (Warner 1965).

    One patient may turn the truth over, whatever it is a function of: nothing is assumed of its sensitivity.
    `epsilon` is of one answer, which is (epsilon, 0)-DP.
    """

    epsilon: float
    count: int
    kind: Literal["randomised-response"] = "randomised-response"

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    def __post_init__(self) -> None:
        _check_kind(self.kind, "randomised-response")
        _check_number(self.epsilon, what="the epsilon", bounds=(MINIMUM_EPSILON, MAXIMUM_EPSILON))
        _check_count(self.count, what="count")

    def to_json(self) -> dict[str, JsonValue]:
        return {"kind": self.kind, "epsilon": self.epsilon, "count": self.count}

    @classmethod
    def from_json(cls, value: JsonValue) -> RandomisedResponse:
        fields = _fields(value, kind="randomised-response", names=("epsilon", "count"))
        return cls(epsilon=_number(fields, "epsilon"), count=_integer(fields, "count"))


Mechanism: TypeAlias = (
    SubsampledGaussian | DistributedGaussian | Gaussian | DiscreteGaussian | Laplace | RandomisedResponse
)


def mechanism_from_json(value: JsonValue) -> Mechanism:
    """Read any mechanism by its `kind`; an unknown kind, field or type is refused."""
    match value.get("kind") if isinstance(value, dict) else None:
        case "subsampled-gaussian":
            return SubsampledGaussian.from_json(value)
        case "distributed-gaussian":
            return DistributedGaussian.from_json(value)
        case "gaussian":
            return Gaussian.from_json(value)
        case "discrete-gaussian":
            return DiscreteGaussian.from_json(value)
        case "laplace":
            return Laplace.from_json(value)
        case "randomised-response":
            return RandomisedResponse.from_json(value)
    raise MechanismInvalidError(
        "a mechanism must be of kind subsampled-gaussian, distributed-gaussian, gaussian, discrete-gaussian, "
        "laplace or randomised-response"
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


def _check_noise_multiplier(value: object) -> None:
    _check_number(
        value, what="the noise multiplier", bounds=(MINIMUM_NOISE_MULTIPLIER, MAXIMUM_NOISE_MULTIPLIER)
    )


def _check_sampling_rate(value: object) -> None:
    if not (isinstance(value, int | float) and _is_number(value) and 0 < value <= 1):
        raise MechanismInvalidError("the sampling rate must be above 0 and at most 1")


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
