"""The plan: everything that a round is allowed to do, fixed and signed before it starts.

A plan is written as YAML, read into these frozen models, and named by the SHA-256 of its canonical JSON.
Sampling rate, steps, noise, normaliser and aggregation weight are constants here because deriving any of
them from a patient count would release that count. No execution lives here.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from policies.clusters import required_sites
from policies.data_contract import DataContract
from policies.document import ConsentVersion, Digest, Document, Name, PositiveFloat
from policies.training import Network, Server, Training
from privacy.distributed_noise import NoiseShare, noise_share
from privacy.packing import Packing
from privacy.sum_context import Step, colluding_of

RiskTier = Literal["minimal", "limited", "high"]
Scheme = Literal["masked", "homomorphic", "homomorphic-unmasked", "shared"]
DEFAULT_SCHEME: dict[RiskTier, Scheme] = {"minimal": "masked", "limited": "masked", "high": "homomorphic"}
"""How sums are protected where a plan does not say: under masks, and with most at stake under a key besides."""
_HIDES_FROM_COLLUDING: frozenset[Scheme] = frozenset({"masked", "homomorphic"})
"""No coalition of the coordinator and `colluding_of` sites reads a single update."""


class Participation(Document):
    """Who must take part for a round to count, and how long it waits for them."""

    required: tuple[Name, ...] = ()
    minimum_sites: Annotated[int, Field(ge=3, le=1000)]
    deadline_s: Annotated[int, Field(ge=1, le=86_400)]
    select: Annotated[int, Field(ge=3, le=1000)] | None = None
    """How many of the sites that approve take part; the ledger picks them (`policies.selection`). None: all."""

    @model_validator(mode="after")
    def _selects_enough(self) -> Participation:
        if self.select is not None and self.select < max(self.minimum_sites, len(self.required)):
            raise ValueError("select is under minimum_sites, or under how many sites are required by name")
        return self


class ConsentTerms(Document):
    """What patients must have agreed to: a version of the consent policy, and the purpose of the plan's use."""

    policy_version: ConsentVersion
    purpose: Name


class Update(Document):
    """Fixed-point encoding of what a site sends (see `privacy.encoding`)."""

    clip_l2: PositiveFloat
    coordinate_clip: PositiveFloat | None = None
    """The most that one coordinate may be, if less than `clip_l2`: narrow lanes then round it more finely."""
    lane_bits: Annotated[int, Field(ge=8, le=32)]
    maximum_sites: Annotated[int, Field(ge=3, le=50)]
    server_learning_rate: PositiveFloat
    server: Server = Server()

    @property
    def bound(self) -> float:
        """The most that one coordinate may be: an L2 clip bounds every coordinate too."""
        return self.clip_l2 if self.coordinate_clip is None else min(self.clip_l2, self.coordinate_clip)


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


class Comparison(Document):
    """One answer a site, yes or no: is the federation's model, on this site's own held-out patients, at least as good
    as one trained here alone? Told by randomised response, and opened as a sum alone (docs/evaluation.md)."""

    epsilon: Annotated[float, Field(ge=0.1, le=10)]
    """What the answer costs every patient of the site, whatever the two models do with them."""


class Evaluation(Document):
    """Noised histograms of held-out patients, Gaussian noise on every cell: one count a patient of scores, or where
    masks are learned two, one of Dice and one of the Hausdorff distance."""

    bins: Annotated[int, Field(ge=4, le=256)]
    noise_std: PositiveFloat
    every: Annotated[int, Field(ge=1, le=1000)] = 1
    """Rounds from one evaluation to the next; the last round is always evaluated. Where there is none, nothing is
    judged or registered."""
    subgroups: Literal["none", "sex", "age", "race"] = "none"
    """One histogram a subgroup (`privacy.histogram.SUBGROUPS`). A patient is in one of them, so that they cost no
    more together than one does."""
    compare: Comparison | None = None
    """Asked at the plan's last evaluation alone, since it takes a training at the site (`Plan.compares`)."""


class Budget(Document):
    """The most that this plan may cost a site's patients, over all its rounds, at `delta`."""

    epsilon_cap: PositiveFloat
    delta: Annotated[float, Field(gt=0, le=1e-3)]


class Drift(Document):
    """When a site takes itself out of the federation: its own held-out patients, by the noised counts that it sends
    anyway, lie under the model in force (`policies.drift`)."""

    margin: Annotated[float, Field(ge=0.1, lt=1)]
    """How far under it a site may lie: hospitals differ. With a margin of next to nothing a plan would publish by
    name who lies under the others; a hospital can ask for more (`policies.site_policy`)."""
    deviations: Annotated[float, Field(ge=3, le=10)]
    """By how many standard deviations of noise and chance it must lie further."""


