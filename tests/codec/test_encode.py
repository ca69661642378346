"""The pipeline from a data folder to a file: the right maps, the same bytes, and interrupted runs."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from escort_cil.demo.drawings import draw_dataset
from escort_codec import EdgeSettings, Exemplar, Reader, Recipe, Writer
from escort_codec.coding import codings
from escort_codec.container.parts import merge, split
from escort_codec.encode.folder import EncodeReport, encode_folder
from escort_codec.errors import EscortError, ImageError, LimitError, OutputError, SourceError, UsageError
from escort_codec.hint import encode_hint
from escort_codec.limits import MAX_LABEL, MAX_PIXELS, MAX_PROMPT
from escort_codec.progress import Progress
from escort_codec.recipe import EncodeOptions
from escort_codec.source import scan
from tests.helpers import assert_whole, quick_folder, read_all

OPTIONS = EncodeOptions(coding="rle", workers=2)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of five pictures of about 60 pixels."""
    folder = tmp_path_factory.mktemp("drawn")
    draw_dataset(folder, classes=3, train=5, test=1, size=60)
    return folder


@pytest.fixture
def data(drawn: Path, tmp_path: Path) -> Path:
    """A copy of ``drawn`` that a test may change."""
    return Path(shutil.copytree(drawn, tmp_path / "DATA"))


def encode(data: Path, out: Path, progress: Progress | None = None, **changes: Any) -> EncodeReport:
    return encode_folder(str(data), out, dataclasses.replace(OPTIONS, **changes), progress=progress or Progress())


class Steps(Progress):
    """Records progress; ``step`` is called after each image."""

    def __init__(self, step: Callable[[], None] = lambda: None) -> None:
        self.seen: list[object] = []
        self._step = step

    def begin(self, what: str, total: int | None = None, *, unit: str = "images") -> None:
        self.seen.append(total)

    def advance(self, count: int = 1, note: str = "") -> None:
        self.seen.append("step")
        self._step()

    def end(self) -> None:
        self.seen.append("end")


def pixels(exemplar: Exemplar, data: Path) -> NDArray[np.uint8]:
    with Image.open(data / "train" / exemplar.label / exemplar.name) as image:
        return np.asarray(image.convert("RGB"))


def test_hires_maps_are_opencvs_bit_for_bit(drawn: Path, tmp_path: Path) -> None:
    report = encode(drawn, tmp_path / "f.escx", hint_codec="vp8")
    found = read_all(tmp_path / "f.escx")
    assert report.exemplars == len(found) == 15
    for exemplar in found:
        rgb = pixels(exemplar, drawn)
        assert (exemplar.edges == (cv2.Canny(rgb, 100, 200) > 0)).all()
        assert exemplar.size == exemplar.map_shape == rgb.shape[:2]
        assert exemplar.hint == encode_hint(rgb)
        assert exemplar.prompt == exemplar.label
        assert exemplar.seeds == (0, 1, 2, 3, 4)
        assert exemplar.edge_settings == EdgeSettings(100, 200)
        assert exemplar.recipe == Recipe(preset="hires")
    assert report.source_bytes == sum(image.path.stat().st_size for image in scan(drawn))
    assert report.skipped == []


