"""``keep`` auto: chooses the kind and rate to keep by training small networks on the first phase's classes.

It holds out a part of each class's training images. Half of the classes play the old ones: for each candidate it fills
a memory with their share of the budget. It trains a small network on this memory and on the other classes' images as
they are, as in a later phase, and tests it on the held-out images of all classes. It tries all candidates briefly, and
the best with more steps on all folds, the halves swapped. It reads only the first phase's training images: neither the
run's test images nor later classes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Final

import numpy as np

import escort_codec
from escort_cil.memory.budget import AUTO
from escort_cil.memory.encoder import ExemplarEncoder
from escort_cil.memory.keep import Keep
from escort_cil.memory.prompts import Prompts
from escort_cil.replay import SEEDS, Images, ReplaySettings, ReplayTest
from escort_cil.run.folder import KEEP, RunFolder
from escort_cil.run.plan import RunPlan
from escort_cil.session import Session
from escort_codec.atomic import write_file
from escort_codec.errors import ConfigError, TrainingError
from escort_codec.progress import Progress
from escort_codec.regenerate.base import Regenerator
from escort_codec.source import SourceImage
from escort_codec.untrusted import parse_json, read_file

log = logging.getLogger(__name__)

KINDS: Final = ("latent", "webp", "prompt")
RATES: Final = (150, 250, 400, 700)
"""Bytes of the candidates. Of equal candidates the first kind wins, then the lower rate."""
FOLDS: Final = 4
"""Folds of the cross-validation: each holds out one in ``FOLDS`` images of a class."""
FINALISTS: Final = 3
BRIEF: Final = ReplaySettings(steps=80)
FULL: Final = ReplaySettings(steps=200)
MAX_TABLE: Final = 1 << 20


@dataclass(slots=True)
class Candidate:
    """One kind and rate; accuracies on held-out images in per cent after ``brief`` and ``full`` trainings."""

    keep: str
    brief: float | None = None
    full: tuple[float, ...] = ()
    exemplars: int = 0

    @property
    def score(self) -> tuple[int, float]:
        """The sort key of candidates: those with full trainings rank higher."""
        return (1, mean(self.full)) if self.full else (0, -1.0 if self.brief is None else self.brief)


def candidates() -> list[Candidate]:
    """All candidates; of equal ones the first is preferred."""
    return [Candidate(str(Keep.parse(f"{kind}:{rate}B"))) for kind in KINDS for rate in RATES]


def choice(found: Sequence[Candidate]) -> Candidate:
    """The candidate to take: of those that the folds cannot tell from the best, the one with the most bytes.

    The first phase has fewer classes than the run, which coarser pictures suffice to tell apart. Two are told apart if
    the mean difference over the folds is above twice its standard error. A tie goes to the first.
    """
    best = max(found, key=lambda each: each.score)
    if len(best.full) < 2:
        return best

    def is_as_good(each: Candidate) -> bool:
        differences = [more - less for more, less in zip(best.full, each.full, strict=True)]
        return mean(differences) <= 2 * stdev(differences) / math.sqrt(len(differences))

    good = [each for each in found if len(each.full) == len(best.full) and is_as_good(each)]
    return max(good, key=lambda each: (int(each.keep.partition(":")[2].removesuffix("B")), mean(each.full)))


def settle_keep(plan: RunPlan, folder: RunFolder, session: Session) -> Session:
    """Chooses what a run keeps and records it in the plan and the folder. Returns the session with that choice."""

    def choose() -> str:
        keep = choose_keep(plan, folder / KEEP, session.regenerator, session.progress)
        folder.write_keep(keep)
        return keep

    plan.use_keep(session.devices.processes.from_first(choose))
    return replace(session, config=plan.config)


def choose_keep(plan: RunPlan, table: Path, regenerator: Regenerator, progress: Progress) -> str:
    """What to keep in the run of a ``plan``. The search is saved in the file ``table``, so that it can be resumed.

    Raises ConfigError if the first phase has too few images to hold any out.
    """
    first = plan.train_images(plan.first)
    limit = plan.budget.limit(len(plan.order))
    assert limit is not None
    share = int(limit * len(first) / len(plan.order) * (FOLDS - 1) / FOLDS)
    folds = [_fold(first, number) for number in range(FOLDS)]
    if not folds[0][1] or sum(map(len, first.values())) < 2 * FOLDS:
        raise ConfigError("the first phase has too few images to hold any out: name a kind", setting="keep", value=AUTO)
    key = _key(plan, share)
    found = _read(table, key)
    config = plan.config
    options = replace(config.encode_options(), seeds=SEEDS)
    encoder = ExemplarEncoder(Prompts(options, None, config.hint), config.workers)
    assert config.image_size is not None  # the plan has filled it in
    size = min(config.image_size, FULL.image_size)

    def accuracy(candidate: Candidate, fold: int, training: ReplaySettings) -> float | None:
        train, test = folds[fold]
        training = replace(training, image_size=size, seed=fold + 1)
        old = list(train)[fold % 2 :: 2] or list(train)  # of a single class all
        new = {label: images for label, images in train.items() if label not in old}
        remembered = {label: train[label] for label in old}
        with ReplayTest(
            *(remembered, test, regenerator, training),
            new=new,
            encoder=encoder,
            device=config.device,
            workers=config.workers,
        ) as replayed:
            result = replayed.run(Keep.parse(candidate.keep), share * len(old) // len(train))
        candidate.exemplars = max(candidate.exemplars, result.exemplars)
        return result.accuracy

    progress.begin("keep auto", len(found) + FINALISTS * FOLDS, unit="trainings")
    for candidate in found:
        if candidate.brief is None and not candidate.full:
            candidate.brief = accuracy(candidate, 0, BRIEF) or 0.0
            _write(table, key, found)
        progress.advance(note=f"{candidate.keep}: {candidate.brief:.1f} %")
    finalists = sorted(found, key=lambda each: -(each.brief or 0.0))[:FINALISTS]
    for candidate in finalists:
        for fold in range(len(candidate.full), FOLDS):
            candidate.full = (*candidate.full, accuracy(candidate, fold, FULL) or 0.0)
            _write(table, key, found)
            progress.advance(note=f"{candidate.keep}: {mean(candidate.full):.1f} %")
    progress.end()
    best = choice(found)
    _log(found, best, share, len(first))
    return best.keep


def _fold(images: Mapping[str, Sequence[SourceImage]], number: int) -> tuple[Images, Images]:
    """The training and the held-out images of fold ``number``; the order of a class's images is random but fixed."""
    train: dict[str, Sequence[SourceImage]] = {}
    test: dict[str, Sequence[SourceImage]] = {}
    for at, (label, group) in enumerate(images.items()):
        order = np.random.default_rng([FOLDS, at]).permutation(len(group))
        held = set(order[number::FOLDS].tolist()) if len(group) > 1 else set()
        held = held if len(held) < len(group) else set()
        train[label] = [image for i, image in enumerate(group) if i not in held]
        test[label] = [image for i, image in enumerate(group) if i in held]
    return train, {label: group for label, group in test.items() if group}


