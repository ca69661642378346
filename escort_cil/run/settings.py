"""The configuration of a run: frozen, and with every seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Final, Literal, cast, get_args, get_origin, get_type_hints

from escort_cil.policy import Mix, RealKind
from escort_codec.encode import EncodeOptions
from escort_codec.errors import ConfigError
from escort_codec.exemplar import EdgeSettings

if TYPE_CHECKING:
    from escort_cil.learners import Hyperparameters
    from escort_cil.memory.budget import Budget
    from escort_codec.regenerate.base import Options

EvalViews = Literal["real", "regenerated", "both"]

SMALL_SIDE: Final = 128  # pixels: below, the 'small' transforms are the default
PAPER_UNITS: Final = (18, 48)  # real exemplars and prompts a class: 20 units


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """All that a training run is told. None, 0 or "" as a default means what the comment says.

    Only ``data`` or ``prompts`` is needed. Lengths are in pixels, budgets in bytes.
    """

    # where things are
    data: str = ""  # the folder that ``prompts`` records
    prompts: str = ""  # an .escx file of `escort encode`; none: images are encoded on the spot
    exemplars: str = ""  # a folder of `escort decode`; none: copies are regenerated
    cache: str = ""  # where regenerated copies are kept: <run>/cache
    continued: str = ""  # the folder of a finished run that this one goes on from, with new classes
    holdout: float = 0.2  # share of each class's images held out where there is no test/

    # protocol
    method: str = "icarl"
    init_cls: int = 0  # as many as ``increment``
    increment: int = 0  # a fifth of the classes, rounded up
    seed: int = 1993  # of the class order
    model_seed: int = 1  # of weights, batches, augmentation, selection
    shuffle: bool = True  # off: the classes come in the order of their names
    class_order: tuple[str, ...] = ()  # drawn with ``seed``
    memory_only: bool = False  # the images of the phase are not trained on, only what is remembered of them

    # network and optimisation
    backbone: str = "resnet18"
    image_size: int = 224
    transform: str = ""  # 'small' below 128 pixels, else 'large'
    epochs: int | None = None  # the method's; else for all phases, with its milestones moved in proportion
    lr: float | None = None  # the method's; else for all phases
    batch_size: int | None = None  # the method's
    method_options: Mapping[str, Any] = field(default_factory=dict)

    # memory
    budget: int | None = None  # of the memory file, in all
    budget_per_class: int | None = None  # for each class so far
    memory_size: float | None = None  # units in all
    memory_per_class: float | None = None  # units a class
    real_per_class: int | None = None
    syn_per_class: int | None = None
    mix: str = ""  # with a budget in bytes prompts alone (``real`` webp: these alone), else the paper's 18 and 48
    real: str = "original"  # or webp:SIDE:QUALITY
    selection: str = "herding"

    # prompts and their copies
    preset: str = "hires"
    canny_low: int = 100
    canny_high: int = 200
    blur: float = 0.0
    min_contour: int = 0
    coding: str = "context"
    hint: int | None = None  # as in ``prompts``, or 32; 0 leaves hints out
    hint_quality: int = 20
    regenerator: str = "harmonic"
    regenerator_options: Mapping[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()  # those in ``prompts``, or 0 to 4
    augmentation_prob: float | None = None  # 0.5 where prompts or reduced images are kept, else 0
    augmentations_per_image: int | None = None  # all seeds
    eval_views: EvalViews = "real"

    # how it is run
    device: str = "auto"  # cuda where there is one
    mixed_precision: str = "no"
    gradient_accumulation: int = 1
    cache_memory: int | None = None  # bytes of decoded images kept in memory; none: half of the machine's
    workers: int | None = None  # threads for decoding and encoding; one a core
    checkpoint_every: int = 10  # epochs
    track: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check(self)

    def to_map(self) -> dict[str, Any]:
        """All fields, for JSON."""
        values = asdict(self)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    @classmethod
    def from_map(cls, values: Mapping[str, Any]) -> TrainConfig:
        """The inverse of ``to_map``; keys may be missing, and bytes be written as ``200KB``.

        Raises ConfigError, for unknown keys among others.
        """
        from escort_cil.bytes import parse_bytes
        from escort_cil.learners.base import unknown

        known = {f.name: f for f in fields(cls)}
        clean: dict[str, Any] = {}
        for key, value in values.items():
            if key not in known:
                raise ConfigError(unknown(f"the configuration's key {key!r}", key, known))
            clean[key] = tuple(value) if isinstance(value, list) else value
        for key in ("budget", "budget_per_class", "cache_memory"):
            if isinstance(clean.get(key), str):
                clean[key] = parse_bytes(clean[key])
        kinds = get_type_hints(cls)
        for key, value in clean.items():
            if not _is_a(value, kinds[key]):
                raise ConfigError(f"{key} = {values[key]!r}: give {_words(kinds[key])}")
        return cls(**clean)

    # What the fields mean together.

    @property
    def kept(self) -> Mix:
        """The mixture that is kept."""
        if self.real_per_class is not None or self.syn_per_class is not None:
            return Mix(self.real_per_class or 0, self.syn_per_class or 0, counts=True)
        if self.mix:
            return Mix.parse(self.mix)
        if self.budget is not None or self.budget_per_class is not None:
            return Mix(0.0, 1.0) if self.real_kind.side is None else Mix(1.0, 0.0)
        if self.memory_per_class is not None or self.memory_size is not None:
            units = self.memory_per_class if self.memory_per_class is not None else self.memory_size
            return Mix(int(units or 0), 0, counts=True)
        return Mix(*PAPER_UNITS, counts=True)

    @property
    def real_kind(self) -> RealKind:
        """What a real exemplar is."""
        return RealKind.parse(self.real)

    @property
    def probability(self) -> float:
        """With which an image is shown as one of its copies."""
        if self.augmentation_prob is not None:
            return self.augmentation_prob
        return 0.5 if self.kept.prompt or self.real_kind.side is not None else 0.0

    @property
    def transform_name(self) -> str:
        """The transforms' preset."""
        return self.transform or ("small" if self.image_size < SMALL_SIDE else "large")

    def make_budget(self) -> Budget:
        """The memory's budget."""
        from escort_cil.memory.budget import Budget

        return Budget(self.kept, self.budget, self.budget_per_class, self.memory_size)

    def hyperparameters(self) -> Hyperparameters:
        """The method's, with what this configuration overrides."""
        from escort_cil.learners import learners, with_options

        options: dict[str, Any] = {}
        if self.lr is not None:
            options |= {"init_lr": self.lr, "lr": self.lr}
        if self.batch_size is not None:
            options["batch_size"] = self.batch_size
        made = with_options(learners.get(self.method).hyperparameters, {**options, **self.method_options})
        return made if self.epochs is None else made.shortened(self.epochs)

    def encode_options(self) -> EncodeOptions:
        """How images become prompts where no file of prompts says it."""
        return EncodeOptions(
            preset=self.preset,
            settings=EdgeSettings(self.canny_low, self.canny_high, self.blur, self.min_contour),
            seeds=self.seeds or (0, 1, 2, 3, 4),
            hint=32 if self.hint is None else self.hint,
            hint_quality=self.hint_quality,
            coding=self.coding,
            workers=self.workers,
        )

    def make_regenerator_options(self, near: str | None = None) -> Options:
        """The regenerator's options, with the network's device as ``near``; raises ConfigError for one there is not."""
        from escort_cil.learners.base import unknown
        from escort_codec.regenerate.base import Options

        known = {f.name: f for f in fields(Options) if f.name != "near"}
        for key in self.regenerator_options:
            if key not in known:
                raise ConfigError(unknown(f"the regenerator's option {key!r}", key, known))
        return Options(near=near, **self.regenerator_options)

    def with_seed(self, seed: int) -> TrainConfig:
        """The same with another class order."""
        return replace(self, seed=seed)


