"""``.escx`` files behind URLs: read by few ranges, written whole or not at all, each fault in one line."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import escort_codec
from escort_cli.app import app
from escort_codec.container import Reader, Writer
from escort_codec.errors import EscortError, OutputError, SourceError, StoreError
from escort_codec.exemplar import Exemplar
from escort_codec.store.ranges import BLOCK, RangeFile
from escort_codec.store.urls import Url, place
from tests.helpers import in_child, make_exemplars
from tests.store.servers import ENVIRONMENT, WebServer, breaking, serving, serving_s3

pytest.importorskip("fsspec", reason="fsspec is not installed (extra remote)")
pytest.importorskip("aiohttp", reason="aiohttp is not installed (extra remote)")

EXEMPLARS = make_exemplars(300)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where files are made before they are sent."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def web(tmp_path: Path) -> Iterator[WebServer]:
    folder = tmp_path / "web"
    folder.mkdir()
    with Writer(folder / "a.escx") as writer:
        for exemplar in EXEMPLARS:
            writer.add(exemplar)
    with serving(folder) as server:
        yield server


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    """The file system of an S3 server with a bucket called bucket."""
    pytest.importorskip("s3fs", reason="s3fs is not installed (extra remote)")
    pytest.importorskip("moto", reason="moto is not installed (extra dev)")
    import s3fs

    with serving_s3() as address, pytest.MonkeyPatch.context() as patch:
        for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": address}.items():
            patch.setenv(name, value)
        store = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)
        store.mkdir("bucket")
        yield store
        s3fs.S3FileSystem.clear_instance_cache()


def write(target: str | Path, exemplars: list[Exemplar], **options: Any) -> None:
    with Writer(target, **options) as writer:
        for exemplar in exemplars:
            writer.add(exemplar)


def test_a_file_on_a_web_server_is_read_as_one_on_disk(web: WebServer) -> None:
    with escort_codec.open(f"{web.address}/a.escx") as reader:
        assert list(reader) == EXEMPLARS
        assert reader[EXEMPLARS[7].key] == EXEMPLARS[7]
        assert reader.size == (web.folder / "a.escx").stat().st_size
        assert pickle.loads(pickle.dumps(reader))[3] == EXEMPLARS[3]


def test_a_reader_of_a_url_works_in_a_forked_process(web: WebServer) -> None:
    with escort_codec.open(f"{web.address}/a.escx") as reader:

        def child() -> None:
            reader.file._ranges._blocks.clear()  # type: ignore[union-attr]
            assert reader[200] == EXEMPLARS[200]

        assert in_child(child) == 0


def test_opening_a_gigabyte_and_reading_ten_exemplars_takes_at_most_eight_requests(web: WebServer) -> None:
    """The file has a hole of zeros where most of its images would be; what is read is real."""
    photo = np.random.default_rng(0).bytes(1 << 20)
    big = web.folder / "big.escx"
    write(big, [Exemplar.from_image(photo + bytes([i]), label="c", name=f"{i:04}.jpg", size=(9, 9)) for i in range(24)])
    _stretch(big, 1 << 30)
    web.behaviour.requests.clear()
    with escort_codec.open(f"{web.address}/big.escx") as reader:
        assert reader.size > 1 << 30
        found = [reader[i].payload for i in range(3, 13)]
    assert all(found[i][:9] == photo[:9] and found[i][-1] == i + 3 for i in range(10))
    assert len(web.behaviour.requests) <= 8, web.behaviour.requests
    assert web.behaviour.sent < 60 << 20


def _stretch(path: Path, size: int) -> None:
    """Puts an ancillary chunk of zeros behind the blocks, so that a file has ``size`` bytes more; it stays valid."""
    from escort_codec.container.index import Index
    from escort_codec.container.layout import INDEX, TAIL_SIZE, make_chunk, make_tail

    with Reader(path) as reader:
        at, index = reader.state.index_offset, reader.state.index
    assert isinstance(index, Index)
    offset = at + size
    chunk = make_chunk(INDEX, index.pack())
    with path.open("r+b") as file:
        file.truncate(at)
        file.seek(offset)
        file.write(chunk + make_tail(offset, offset + len(chunk) + TAIL_SIZE))


def test_the_cache_of_blocks_is_bounded_and_reading_on_asks_for_longer_ranges(web: WebServer) -> None:
    data = np.random.default_rng(1).bytes(40 * BLOCK + 7)
    (web.folder / "data").write_bytes(data)
    file = RangeFile(Url(f"{web.address}/data"))
    file.limit = 8 * BLOCK
    read = b"".join(file.read(at, min(100_000, file.size - at)) for at in range(0, file.size, 100_000))
    assert read == data
    assert len(file._blocks) <= 8
    assert len(web.behaviour.requests) < 14
    assert file.read(40 * BLOCK, 7) == data[-7:]


def test_a_connection_that_breaks_off_is_tried_again_and_then_one_line(web: WebServer) -> None:
    url = f"{web.address}/a.escx"
    web.behaviour.break_off = 2
    with escort_codec.open(url) as reader:
        assert reader[0] == EXEMPLARS[0]
    web.behaviour.break_off = 1000
    with pytest.raises(StoreError, match=r"a\.escx: cannot be read: .*connection was lost") as caught:
        escort_codec.open(url)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "line"), [(403, "no permission"), (401, "no permission"), (404, "there is no such file")]
)
def test_what_a_server_refuses_is_one_line(web: WebServer, status: int, line: str) -> None:
    web.behaviour.status = status
    with pytest.raises(StoreError, match=line) as caught:
        escort_codec.open(f"{web.address}/a.escx?signature=secret")
    assert "secret" not in str(caught.value).split("cannot be")[0]


def test_a_server_without_ranges_does_not_send_a_large_file(web: WebServer) -> None:
    with (web.folder / "large.escx").open("wb") as file:
        file.write((web.folder / "a.escx").read_bytes())
        file.truncate(300 << 20)
    web.behaviour.ranges = False
    with pytest.raises(StoreError, match=r"large\.escx: cannot be read"):
        escort_codec.open(f"{web.address}/large.escx")
    assert web.behaviour.sent < 64 << 20


def test_places() -> None:
    assert place("a/b.escx") == Path("a/b.escx")
    assert place("file:///tmp/a%20b.escx") == Path("/tmp/a b.escx")
    assert place("C:\\x.escx") == Path("C:\\x.escx")
    url = place("https://me:word@host/a/b-*.escx?X-Signature=1")
    assert isinstance(url, Url)
    assert (url.name, url.stem, url.suffix, url.has_pattern) == ("b-*.escx", "b-*", ".escx", True)
    assert str(url) == "https://host/a/b-*.escx?..."
    assert os.fspath(url) == "https://me:word@host/a/b-*.escx?X-Signature=1"
    assert not Url("https://host/b.escx?x=[1]").has_pattern


def test_what_cannot_be_is_refused_before_any_work() -> None:
    for target, line in (
        ("https://host/a.escx", "can be read but not written"),
        ("nowhere://host/a.escx", "Protocol not known"),
    ):
        with pytest.raises(EscortError, match=line):
            Writer(target)
    with pytest.raises(OutputError, match="cannot be appended to"):
        Writer("memory://a.escx", append=True)


def test_a_file_in_memory_appears_when_it_is_closed(cache: Path) -> None:
    import fsspec

    store = fsspec.filesystem("memory")
    writer = Writer("memory://whole/a.escx")
    writer.add(EXEMPLARS[0])
    assert not store.exists("/whole/a.escx")
    writer.close()
    assert escort_codec.open("memory://whole/a.escx")[0] == EXEMPLARS[0]
    with pytest.raises(OutputError, match="exists already"):
        Writer("memory://whole/a.escx")
    write("memory://whole/a.escx", EXEMPLARS[1:3], overwrite=True)
    assert list(escort_codec.open("memory://whole/a.escx")) == EXEMPLARS[1:3]
    assert list(cache.rglob("*.escx*")) == []


def test_s3_round_trip_listing_and_merge(s3: Any, tmp_path: Path) -> None:
    write(tmp_path / "a.escx", EXEMPLARS)
    parts = escort_codec.split(tmp_path / "a.escx", tmp_path / "parts", parts=3)
    for part in parts:
        s3.put_file(str(part), f"bucket/parts/{part.name}")
    for sharded in ("s3://bucket/parts/a-*.escx", "s3://bucket/parts/"):
        with escort_codec.open(sharded) as reader:
            assert list(reader) == EXEMPLARS
    assert escort_codec.verify("s3://bucket/parts/").exemplars == 300
    assert escort_codec.merge(["s3://bucket/parts/"], "s3://bucket/merged.escx", keep_recipes=True) == 300
    assert s3.cat_file("bucket/merged.escx") == (tmp_path / "a.escx").read_bytes()


def test_s3_faults_are_one_line_and_leave_nothing(s3: Any, cache: Path) -> None:
    with pytest.raises(OutputError, match="no bucket 'nobucket'"):
        Writer("s3://nobucket/a.escx")
    with pytest.raises(StoreError, match="there is no such bucket"):
        escort_codec.open("s3://nobucket/a.escx")
    with pytest.raises(StoreError, match="there is no such file"):
        escort_codec.open("s3://bucket/none.escx")
    with pytest.raises(EscortError, match=r"none-\*\.escx: no file matches"):
        escort_codec.open("s3://bucket/none-*.escx")
    writer = Writer("s3://bucket/stopped.escx")
    writer.add(EXEMPLARS[0])
    writer.abort()
    assert not s3.exists("bucket/stopped.escx")
    assert list(cache.rglob("*.escx*")) == []


def test_a_lost_upload_leaves_no_object_and_keeps_the_finished_file(
    s3: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is cut in the second of four pieces."""
    photo = np.random.default_rng(2).bytes(9 << 20)
    big = [Exemplar.from_image(photo + bytes([i]), label="c", name=f"{i}.jpg", size=(9, 9)) for i in range(3)]
    with breaking(os.environ["AWS_ENDPOINT_URL"], cut=b"partNumber=2") as proxy, monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", proxy.address)
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        type(s3).clear_instance_cache()
        with pytest.raises(OutputError, match=r"lost\.escx: cannot be written: the connection was lost") as caught:
            write("s3://bucket/lost.escx", big)
        assert b"DELETE /bucket/lost.escx?uploadId" in proxy.seen
    type(s3).clear_instance_cache()
    kept = Path(str(caught.value).rpartition("the finished file is ")[2])
    assert list(Reader(kept)) == big
    assert not s3.exists("bucket/lost.escx")
    write("s3://bucket/lost.escx", big)
    assert list(escort_codec.open("s3://bucket/lost.escx")) == big
    assert list(cache.rglob("*.escx*")) == []


