"""Which model is meant, and what can be known of it without loading it. No torch here.

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

Family = Literal["sd", "sdxl"]

DEFAULT_MODEL: Final = "stable-diffusion-v1-5/stable-diffusion-v1-5"
DEFAULT_CONTROLNETS: Final[dict[Family, str]] = {
    "sd": "lllyasviel/sd-controlnet-canny",  # ControlNet 1.0: the paper's
    "sdxl": "diffusers/controlnet-canny-sdxl-1.0",
}
INDEX: Final = "model_index.json"
HUB_ID: Final = re.compile(r"[\w.-]+(/[\w.-]+)?")
SAMPLE: Final = 1 << 16  # bytes hashed at each end of a weights file


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """The weights of one run; ``controlnet`` None is the default for the model's class. ``dtype`` is fp32, bf16 or
    fp16."""

    model: str
    model_revision: str | None
    controlnet: str | None
    controlnet_revision: str | None
    dtype: str


@dataclass(frozen=True, slots=True)
class Pins:
    """What identifies the weights of a choice, as far as it can be known without loading or the network."""

    model_revision: str | None
    controlnet: str | None
    controlnet_revision: str | None


def pin(choice: ModelChoice) -> Pins:
    """The revisions that ``choice`` means here and now, and the ControlNet where the choice leaves it open.

    Of a Hub model that is not in the cache its one small JSON file is fetched, where the Hub may be asked and
    answers. Raises ModelError for files that are here and are no Stable Diffusion model.
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


def split_revision(name: str) -> tuple[str, str | None]:
    """``org/name@rev`` as ("org/name", "rev"); a folder or file that exists is taken whole, with None."""
    if Path(name).exists() or "@" not in name:
        return name, None
    identifier, _, revision = name.rpartition("@")
    if not identifier or not revision:
        raise ModelError(f"{name!r} is no model: write org/name@revision, a folder or a file")
    return identifier, revision


def resolved_revision(name: str, revision: str | None) -> str | None:
    """What pins the weights, as far as it can be known without the network.

    A Hub id: the commit in the local cache, else ``revision`` as asked for. A folder or file: ``files-`` and 16
    hexadecimal digits over its files' names, sizes, and first and last 64 KiB (all of a JSON file).
    """
    path = Path(name)
    if path.exists():
        return _fingerprint(str(path.resolve()))
    return _cached_commit(name, revision) or revision


def family_of(name: str, revision: str | None = None) -> Family | None:
    """The model's class as far as it can be known without the network: Stable Diffusion 1 and 2, or XL.

    None where it is not here. Raises ModelError where it is here and is neither.
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
    """The ControlNet where none is chosen: the model folder's own, the one in the same file, or the class's."""
    path = Path(name)
    if (path / "controlnet" / "config.json").is_file():
        return str(path / "controlnet")
    if path.is_file() and any(key.startswith("control_model.") for key in _keys(path)):
        return name
    return DEFAULT_CONTROLNETS[family]


def single_file_config(path: Path) -> str | None:
    """The folder of configurations for a single file of weights: its own folder where ``model_index.json`` lies
    there; None lets diffusers take the published model's that the weights look like, from the cache or the Hub."""
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
    """Brings a Hub model's small file into the cache, and with it the commit; in vain without a word."""
    if Path(name).exists() or not HUB_ID.fullmatch(name) or _cached(name, file, revision) is not None:
        return
    from huggingface_hub import constants, hf_hub_download

    if constants.is_offline_mode():
        return
    with contextlib.suppress(Exception):  # what is missing is said when it is loaded
        hf_hub_download(name, file, revision=revision)


def _cached_commit(name: str, revision: str | None) -> str | None:
    """The commit of the snapshot folder that the Hub's cache would use."""
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
    raise ModelError(f"{path} holds no Stable Diffusion model (no weights named 'model.diffusion_model. ...')")


@lru_cache(maxsize=8)
def _keys(path: Path) -> tuple[str, ...]:
    """The names of the weights in a file; of a safetensors file only its header is read."""
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
    except Exception as exc:  # torch and json raise many kinds for damaged files
        raise ModelError(f"{path} cannot be read as a file of weights: {first_line(exc)}") from exc


def first_line(exc: BaseException) -> str:
    """The first line of a foreign error's message, or its class where it has none."""
    return next((line.strip() for line in str(exc).splitlines() if line.strip()), type(exc).__name__)