def _check(config: TrainConfig) -> None:
    """Raises ConfigError for values that cannot be meant, each in one line."""

    def need(right: bool, message: str) -> None:
        if not right:
            raise ConfigError(message)

    need(0 < config.holdout < 1, f"holdout {config.holdout}: a share between 0 and 1")
    need(config.init_cls >= 0 and config.increment >= 0, "--init-cls and --increment count classes: at least 1")
    need(config.image_size >= 8, f"--image-size {config.image_size}: at least 8 pixels")
    for name in ("epochs", "batch_size", "augmentations_per_image", "workers"):
        value = getattr(config, name)
        need(value is None or value >= 1, f"--{name.replace('_', '-')} {value}: at least 1")
    for name in ("gradient_accumulation", "checkpoint_every"):
        need(getattr(config, name) >= 1, f"--{name.replace('_', '-')} {getattr(config, name)}: at least 1")
    probability = config.augmentation_prob
    need(probability is None or 0 <= probability <= 1, f"--augmentation-prob {probability}: between 0 and 1")
    need(0 <= config.seed < 1 << 32, f"--seed {config.seed}: between 0 and 4294967295")
    need(0 <= config.model_seed < 1 << 32, f"--model-seed {config.model_seed}: between 0 and 4294967295")
    need(
        config.mixed_precision in ("no", "bf16", "fp16"),
        f"--mixed-precision {config.mixed_precision}: write no, bf16 or fp16",
    )
    check_views(config.eval_views)
    _check_memory(config, need)


