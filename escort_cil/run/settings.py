"""The settings of a training run, declared once: frozen, and with every seed.

The command line, JSON files, ``--set``, ``--print-config`` and the table in ``docs/settings.md`` come from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from escort_cil.run.presets import datasets, filled, preset_for
from escort_codec.errors import ConfigError
from escort_codec.recipe import EdgeSettings, EncodeOptions, parse_colour
from escort_codec.regenerate import DEFAULT
from escort_codec.settings import build, check, setting, setting_of

if TYPE_CHECKING:
    from escort_cil.augment import Transform
    from escort_cil.learners import Hyperparameters
    from escort_cil.memory.budget import Budget
    from escort_cil.memory.keep import Keep
    from escort_codec.regenerate.base import Regenerator

EvalViews = Literal["real", "regenerated", "both"]
VIEWS: Final[tuple[EvalViews, ...]] = get_args(EvalViews)

_DATA, _PHASES, _NETWORK = "Data", "Classes and phases", "Network and training"
_MEMORY, _SYNTHETIC, _MACHINE = "Memory", "Prompts and synthetic images", "Machine"
_SEED: Final = (1 << 32) - 1
_as_in = partial(setting_of, group=_SYNTHETIC)


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """All settings of a run; the help explains the defaults None, 0 and "". Raises ConfigError."""

    data: str = setting("", "The data folder; the one that `prompts_file` records if left out.", group=_DATA)
    prompts_file: str = setting(
        "", "Prompts of `escort encode`; else images are encoded.", group=_DATA, shown=True, metavar="FILE"
    )
    dataset: str = setting(
        "",
        "Its image size, transform, stem: cifar100, ...",
        group=_DATA,
        shown=True,
        metavar="NAME",
    )
    layout: str = _as_in(EncodeOptions, "layout", group=_DATA)
    exemplars: str = setting(
        "", "Folder of `escort decode` with synthetic images; missing ones are made.", group=_DATA, metavar="DIR"
    )
    cache: str = setting(
        "", "Folder for synthetic images; cache/ in the run folder if left out.", group=_DATA, metavar="DIR"
    )
    continued: str = setting("", "Folder of the finished run that this one continues.", group=_DATA)
    background: str = _as_in(EncodeOptions, "background", group=_DATA)
    holdout: float = setting(
        0.2, "Share of each class's images that is held out if there is no test folder.", group=_DATA, least=0, most=1
    )

    on_error: Literal["raise", "skip"] = _as_in(EncodeOptions, "on_error", group=_DATA)
    check: bool = setting(
        True, "Before the first epoch, decode all images and see whether the budget will do.", group=_DATA
    )

    method: str = setting(
        "icarl",
        "icarl, wa, bic, podnet, der, foster, memo...",
        group=_PHASES,
        shown=True,
        metavar="NAME",
    )
    init_cls: int = setting(0, "Classes of the first phase (0: as in the others).", group=_PHASES, shown=True, least=0)
    increment: int = setting(0, "Classes of each other phase (0: a fifth of all).", group=_PHASES, shown=True, least=0)
    seed: int = setting(
        1993, "Seed of class orders; 1993,7: one run each.", group=_PHASES, shown=True, least=0, most=_SEED
    )
    model_seed: int = setting(1, "Seed of weights, batches and augmentation.", group=_PHASES, least=0, most=_SEED)
    shuffle: bool = setting(True, "Draw the class order with `seed`; false: sort classes by name.", group=_PHASES)
    class_order: tuple[str, ...] = setting(
        (), "The class order; as a flag, a file with one label per line.", group=_PHASES, metavar="FILE"
    )
    memory_only: bool = setting(False, "Train on the memory alone, chosen at random.", group=_PHASES)
    eval_views: EvalViews = setting(  # noqa: RUF009 - a field, though its type is an alias
        "real", "real, regenerated or both: how test images are shown.", group=_PHASES, choices=VIEWS
    )

    backbone: str = setting(
        "resnet18",
        "resnet10 to 50 or hf:ID_OR_FOLDER.",
        group=_NETWORK,
        shown=True,
        metavar="NAME",
    )
    freeze: bool = setting(False, "Train no weight of the pretrained backbone.", group=_NETWORK)
    backbone_lr: float | None = setting(
        None, "The backbone's part of the learning rate; 0.1 if pretrained, else 1.", group=_NETWORK, least=0, most=1
    )
    backbone_config: Mapping[str, Any] = setting({}, "What a pretrained backbone is; read from it.", group=_NETWORK)
    stem: str = setting(
        "auto",
        "auto (the file's authors', the data set's or the image size's), imagenet (7 x 7), cifar (3 x 3), pycil (3 x 3 "
        "and pooling) or small.",
        group=_NETWORK,
        choices=("auto", "imagenet", "cifar", "pycil", "small"),
    )
    image_size: int | None = setting(
        None, "Pixels; if left out, the data set's or its images'.", group=_NETWORK, shown=True, least=8, most=4096
    )
    transform: str = setting(
        "",
        "large (random resized crop), small (PyCIL's for CIFAR-100) or cifar10; if left out the data set's, else large "
        "from 128 pixels.",
        group=_NETWORK,
    )
    autoaugment: str | None = setting(
        None,
        "off or imagenet (the policy); if left out the data set's: off for PyCIL's, imagenet for the paper's.",
        group=_NETWORK,
        choices=("off", "imagenet"),
    )
    epochs: int | None = setting(
        None, "Epochs of every phase; the method's if left out.", group=_NETWORK, shown=True, least=1
    )
    lr: float | None = setting(
        None, "Learning rate; the method's if left out.", group=_NETWORK, shown=True, least=0, most=1e30
    )
    batch_size: int | None = setting(
        None, "Images per optimiser step; the method's if left out.", group=_NETWORK, shown=True, least=1
    )
    method_options: Mapping[str, Any] = setting({}, "The method's own settings, as method.NAME.", group=_NETWORK)

    budget: str = setting("", "2MB, 20KB/class, 20units/class or 2000units.", group=_MEMORY, shown=True, metavar="SIZE")
    keep: str = setting(
        "",
        "original, webp:64:20, latent:64, prompt, prompt:400B, auto, '30% original + 70% prompt', or per class "
        "'18 original + 48 prompt'. If left out: for bytes latent:64, or prompts of a file.",
        group=_MEMORY,
        shown=True,
        metavar="KINDS",
    )
    selection: str = setting("herding", "herding or random.", group=_MEMORY)

    regenerator: str = setting(
        DEFAULT, "harmonic (a stand-in) or controlnet.", group=_SYNTHETIC, shown=True, metavar="NAME"
    )
    regenerator_options: Mapping[str, Any] = setting(
        {}, "The regenerator's own settings, as regenerator.NAME.", group=_SYNTHETIC
    )
    augmentation_prob: float | None = setting(
        None, "Chance of a copy; 0.5 for prompts and WebP.", group=_SYNTHETIC, shown=True, least=0, most=1
    )
    augmentations_per_image: int | None = setting(
        None, "Copies per image; one per seed if left out.", group=_SYNTHETIC, least=1
    )
    seeds: tuple[int, ...] = _as_in(
        EncodeOptions, "seeds", default=(), help="Seeds of the copies; those of the prompts, or 0-4, if left out."
    )
    hint: int | None = _as_in(
        EncodeOptions,
        "hint",
        default=None,
        help="Longer side of the colour hint in pixels, 0: none; as in the prompts, or 48, if left out.",
    )
    hint_codec: str = _as_in(EncodeOptions, "hint_codec")
    hint_quality: int | None = _as_in(EncodeOptions, "hint_quality")
    preset: str = _as_in(EncodeOptions, "preset")
    canny_low: int = _as_in(EdgeSettings, "low")
    canny_high: int = _as_in(EdgeSettings, "high")
    blur: float = _as_in(EdgeSettings, "blur")
    min_contour: int = _as_in(EdgeSettings, "min_contour")
    coding: str = _as_in(EncodeOptions, "coding")

    device: str = setting("auto", "auto, cpu, cuda or cuda:1.", group=_MACHINE, shown=True, metavar="NAME")
    mixed_precision: str = setting("no", "no, bf16 or fp16.", group=_MACHINE, choices=("no", "bf16", "fp16"))
    gradient_accumulation: int = setting(1, "Parts that a batch is computed in.", group=_MACHINE, least=1)
    cache_memory: int | None = setting(
        None,
        "Memory for decoded images, the rest is on disk; half of the machine's if left out.",
        group=_MACHINE,
        form="bytes",
        metavar="BYTES",
    )
    workers: int | None = setting(
        None, "Threads that decode and encode; one per core if left out.", group=_MACHINE, least=1
    )
    checkpoint_every: int = setting(10, "Epochs between checkpoints.", group=_MACHINE, least=1)
    track: tuple[str, ...] = setting((), "tensorboard, wandb: send the figures there.", group=_MACHINE)

    def __post_init__(self) -> None:
        check(self, ConfigError)
        if not 0 < self.holdout < 1:
            raise ConfigError("give a share between 0 and 1", setting="holdout", value=self.holdout)
        parse_colour(self.background)
        if self.dataset:
            _ = preset_for(self.dataset) or datasets.get(self.dataset)  # raises UnknownNameError
        _ = self.memory  # raises ConfigError if budget and keep do not go together

    def to_map(self) -> dict[str, Any]:
        """All settings, for JSON."""
        values = asdict(self)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    @classmethod
    def from_map(cls, values: Mapping[str, Any]) -> TrainConfig:
        """The inverse of ``to_map``; keys may be missing, and values may be texts as typed. Raises ConfigError."""
        from escort_cil.memory.budget import AUTO, Budget
        from escort_cil.memory.keep import Keep

        values = dict(values)
        if isinstance(values.get("budget"), int) and not isinstance(values["budget"], bool):
            values["budget"] = str(values["budget"])
        config = build(cls, values, "setting", ConfigError)
        # One spelling, so that a resumed run matches its folder.
        keep = str(Keep.parse(config.keep)) if config.keep not in ("", AUTO) else config.keep
        return replace(config, budget=str(Budget.parse(config.budget, keep)) if config.budget else "", keep=keep)

    # Values that follow from several settings.

    @property
    def memory(self) -> Budget:
        """The budget of the memory, with ``keep``."""
        from escort_cil.memory.budget import LEARNED, Budget

        return Budget.parse(self.budget, self.keep, "prompt" if self.prompts_file else LEARNED)

    @property
    def kept(self) -> Keep:
        """The kinds of exemplar that are kept."""
        return self.memory.keep

    @property
    def probability(self) -> float:
        """The probability that an image is shown as one of its copies."""
        if self.augmentation_prob is not None:
            return self.augmentation_prob
        return 0.5 if self.kept.has_copies() else 0.0

    @property
    def backbone_rate(self) -> float:
        """The backbone's part of the learning rate."""
        return self.backbone_lr if self.backbone_lr is not None else 0.1 if self.backbone_config else 1.0

    def make_transform(self) -> Transform:
        """The transform. Raises ConfigError."""
        from escort_cil.augment import transforms

        whole, _ = filled(self)
        assert whole.image_size is not None
        made = transforms.get(whole.transform)(whole.image_size)
        if whole.backbone_config:
            from escort_cil.networks.pretrained import normalised

            made = normalised(made, whole.backbone_config)
        return replace(made, background=parse_colour(self.background), auto_augment=whole.autoaugment == "imagenet")

    def hyperparameters(self) -> Hyperparameters:
        """The method's settings, with the overrides of this configuration. Raises ConfigError."""
        from escort_cil.learners import learners

        options: dict[str, Any] = {}
        if self.lr is not None:
            options |= {"init_lr": self.lr, "lr": self.lr}
        if self.batch_size is not None:
            options["batch_size"] = self.batch_size
        options |= self.method_options
        kind = learners.get(self.method).hyperparameters
        made: Hyperparameters = build(kind, options, f"{self.method} setting", ConfigError, "method.")
        made = made.with_own_milestones(options)
        return made if self.epochs is None else made.shortened(self.epochs)

    def encode_options(self) -> EncodeOptions:
        """How images are encoded as prompts, if there is no file of prompts."""
        default = EncodeOptions()
        return EncodeOptions(
            preset=self.preset,
            settings=EdgeSettings(self.canny_low, self.canny_high, self.blur, self.min_contour),
            seeds=self.seeds or default.seeds,
            hint=default.hint if self.hint is None else self.hint,
            hint_codec=self.hint_codec,
            hint_quality=self.hint_quality,
            background=self.background,
            coding=self.coding,
            workers=self.workers,
        )

    def make_regenerator(self, near: str | None = None) -> Regenerator:
        """The regenerator, with the network's device as ``near``. Raises ConfigError."""
        from escort_codec.regenerate import make_regenerator, regenerators

        kind = regenerators.get(self.regenerator)().options_class
        what = f"{self.regenerator} setting"
        options: Any = build(kind, self.regenerator_options, what, ConfigError, "regenerator.")
        return make_regenerator(self.regenerator, options, near=near)
