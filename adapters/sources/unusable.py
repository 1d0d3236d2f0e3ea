"""What each code says of one file or row that a model could not be tried on, for whoever looks at predictions.

Words of a whole site's data, counted and with remedies, are `findings`. Nothing of a file's content or name is said.
"""

from __future__ import annotations

from typing import Final

PASSED_OVER: Final = "data.passed-over"
"""Not a fault: what lies beside the items in most folders."""

WORDS: Final[dict[str, str]] = {
    PASSED_OVER: "hidden, no plain file, or of a name that no item has",
    "data.not-image": "a table, and the model takes images",
    "data.not-table": "no table, and the model takes CSV or Parquet alone",
    "data.dicom-unreadable": "cannot be read as a DICOM image, nor has it the ending of another kind",
    "data.dicom-compressed": "DICOM in a compression that this installation cannot decode",
    "data.dicom-multiframe": "DICOM with more than one frame",
    "data.dicom-color": "a DICOM image that is not grey-scale",
    "data.dicom-bits": "DICOM of other than 8 to 16 bits stored in 8 or 16",
    "data.dicom-size": "DICOM without a pixel, of more than 67 megapixels or too long a side",
    "data.dicom-rescale": "DICOM whose Rescale Slope or Intercept is not usable",
    "data.modality": "DICOM of a modality that the model does not take",
    "data.picture-color": "a picture that is not grey-scale, or is transparent in part",
    "data.picture-unreadable": "cannot be read as PNG or JPEG, or is cut short",
    "data.picture-size": "a picture of more than 67 megapixels or too long a side",
    "data.volume-unreadable": "cannot be read as NIfTI",
    "data.volume-type": "NIfTI whose values are not plain real numbers",
    "data.volume-dimensions": "of other dimensions than the model takes, a volume for a slice, say",
    "data.volume-size": "NIfTI without a voxel, of more than 134 million or too long a side",
    "data.volume-values": "NIfTI with values that are not finite numbers",
    "data.npz-unreadable": "cannot be read as .npz",
    "data.npz-arrays": "an .npz without 8-bit grey-scale images under images or test_images",
    "data.npz-size": "an .npz that is too large, or has images that are",
    "data.missing": "cannot be opened",
    "data.memory": "an image for which the memory does not suffice",
    "data.table-unreadable": "cannot be read as a table",
    "data.table-columns": "a table that lacks columns of the model's features",
    "data.table-row": "a row that has not as many fields as the header",
    "data.table-number": "a field that is not a number",
    "data.table-word": "a field with a word that the model does not know",
    "predict.exists": "its mask's file exists and is left as it is",
    "predict.unwritable": "its mask cannot be written",
}
