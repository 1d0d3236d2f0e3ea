"""The plan: everything that a round is allowed to do, fixed and signed before it starts.

A plan is written as YAML, read into these frozen models, and named by the SHA-256 of its canonical JSON.
Sampling rate, steps, noise, normaliser and aggregation weight are constants here because deriving any of
them from a patient count would release that count. No execution lives here.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from policies.document import Document
from privacy.sum_context import Step

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Origin = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9./-]{0,199}$")]
"""The origin line of a log."""
Base64 = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{1,4096}={0,2}$")]
ConsentVersion = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]{0,63}$")]
RiskTier = Literal["minimal", "limited", "high"]
Scheme = Literal["masked", "homomorphic", "homomorphic-unmasked", "shared"]
DEFAULT_SCHEME: dict[RiskTier, Scheme] = {"minimal": "masked", "limited": "masked", "high": "homomorphic"}
"""How sums are protected where a plan does not say: under masks, and with most at stake under a key besides."""
PositiveFloat = Annotated[float, Field(gt=0, le=1e6)]
Fraction = Annotated[float, Field(gt=0, lt=1)]


class Participation(Document):
    """Who must take part for a round to count, and how long it waits for them."""

    required: tuple[Name, ...] = ()
    minimum_sites: Annotated[int, Field(ge=3, le=1000)]
    deadline_s: Annotated[int, Field(ge=1, le=86_400)]


class Image(Document):
    """Shape and value range of an image as the network sees it: (1, height_px, width_px), float32 in [0, 1]."""

    height_px: Annotated[int, Field(ge=8, le=4096)]
    width_px: Annotated[int, Field(ge=8, le=4096)]
    modalities: Annotated[
        tuple[Annotated[str, Field(pattern=r"^[A-Z0-9]{2,16}$")], ...], Field(min_length=1, max_length=8)
    ]
    """DICOM modality codes (PS3.3, C.7.3.1.1.1)."""


class ConsentTerms(Document):
    """What patients must have agreed to: a version of the consent policy, and the purpose of the plan's use."""

    policy_version: ConsentVersion
    purpose: Name


class DataContract(Document):
    """What each site checks of its own data before anything is trained; only booleans leave the check."""

    image: Image
    labels: Annotated[tuple[int, ...], Field(min_length=2, max_length=2)]
    minimum_patients: Annotated[int, Field(ge=1)]
    held_out_fraction: Annotated[float, Field(gt=0, le=0.5)]


class Network(Document):
    """A MONAI classifier: `monai.networks.nets.Classifier` with group norm, which DP-SGD requires."""

    name: Literal["Classifier"]
    channels: Annotated[tuple[Annotated[int, Field(ge=1, le=512)], ...], Field(min_length=1, max_length=8)]
    strides: Annotated[tuple[Annotated[int, Field(ge=1, le=4)], ...], Field(min_length=1, max_length=8)]
    norm_groups: Annotated[int, Field(ge=1, le=64)]

    @model_validator(mode="after")
    def _matches(self) -> Network:
        if len(self.channels) != len(self.strides):
            raise ValueError("channels and strides must be of one length")
        if any(channel % self.norm_groups for channel in self.channels):
            raise ValueError("every channel count must be a multiple of norm_groups")
        return self


class Training(Document):
    """DP-SGD at the site, the patient as the unit of privacy. All values are constants of the plan."""

    sampling_rate: Annotated[float, Field(gt=0, le=1)]
    steps: Annotated[int, Field(ge=1, le=100_000)]
    noise_multiplier: PositiveFloat
    clip_l2: PositiveFloat
    learning_rate: PositiveFloat
    nominal_batch_patients: PositiveFloat
    """Divides the clipped gradient sum: a constant, because the true batch size would reveal the cohort."""


class Update(Document):
    """Fixed-point encoding of what a site sends (see `privacy.encoding`)."""

    clip_l2: PositiveFloat
    coordinate_clip: PositiveFloat | None = None
    """The most that one coordinate may be, if less than `clip_l2`: narrow lanes then round it more finely."""
    lane_bits: Annotated[int, Field(ge=8, le=22)]
    maximum_sites: Annotated[int, Field(ge=3, le=50)]
    server_learning_rate: PositiveFloat


class Protection(Document):
    """How updates are protected; the encoding is the same under every scheme, so that sums are too, bit for bit.

    `masked`: pairwise masks that cancel in the sum. `homomorphic`: exact BFV over masked slots, under a key that
    sites hold. `homomorphic-unmasked`: the same without masks, where the coordinator and one key holder together
    read every update. `shared`: additive shares to `aggregators` sites, which together read every update.
    Which of them a risk tier permits is a rule (`policies/rules/protection.rego`).
    """

    scheme: Scheme | None = None
    """None: what `DEFAULT_SCHEME` has for the plan's risk tier."""
    aggregators: Annotated[int, Field(ge=2, le=3)] = 3
    """Of `shared` alone: the first so many of the federation's key holders."""


