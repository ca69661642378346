"""Which model to use, and its properties without loading it. Imports no torch.

A model is named by a Hub id (``org/name``), an id at a revision (``org/name@rev``), a folder as diffusers saves one,
or one file of weights.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import struct
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

from escort_codec.errors import ModelError
from escort_codec.names import there_is
from escort_codec.words import first_line

Family = Literal["sd", "sdxl"]

DEFAULT_MODEL: Final = "stable-diffusion-v1-5/stable-diffusion-v1-5"
DEFAULT_CONTROLNETS: Final[dict[Family, str]] = {
    "sd": "lllyasviel/sd-controlnet-canny",  # ControlNet 1.0: the paper's
    "sdxl": "diffusers/controlnet-canny-sdxl-1.0",
}
INDEX: Final = "model_index.json"
HUB_ID: Final = re.compile(r"[\w.-]+(/[\w.-]+)?")
_HUB_MODEL: Final = re.compile(r"[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII)
SAMPLE: Final = 1 << 16  # bytes hashed at each end of a weights file


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """The weights to use. ``controlnet`` None is the default for the model's class; ``dtype`` is fp32, bf16 or fp16."""

    model: str
    model_revision: str | None
    controlnet: str | None
    controlnet_revision: str | None
    dtype: str


@dataclass(frozen=True, slots=True)
class Pins:
    """The identity of the weights of a choice, found without loading them and without the network."""

    model_revision: str | None
    controlnet: str | None
    controlnet_revision: str | None


def pin(choice: ModelChoice) -> Pins:
    """The current revisions of ``choice``, and the default ControlNet if the choice names none.

    For a Hub model that is not in the cache it downloads one small JSON file, unless the Hub is offline. Raises
    ModelError for files that are not a Stable Diffusion model.
    """
    _peek(choice.model, INDEX, choice.model_revision)
    controlnet, revision = choice.controlnet, choice.controlnet_revision
    if controlnet is None:
        family = family_of(choice.model, choice.model_revision)
        if choice.model == DEFAULT_MODEL:
            family = "sd"
        controlnet = default_controlnet(choice.model, family) if family else None
    if controlnet is not None:
        _peek(controlnet, "config.json", revision)
    return Pins(
        resolved_revision(choice.model, choice.model_revision),
        controlnet,
        resolved_revision(controlnet, revision) if controlnet else None,
    )


def check_hub_id(name: str, what: str) -> None:
    """Raises ModelError unless ``name``, which comes from the file, can only mean a model on the Hub.

    A folder of that name may have come with the file.
    """
    option = "controlnet" if what == "ControlNet" else "model"
    if not _HUB_MODEL.fullmatch(name):
        raise ModelError(f"the file's recipe names the {what} {name!r}, not a Hub id: choose one with `{option}`")
    if there_is(name):
        raise ModelError(
            f"there is a folder or file {name} here, and the Hub's {what} of that name is meant: work in another "
            f"folder, or name what you mean with `{option}`"
        )


def split_revision(name: str) -> tuple[str, str | None]:
    """``org/name@rev`` as ("org/name", "rev"); a folder or file that exists is taken whole, with None."""
    if there_is(name) or "@" not in name:
        return name, None
    identifier, _, revision = name.rpartition("@")
    if not identifier or not revision:
        raise ModelError(f"{name!r} is not a model: write org/name@revision, a folder or a file")
    return identifier, revision


def resolved_revision(name: str, revision: str | None) -> str | None:
    """The revision or hash that pins the weights, found without the network.

    For a Hub id: the commit in the local cache, else ``revision``. For a folder or file: ``files-`` and 16 hexadecimal
    digits of a hash over its files' names, sizes, and first and last 64 KiB (all of a JSON file).
    """
    path = Path(name)
    if there_is(path):
        return _fingerprint(str(path.resolve()))
    return _cached_commit(name, revision) or revision


