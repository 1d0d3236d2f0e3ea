"""A MONAI bundle's network, read as text: nothing of the bundle is ever run or unpickled.

    <bundle>/configs/train.json|yaml|yml, inference.json|yaml|yml      `network_def` in at least one, the same in both
    <bundle>/models/*                                                  trained weights; not read, named in the digest

A bundle's configuration is a program: `$` begins Python, `%` includes other files, and `_target_` names anything that
can be called. Of it only this is read: a `_target_` of `monai.networks.nets` with arguments that are literals, or
`@id::key` references to literals. All else in `network_def` is refused, with the place where it stands. What a bundle
does beside (transforms, loaders, handlers) is ignored, because a plan says that itself.

The digest is SHA-256 over the files of `configs` (path, content) and the names and sizes of those of `models`, sorted
by path, each part with its length in 8 bytes before it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from ledger.canonical import JsonValue
from ledger.errors import InputError
from policies.data_contract import DataContract
from policies.document import Digest

_NETWORK: Final = "network_def"
_TARGET: Final = re.compile(r"^(?:monai\.networks\.nets\.(?:[a-z_0-9]+\.)?)?([A-Za-z][A-Za-z0-9]{0,62})$")
_SUFFIXES: Final = (".json", ".yaml", ".yml")
_MOST_BYTES: Final = 1_000_000
_DEPTH: Final = 32
_MOST_VALUES: Final = 1000
_COMMENT: Final = "_desc_"


class BundleError(InputError):
    """Not a bundle that can be read, or one without a network, or whose files disagree on it."""

    code = "bundle.unreadable"


class BundleCodeError(InputError):
    """The network's definition would have to be run."""

    code = "bundle.code"


class BundleContractError(InputError):
    """The bundle's network is for other data than the plan's."""

    code = "bundle.contract"


@dataclass(frozen=True, slots=True)
class Bundle:
    name: str
    """As a plan names the class."""
    arguments: dict[str, JsonValue]
    """What a plan would write; without what follows from the data contract."""
    settled: dict[str, JsonValue]
    """What does follow from it, as the bundle has it."""
    digest: Digest


def read_bundle(folder: Path) -> Bundle:
    """The network of the bundle; every place in it that would have to be run is named at once."""
    configs = {path: _mapping(path) for path in _configs(folder)}
    defined = {path: _resolved(path, config) for path, config in configs.items() if _NETWORK in config}
    if not defined:
        raise BundleError(
            f"no {_NETWORK} in the train or inference configuration of {folder}",
            remedy="Name the network in the plan itself.",
        )
    first, *others = defined.values()
    if any(one != first for one in others):
        raise BundleError(
            f"the configurations of {folder} define different networks", remedy="Make them agree."
        )
    name, arguments = first
    settled = {key: value for key, value in arguments.items() if key in _SETTLED}
    rest = {key: value for key, value in arguments.items() if key not in _SETTLED}
    return Bundle(name, rest, settled, digest_of(folder))


def digest_of(folder: Path) -> Digest:
    state = hashlib.sha256()
    for path in sorted(_files(folder), key=lambda path: path.relative_to(folder).as_posix()):
        name = path.relative_to(folder)
        content = path.read_bytes() if name.parts[0] == "configs" else str(path.stat().st_size).encode()
        for part in (name.as_posix().encode(), content):
            state.update(len(part).to_bytes(8, "big"))
            state.update(part)
    return state.hexdigest()


def check_contract(bundle: Bundle, data: DataContract) -> None:
    """BundleContractError names each argument that the data contract settles otherwise."""
    channels, *sides = data.shape
    wanted: dict[str, tuple[JsonValue, ...]] = {
        "spatial_dims": (len(sides),),
        "in_channels": (channels,),
        # Two classes as one logit: a softmax over two is the sigmoid of their difference.
        "out_channels": (1, 2),
        "img_size": (list(sides), *(sides[:1] if len(set(sides)) == 1 else [])),
        "in_shape": (list(data.shape),),
        "classification": (data.target == "label",),
        "pretrained": (False,),
    }
    wrong = [
        f"{name} {json.dumps(value)}"
        for name, value in bundle.settled.items()
        if _SETTLED[name] in wanted and not any(_same(value, one) for one in wanted[_SETTLED[name]])
    ]
    if wrong:
        raise BundleContractError(
            f"the bundle's network is not for the plan's data: {', '.join(wrong)}",
            remedy="Change data, or take another bundle.",
        )