def _is_a(value: object, kind: Any) -> bool:
    """Whether a value is of a field's kind: ``int``, ``float | None``, ``tuple[str, ...]``, ``Mapping`` and so on."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return any(_is_a(value, part) for part in parts)
    if origin is tuple:
        return isinstance(value, tuple) and all(_is_a(each, parts[0]) for each in value)
    if origin is Literal:
        return isinstance(value, str)  # which, is looked at with the others
    if kind in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if kind is float else origin or kind)


def _words(kind: Any) -> str:
    """What values of a kind are called."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return " or ".join(_words(part) for part in parts)
    if origin is tuple:
        return "a list of whole numbers, such as [0, 1]" if parts[0] is int else 'a list of texts, such as ["a", "b"]'
    names: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", NoneType: "null"}
    return "a JSON object of options" if origin is Mapping else names.get(kind, "a text")


def check_views(text: str) -> EvalViews:
    """Views as typed; raises ConfigError."""
    for views in get_args(EvalViews):
        if text == views:
            return cast(EvalViews, views)
    raise ConfigError(f"--eval-views {text}: write {', '.join(get_args(EvalViews)[:-1])} or {get_args(EvalViews)[-1]}")


def _check_memory(config: TrainConfig, need: Any) -> None:
    limits = [
        name
        for name in ("budget", "budget_per_class", "memory_size", "memory_per_class")
        if getattr(config, name) is not None
    ]
    for name in limits:
        need(getattr(config, name) >= 0, f"--{name.replace('_', '-')} {getattr(config, name)}: must not be negative")
    if len(limits) > 1:
        raise ConfigError(f"{' and '.join('--' + name.replace('_', '-') for name in limits)} are two budgets: give one")
    counts = config.real_per_class is not None or config.syn_per_class is not None
    need(not (counts and config.mix), "--mix says the same as --real-per-class and --syn-per-class: give one")
    need(
        min(config.real_per_class or 0, config.syn_per_class or 0) >= 0,
        "--real-per-class and --syn-per-class must not be negative",
    )
    kept = config.kept
    in_bytes = config.budget is not None or config.budget_per_class is not None
    need(
        in_bytes or kept.counts, "--mix with shares needs a budget in bytes: --budget 200KB or --budget-per-class 20KB"
    )
    if config.memory_per_class is not None and kept.real + kept.prompt / 24 > config.memory_per_class + 1e-9:
        raise ConfigError(
            f"--memory-per-class {config.memory_per_class:g} is less than {kept.real:g} real exemplars and "
            f"{kept.prompt:g} prompts, which are {kept.real + kept.prompt / 24:g} units"
        )
    wanted = config.real_kind.side is None or kept.real > 0
    need(wanted, f"--real {config.real}: no real exemplars are kept: give --real-per-class or --mix")
