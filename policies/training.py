"""What a plan says of learning: the network, the steps at a site, and what the server makes of the mean.

All values are constants of the plan, because deriving any of them from a patient count would release that count. The
steps themselves are `tasks.train`.
"""

from __future__ import annotations

import json
from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from ledger import canonical
from policies.document import Digest, Document, PositiveFloat
from policies.network_arguments import Arguments
from privacy.mechanisms import MAXIMUM_NOISE_MULTIPLIER, MINIMUM_NOISE_MULTIPLIER

MOST_MOVED: Final = 1e6
"""How far one patient may move the weights in a step. Far above what learns, and far below what overflows before the
noise is on it, or drives the weights at once to where patients' features do."""


class Network(Document):
    """A network by name: a class of `monai.networks.nets`, or one of `tasks.train.networks` for tables.

    Whatever else stands beside the fields below is an argument of that class. What follows from the data contract
    (dimensions, channels, sizes, classes) is not written here.
    """

    name: Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9]{0,62}$")]
    norm_groups: Annotated[int, Field(ge=1, le=64)] = 8
    """Of the group norm that takes the place of a batch norm: the most that divide the channels."""
    standardised: bool = False
    """Whether weights of convolutions are standardised (Qiao et al. 2019, arXiv:1903.10520)."""
    bundle: Digest | None = None
    """The MONAI bundle from which name and arguments come; sites approve it like code, with `class_digest`."""
    arguments: Arguments = Field(default_factory=dict)

    @property
    def class_digest(self) -> Digest:
        """Of the name and the arguments, which a bundle gives: not of what a plan adds (norms, standardised)."""
        value = self.to_json()
        return canonical.digest(canonical.encode({"name": value["name"], "arguments": value["arguments"]}))

    def described(self) -> str:
        """For people: the class and its arguments. What was made of it to train it privately is not known here."""
        words = [f"{name} {json.dumps(value)}" for name, value in sorted(self.arguments.items())]
        return ", ".join([self.name, *words])

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        own = {key: item for key, item in value.items() if key in cls.model_fields}
        others = {key: item for key, item in value.items() if key not in cls.model_fields}
        given = own.get("arguments", {})
        if not others or not isinstance(given, dict):
            return value
        return {**own, "arguments": {**given, **others}}


class Augmentation(Document):
    """How the views of an image differ from it; each is drawn anew for every view."""

    flip: bool = False
    """Left and right, half of the time: not where sides mean something."""
    shift_px: Annotated[int, Field(ge=0, le=64)] = 0
    """At most so far along each axis, filled with the border."""
    rotate_degrees: Annotated[float, Field(ge=0, le=45)] = 0.0
    scale: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    contrast: Annotated[float, Field(ge=0, le=0.5)] = 0.0


class Training(Document):
    """DP-SGD at the site, the patient as the unit of privacy. All values are constants of the plan.

    `noise: local`: each site's update is private by itself, after `steps` noisy steps. `noise: distributed`: one
    clipped gradient sum a round, to which each site adds a share of the noise, so that the sum is private as long as
    all but `colluding` of the plan's minimum of sites are honest.
    """

    noise: Literal["local", "distributed"] = "local"
    colluding: Annotated[int, Field(ge=1, le=16)] = 1
    """Of `distributed` alone: how many sites' noise is not counted on, beyond those that may drop out. At least one:
    every site knows its own share and can subtract it."""
    sampling_rate: Annotated[float, Field(gt=0, le=1)]
    steps: Annotated[int, Field(ge=1, le=100_000)]
    noise_multiplier: Annotated[float, Field(ge=MINIMUM_NOISE_MULTIPLIER, le=MAXIMUM_NOISE_MULTIPLIER)]
    """Of one step, over `clip_l2`: at each site, or of the sum where noise is distributed."""
    clip_l2: Annotated[float, Field(ge=1e-18, le=1e18)]
    """Of one patient's gradient; within what single precision clips by."""
    learning_rate: Annotated[float, Field(gt=0, le=MOST_MOVED)]
    nominal_batch_patients: PositiveFloat
    """Divides the clipped gradient sum: a constant, because the true batch size would reveal the cohort."""
    views: Annotated[int, Field(ge=1, le=64)] = 1
    """Augmented views of every image, averaged before the patient's gradient is clipped."""
    augmentation: Augmentation | None = None
    proximal: Annotated[float, Field(ge=0, le=1e3)] = 0.0
    """FedProx: pulls each step back towards the round's model (Li et al. 2020, arXiv:1812.06127)."""
    averaging: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of the moving average of the weights over the steps of a round, which is what is sent."""

    @model_validator(mode="after")
    def _consistent(self) -> Training:
        if self.views > 1 and self.augmentation is None:
            raise ValueError("views that do not differ teach nothing: say how in augmentation")
        if self.noise == "distributed" and (self.steps != 1 or self.proximal or self.averaging):
            raise ValueError("with distributed noise a round is one step, without proximal or averaging")
        if self.learning_rate * self.clip_l2 > MOST_MOVED * self.nominal_batch_patients:
            raise ValueError(
                f"learning_rate * clip_l2 / nominal_batch_patients is above {MOST_MOVED:.0f}: a step that no network "
                "survives"
            )
        return self


class Server(Document):
    """What is made of the mean update: FedAvg, or an adaptive optimiser over the rounds (Reddi et al. 2021,
    arXiv:2003.00295)."""

    optimizer: Literal["average", "adam", "yogi"] = "average"
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.99
    tau: PositiveFloat = 1e-3
    schedule: Literal["constant", "linear"] = "constant"
    """`linear`: the server's learning rate falls to zero after the last round."""

    @property
    def keeps_state(self) -> bool:
        """Whether a round's step depends on the sums of the rounds before it."""
        return self.optimizer != "average"