def draw_photos(folder: Path) -> None:
    for label in ("cat", "dog"):
        for number in range(12):
            file = folder / "train" / label / f"{number:02}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(number).integers(0, 255, (20, 24, 3), np.uint8)
            Image.fromarray(pixels).save(file)
            if label == "cat":
                file.with_suffix(".txt").write_text(f"a cat {number}, as it sits")


def test_a_data_folder_in_a_bucket_gives_the_bytes_of_the_same_folder_on_disk(s3: Any, tmp_path: Path) -> None:
    draw_photos(tmp_path / "photos")
    s3.put(str(tmp_path / "photos"), "bucket/photos", recursive=True)
    escort_codec.encode_folder(tmp_path / "photos", tmp_path / "a.escx")
    options = escort_codec.EncodeOptions(workers=2)
    escort_codec.encode_folder("s3://bucket/photos", "s3://bucket/photos.escx", options)
    with escort_codec.open(tmp_path / "a.escx") as one, escort_codec.open("s3://bucket/photos.escx") as other:
        assert list(one) == list(other)
        assert other.source == "s3://bucket/photos"
        assert other["cat/03.png"].prompt == "a cat 3, as it sits"


def test_data_folders_that_are_not_there_or_hold_a_bad_image(s3: Any, tmp_path: Path) -> None:
    for url, line in (
        ("s3://nobucket/photos", "no such bucket"),
        ("s3://bucket/nothing", "no such file or bucket|no such folder"),
    ):
        with pytest.raises(SourceError, match=line):
            escort_codec.encode_folder(url, tmp_path / "a.escx")
    draw_photos(tmp_path / "photos")
    s3.put(str(tmp_path / "photos"), "bucket/bad", recursive=True)
    s3.pipe_file("bucket/bad/train/dog/99.png", b"no image")
    with pytest.raises(SourceError, match=r"s3://bucket/bad/train/dog/99\.png: is not an image"):
        escort_codec.encode_folder("s3://bucket/bad", tmp_path / "a.escx")
    assert [path.name for path in tmp_path.iterdir() if "escx" in path.name] == []
    report = escort_codec.encode_folder(
        "s3://bucket/bad", tmp_path / "a.escx", escort_codec.EncodeOptions(on_error="skip")
    )
    assert (report.exemplars, len(report.skipped)) == (24, 1)


