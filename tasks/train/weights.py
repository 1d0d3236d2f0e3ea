"""Model weights as bytes and as one vector: safetensors with an exact, expected layout.

Lives here: the two ways in which weights leave a module (safetensors bytes, whose SHA-256 names a model,
and one flat float32 vector, which a site's update is made of) and the strict reading of received bytes.
No pickle is ever read or written, and this module knows nothing of torch.

Order: tensors are taken by sorted name, each in C order, in `flatten` as well as in the bytes, so that equal
weights are equal bytes on every machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load as _load
from safetensors.numpy import save as _save

from ledger.errors import InputError

Vector = npt.NDArray[np.float32]
Weights = dict[str, Vector]
_HEADER_BYTES = 64
"""Of any safetensors file: its header's length, braces and padding."""


class WeightsError(InputError):
    """Weights that are not what the plan's network needs."""

    code = "weights.malformed"


def to_bytes(weights: Mapping[str, Vector]) -> bytes:
    """Safetensors bytes of float32 tensors, without metadata; refuses non-finite values."""
    for name in sorted(weights):
        _check_tensor(name, weights[name])
    data: bytes = _save({name: np.ascontiguousarray(weights[name]) for name in sorted(weights)})
    return data


def most_bytes(like: Mapping[str, Vector]) -> int:
    """How long `to_bytes` of such weights can be: the values, and a header that names and describes them."""
    described = sum(6 * len(name) + 24 * tensor.ndim + 128 for name, tensor in like.items())
    return 4 * sum(tensor.size for tensor in like.values()) + described + _HEADER_BYTES


def digest(data: bytes) -> str:
    """SHA-256 of the safetensors bytes, lower-case hex: the name of a model."""
    return hashlib.sha256(data).hexdigest()


def from_bytes(data: bytes, like: Mapping[str, Vector]) -> Weights:
    """Read received bytes; names, shapes and dtypes must be exactly those of `like`, values finite."""
    try:
        tensors: dict[str, npt.NDArray[np.generic]] = _load(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            "model weights are not a safetensors file",
            remedy="Fetch the model again.",
            diagnostics=str(error),
        ) from None
    if set(tensors) != set(like):
        raise WeightsError(
            f"model weights hold {len(tensors)} tensors whose names are not the {len(like)} expected ones",
            remedy="The model belongs to another network than the plan's.",
        )
    weights: Weights = {}
    for name in sorted(like):
        tensor = tensors[name]
        if tensor.shape != like[name].shape:
            raise WeightsError(f"weight {name} has shape {tensor.shape}, expected {like[name].shape}")
        weights[name] = _check_tensor(name, tensor)
    return weights


def flatten(weights: Mapping[str, Vector]) -> Vector:
    """One float32 vector, shape (total,), of all tensors in sorted name order."""
    return np.concatenate([np.asarray(weights[name], np.float32).ravel() for name in sorted(weights)])


def unflatten(vector: npt.NDArray[np.floating], like: Mapping[str, Vector]) -> Weights:
    """Invert `flatten`: shapes come from `like`; the vector must hold exactly as many finite values."""
    total = sum(tensor.size for tensor in like.values())
    if vector.shape != (total,):
        raise WeightsError(f"a weight vector has shape {vector.shape}, expected ({total},)")
    weights: Weights = {}
    start = 0
    for name in sorted(like):
        end = start + like[name].size
        part = vector[start:end].astype(np.float32).reshape(like[name].shape)
        weights[name] = _check_tensor(name, part)
        start = end
    return weights


def _check_tensor(name: str, tensor: npt.NDArray[np.generic]) -> Vector:
    if tensor.dtype != np.float32:
        raise WeightsError(f"weight {name} has type {tensor.dtype}, expected float32")
    if not np.isfinite(tensor).all():
        raise WeightsError(f"weight {name} holds values that are not finite", code="weights.non-finite")
    checked: Vector = tensor  # type: ignore[assignment]
    return checked