class Gates(Document):
    """What a new model must meet to be registered. All figures are the federated, noised ones."""

    minimum_auc: Annotated[float, Field(ge=0, le=1)] | None = None
    """Of a plan that learns labels, and needed there."""
    minimum_dice: Annotated[float, Field(ge=0, le=1)] | None = None
    """Of a plan that learns masks, and needed there: the mean over patients."""
    maximum_regression: Annotated[float, Field(ge=0, le=1)] | None = None
    """How far its AUC or Dice may lie under that of the study's newest registered model."""
    maximum_subgroup_gap: Annotated[float, Field(ge=0, le=1)] | None = None
    """How far the AUCs, or Dices, of two subgroups may lie apart."""
    drift: Drift | None = None
    """None: no site watches for it."""


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
    """Of a round, in order: each is one protected sum with its own mechanisms. A round has those of `steps_of`."""

    base: Literal["initial", "latest"]
    """`initial`: fresh weights from `seed`. `latest`: the study's newest registered model; fresh weights while it has
    none, so that every night of a study can have one plan."""
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

    def evaluates(self, round_number: int) -> bool:
        """Whether the round ends with an evaluation and a verdict. One that does not is followed by the next as soon
        as its sum is released; the verdict of a later one covers it."""
        return round_number % self.evaluation.every == 0 or round_number == self.rounds

    def steps_of(self, round_number: int) -> tuple[Step, ...]:
        return self.steps if self.evaluates(round_number) else self.steps[:1]

    def evaluations(self, rounds: int) -> int:
        """How many of the first `rounds` are evaluated."""
        whole, rest = divmod(rounds, self.evaluation.every)
        return whole + (1 if rest and rounds == self.rounds else 0)

    def compares(self, round_number: int) -> bool:
        """Whether the round's evaluation asks every site if it is better off."""
        return self.evaluation.compare is not None and round_number == self.rounds

    @property
    def figure(self) -> Literal["AUC", "Dice"]:
        """By what a model is judged."""
        return "Dice" if self.data.target == "mask" else "AUC"

    @property
    def minimum_figure(self) -> float:
        """The least AUC, or Dice, of a model that is registered."""
        floor = self.gates.minimum_dice if self.figure == "Dice" else self.gates.minimum_auc
        assert floor is not None  # noqa: S101 - `_consistent` refuses a plan without
        return floor

    @property
    def noise_share(self) -> NoiseShare | None:
        """Each site's part of distributed noise; None where noise is local. The same at every party.

        One patient moves a site's update by learning_rate * clip_l2 / nominal_batch_patients at the most, and the
        plan's smallest set of sites, less the colluding, carries all the noise that is claimed.
        """
        if self.training.noise != "distributed":
            return None
        terms = self.training
        moved = (
            Fraction(terms.learning_rate) * Fraction(terms.clip_l2) / Fraction(terms.nominal_batch_patients)
        )
        return noise_share(
            noise_multiplier=terms.noise_multiplier,
            sensitivity=moved,
            bound=self.update.bound,
            shares=self.participation.minimum_sites - terms.colluding,
            packing=Packing(lane_bits=self.update.lane_bits, maximum_sites=self.update.maximum_sites),
        )

    @model_validator(mode="after")
    def _consistent(self) -> Plan:
        if self.participation.minimum_sites > self.update.maximum_sites:
            raise ValueError("participation.minimum_sites exceeds update.maximum_sites")
        selected = self.participation.select
        if selected is not None and selected > self.update.maximum_sites:
            raise ValueError("participation.select exceeds update.maximum_sites")
        if (
            selected is not None
            and self.robust is not None
            and selected < required_sites(self.robust.hostile)
        ):
            raise ValueError(
                f"participation.select: against {self.robust.hostile} hostile sites a robust sum needs "
                f"{required_sites(self.robust.hostile)}"
            )
        judged = {"AUC": self.gates.minimum_auc, "Dice": self.gates.minimum_dice}
        other = "Dice" if self.figure == "AUC" else "AUC"
        if judged[self.figure] is None or judged[other] is not None:
            raise ValueError(
                f"a plan that learns a {self.data.target} has gates.minimum_{self.figure.lower()}, and no "
                f"gates.minimum_{other.lower()}"
            )
        if len(set(self.data.labels)) != len(self.data.labels):
            raise ValueError("data.labels must differ from each other")
        if self.update.coordinate_clip is not None and self.update.coordinate_clip > self.update.clip_l2:
            raise ValueError("update.coordinate_clip is above update.clip_l2 and would bound nothing")
        if self.robust is not None and self.scheme != "masked":
            raise ValueError("robust sums are by cluster, which protection.scheme masked alone offers")
        if self.data.table is not None and self.training.augmentation is not None:
            # Views need one: without an augmentation there is nothing to see of a row but the row.
            raise ValueError("a row of a table has no views: no training.augmentation where data.table is")
        if self.training.noise == "distributed":
            self._check_distributed()
        if self.gates.maximum_subgroup_gap is not None and self.evaluation.subgroups == "none":
            raise ValueError("gates.maximum_subgroup_gap needs evaluation.subgroups")
        return self

    def _check_distributed(self) -> None:
        if self.robust is not None or self.compression is not None:
            # By cluster a sum has fewer shares of the noise; what compression carries over would be unaccounted.
            raise ValueError("with distributed noise there is one whole sum: no robust, no compression")
        if self.scheme not in _HIDES_FROM_COLLUDING:
            raise ValueError(
                "distributed noise hides no single update: protection.scheme masked or homomorphic"
            )
        if self.training.colluding > colluding_of(self.participation.minimum_sites):
            raise ValueError(
                f"training.colluding {self.training.colluding}: the masks of participation.minimum_sites "
                f"{self.participation.minimum_sites} hold against "
                f"{colluding_of(self.participation.minimum_sites)}; each takes three sites and one more"
            )
        if self.network.standardised:
            raise ValueError("standardised weights need the noise where their gradient is: noise local")
        # Its noise must fit the lanes: raises the reason.
        _ = self.noise_share