def _key(plan: RunPlan, share: int) -> str:
    """A digest of all that the search depends on: images by name and size, share, training, version."""
    images = [
        [image.key, image.path.stat().st_size] for group in plan.train_images(plan.first).values() for image in group
    ]
    options = asdict(plan.config.encode_options()) | {"workers": None}
    facts = [images, share, options, asdict(BRIEF), asdict(FULL), plan.config.image_size, plan.config.regenerator]
    facts += [dict(plan.config.regenerator_options), KINDS, RATES, escort_codec.__version__]
    return hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()[:16]


def _read(table: Path, key: str) -> list[Candidate]:
    """The candidates of a stopped search; fresh ones if there is no table, or its key or its form differs."""
    fresh = candidates()
    if not table.exists():
        return fresh
    try:
        values: Any = parse_json(read_file(table, TrainingError, most=MAX_TABLE))
        if values["key"] != key:
            return fresh
        rows = {row["keep"]: row for row in values["candidates"]}
        for each in fresh:
            row = rows[each.keep]
            each.brief = None if row["brief"] is None else float(row["brief"])
            each.full, each.exemplars = tuple(map(float, row["full"])), int(row["exemplars"])
    except (KeyError, TypeError, ValueError):
        return candidates()
    return fresh


def _write(table: Path, key: str, found: Sequence[Candidate]) -> None:
    values = {"key": key, "candidates": [asdict(each) for each in found]}
    write_file(table, json.dumps(values, indent=1).encode())


def _log(found: Sequence[Candidate], best: Candidate, share: int, classes: int) -> None:
    """Logs all candidates and the choice."""
    log.info("keep auto: memories of half of the first %d classes, %s bytes for all of them", classes, f"{share:,}")
    for each in sorted(found, key=lambda each: each.score, reverse=True):
        brief = "-" if each.brief is None else f"{each.brief:.1f} %"
        full = f", {mean(each.full):.1f} % in {len(each.full)} full trainings" if each.full else ""
        log.info("keep auto: %s, %d exemplars: %s briefly%s", each.keep, each.exemplars, brief, full)
    log.info("keep auto: the run keeps %s", best.keep)
