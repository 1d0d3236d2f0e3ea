"""Two invented vendors' dialects of a synthetic DICOM image.

    A    explicit VR little endian, DX, MONOCHROME2, 12 bits stored
    B    implicit VR little endian, CR, MONOCHROME1, 16 bits declared and a part of them used, rescale, private
         elements

pydicom writes one file a site with placeholders; every image is that file with its own values in fields of the
same width, as writing each anew would cost the demo several seconds. What the images show lives in `phantoms`.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pydicom import Dataset

SIZE_PX = 64

Vendor = Literal["A", "B"]

_NAME = "INVENTED^PHANTOM {:05d}"
_IDENTIFIER = "INVENTED-{}-{:05d}"
_INSTANCE, _STUDY, _SERIES = ("2.25." + digit * 39 for digit in "123")
_NUMBER = "9999"
_BIRTH_DATE = "19001231"
_SEX = "_S"  # as long as one letter and its padding; no other text has an underscore
_NOBODY = 0


@dataclass(frozen=True, slots=True)
class Header:
    """What differs between the images of one site."""

    patient: int
    """0 .. 99,999: name, identifier and birth date follow from it."""
    image: int
    """Number within the patient's study, from 0."""
    study_key: str
    """UIDs follow from it."""
    sex: Literal["F", "M", "O"] = "O"


def identifier(site: str, patient: int) -> str:
    return _IDENTIFIER.format(site.upper(), patient)


class Template:
    """One site's files in one vendor's dialect."""

    def __init__(self, site: str, vendor: Vendor) -> None:
        self._site = site
        self._vendor = vendor
        buffer = io.BytesIO()
        _placeholders(site, vendor).save_as(buffer, enforce_file_format=True)
        self._head = buffer.getvalue()[: -2 * SIZE_PX * SIZE_PX]

    def file(self, header: Header, image: NDArray[np.float64]) -> bytes:
        """A whole DICOM file of `image` (64, 64) in [0, 1]."""
        if image.shape != (SIZE_PX, SIZE_PX) or not 0 <= header.patient < 100_000:
            raise ValueError("a synthetic image is 64 by 64 and its patient has five digits")
        birth_date = f"1900{1 + header.patient % 12:02d}{1 + header.patient % 28:02d}"
        head = self._head
        for placeholder, value in (
            (_NUMBER, f"{header.image + 1:<4}"),  # before the UIDs, whose digits may look like it
            (_BIRTH_DATE, birth_date),
            (_SEX, f"{header.sex} "),
            (_NAME.format(_NOBODY), _NAME.format(header.patient)),
            (identifier(self._site, _NOBODY), identifier(self._site, header.patient)),
            (_INSTANCE, _uid(header.study_key, f"image {header.image}")),
            (_STUDY, _uid(header.study_key, "study")),
            (_SERIES, _uid(header.study_key, "series")),
        ):
            head = head.replace(placeholder.encode(), value.encode())
        stored = np.rint(image * 4095) if self._vendor == "A" else np.rint((1.0 - image) * 20_000) + 3_000
        return head + stored.astype("<u2").tobytes()


def _placeholders(site: str, vendor: Vendor) -> Dataset:
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

    first = vendor == "A"
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if first else ImplicitVRLittleEndian
    # Digital X-ray for presentation, Computed Radiography
    data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1" if first else "1.2.840.10008.5.1.4.1.1.1"
    data.SOPInstanceUID = _INSTANCE
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.StudyInstanceUID = _STUDY
    data.SeriesInstanceUID = _SERIES
    data.InstanceNumber = _NUMBER
    data.PatientName = _NAME.format(_NOBODY)
    data.PatientID = identifier(site, _NOBODY)
    data.PatientBirthDate = _BIRTH_DATE
    data.PatientSex = _SEX
    data.InstitutionName = f"INVENTED HOSPITAL {site.upper()}"[:64]
    data.StudyDate = "19000202"
    data.Modality = "DX" if first else "CR"
    data.Manufacturer = f"INVENTED VENDOR {vendor}"
    data.PhotometricInterpretation = "MONOCHROME2" if first else "MONOCHROME1"
    data.SamplesPerPixel = 1
    data.Rows = data.Columns = SIZE_PX
    data.BitsAllocated = 16
    data.BitsStored = 12 if first else 16
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = 0
    if not first:
        data.RescaleIntercept, data.RescaleSlope, data.RescaleType = "-1024", "0.25", "US"
        private = data.private_block(0x0029, "INVENTED VENDOR B", create=True)
        private.add_new(0x01, "LO", "INVENTED PRIVATE VALUE")
        private.add_new(0x02, "DS", "1.5")
    data.PixelData = bytes(2 * SIZE_PX * SIZE_PX)
    return data


def _uid(key: str, kind: str) -> str:
    """A UUID-derived UID (2.25.) of always 44 characters: the highest bit is set, so it has 39 digits."""
    digest = hashlib.sha256(f"wardround phantom {key} {kind}".encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big') | 1 << 127}"
