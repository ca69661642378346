"""What is checked before the first epoch: images, names, captions, and whether the budget will do."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

import escort_codec
from escort_cil.evaluation import evaluate_run
from escort_cil.trainer import train
from escort_codec.encode.folder import encode_folder
from escort_codec.errors import ConfigError, EscortError, ImageError, OutputError, SourceError, UsageError
from escort_codec.recipe import EncodeOptions
from tests.cil.small_runs import logged, quick

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def data(small_data: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    shutil.copytree(small_data, tmp_path / "data")
    return tmp_path / "data"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:600])


def damage_test(data: Path) -> str:
    cut(data / "test" / "cactus" / "001.jpg")
    return r"test/cactus/001\.jpg: is damaged"


def damage_train(data: Path) -> str:
    cut(data / "train" / "clock" / "003.jpg")
    return r"train/clock/003\.jpg: is damaged"


def name_newline(data: Path) -> str:
    shutil.copy(data / "train" / "clock" / "003.jpg", data / "train" / "clock" / "a\nb.jpg")
    return r"a\\nb\.jpg.*is not a plain relative path"


def caption_too_long(data: Path) -> str:
    (data / "train" / "clock" / "003.txt").write_text("word " * 1800)
    return r"clock/003\.jpg.*cap is 8192"


BAD: list[Callable[[Path], str]] = [damage_test, damage_train, name_newline, caption_too_long]


@pytest.mark.parametrize("spoil", BAD)
def test_a_bad_image_is_found_before_the_run_begins(spoil: Callable[[Path], str], data: Path, tmp_path: Path) -> None:
    match = spoil(data)
    with pytest.raises(ImageError, match=f"{match}.*; `on_error` skip leaves bad images out"):
        train(quick(data, epochs=1), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(EscortError, match=match):  # without the check it ends the run where it is met
        train(quick(data, epochs=1, check=False), out=tmp_path / "run")
    assert (tmp_path / "run").exists()


@pytest.mark.parametrize("spoil", BAD)
def test_bad_images_are_left_out_if_asked(spoil: Callable[[Path], str], data: Path, tmp_path: Path) -> None:
    match = spoil(data)
    lines: list[str] = []
    with logged(lines.append):
        result = train(quick(data, epochs=1, on_error="skip"), out=tmp_path / "run")
    skipped = [line for line in lines if line.startswith("skipped: ")]
    assert len(skipped) == 1
    assert re.search(match, skipped[0])
    assert skipped[0] in (tmp_path / "run" / "log.txt").read_text()
    assert result.records[-1]["images"] == 15 - (spoil is damage_test)
    trained = sum(
        int(found[1]) for line in lines if (found := re.search(r"^phase . of .: . class\w*, (\d+) images", line))
    )
    assert trained == 40 - (spoil in (damage_train, caption_too_long))


def test_all_bad_images_are_counted(data: Path, tmp_path: Path) -> None:
    for spoil in BAD[:3]:
        spoil(data)
    with pytest.raises(ImageError, match=r"\(and 2 more bad images\)"):
        train(quick(data), out=tmp_path / "run")


def test_a_class_without_a_good_image(data: Path, tmp_path: Path) -> None:
    for path in (data / "train" / "clock").iterdir():
        cut(path)
    with pytest.raises(SourceError, match="no training image is left of clock"):
        train(quick(data, on_error="skip"), out=tmp_path / "run")


@pytest.mark.parametrize("split", ["train", "test"])
def test_what_encode_left_out_is_left_out(split: str, data: Path, tmp_path: Path) -> None:
    cut(data / split / "clock" / "002.jpg")
    prompts = tmp_path / "prompts.escx"
    encode_folder(data, prompts, EncodeOptions(seeds=(0, 1), hint=8, coding="rle", on_error="skip"))
    config = quick(data, prompts_file=str(prompts), epochs=1)
    if split == "test":  # encode never saw it
        with pytest.raises(ImageError, match=r"clock/002\.jpg: is damaged"):
            train(config, out=tmp_path / "run")
        return
    assert len(train(config, out=tmp_path / "run").records) == 3


def test_a_resumed_run_is_checked_for_what_is_left(data: Path, tmp_path: Path) -> None:
    def stop(line: str) -> None:
        if line.startswith("phase 2 epoch 1/"):
            raise KeyboardInterrupt

    config = quick(data)
    with pytest.raises(KeyboardInterrupt), logged(stop):
        train(config, out=tmp_path / "run")
    order = train(quick(data, epochs=1, method="finetune"), out=tmp_path / "other").class_order
    cut(data / "train" / order[0] / "000.jpg")  # of the first phase, which is over
    assert len(train(config, out=tmp_path / "run", resume=True).records) == 3
    cut(data / "train" / order[-1] / "000.jpg")
    with pytest.raises(ImageError, match=rf"{order[0]}.*\(and 1 more bad image\)"):
        train(config, out=tmp_path / "again")


@pytest.mark.parametrize(
    ("budget", "keep"),
    [
        ("500", ""),
        ("900", "original"),
        ("100B/class", "webp:16:20"),
        ("900", "30% original + 70% prompt"),
        ("700", "3 original + 2 prompt"),
    ],
)
def test_the_least_budget_will_do(budget: str, keep: str, small_data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot hold one exemplar of each of 5 classes: give at least \d") as caught:
        train(quick(small_data, budget=budget, keep=keep, epochs=1), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    least = re.search(r"at least (\S+)$", str(caught.value))
    assert least is not None
    train(quick(small_data, budget=least[1], keep=keep, epochs=1), out=tmp_path / "run")
    with escort_codec.open(tmp_path / "run" / "memory.escx") as memory:
        assert len(memory.labels) == 5


@pytest.mark.parametrize(
    ("budget", "keep", "least"),
    [
        ("4units", "original", "5units"),
        ("0.04units/class", "prompt", "0.05units/class"),
        ("0.1units", "30% original + 70% prompt", "0.3units"),  # a prompt is 1/24, of 70 %: 5 x 0.0595
        ("1units", "3 original + 2 prompt", "5.14units"),  # 3 1/12 units for 3 and 2; a third of them for one
    ],
)
def test_too_few_units(budget: str, keep: str, least: str, small_data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"5 classes: give at least {re.escape(least)}$"):
        train(quick(small_data, budget=budget, keep=keep), out=tmp_path / "run")


def test_classes_without_an_exemplar_are_named(small_data: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    with logged(lines.append):
        train(quick(small_data, budget="700", epochs=1, check=False), out=tmp_path / "run")
    with escort_codec.open(tmp_path / "run" / "memory.escx") as memory:
        held = len(memory.labels)
    assert 0 < held < 5
    noun = "class" if held == 4 else "classes"
    assert any(
        line.startswith(f"no exemplar is left of {5 - held} {noun}, the budget is too small: ") for line in lines
    )


def test_an_existing_run_is_named_before_the_check(data: Path, tmp_path: Path) -> None:
    train(quick(data, method="finetune", epochs=1), out=tmp_path / "run")
    damage_test(data)
    with pytest.raises(OutputError, match="holds a run already"):
        train(quick(data, method="finetune", epochs=1), out=tmp_path / "run")


def test_transparent_pixels_have_the_background_everywhere(small_data: Path, tmp_path: Path) -> None:
    """The same drawing, transparent outside, or opaque on the background: the same runs, byte for byte."""
    results = {}
    for name, background in (("clear", "#204060"), ("opaque", "white")):
        data = tmp_path / name
        for path in sorted(small_data.rglob("*.jpg")):
            picture = Image.open(path).convert("RGBA")
            mask = Image.new("L", picture.size, 0)
            mask.paste(255, (8, 8, 40, 40))
            picture.putalpha(mask)
            if name == "opaque":
                picture = Image.alpha_composite(Image.new("RGBA", picture.size, (0x20, 0x40, 0x60, 255)), picture)
            place = (data / path.relative_to(small_data)).with_suffix(".png")
            place.parent.mkdir(parents=True, exist_ok=True)
            picture.save(place)
        config = quick(data, background=background, epochs=1, eval_views="both", keep="50% webp:16:30 + 50% prompt")
        results[name] = train(config, out=tmp_path / f"run-{name}").records
        figures = evaluate_run(tmp_path / f"run-{name}", data).to_record()
        assert figures["top1"] == results[name][-1]["top1"]
    assert results["clear"] == results["opaque"]
    memories = [(tmp_path / f"run-{name}" / "memory.escx").read_bytes() for name in results]
    assert memories[0] == memories[1]


def test_a_background_that_is_no_colour(small_data: Path) -> None:
    with pytest.raises(UsageError, match="write white, black or #rrggbb"):
        quick(small_data, background="grey-ish")


@pytest.mark.parametrize("keep", ["prompt", "original"])
def test_what_an_earlier_run_lacks_is_not_asked_of_the_budget(keep: str, small_data: Path, tmp_path: Path) -> None:
    """The run before has classes without a prompt, and no original at all: no budget could mend that."""
    train(quick(small_data, budget="700", epochs=1, check=False), out=tmp_path / "run")
    with escort_codec.open(tmp_path / "run" / "memory.escx") as memory:
        assert len(memory.labels) < 5
    for split in ("train", "test"):
        shutil.copytree(small_data / split / "balloon", tmp_path / "more" / split / "zebra")
    config = quick(tmp_path / "more", budget="300", keep=keep, epochs=1, continued=str(tmp_path / "run"))
    with pytest.raises(ConfigError, match=r"6 classes: give at least \d+B"):
        train(config, out=tmp_path / "next")
