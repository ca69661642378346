"""The viewer in a real browser: ``escort view`` serves it to headless Chromium. Without one the tests are skipped."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

import escort_codec
from escort_cli.view_page import export_page
from escort_cli.view_server import ViewServer
from escort_codec import Exemplar, Writer
from escort_codec.container.verify import verify
from escort_codec.latent.picture import encode_latent
from tests.browser import contrast, luminance, needs_browser, requested, set_screen, start_browser
from tests.helpers import draw_edges
from tests.viewer.files import SCRIPT, endless_frame, hint, large_frame, with_index, write_many

pytestmark = needs_browser

VECTORS = Path(__file__).parents[2] / "spec" / "vectors"
GOLDEN = sorted(VECTORS.glob("*.escx"))
CUT_HINT = VECTORS / "refuse" / "M29-hint-cut.escx"
COUNT = 20_000
PATIENCE = 2
"""Seconds that the page waits for a worker that hangs, instead of half a minute."""


def write_kinds(path: Path) -> Path:
    """All kinds of exemplars, real ones of several formats, texts that are HTML, a coding and a hint of later days."""
    pixels = np.random.default_rng(5).integers(0, 256, (6, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    with Writer(path, source=SCRIPT[:90]) as writer:
        prompt = Exemplar.from_edges(draw_edges(50, 70), label="markup", seeds=(0, 1, 2, 9), hint=hint(3))
        writer.add(replace(prompt, label="<b>bold<", name=f"{SCRIPT[:30].replace('/', '')}.png", prompt=SCRIPT))
        for number, kind in enumerate(("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")):
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, kind)
            name = f"{number}.{kind.lower()}"
            writer.add(Exemplar.from_image(file.getvalue(), label="real", name=name, size=pixels.shape[:2]))
        learned = encode_latent(pixels[:30, :40])
        writer.add(Exemplar.from_latents(learned, label="learned", name="l.png", size=(300, 400)))
        writer.add(replace(prompt, name="later.png", coding="77"))
        writer.add(replace(prompt, name="hint.png", hint=encode_latent(pixels, 24), hint_codec="latent"))
        writer.add(replace(prompt, name="bad.png", payload=b"\xff" * 4))
        writer.add(Exemplar.from_latents(b"\x09 latents", label="learned", name="model.png", size=(30, 40)))
    return path


def hostile_files(folder: Path, many: Path) -> list[Path]:
    """Files that are damaged, cut off, or made to harm: each with what its message says as its name."""
    data = many.read_bytes()
    contents = {
        "not an .escx file": b"\x89PNG\r\n\x1a\n" + bytes(60),
        "the file is empty": b"",
        "the file has no end": data[: len(data) // 2],
        "its checksum is wrong": data[:-100] + bytes([data[-100] ^ 1]) + data[-99:],
        "gave up after": with_index(endless_frame()),
        "is not an array": with_index(large_frame(1 << 24)),
        "above the cap": with_index(large_frame((1 << 26) + 1)),
        "version 2": data[:8] + b"\x02" + data[9:],
    }
    for name, content in contents.items():
        (folder / f"{name}.escx").write_bytes(content)
    return [folder / f"{name}.escx" for name in contents]


@contextmanager
def impatience(browser: Any) -> Iterator[None]:
    """Pages that wait for ``PATIENCE`` seconds where they would wait for longer."""
    script = "const wait = setTimeout; window.setTimeout = (call, time, ...more) => "
    script += f"wait(call, time > 5000 ? {1000 * PATIENCE} : time, ...more);"
    added = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
    yield
    browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)


class Site:
    """The files that are served, and the browser."""

    def __init__(self, server: ViewServer, browser: Any, files: list[Path]) -> None:
        self.server, self.browser, self.files = server, browser, files

    def open(self, path: Path | None, rest: str = "", **screen: Any) -> None:
        """Opens a served file, or the page without one."""
        set_screen(self.browser, **screen)
        self.browser.get("about:blank")
        self.browser.get_log("browser")
        number = self.files.index(path) if path else 0
        self.browser.get(f"{self.server.address}#file={number}{rest}")

    def js(self, script: str, *values: Any) -> Any:
        return self.browser.execute_script(script, *values)

    def text(self, selector: str) -> str:
        return str(self.js("return document.querySelector(arguments[0])?.innerText ?? ''", selector))

    def until(self, what: str | Callable[[], Any], seconds: float = 60) -> Any:
        """Waits until a JavaScript expression, or a function, is true."""
        end = time.monotonic() + seconds
        while True:
            value = self.js(f"return {what}") if isinstance(what, str) else what()
            if value:
                return value
            assert time.monotonic() < end, f"{what} did not become true; the page says: {self.text('body')[:2000]}"
            time.sleep(0.05)

    def press(self, *keys: str) -> None:
        ActionChains(self.browser).send_keys(*keys).perform()

    def tiles(self) -> list[str]:
        script = "return [...document.querySelectorAll('.tile:not([hidden])')].sort((a, b) => a.item - b.item)"
        return list(self.js(f"{script}.map((tile) => tile.querySelector('.name').textContent)"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("viewer")
    many = write_many(folder / "many.escx", COUNT)
    files = [*GOLDEN, many, write_kinds(folder / "kinds.escx"), *hostile_files(folder, many), CUT_HINT]
    with ViewServer(files) as server, start_browser(tmp_path_factory.mktemp("chromium")) as browser:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        browser.get("about:blank")
        requested(browser)
        yield Site(server, browser, files)
        server.shutdown()
        thread.join()


def file(site: Site, name: str) -> Path:
    return next(path for path in site.files if path.stem == name)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_it_shows_the_golden_files_without_an_error_or_a_request_elsewhere(path: Path, site: Site) -> None:
    requested(site.browser)
    site.open(path)
    golden = json.loads(path.with_suffix(".json").read_text("utf-8"))["exemplars"]
    names = [row["name"] or f"#{number}" for number, row in enumerate(golden)]
    site.until("document.body.className === 'open'")
    site.until(lambda: site.tiles() == names[: max(1, len(site.tiles()))])
    visible = [row for row, _ in zip(golden, site.tiles(), strict=False)]
    pictured = sum(bool(row.get("image") or row.get("edges")) and all(row["size"]) for row in visible)
    site.until(f"document.querySelectorAll('.tile.ready:not([hidden])').length === {pictured}")
    site.js("document.getElementById('verify').click()")
    if path.stem == "unknown":
        site.until("document.getElementById('verdict').innerText.includes('which this viewer does not know')")
    else:
        site.until("document.getElementById('verdict').innerText.includes('no faults')")
        assert site.text("#verdict").startswith(f"{len(golden)} exemplar")
    assert site.browser.get_log("browser") == []
    asked = [url for url in requested(site.browser) if not url.startswith(("data:", "about:"))]
    assert asked
    assert [url for url in asked if not url.startswith(site.server.address)] == []


def test_ten_edge_maps_are_those_of_decode(site: Site, tmp_path: Path) -> None:
    path = file(site, "many")
    numbers = [number * (COUNT // 10) + number for number in range(10)]
    names = [f"{number:06d}.png" for number in numbers]
    command = [sys.executable, "-m", "cli", "decode", str(path), "--edges", "--seeds", "none", "--out", str(tmp_path)]
    command += [part for name in names for part in ("--name", name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    written = {each.stem[:6]: each for each in tmp_path.rglob("*.png")}
    for number in numbers:
        wanted = np.asarray(Image.open(written[f"{number:06d}"]).convert("L")) == 255
        site.open(path, f"&exemplar={number}")
        site.until("document.querySelector('figcaption')?.innerText.includes('bit a pixel')")
        assert site.text("#detail-title").startswith(f"{number:06d}.png")
        uri = site.js("return document.querySelector('.frame canvas').toDataURL()")
        found = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("L")) < 128
        assert np.array_equal(found, wanted), number
        assert f"{int(wanted.sum()):,} edge pixels" in site.text("figcaption")


def test_twenty_thousand_exemplars_scroll_in_a_few_tiles(site: Site) -> None:
    site.open(file(site, "many"))
    site.until("document.querySelectorAll('.tile.ready:not([hidden])').length > 10")
    assert site.tiles()[:3] == ["000000.png", "000001.png", "000002.png"]
    site.js("document.getElementById('grid').scrollTop = 1e9")
    site.until(lambda: site.tiles()[-1:] == [f"{COUNT - 1:06d}.png"])
    site.js("const box = document.getElementById('grid'); box.scrollTop = box.scrollHeight / 2")
    site.until(lambda: "009990.png" <= (site.tiles() or [""])[0] <= "010010.png")
    site.until("document.querySelectorAll('.tile.ready:not([hidden])').length > 10")
    assert site.js("return document.querySelectorAll('.tile').length") < 100
    site.until("document.getElementById('bytes').innerText.includes('20,000 prompts')")
    parts = site.text("#bytes")
    assert "edge maps" in parts
    assert "hints" in parts


def test_it_filters_by_text_class_and_kind(site: Site) -> None:
    site.open(file(site, "many"))
    site.until("document.querySelectorAll('.tile.hinted:not([hidden])').length > 10")
    site.press("/")
    site.press("Needle 1")
    site.until("document.getElementById('status').innerText.startsWith('111 of 20,000')")  # 107, ... 199, 1007, ...
    assert site.tiles()[:3] == ["000107.png", "001007.png", "001107.png"]
    site.js("[...document.querySelectorAll('#classes button')].find((b) => b.innerText.includes('class 21')).click()")
    site.until("document.getElementById('status').innerText.startsWith('5 of 20,000')")
    assert site.tiles() == [f"{number:06d}.png" for number in range(10507, 11000, 100)]
    site.js("document.querySelector('[data-kind=\"1\"]').click()")
    site.until("document.getElementById('status').innerText.startsWith('0 of 20,000')")
    assert site.tiles() == []
    assert "class=class+21&kind=1&text=needle+1" in site.browser.current_url
    site.browser.refresh()
    site.until("document.getElementById('status').innerText.startsWith('0 of 20,000')")
    site.js("document.querySelector('[data-kind=\"\"]').click()")
    site.until("document.getElementById('status').innerText.startsWith('5 of 20,000')")
    site.press("/", Keys.ESCAPE)
    site.until("document.getElementById('status').innerText.startsWith('500 of 20,000')")


def test_the_keyboard_does_it_all(site: Site) -> None:
    site.open(file(site, "many"))
    site.until("document.querySelectorAll('.tile.hinted:not([hidden])').length > 10")
    focus = "document.activeElement.querySelector('.name')?.textContent"
    site.press("/", Keys.ARROW_DOWN)
    site.until(f"{focus} === '000000.png'")
    site.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT)
    site.until(f"{focus} === '000001.png'")
    site.press(Keys.END)
    site.until(f"{focus} === '019999.png'")
    site.press(Keys.ENTER)
    site.until("document.getElementById('detail-title').innerText.startsWith('019999.png')")
    site.press(Keys.ARROW_LEFT)
    site.until("document.getElementById('detail-title').innerText.startsWith('019998.png')")
    assert site.text("#detail .place") == "19,999 of 20,000"
    assert "exemplar=19998" in site.browser.current_url
    site.press(Keys.ESCAPE)
    site.until("!document.getElementById('detail').open")
    site.until(f"{focus} === '019998.png'")
    site.browser.back()
    site.until("document.getElementById('detail').open")


def test_an_exemplars_page_has_all_of_it(site: Site) -> None:
    site.open(file(site, "many"), "&exemplar=107")
    site.until("document.querySelectorAll('#detail canvas').length === 3")
    site.until("[...document.querySelectorAll('#detail canvas')].every((c) => c.width !== 300)")  # no longer empty
    text = site.text("#detail")
    for part in (
        "a caption with needle 107",
        "class 00",
        "Canny 100/200",
        "0–1",
        "hires",
        "edge map",
        "hint",
        "47 × 60",
    ):
        assert part in text or part == "47 × 60", part
    assert "approximate" in text
    with escort_codec.open(file(site, "many")) as reader:
        exemplar = reader[107]
        assert exemplar.hint is not None
        assert f"{len(exemplar.hint)} B" in text
    colours = site.js(
        "const c = document.querySelectorAll('#detail canvas')[1];"
        "return new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size"
    )
    assert colours > 20  # the preview is a picture


def test_kinds_texts_and_what_it_cannot_draw(site: Site) -> None:
    site.open(file(site, "kinds"))
    site.until("document.querySelectorAll('.tile.ready:not([hidden])').length === 8")
    site.until("document.querySelectorAll('.tile.fault:not([hidden])').length === 4")
    faults = site.js("return [...document.querySelectorAll('.tile.fault')].map((tile) => tile.innerText)")
    assert sorted(fault.splitlines()[0] for fault in faults) == ["5.tiff", "bad.png", "later.png", "model.png"]
    for number, wanted in ((11, "model 9"), (6, "browsers do not show"), (8, "coding 77")):
        site.open(file(site, "kinds"), f"&exemplar={number}")
        site.until(f"document.getElementById('detail').innerText.includes('{wanted}')")
    for number, canvas, width in ((7, 0, 40), (9, 2, 24)):  # a learned picture, and a hint that is one
        site.open(file(site, "kinds"), f"&exemplar={number}")
        site.until(f"document.querySelectorAll('#detail canvas')[{canvas}]?.width === {width}")
        shown = site.js(
            f"const c = document.querySelectorAll('#detail canvas')[{canvas}];"
            "return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
        )
        with escort_codec.open(file(site, "kinds")) as reader:
            exemplar = reader[number]
            decoded = exemplar.picture() if exemplar.kind == "latent" else exemplar.hint_pixels
        assert decoded is not None
        assert np.abs(np.reshape(shown, (-1, width, 4))[:, :, :3] - decoded.astype(int)).max() <= 1
    site.open(file(site, "kinds"), "&exemplar=0")
    site.until(lambda: SCRIPT in site.text("#detail"))
    site.open(file(site, "kinds"), "&exemplar=2")
    site.until("document.querySelector('#detail canvas')?.width === 64")
    assert "Original" in site.text("#detail")
    assert "owned" not in site.browser.title
    assert [entry for entry in site.browser.get_log("browser") if "owned" in entry["message"]] == []


def test_a_hint_that_cannot_be_decoded_is_refused_alone(site: Site) -> None:
    site.open(CUT_HINT)
    site.until("document.querySelectorAll('.tile.fault:not([hidden])').length === 1")
    assert "the hint cannot be decoded" in site.text(".tile.fault")
    site.until("document.querySelectorAll('.tile.ready:not([hidden])').length > 0")
    site.js("document.getElementById('verify').click()")
    site.until("document.getElementById('verdict').innerText.includes('hint cannot be decoded')")


def test_a_script_that_is_not_the_pages_own_cannot_run(site: Site) -> None:
    site.open(file(site, "kinds"))
    script = "const s = document.createElement('script'); s.textContent = 'window.x = 1'; document.body.append(s)"
    site.js(script)
    assert site.js("return window.x === undefined")
    assert any("Content Security Policy" in entry["message"] for entry in site.browser.get_log("browser"))


@pytest.mark.parametrize(
    "message",
    [
        "not an .escx file",
        "the file is empty",
        "the file has no end",
        "its checksum is wrong",
        "gave up after",
        "is not an array",
        "above the cap",
        "version 2",
    ],
)
def test_a_hostile_file_gives_a_message_and_no_frozen_tab(message: str, site: Site) -> None:
    assert verify(file(site, message)).fault is not None
    with impatience(site.browser) if message == "gave up after" else nullcontext():
        site.open(file(site, message))
    slowest = "let last = performance.now(); window.slowest = 0; const look = () => { const now = performance.now();"
    slowest += (
        "window.slowest = Math.max(window.slowest, now - last); last = now; requestAnimationFrame(look) }; look();"
    )
    site.js(slowest)
    site.until("!document.getElementById('problem').hidden")
    assert message in site.text("#problem")
    assert site.js("return window.slowest") < 5000  # on a machine with other work; a decoder here would take for ever
    assert site.js("return document.getElementById('files').offsetHeight") > 0  # another file can be chosen
    site.js("const files = document.getElementById('files'); files.value = 0; files.onchange()")
    site.until("document.body.className === 'open'")


def test_a_damaged_block_leaves_the_others(site: Site, tmp_path: Path) -> None:
    data = bytearray(file(site, "many").read_bytes())
    with escort_codec.open(file(site, "many")) as reader:
        second = reader.state.index.offsets[1]
        rows = reader.state.index.counts[0]
    data[second + 30] ^= 1  # in its table
    (tmp_path / "damaged.escx").write_bytes(data)
    site.open(None)
    site.browser.find_element("id", "picker").send_keys(str(tmp_path / "damaged.escx"))
    site.until("document.querySelectorAll('.tile.ready:not([hidden])').length > 10")
    site.until("document.getElementById('status').innerText.includes('1 block cannot be read')")
    assert site.js("return document.getElementById('status').innerText").startswith("20,000 exemplars")
    number = site.js(
        "location.hash = `${location.hash}&exemplar=${arguments[0]}`; dispatchEvent(new Event('popstate')); return 0",
        rows,
    )
    assert number == 0
    site.until(lambda: "damaged" in site.text("#detail .notice"))


class FarHandler(BaseHTTPRequestHandler):
    """A server elsewhere: ranges for any page, and a log of them."""

    protocol_version = "HTTP/1.1"
    content = b""
    log: list[tuple[int, int]] = []  # noqa: RUF012 - one server
    ranges = True

    def do_GET(self) -> None:
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        start, end = (int(match[1]), min(int(match[2]) + 1, len(self.content))) if match else (0, len(self.content))
        self.log.append((start, end - start))
        if not self.ranges:
            start, end = 0, len(self.content)
        self.send_response(206 if self.ranges else 200)
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Access-Control-Expose-Headers", "Content-Range")
        if self.ranges:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(self.content)}")
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        self.wfile.write(self.content[start:end])

    def log_message(self, *args: object) -> None:
        pass


@pytest.mark.parametrize("ranges", [True, False])
def test_a_file_elsewhere_is_opened_by_its_address(site: Site, ranges: bool) -> None:
    log: list[tuple[int, int]] = []
    content = file(site, "many").read_bytes()
    members = {"content": content, "log": log, "ranges": ranges}
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Far", (FarHandler,), members)) as far:
        thread = threading.Thread(target=far.serve_forever)
        thread.start()
        site.open(None)
        site.until("document.body.className !== 'opening'")
        site.js("document.body.className = 'empty'")
        site.browser.find_element("id", "url").send_keys(f"http://127.0.0.1:{far.server_address[1]}/there.escx")
        site.browser.find_element("css selector", "#address button").click()
        site.until("document.title.startsWith('there.escx')")
        site.until("document.querySelectorAll('.tile.ready:not([hidden])').length > 10")
        assert site.tiles()[:2] == ["000000.png", "000001.png"]
        if ranges:
            with escort_codec.open(file(site, "many")) as reader:
                first = reader.state.index.offsets[0]
            assert [start for start, _ in log[:3]] == [0, len(content) - (1 << 18), first]
            assert sum(length for _, length in log[:3]) < 1_000_000
            assert sum(length for _, length in log) < 2_000_000
        else:
            assert len(log) == 1
        far.shutdown()
        thread.join()


def test_an_exported_page_needs_no_server(site: Site, tmp_path: Path) -> None:
    path = write_many(tmp_path / "few.escx", 300)
    export_page([file(site, "kinds"), path], tmp_path / "page.html")
    requested(site.browser)
    site.browser.get_log("browser")
    set_screen(site.browser)
    site.browser.get(f"{(tmp_path / 'page.html').as_uri()}#file=1&text=needle")
    site.until("document.querySelectorAll('.tile.ready:not([hidden])').length === 3")
    assert site.tiles() == ["000007.png", "000107.png", "000207.png"]
    site.js("document.getElementById('verify').click()")
    site.until("document.getElementById('verdict').innerText.includes('no faults')")
    site.browser.get("about:blank")
    site.browser.get(f"{(tmp_path / 'page.html').as_uri()}#file=0&exemplar=7")  # it has the model
    site.until("document.querySelector('#detail canvas')?.width === 40")
    asked = [url for url in requested(site.browser) if not url.startswith(("data:", "about:", "blob:"))]
    assert {url.partition("#")[0] for url in asked} == {(tmp_path / "page.html").as_uri()}
    assert site.browser.get_log("browser") == []


@pytest.mark.parametrize("dark", [False, True])
def test_text_is_legible_in_light_and_dark(site: Site, dark: bool) -> None:
    site.open(file(site, "kinds"), dark=dark)
    site.until("document.querySelectorAll('.tile.ready:not([hidden])').length === 8")
    site.until("document.querySelector('.legend small')")
    ground = site.js("return getComputedStyle(document.body).backgroundColor")
    assert (luminance(ground) < 0.1) == dark
    script = "return [...document.querySelectorAll(arguments[0])].map((e) => getComputedStyle(e).color)"
    for selector in ("dt", "dd", ".name", ".sub", ".legend small", "#classes bdi", "#status"):
        colours = set(site.js(script, selector))
        assert colours, selector
        assert all(contrast(colour, ground) >= 4.5 for colour in colours), selector
    script = "return [...document.querySelectorAll('.kind:not(:empty)')].map((e) => getComputedStyle(e))"
    kinds = site.js(f"{script}.map((style) => [style.color, style.backgroundColor])")
    assert kinds
    assert all(contrast(*colours) >= 4.5 for colours in kinds)


def test_a_phone_scrolls_the_grid_not_the_page(site: Site) -> None:
    site.open(file(site, "many"), width=360)
    site.until("document.querySelectorAll('.tile.ready:not([hidden])').length > 3")
    assert site.js("return document.documentElement.scrollWidth") == 360
    assert site.js("return document.getElementById('grid').clientHeight") > 450
    assert not site.js("return document.getElementById('side-details').open")
    site.js("document.querySelector('.tile').click()")
    site.until("document.querySelectorAll('#detail canvas').length === 3")
    assert site.js("return document.querySelector('#detail').scrollWidth") <= 360
    assert site.js("return document.querySelector('.detail-body').scrollWidth") <= 360