_SETTLED: Final = {
    "spatial_dims": "spatial_dims",
    "dimensions": "spatial_dims",
    "in_channels": "in_channels",
    "n_input_channels": "in_channels",
    "out_channels": "out_channels",
    "num_classes": "out_channels",
    "classes": "out_channels",
    "img_size": "img_size",
    "input_image_size": "img_size",
    "in_shape": "in_shape",
    "classification": "classification",
    "pretrained": "pretrained",
    "progress": "progress",
}
"""Arguments that `tasks.train.networks` takes from the data contract, by what they mean."""


def _same(value: JsonValue, wanted: JsonValue) -> bool:
    """1 is not true."""
    return type(value) is type(wanted) and value == wanted


def _files(folder: Path) -> Iterator[Path]:
    for part in ("configs", "models"):
        for path in (folder / part).rglob("*"):
            if path.is_symlink():
                raise BundleError(f"{path} is a link", remedy="Put the file itself there.")
            if path.is_file():
                yield path


def _configs(folder: Path) -> list[Path]:
    found = [
        path
        for stem in ("train", "inference")
        for suffix in _SUFFIXES
        if (path := folder / "configs" / f"{stem}{suffix}").is_file()
    ]
    if not found:
        raise BundleError(
            f"no configs/train or configs/inference (JSON or YAML) in {folder}",
            remedy="Give the folder of a MONAI bundle.",
        )
    return found


def _mapping(path: Path) -> dict[str, JsonValue]:
    unreadable = BundleError(f"cannot read {path} as JSON or YAML", remedy="Fetch the bundle again.")
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise unreadable
        text = path.read_text()
        value = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        raise unreadable from None
    if not isinstance(value, dict):
        raise unreadable
    return value


def _resolved(path: Path, config: dict[str, JsonValue]) -> tuple[str, dict[str, JsonValue]]:
    """(the class's name in a plan, its arguments without references)."""
    reading = _Reading(config)
    definition = reading.literal(config[_NETWORK], _NETWORK, depth=0)
    refused, name = reading.refused, ""
    if not isinstance(definition, dict) or not isinstance(definition.get("_target_"), str):
        refused.append(f"{_NETWORK}: is no class with arguments")
        definition = {}
    else:
        match = _TARGET.match(str(definition.pop("_target_")))
        if match is None:
            refused.append(f"{_NETWORK}._target_: is no class of monai.networks.nets")
        else:
            name = re.sub(r"^resnet(?=\d)", "ResNet", match.group(1))
    definition.pop(_COMMENT, None)
    refused += [
        f"{_NETWORK}.{key}: steers how the bundle is run" for key in definition if key.startswith("_")
    ]
    if refused:
        raise BundleCodeError(
            f"{path.name} of the bundle would have to be run: {'; '.join(sorted(set(refused)))}",
            remedy="Write the network into the plan itself, with its arguments as plain values.",
        )
    return name, definition


class _Reading:
    """One pass over `network_def`; what is no literal is collected in `refused` by its place."""

    def __init__(self, config: dict[str, JsonValue]) -> None:
        self.refused: list[str] = []
        self._config = config
        self._left = _MOST_VALUES

    def literal(self, value: JsonValue, where: str, *, depth: int) -> JsonValue:
        """`value` with references replaced by what they name."""
        self._left -= 1
        if depth > _DEPTH or self._left < 0:  # aliases of YAML can be nested without end, too
            self.refused.append(f"{_NETWORK}: is too deep or goes in a circle")
            return None
        if isinstance(value, dict):
            if where != _NETWORK and "_target_" in value:
                self.refused.append(f"{where}: makes an object")
                return None
            return {
                str(key): self.literal(one, f"{where}.{key}", depth=depth + 1) for key, one in value.items()
            }
        if isinstance(value, list):
            return [self.literal(one, f"{where}.{index}", depth=depth + 1) for index, one in enumerate(value)]
        return self._word(value, where, depth) if isinstance(value, str) else value

    def _word(self, value: str, where: str, depth: int) -> JsonValue:
        if value.startswith("@"):
            found, there = _named(value[1:], self._config)
            if there:
                return self.literal(found, where, depth=depth + 1)
            self.refused.append(f"{where}: refers to what is not there")
            return None
        if value.startswith(("$", "%")) or "@" in value:
            self.refused.append(f"{where}: is an expression")
            return None
        return value


def _named(reference: str, config: JsonValue) -> tuple[JsonValue, bool]:
    """What `id::key::0` names, and whether it is there."""
    for key in re.split("::|#", reference):
        if isinstance(config, dict) and key in config:
            config = config[key]
        elif isinstance(config, list) and key.isdigit() and int(key) < len(config):
            config = config[int(key)]
        else:
            return None, False
    return config, True