def family_of(name: str, revision: str | None = None) -> Family | None:
    """The model's class, found without the network: Stable Diffusion 1 and 2, or XL.

    None if the model is not on this machine. Raises ModelError if it is neither.
    """
    path = Path(name)
    if path.is_file():
        return _family_of_file(path)
    index = path / INDEX if path.is_dir() else _cached(name, INDEX, revision)
    return family_of_index(index, name) if index is not None and index.is_file() else None


def family_of_index(index: Path, name: str) -> Family:
    """The class that a pipeline's ``model_index.json`` declares; raises ModelError for any other."""
    try:
        kind = json.loads(index.read_text(encoding="utf-8"))["_class_name"]
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise ModelError(f"{name}: {INDEX} cannot be read: {exc}") from exc
    if str(kind).startswith("StableDiffusionXL"):
        return "sdxl"
    if str(kind).startswith("StableDiffusion") and "3" not in str(kind):
        return "sd"
    raise ModelError(f"{name} is a {kind}: `model` takes Stable Diffusion 1, 2 or XL")


def default_controlnet(name: str, family: Family) -> str:
    """The default ControlNet: the model folder's own, the one in the same file, or the class's."""
    path = Path(name)
    if (path / "controlnet" / "config.json").is_file():
        return str(path / "controlnet")
    if path.is_file() and any(key.startswith("control_model.") for key in _keys(path)):
        return name
    return DEFAULT_CONTROLNETS[family]


def single_file_config(path: Path) -> str | None:
    """The folder of configurations for a single file of weights: its own folder if that has a ``model_index.json``.
    With None diffusers picks a published model's by the weights' names, from the cache or the Hub."""
    return str(path.parent) if (path.parent / INDEX).is_file() else None


def _cached(name: str, file: str, revision: str | None) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(name, file, revision=revision)
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


def _peek(name: str, file: str, revision: str | None) -> None:
    """Downloads a Hub model's small file into the cache, and with it the commit; failures are ignored."""
    if there_is(name) or not HUB_ID.fullmatch(name) or _cached(name, file, revision) is not None:
        return
    from huggingface_hub import constants, hf_hub_download

    if constants.is_offline_mode():
        return
    with contextlib.suppress(Exception):  # loading reports what is missing
        hf_hub_download(name, file, revision=revision)


def _cached_commit(name: str, revision: str | None) -> str | None:
    """The commit of the snapshot folder that the Hub's cache uses."""
    for file in (INDEX, "config.json"):
        found = _cached(name, file, revision)
        if found is not None:
            return found.parent.name
    return None


@lru_cache(maxsize=64)
def _fingerprint(path: str) -> str:
    root = Path(path)
    files = [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.is_file())
    digest = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.relative_to(root).as_posix()}\0{size}\0".encode())
        with file.open("rb") as stream:
            if size <= 2 * SAMPLE or file.suffix == ".json":
                digest.update(stream.read())
            else:
                digest.update(stream.read(SAMPLE))
                stream.seek(size - SAMPLE)
                digest.update(stream.read(SAMPLE))
    return f"files-{digest.hexdigest()[:16]}"


def _family_of_file(path: Path) -> Family:
    keys = _keys(path)
    if any(key.startswith("conditioner.embedders.1.") for key in keys):
        return "sdxl"
    if any(key.startswith("model.diffusion_model.") for key in keys):
        return "sd"
    raise ModelError(f"{path} is not a Stable Diffusion model (it has no weights named 'model.diffusion_model. ...')")


@lru_cache(maxsize=8)
def _keys(path: Path) -> tuple[str, ...]:
    """The names of the weights in a file. Only the header of a safetensors file is read."""
    try:
        if path.suffix == ".safetensors":
            with path.open("rb") as stream:
                (length,) = struct.unpack("<Q", stream.read(8))
                if length > 100 << 20:
                    raise ValueError("its header is above 100 MB")
                return tuple(json.loads(stream.read(length)))
        import torch

        weights = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
        while "state_dict" in weights:
            weights = weights["state_dict"]
        return tuple(weights)
    except Exception as exc:  # torch and json raise many kinds of errors for damaged files
        raise ModelError(f"{path} cannot be read as a file of weights: {first_line(exc)}") from exc