def test_the_commands_take_urls(web: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    url = f"{web.address}/a.escx"

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == 0, result.output
        return result.stdout

    assert "300 exemplars" in run("verify", url)
    assert '"exemplars": 300' in run("inspect", url, "--json")
    run("extract", url, "--out", "sub.escx", "--class", "class-1")
    assert len(escort_codec.open("sub.escx")) == 100
    run("decode", url, "--out", "images", "--limit", "2", "--seeds", "0")
    assert len(list(Path("images").rglob("*.jpg"))) == 2
    result = CliRunner().invoke(app, ["inspect", f"{web.address}/none.escx"])
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "there is no such file" in result.stderr


def test_a_plain_install_says_what_to_install(tmp_path: Path) -> None:
    """With none of the packages, a URL is one line, and nothing else needs them."""
    draw_photos(tmp_path / "photos")
    script = """
import sys
for name in ("fsspec", "ray", "datasets", "pyarrow", "s3fs", "aiohttp"):
    sys.modules[name] = None
from typer.testing import CliRunner
from escort_cli.app import app
for line in ("inspect s3://b/a.escx", "encode photos a.escx --engine ray", "import hf:x new", "encode photos b.escx"):
    result = CliRunner().invoke(app, line.split())
    print(result.exit_code, result.stderr.strip().splitlines()[-1])
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    store, ray, hub, plain = done.stdout.splitlines()
    assert store.endswith("needs fsspec, which is not installed: pip install 'escort[remote]'")
    assert ray.endswith("needs the package ray: pip install 'escort[ray]'")
    assert hub.endswith("needs datasets, which is not installed: pip install 'escort[import]'")
    assert [line[0] for line in (store, ray, hub, plain)] == ["1", "1", "1", "0"]
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "a.escx").exists()