def generation_image(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """As the paper's second script resizes: 256 or 512 pixels, at most 1024 x 768, multiples of 64."""
    h, w = rgb.shape[:2]
    k = (512 if min(h, w) >= 512 else 256) / min(h, w)
    H, W = h * k, w * k
    while H * W > 1024 * 768:
        H, W = H / 2, W / 2
    H, W = int(np.round(H / 64)) * 64, int(np.round(W / 64)) * 64
    return cv2.resize(rgb, (W, H), interpolation=cv2.INTER_LANCZOS4 if h * w <= H * W else cv2.INTER_AREA)  # type: ignore[return-value]


def test_lowres_maps_are_opencvs_at_the_generation_size(data: Path, tmp_path: Path) -> None:
    sizes = [(300, 210), (700, 520), (40, 200), (1200, 530)]
    for n, (h, w) in enumerate(sizes):
        big = np.kron(np.random.default_rng(n).integers(0, 256, (h // 10, w // 10, 3)), np.ones((10, 10, 1)))
        (data / "train" / "zebra").mkdir(exist_ok=True)
        Image.fromarray(big.astype(np.uint8)).save(data / "train" / "zebra" / f"{n}.png")
    encode(data, tmp_path / "f.escx", preset="lowres", settings=EdgeSettings(80, 160))
    found = read_all(tmp_path / "f.escx")
    assert len(found) == 19
    for exemplar in found:
        rgb = pixels(exemplar, data)
        resized = generation_image(rgb)
        assert (exemplar.edges == (cv2.Canny(resized, 80, 160) > 0)).all()
        assert exemplar.map_shape == resized.shape[:2]
        assert exemplar.size == rgb.shape[:2]
        assert exemplar.recipe.preset == "lowres"


@pytest.mark.parametrize("coding", codings.names())
def test_the_bytes_do_not_depend_on_the_number_of_workers(drawn: Path, tmp_path: Path, coding: str) -> None:
    files = set()
    for workers in (1, 2, 5, None):
        encode(drawn, tmp_path / "f.escx", coding=coding, workers=workers, overwrite=True)
        files.add((tmp_path / "f.escx").read_bytes())
    assert len(files) == 1
    assert all((e.edges == (cv2.Canny(pixels(e, drawn), 100, 200) > 0)).all() for e in read_all(tmp_path / "f.escx"))
    assert_whole(tmp_path / "f.escx")


def test_options_are_recorded_and_obeyed(drawn: Path, tmp_path: Path) -> None:
    steps = Steps()
    options = EncodeOptions(split="test", seeds=(3, 9), hint=0, coding="packed", settings=EdgeSettings(10, 20, 1.25, 3))
    report = encode_folder(str(drawn), tmp_path / "f.escx", options, progress=steps)
    with Reader(tmp_path / "f.escx") as reader:
        assert (len(reader), report.exemplars, reader.source, reader.seeds) == (3, 3, str(drawn), (3, 9))
        for exemplar in reader:
            assert exemplar.hint is None
            assert (exemplar.coding, exemplar.edge_settings) == ("packed", EdgeSettings(10, 20, 1.25, 3))
    assert steps.seen == [3, "step", "step", "step", "end"]


def test_captions_become_prompts(data: Path, tmp_path: Path) -> None:
    image = scan(data)[0]
    image.path.with_suffix(".txt").write_text("a caption, ünïcode")
    encode(data, tmp_path / "f.escx")
    found = read_all(tmp_path / "f.escx")
    assert found[0].prompt == "a caption, ünïcode"
    assert found[1].prompt == found[1].label


BAD: dict[str, bytes] = {"no image": b"text", "empty": b"", "cut off": b""}


def _spoil(data: Path, kind: str, number: int = 7) -> Path:
    path = scan(data)[number].path
    if kind == "cut off":
        path.write_bytes(path.read_bytes()[:-300])
    elif kind == "too large":
        Image.new("RGB", (200, 200)).save(path)
    else:
        path.write_bytes(BAD[kind])
    return path


@pytest.mark.parametrize("kind", ["no image", "empty", "cut off", "too large"])
def test_a_bad_image_stops_the_run_before_work_is_lost_and_leaves_nothing(
    data: Path, tmp_path: Path, kind: str
) -> None:
    path = _spoil(data, kind)
    steps = Steps()
    with pytest.raises(ImageError) as caught:
        encode(data, tmp_path / "f.escx", steps, max_pixels=10_000)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["DATA"]
    assert (steps.seen == []) == (kind != "cut off")  # only decoding shows that the end is missing


@pytest.mark.parametrize("kind", ["no image", "empty", "cut off", "too large"])
def test_a_bad_image_is_named_and_skipped(
    data: Path, tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole = tmp_path / "whole.escx"
    encode(data, whole)
    path = _spoil(data, kind)
    report = encode(data, tmp_path / "f.escx", max_pixels=10_000, on_error="skip")
    assert report.exemplars == 14
    (reason,) = report.skipped
    assert reason.startswith(f"{path}: ")
    assert caplog.messages == [f"skipped: {reason}"]
    stored = read_all(whole)
    assert read_all(tmp_path / "f.escx") == stored[:7] + stored[8:]


def test_a_folder_without_a_usable_image(data: Path, tmp_path: Path) -> None:
    for image in scan(data):
        image.path.write_bytes(b"text")
    with pytest.raises(SourceError, match="none of its 15 files is usable"):
        encode(data, tmp_path / "f.escx", on_error="skip")
    assert [p.name for p in tmp_path.iterdir()] == ["DATA"]


@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize("what", ["class", "backslash", "caption", "utf8"])
def test_names_and_captions_above_the_caps(data: Path, tmp_path: Path, what: str, on_error: str) -> None:
    path = scan(data)[3].path
    if what == "class":
        (data / "train" / ("x" * MAX_LABEL)).mkdir()
        path = path.rename(data / "train" / ("x" * MAX_LABEL) / "1.jpg")
    elif what == "backslash":
        path = path.rename(path.with_name("a\\b.jpg"))
    elif what == "utf8":
        path = path.rename(os.fsdecode(os.fsencode(path.parent) + b"/\xff.jpg"))
    else:
        path.with_suffix(".txt").write_text("x" * (MAX_PROMPT + 1))
    if what == "class":  # just at the cap
        assert encode(data, tmp_path / "f.escx").exemplars == 15
    elif on_error == "skip":
        report = encode(data, tmp_path / "f.escx", on_error="skip")
        assert (report.exemplars, len(report.skipped)) == (14, 1)
    else:
        with pytest.raises(LimitError):
            encode(data, tmp_path / "f.escx")
        assert not (tmp_path / "f.escx").exists()


@pytest.mark.parametrize(
    ("cap", "value", "says"),
    [("MAX_EXEMPLARS", 14, "15 images are above the cap of 14"), ("MAX_LABELS", 2, "3 classes are above the cap of 2")],
)
def test_more_than_fits_into_a_file_is_reported_before_work_is_lost(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cap: str, value: int, says: str
) -> None:
    monkeypatch.setattr(f"escort_codec.encode.folder.{cap}", value)
    steps = Steps()
    with pytest.raises(LimitError, match=rf"{says} for one file: set `shard`"):
        encode(drawn, tmp_path / "f.escx", steps)
    assert steps.seen == []
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(f"escort_codec.encode.folder.{cap}", value + 1)
    assert encode(drawn, tmp_path / "f.escx").exemplars == 15


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"preset": "midres"}, "preset = 'midres': did you mean hires"),
        ({"coding": "zip"}, "no coding is called 'zip'"),
        ({"workers": 0}, "workers = 0: give a whole number of at least 1"),
        ({"max_pixels": 0}, "max_pixels = 0: "),
        ({"max_pixels": MAX_PIXELS + 1}, f"max_pixels = {MAX_PIXELS + 1}: "),
        ({"shard": (0, 3)}, "shard = '0/3': "),
        ({"shard": (4, 3)}, "shard = '4/3': "),
        ({"settings": EdgeSettings(200, 100)}, "is above the upper one"),
        ({"hint": 32.0}, "hint = 32.0: give a whole number from 0"),
        ({"shard": (1,)}, "shard = "),
        ({"settings": EdgeSettings(low=90.0)}, "low = 90.0: give a whole number"),  # type: ignore[arg-type]
        ({"settings": EdgeSettings(-1, 100)}, "low = -1: "),
        ({"settings": EdgeSettings(1, 70000)}, "high = 70000: "),
        ({"settings": EdgeSettings(blur=-1)}, "blur"),
        ({"settings": EdgeSettings(blur=float("nan"))}, "blur"),
        ({"settings": EdgeSettings(min_contour=-1)}, "contour"),
        ({"hint": -1}, "hint"),
        ({"hint": 2000}, "hint"),
        ({"hint_quality": 101}, "quality"),
        ({"seeds": (3, 1)}, "seeds"),
        ({"seeds": tuple(range(5000))}, "seeds"),
        ({"seeds": (-1,)}, "seed"),
        ({"seeds": (1 << 32,)}, "seed"),
    ],
)
def test_options_that_are_not_valid_are_refused_before_anything_is_read(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        encode(tmp_path / "none", tmp_path / "f.escx", **changes)
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_written(drawn: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.escx"
    with Writer(out):
        pass
    before = out.read_bytes()
    for path, says in (
        (out, "exists already"),
        (tmp_path / "none" / "f.escx", "no such folder"),
        (tmp_path, "is a folder"),
        (Path("/proc/f.escx"), "cannot be written"),
        (tmp_path / ("x" * 300), "cannot be written"),
    ):
        with pytest.raises(OutputError, match=says):
            encode(drawn, path)
    assert out.read_bytes() == before
    encode(drawn, out, overwrite=True)
    assert len(read_all(out)) == 15


def test_shards_merged_are_the_whole_byte_for_byte(drawn: Path, tmp_path: Path) -> None:
    encode(drawn, tmp_path / "whole.escx")
    for n in (1, 4, 15):
        parts = [tmp_path / f"{k}-{n}.escx" for k in range(1, n + 1)]
        for k, part in enumerate(parts, 1):
            encode(drawn, part, shard=(k, n))
        counts = [len(read_all(part)) for part in parts]
        assert max(counts) - min(counts) <= 1
        merge(parts[::-1], tmp_path / "merged.escx", overwrite=True)
        assert (tmp_path / "merged.escx").read_bytes() == (tmp_path / "whole.escx").read_bytes()


KILLED = """
import random, signal, sys
from pathlib import Path
from escort_codec.container import assembler, writer
from escort_codec.encode.folder import encode_folder, prepare
from escort_codec.recipe import EncodeOptions
from escort_codec.progress import Progress
from escort_codec.errors import OutputError
from tests.container.failing import Disk, count_points
from tests.helpers import in_child, read_all

# No thread ever runs in this process: a fork beside one may leave OpenCV's locks locked.
data, folder, points, seed = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
assembler.BLOCK_EXEMPLARS, writer._SYNC_BYTES = 4, 1000
out, partial = folder / "out.escx", folder / "out.escx.partial"
prepare("rle")

def encode(resume=True):
    encode_folder(data, out, EncodeOptions(coding="rle", workers=2, resume=resume, on_error="skip"))

assert in_child(lambda: count_points(encode, folder / "points")) == 0
whole = out.read_bytes()
out.unlink()
total = int((folder / "points").read_text())
kept = 0
for point in sorted({0, 1, total - 1, total - 2, *random.Random(seed).sample(range(total), points)}):
    def run():
        Disk(point).install()
        encode()
    assert in_child(run) == -signal.SIGKILL
    if not out.exists():
        if partial.exists():
            assert whole.startswith(partial.read_bytes())
            kept += partial.stat().st_size > 500 and len(read_all(partial, recover=True)) > 0
        assert in_child(lambda: encode(resume=point % 10 > 0)) == 0
    assert out.read_bytes() == whole, point
    assert not partial.exists()
    out.unlink()

places = [0, len(whole) - 1, *random.Random(seed + 1).sample(range(len(whole)), 4)]
for point, resume in [(point, resume) for point in places for resume in (True, False)]:
    def run():
        Disk(point, full=True).install()
        try:
            encode(resume)
        except OutputError as exc:
            assert "No space left on device" in str(exc)
        else:
            raise AssertionError("the disk was not full")
    assert in_child(run) == 0, point
    assert (out.exists(), partial.exists()) == (False, resume), point
    assert not resume or whole.startswith(partial.read_bytes())
    assert in_child(encode) == 0  # there is room again
    assert out.read_bytes() == whole, point
    out.unlink()

def run():
    Disk(short=random.Random(seed)).install()
    encode()
assert in_child(run) == 0
assert out.read_bytes() == whole
print(kept)
"""


@pytest.mark.slow
def test_killed_anywhere_or_out_of_room_and_resumed_it_gives_the_same_bytes(data: Path) -> None:
    """Dozens of SIGKILLs, full disks and short writes, in a separate process that has no threads when it forks."""
    _spoil(data, "cut off")
    with quick_folder() as folder:
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(data), str(folder), "40", "8"],
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[2],
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20


def _interrupted(data: Path, out: Path, after: int, **changes: Any) -> None:
    """Encodes until image ``after``, then interrupts."""
    left = iter(range(after))

    def step() -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode(data, out, Steps(step), **changes)


def test_an_interrupted_run_leaves_nothing_or_what_resume_needs(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("escort_codec.container.assembler.BLOCK_EXEMPLARS", 4)
    out, partial = tmp_path / "f.escx", tmp_path / "f.escx.partial"
    encode(data, tmp_path / "whole.escx")
    whole = (tmp_path / "whole.escx").read_bytes()
    _interrupted(data, out, 9)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["DATA", "whole.escx"]
    _interrupted(data, out, 9, resume=True)
    assert partial.exists()
    assert not out.exists()
    report = encode(data, out, resume=True)
    assert (report.resumed, report.exemplars) == (8, 15)
    assert out.read_bytes() == whole
    out.unlink()
    assert encode(data, out, resume=True).resumed == 0  # nothing to resume is no error
    assert out.read_bytes() == whole


@pytest.mark.parametrize(
    "changes",
    [
        {"preset": "lowres"},
        {"coding": "packed"},
        {"hint": 0},
        {"hint": 16},
        {"hint_quality": 60},
        {"seeds": (1,)},
        {"settings": EdgeSettings(50, 100)},
        {"shard": (1, 2)},
        {"shard": (2, 2)},
    ],
    ids=str,
)
def test_resuming_with_other_options_is_refused_and_keeps_the_partial_file(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    monkeypatch.setattr("escort_codec.container.assembler.BLOCK_EXEMPLARS", 4)
    out, partial = tmp_path / "f.escx", tmp_path / "f.escx.partial"
    _interrupted(data, out, 13, resume=True)
    before = partial.read_bytes()
    with pytest.raises(UsageError, match="other options or another data folder"):
        encode(data, out, resume=True, **changes)
    assert before.startswith(partial.read_bytes())
    assert encode(data, out, resume=True).resumed == 12


def test_resuming_over_a_changed_data_folder(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("escort_codec.container.assembler.BLOCK_EXEMPLARS", 4)
    out = tmp_path / "f.escx"
    first, other = scan(data)[0].path, scan(data)[5].path
    _interrupted(data, out, 9, resume=True)
    moved = other.rename(tmp_path / "elsewhere.jpg")
    with pytest.raises(
        UsageError, match="another data folder"
    ):  # an image that is encoded already is not there any more
        encode(data, out, resume=True)
    moved.rename(other)
    shutil.copy(first, first.with_name("0000.jpg"))  # a new one, before those that are done
    assert encode(data, out, resume=True).exemplars == 16
    assert sorted(e.key for e in read_all(out)) == [image.key for image in scan(data)]
    assert_whole(out)


def test_two_encoders_of_one_file(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.escx"
    seen: list[EscortError] = []

    def step() -> None:
        if not seen:
            with pytest.raises(EscortError, match="another process is writing it") as caught:
                encode(data, out)
            seen.append(caught.value)

    encode(data, out, Steps(step))
    assert seen
    assert len(read_all(out)) == 15


def test_the_background_is_recorded_and_kept_by_merge_split_and_append(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.escx"
    encode_folder(data, out, EncodeOptions(background="#204060", hint=8, coding="rle"))
    places = split(out, tmp_path / "parts", by_class=True)
    merge(places, tmp_path / "whole.escx")
    with Writer(tmp_path / "whole.escx", append=True):
        pass
    for place in (out, *places, tmp_path / "whole.escx"):
        with Reader(place) as reader:
            assert reader.background == "#204060"
    shutil.copy(out, tmp_path / "other.escx.partial")
    with pytest.raises(UsageError, match="other options"):
        encode_folder(data, tmp_path / "other.escx", EncodeOptions(hint=8, coding="rle", resume=True))
