"""Pretrained backbones from the Hugging Face Hub or a folder, through transformers: ``hf:ID_OR_FOLDER``.

The description of a backbone (its configuration, and the size and normalisation of its images) is read once and
recorded with the run. The run has its own weights, so the network can be rebuilt without the source. Only safetensors
are loaded, and no code of a model runs.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from escort_cil.augment.transform import IMAGENET_MEAN, IMAGENET_STD, Transform
from escort_cil.networks.backbones import Backbone, BackboneMaker
from escort_codec.errors import ConfigError
from escort_codec.untrusted import parse_json
from escort_codec.words import escaped, first_line, listed

PRETRAINED: Final = "hf:"
STAGED: Final = ("resnet", "convnext", "convnextv2")  # with stages
FAMILIES: Final = (*STAGED, "vit", "dinov2", "dinov2_with_registers")
PROCESSOR: Final = "preprocessor_config.json"

_UNUSED: Final = (
    "id2label",
    "label2id",
    "architectures",
    "dtype",
    "torch_dtype",
    "transformers_version",
    "_name_or_path",
)
_MOST, _MOST_LAYERS, _MOST_WEIGHTS = 1 << 16, 1000, 1 << 33  # caps of a recorded configuration (any integer)


def describe(name: str) -> dict[str, Any]:
    """A pretrained backbone as plain values: ``model`` (its configuration), ``size`` of its images in pixels, ``mean``
    and ``std`` of their colours. Raises ConfigError."""
    source = _source(name)
    with _errors(name, "config.json"):
        transformers = _transformers(name)
        config = transformers.AutoConfig.from_pretrained(source, trust_remote_code=False)
    if config.model_type not in FAMILIES:
        raise ConfigError(
            f"is of the kind {config.model_type}: {listed(FAMILIES)} can be used", setting="backbone", value=name
        )
    processor = _processor(name, source)
    size = _side(processor) or getattr(config, "image_size", None) or 224
    found = {
        "model": {key: value for key, value in config.to_dict().items() if key not in _UNUSED},
        "size": size,
        "mean": list(processor.get("image_mean") or IMAGENET_MEAN),
        "std": list(processor.get("image_std") or IMAGENET_STD),
    }
    check_description(found, name)
    plain: dict[str, Any] = json.loads(json.dumps(found))  # as reading config.json gives it
    return plain


def check_description(about: Mapping[str, Any], name: str) -> None:
    """Raises ConfigError if an untrusted description is not that of a network that can be built."""
    if fault := _fault(about):
        raise ConfigError(f"{escaped(name)}: the pretrained backbone's description is damaged: {fault}")


def has_stages(about: Mapping[str, Any]) -> bool:
    """Whether the backbone has stages, which learners can share or compare."""
    return about["model"]["model_type"] in STAGED


def normalised(transform: Transform, about: Mapping[str, Any]) -> Transform:
    """The transform with the normalisation that the backbone was trained with."""
    mean, std = ((float(r), float(g), float(b)) for r, g, b in (about["mean"], about["std"]))
    return replace(transform, mean=mean, std=std)


def check_use(name: str, about: Mapping[str, Any], maker: BackboneMaker, size: int) -> None:
    """Raises ConfigError if the network's weights cannot be loaded, or it cannot take images of ``size`` pixels."""
    network = maker().eval()
    try:
        with torch.no_grad():
            network(torch.zeros(1, 3, size, size))
    except (RuntimeError, ValueError) as exc:
        own = about["size"]
        raise ConfigError(
            f"{name} does not accept this size ({_line(exc)}): its own images have {own} pixels",
            setting="image_size",
            value=size,
        ) from exc


def pretrained_maker(name: str, about: Mapping[str, Any], *, weights: bool) -> BackboneMaker:
    """A function that makes backbones of a name and its description, with pretrained or (without ``weights``) fresh
    weights, which the caller replaces. The function raises ConfigError if the weights cannot be loaded.
    """
    check_description(about, name)
    made: list[Backbone] = []

    def make() -> Backbone:
        if not made:
            made.append(_backbone(_load(name) if weights else _build(name, about)))
        return copy.deepcopy(made[0])

    return make


class ClassToken(nn.Module):
    """A vision transformer; its features are the class token after the last normalisation."""

    def __init__(self, model: nn.Module, arguments: Mapping[str, Any]) -> None:
        super().__init__()
        self.model = model
        self.arguments = dict(arguments)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) to (B, D)."""
        token: Tensor = self.model(pixel_values=images, **self.arguments).last_hidden_state[:, 0]
        return token


class NormalisedMean(nn.Module):
    """The spatial mean of maps (B, C, H, W), normalised over the channels: (B, C)."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, maps: Tensor) -> Tensor:
        """See the class."""
        means: Tensor = self.norm(maps.mean(dim=(-2, -1)))
        return means


def _backbone(model: Any) -> Backbone:
    """A model of transformers as a backbone, split before its last stage if it has stages."""
    config = model.config
    if config.model_type not in STAGED:
        for part in (model, model.embeddings):  # weights that do not reach the class token would have no gradients
            for name in ("pooler", "mask_token"):
                if getattr(part, name, None) is not None:
                    setattr(part, name, None)
        arguments = {"interpolate_pos_encoding": True} if config.model_type == "vit" else {}
        return Backbone(ClassToken(model, arguments), nn.Identity(), config.hidden_size)
    stages, pooling = list(model.encoder.stages), nn.Module()
    if config.model_type == "resnet":
        stem, pooling = model.embedder, nn.Sequential(model.pooler, nn.Flatten())
    else:
        stem, pooling = model.embeddings, NormalisedMean(model.layernorm)
    shared, last = nn.Sequential(stem, *stages[:-1]), nn.Sequential(stages[-1], pooling)
    return Backbone(shared, last, config.hidden_sizes[-1], len(stages))


