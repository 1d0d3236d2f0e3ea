"""What is wrong with a site's data: every finding is collected first, then refused as one error.

    code      what the public text says, with a count
    paths     which files: diagnostics, shown at the site alone, because a file name may hold a patient's name

Lives here: the codes with their words and remedies, the collector, the error. How a finding is made lives in
the adapters. No header value, identifier, label or file name may enter a public text; a count may.
"""

from __future__ import annotations

from ledger.errors import InputError

_SHOWN_PER_CODE = 50

_WORDS: dict[str, tuple[str, str]] = {
    # in the order in which they are reported: the first one found gives the error its code
    "data.symlink": ("links that leave the folder", "Copy the linked files into the folder."),
    "data.dicom-unreadable": (
        "files that cannot be read as DICOM images",
        "Export them again or move them out of the folder.",
    ),
    "data.dicom-compressed": (
        "images in a compression that this installation cannot decode",
        "Export them uncompressed.",
    ),
    "data.dicom-multiframe": ("images with more than one frame", "Export one file an image."),
    "data.dicom-color": ("images that are not grey-scale", "Export MONOCHROME1 or MONOCHROME2 images."),
    "data.dicom-bits": (
        "images of unsupported pixel bits",
        "Bits Stored must be 8 to 16 in 8 or 16 allocated.",
    ),
    "data.dicom-size": (
        "images of an impossible size",
        "Rows and Columns must be 1 to 65,536, of at most 67 megapixels, and a file 1 GiB at most, inflated too.",
    ),
    "data.dicom-rescale": (
        "images whose rescaling is not usable",
        "Rescale Slope must be a finite number other than zero, Rescale Intercept a finite number.",
    ),
    "data.memory": (
        "images for which this machine has not enough memory",
        "Make them smaller, or give the machine more memory.",
    ),
    "data.volume-path": (
        "files named in patients.csv that lie outside the folder",
        "Copy them into the site's folder and name them relative to it.",
    ),
    "data.volume-missing": (
        "files named in patients.csv that are not there",
        "Name every file relative to the site's folder.",
    ),
    "data.volume-unreadable": ("files that cannot be read as NIfTI", "Export them again as .nii or .nii.gz."),
    "data.volume-type": (
        "NIfTI images whose values are not plain real numbers",
        "Export grey-scale images, one number a voxel.",
    ),
    "data.volume-dimensions": (
        "NIfTI images of other dimensions than the plan's",
        "A plan with depth_px learns from volumes, one without from single slices; neither from series over time.",
    ),
    "data.volume-size": (
        "NIfTI images without a voxel, of more than 134 million, or with a side above 65,536",
        "Crop or resample them.",
    ),
    "data.volume-values": (
        "NIfTI images with values that are not finite numbers",
        "Replace them, by the value of the background, say.",
    ),
    "data.mask-missing": ("images without a mask", "Name one for every image under mask in patients.csv."),
    "data.mask-shape": (
        "masks of another shape than their images",
        "Export masks on the grid of their image.",
    ),
    "data.mask-place": (
        "masks that lie elsewhere in space than their images",
        "Export masks on the grid of their image, orientation and origin included.",
    ),
    "data.mask-values": (
        "masks with values outside the plan's data.labels",
        "Keep the plan's labels alone in a mask.",
    ),
    "data.patients-malformed": (
        "rows of patients.csv with another number of fields than its header",
        "Write every row with the header's fields.",
    ),
    "data.patients-twice": ("files that patients.csv names more than once", "Keep one row a file."),
    "data.patient-missing": ("images without one patient identifier", "Every image needs a Patient ID."),
    "data.modality": (
        "images of a modality that the plan does not list",
        "Move them out of the folder, or use a plan whose data.image.modalities has theirs.",
    ),
    "data.labels-missing": (
        "patients without a label",
        "labels.csv in the site's folder needs one row (patient_id,label) for every patient.",
    ),
    "data.labels-malformed": (
        "faults in the form of labels.csv",
        "It must be UTF-8 CSV with the header patient_id,label and two fields a row.",
    ),
    "data.labels-duplicate": ("patients with more than one row in labels.csv", "Keep one row a patient."),
    "data.labels-value": (
        "labels outside the plan's data.labels",
        "Labels are whole numbers from the plan's data.labels.",
    ),
    "data.table-row": (
        "rows of the table that have not as many fields as its header",
        "Write every row of the table with the header's fields.",
    ),
    "data.table-patient": (
        "rows of the table without a patient",
        "Every row of the table names its patient.",
    ),
    "data.table-twice": (
        "rows of patients whom the table has already",
        "Reduce the table to one row a patient: the latest, the mean, any.",
    ),
    "data.table-number": (
        "fields of the table that are not numbers",
        "Write numbers with a decimal point, leave missing ones empty, or list the word that stands for them under "
        "missing (of statistics, or of source.table) in institution.yaml.",
    ),
    "data.table-word": (
        "fields of the table with a word that the plan does not list",
        "Write the plan's words, or what stands for them under source.table.words in institution.yaml.",
    ),
    "data.table-label": (
        "rows of the table whose label is not one of the plan's",
        "Labels are whole numbers from the plan's data.labels, in every row; name what stands for them under "
        "source.table.words in institution.yaml.",
    ),
    "data.labels-contradict": ("patients with contradicting labels", "A patient has one label."),
}


class DataRefusedError(InputError):
    """A site's data cannot be used. `codes` holds every kind of finding, `code` the first of them."""

    code = "data.refused"

    def __init__(
        self,
        public_message: str,
        *,
        code: str = "data.refused",
        remedy: str = "",
        diagnostics: str = "",
        codes: tuple[str, ...] = (),
    ) -> None:
        self.codes = codes or (code,)
        super().__init__(public_message, remedy=remedy, diagnostics=diagnostics, code=code)


class UnusableError(Exception):
    """One file cannot be used, for the reason named by `code`. Never leaves the adapters."""

    def __init__(self, code: str, detail: str = "") -> None:
        self.code = code
        self.detail = detail
        super().__init__(code)


class Findings:
    """Collects findings about one site's data and refuses once, with all of them."""

    def __init__(self, site: str) -> None:
        self._site = site
        self._found: dict[str, list[str]] = {}

    def add(self, code: str, detail: str) -> None:
        """One finding. `detail` (a path, a row) goes to the diagnostics only."""
        if code not in _WORDS:
            raise ValueError(f"unknown finding {code}")
        self._found.setdefault(code, []).append(detail)

    def refuse(self) -> None:
        """Raise DataRefusedError if anything was found."""
        codes = tuple(code for code in _WORDS if code in self._found)
        if not codes:
            return
        counted = [f"{_WORDS[code][0]}: {len(self._found[code])} ({code})." for code in codes]
        # Each with its own remedy behind it; the last one's is the error's.
        remedied = [f"{text} {_WORDS[code][1]}" for text, code in zip(counted[:-1], codes[:-1], strict=True)]
        raise DataRefusedError(
            f"site {self._site}: {' '.join([*remedied, counted[-1]])}",
            code=codes[0],
            codes=codes,
            remedy=_WORDS[codes[-1]][1],
            diagnostics="\n".join(line for code in codes for line in self._lines(code)),
        )

    def _lines(self, code: str) -> list[str]:
        found = self._found[code]
        lines = [f"{code}: {detail}" for detail in found[:_SHOWN_PER_CODE]]
        if len(found) > _SHOWN_PER_CODE:
            lines.append(f"{code}: and {len(found) - _SHOWN_PER_CODE} more")
        return lines
