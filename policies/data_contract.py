"""What a plan says of the data: images, volumes or tables, what is learned of them, and what each site checks.

The checks that follow from it are `policies.contract`; running them is `tasks.validate`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ledger.errors import InputError
from policies.document import Document, Name


class Image(Document):
    """Shape and value range of an image as the network sees it: (1, [depth_px,] height_px, width_px), float32 in
    [0, 1]. With a depth it is a volume, and networks are three-dimensional."""

    depth_px: Annotated[int, Field(ge=8, le=4096)] | None = None
    height_px: Annotated[int, Field(ge=8, le=4096)]
    width_px: Annotated[int, Field(ge=8, le=4096)]
    modalities: Annotated[
        tuple[Annotated[str, Field(pattern=r"^[A-Z0-9]{2,16}$")], ...], Field(min_length=1, max_length=8)
    ]
    """DICOM modality codes (PS3.3, C.7.3.1.1.1)."""
    intensities: Literal["by-source", "own-range"] = "by-source"
    """How stored values become [0, 1]. `own-range`: each image's lowest to 0 and highest to 1, whatever its file.
    `by-source`: so but for 8-bit shards and pictures, which are divided by 255; for sites with files of one
    kind."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(channels, [depth_px,] height_px, width_px); there is one channel."""
        depth = () if self.depth_px is None else (self.depth_px,)
        return (1, *depth, self.height_px, self.width_px)


class NumberFeature(Document):
    """A number within bounds that come from knowledge, never from the data; the network sees it scaled to [-1, 1]."""

    kind: Literal["number"]
    name: Name
    lower: Annotated[float, Field(ge=-1e300, le=1e300)]
    upper: Annotated[float, Field(ge=-1e300, le=1e300)]

    @model_validator(mode="after")
    def _ordered(self) -> NumberFeature:
        if not self.lower < self.upper:
            raise ValueError("lower must be below upper")
        return self


class WordFeature(Document):
    """One of some words; the network sees one value a word, 1.0 at the one that is there."""

    kind: Literal["word"]
    name: Name
    categories: Annotated[tuple[Name, ...], Field(min_length=2, max_length=64)]

    @model_validator(mode="after")
    def _distinct(self) -> WordFeature:
        if len(set(self.categories)) != len(self.categories):
            raise ValueError("categories must differ from each other")
        return self


Feature = Annotated[NumberFeature | WordFeature, Field(discriminator="kind")]


class FeatureTable(Document):
    """A table of features, one row a patient or a visit, and the column of the label."""

    features: Annotated[tuple[Feature, ...], Field(min_length=1, max_length=256)]
    label: Name

    @property
    def shape(self) -> tuple[int, ...]:
        """(values,): one a number, one a category of a word."""
        return (sum(len(one.categories) if one.kind == "word" else 1 for one in self.features),)

    @model_validator(mode="after")
    def _distinct(self) -> FeatureTable:
        names = [one.name for one in self.features]
        if len({*names, self.label}) != len(names) + 1:
            raise ValueError("features and label must differ in name")
        return self


class DataContract(Document):
    """What each site checks of its own data before anything is trained; only booleans leave the check."""

    image: Image | None = None
    table: FeatureTable | None = None
    source: Literal["register", "phantoms"] = "register"
    """`phantoms`: every site makes items of this shape up and opens nothing of a patient's, for a dry round."""
    target: Literal["label", "mask"] = "label"
    """What is learned of an image: one label, or a mask of its own shape whose values are the labels."""
    labels: Annotated[tuple[Annotated[int, Field(ge=-128, le=127)], ...], Field(min_length=2, max_length=2)]
    minimum_patients: Annotated[int, Field(ge=1)]
    held_out_fraction: Annotated[float, Field(gt=0, le=0.5)]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one item as the network sees it."""
        described = self.image or self.table
        assert described is not None  # noqa: S101 - `_one_kind` refuses a contract without
        return described.shape

    def described(self) -> str:
        """For people: what one item is."""
        if self.source == "phantoms":
            return f"Phantoms, of no patient: arrays of {' x '.join(str(length) for length in self.shape)} values"
        if self.image is None:
            return f"Rows of {self.shape[0]} values"
        size = " x ".join(str(length) for length in self.image.shape[1:])
        return f"Images of {size} pixels, {', '.join(self.image.modalities)}"

    def imaged(self) -> Image:
        """The image that is described; InputError where it is a table."""
        if self.image is None:
            raise InputError("the plan learns from a table, not from images", code="data.not-images")
        return self.image

    @model_validator(mode="after")
    def _one_kind(self) -> DataContract:
        if (self.image is None) == (self.table is None):
            raise ValueError("either an image or a table must be described")
        if self.target == "mask" and self.image is None:
            raise ValueError("a mask is one of an image")
        if self.target == "mask" and min(self.labels) < 0:
            raise ValueError("labels of a mask are 0 to 127")
        return self