def _load(name: str) -> nn.Module:
    """The model with its weights."""
    with _errors(name, "model.safetensors"):
        transformers = _transformers(name)
        with _quiet(transformers):
            model, report = transformers.AutoModel.from_pretrained(
                _source(name),
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise ConfigError(f"{escaped(name)}: has no weights for {listed(missing, 3)}")
    loaded: nn.Module = model
    return loaded


def _build(name: str, about: Mapping[str, Any]) -> nn.Module:
    """The model with fresh weights. Raises ConfigError if there are too many."""
    transformers = _transformers(name)
    values = dict(about["model"])
    try:
        config = transformers.AutoConfig.for_model(values.pop("model_type"), **values)
        with torch.device("meta"):
            count = sum(weight.numel() for weight in transformers.AutoModel.from_config(config).parameters())
        if count > _MOST_WEIGHTS:
            raise ConfigError(f"{escaped(name)}: the pretrained backbone's description is damaged: {count} weights")
        model: nn.Module = transformers.AutoModel.from_config(config)
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, ZeroDivisionError) as exc:
        raise ConfigError(f"{escaped(name)}: the pretrained backbone's description is damaged: {_line(exc)}") from exc
    return model


def _fault(about: Mapping[str, Any]) -> str:
    """Why ``about`` is not a valid description, or ""."""
    if not isinstance(about, Mapping) or set(about) != {"model", "size", "mean", "std"}:
        return "it has other keys"
    model, size = about["model"], about["size"]
    if not isinstance(model, Mapping) or model.get("model_type") not in FAMILIES:
        return f"its model is none of {listed(FAMILIES)}"
    if type(size) is not int or not 8 <= size <= 4096:
        return "its size is not a number of pixels"
    for key in ("mean", "std"):
        values = about[key]
        if not isinstance(values, list | tuple) or len(values) != 3:
            return f"its {key} does not have three values"
        if not all(type(value) in (int, float) and (value > 0 if key == "std" else True) for value in values):
            return f"its {key} is not a number"
    numbers = [value for each in model.values() for value in (each if isinstance(each, list | tuple) else [each])]
    if any(type(value) is int and abs(value) > _MOST for value in numbers):
        return "it has a number that is too large"
    depths = model.get("depths") or [model.get("num_hidden_layers", 0)]
    if not all(type(depth) is int for depth in depths) or sum(depths) > _MOST_LAYERS:
        return "it has too many layers"
    return ""


def _source(name: str) -> str:
    """The folder or Hub id after "hf:". Raises ConfigError if it is neither."""
    source = name.removeprefix(PRETRAINED)
    folder = Path(source).expanduser()
    if source and folder.is_dir():
        return str(folder)
    if not source or source.startswith(("/", ".", "~", "\\")) or source.count("/") > 1:
        raise ConfigError("is neither a folder nor a Hub id", setting="backbone", value=name)
    return source


def _processor(name: str, source: str) -> Mapping[str, Any]:
    """The contents of the model's preprocessor_config.json, {} if it has none. Raises ConfigError."""
    from transformers.utils import cached_file

    with _errors(name, PROCESSOR):
        path = cached_file(source, PROCESSOR, _raise_exceptions_for_missing_entries=False)
        values = {} if path is None else parse_json(Path(path).read_bytes())
    return values if isinstance(values, dict) else {}


def _side(processor: Mapping[str, Any]) -> int | None:
    """The side in pixels of the images that the network sees."""
    for key in ("crop_size", "size"):
        value = processor.get(key)
        if key == "crop_size" and processor.get("do_center_crop") is False:
            continue
        if isinstance(value, Mapping):
            value = value.get("height") or value.get("shortest_edge")
        if type(value) is int:
            return value
    return None


def _transformers(name: str) -> Any:
    try:
        import transformers
    except ImportError as exc:
        raise ConfigError("needs `pip install 'escort[pretrained]'`", setting="backbone", value=name) from exc
    return transformers


@contextmanager
def _errors(name: str, looked_for: str) -> Iterator[None]:
    """Turns the errors of transformers into one line that names the file in question."""
    try:
        yield
    except (OSError, ValueError, ImportError, KeyError, RuntimeError, AttributeError, TypeError) as exc:
        source = _source(name)
        if Path(source).is_dir():
            raise ConfigError(f"{escaped(name)}: {looked_for} in {source} cannot be used: {_line(exc)}") from exc
        from huggingface_hub import constants

        where = f"looked for {looked_for} of {source} in {constants.HF_HUB_CACHE}"
        get = f"get it with 'hf download {source}', or give a folder: hf:FOLDER"
        if constants.HF_HUB_OFFLINE:
            raise ConfigError(
                f"{escaped(name)}: HF_HUB_OFFLINE is set, so nothing is downloaded: {where}: {get}"
            ) from exc
        raise ConfigError(f"{escaped(name)}: {where} and on the Hub: {_line(exc)}; {get}") from exc


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Turns off the progress bar and log of transformers in the block."""
    logging = transformers.utils.logging
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        (logging.enable_progress_bar if bar else logging.disable_progress_bar)()


def _line(exc: BaseException) -> str:
    """The first line of a message."""
    return escaped(first_line(exc))[:300]