class Compression(Document):
    """Of an update's coordinates only the fraction `keep` is sent, the same ones by every site in a round; what was
    not sent is carried to the next round (`privacy.support`, `privacy.error_feedback`)."""

    keep: Annotated[float, Field(gt=0, le=1)]


class Robust(Document):
    """Sums by cluster and their median, so that `hostile` sites cannot steer the model (docs/robustness.md)."""

    hostile: Annotated[int, Field(ge=1, le=3)]
    """A sum has 50 sites at most, which are enough for three."""
    median: Literal["coordinate", "geometric"] = "coordinate"
    """The geometric one costs less under noise and gives way more to two liars."""


class Evaluation(Document):
    """Noised score histograms of held-out patients: one count a patient, Gaussian noise on every cell."""

    bins: Annotated[int, Field(ge=4, le=256)]
    noise_std: PositiveFloat
    subgroups: Literal["none", "sex"] = "none"
    """One histogram a subgroup (`privacy.histogram.SUBGROUPS`). A patient is in one of them, so that they cost no
    more together than one does."""


class Budget(Document):
    """The most that this plan may cost a site's patients, over all its rounds, at `delta`."""

    epsilon_cap: PositiveFloat
    delta: Annotated[float, Field(gt=0, le=1e-3)]


class Gates(Document):
    """What a new model must meet to be registered. All figures are the federated, noised ones."""

    minimum_auc: Annotated[float, Field(ge=0, le=1)]
    maximum_regression: Annotated[float, Field(ge=0, le=1)] | None = None
    """How far its AUC may lie under that of the study's newest registered model."""
    maximum_subgroup_gap: Annotated[float, Field(ge=0, le=1)] | None = None
    """How far the AUCs of two subgroups may lie apart."""


class BasePlan(Document):
    """What every plan says, whether updates are summed under it (`Plan`) or figures (`policies.inquiry`)."""

    schema_version: Literal[1]
    name: Name
    study: Name
    edition: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]{0,63}$")]
    """Tells one run of the same plan from the next (a nightly schedule writes the date): a plan runs once."""
    risk_tier: RiskTier
    """What is at stake for patients; the federation's phase decides which tiers may run."""
    participation: Participation
    consent: ConsentTerms
    protection: Protection = Protection()
    budget: Budget
    code_digests: tuple[Digest, ...] = ()
    """Code that may run this plan. A plan without any is a draft and is never published."""

    @property
    def scheme(self) -> Scheme:
        """How this plan's sums are protected."""
        return self.protection.scheme or DEFAULT_SCHEME[self.risk_tier]


class Plan(BasePlan):
    steps: ClassVar[tuple[Step, ...]] = ("training", "evaluation")
    """Of each round, in order: each is one protected sum with its own mechanisms."""

    base: Literal["initial", "latest"]
    """`initial`: fresh weights from `seed`. `latest`: the study's newest registered model."""
    rounds: Annotated[int, Field(ge=1, le=1000)]
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    """Initial weights only. Noise and sampling come from the operating system's generator, never from here."""
    data: DataContract
    network: Network
    training: Training
    update: Update
    compression: Compression | None = None
    robust: Robust | None = None
    evaluation: Evaluation
    gates: Gates

    @property
    def maximum_sites(self) -> int:
        """How many sites the encoding has room for."""
        return self.update.maximum_sites

    @property
    def minimum_patients(self) -> int:
        """The smallest cohort with which a site takes part."""
        return self.data.minimum_patients

    @model_validator(mode="after")
    def _consistent(self) -> Plan:
        if self.participation.minimum_sites > self.update.maximum_sites:
            raise ValueError("participation.minimum_sites exceeds update.maximum_sites")
        if len(set(self.data.labels)) != len(self.data.labels):
            raise ValueError("data.labels must differ from each other")
        if self.update.coordinate_clip is not None and self.update.coordinate_clip > self.update.clip_l2:
            raise ValueError("update.coordinate_clip is above update.clip_l2 and would bound nothing")
        if self.robust is not None and self.scheme != "masked":
            raise ValueError("robust sums are by cluster, which protection.scheme masked alone offers")
        if self.gates.maximum_subgroup_gap is not None and self.evaluation.subgroups == "none":
            raise ValueError("gates.maximum_subgroup_gap needs evaluation.subgroups")
        return self
