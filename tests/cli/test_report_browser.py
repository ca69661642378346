"""The report in a real browser: headless Chromium opens the page from disk. Without one the tests are skipped."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser import contrast, luminance, needs_browser, requested, set_screen, start_browser
from tests.cil.run_folders import write_run

pytestmark = needs_browser
LABELS = (
    "<script>document.title='owned'<",
    "a class whose name is much too long for a phone's screen",
    "猫",
    "ox",
    "yak",
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of three configurations, one of them of two seeds, as the command writes it."""
    root = tmp_path_factory.mktemp("runs")
    for n, (method, seed) in enumerate((("icarl", 1), ("icarl", 2), ("wa", 1), ("finetune", 1))):
        kept = 0 if method == "finetune" else 2
        config = {"method": method, "seed": seed, "command": f"escort train DATA --method {method} " + "--x " * 40}
        views = ("real", "regenerated", "both") if method == "wa" else ("real",)
        folder = root / "runs" / f"{method}-{seed}"
        write_run(folder, LABELS, (2, 2, 1), config, skill=0.7 + n / 20, seed=n, real=kept, prompts=kept, views=views)
    command = [sys.executable, "-m", "cli", "report", str(root / "runs"), "--out", str(root / "report.html")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert str(root / "runs") not in done.stderr  # no notice: all could be read
    assert "4 runs of 3 configurations" in done.stdout
    return root / "report.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with start_browser(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


def show(browser: Any, page: Path, *, width: int = 1280, dark: bool = False) -> None:
    set_screen(browser, width=width, dark=dark)
    browser.get(page.as_uri())


def open_all(browser: Any) -> None:
    browser.execute_script("for (const details of document.querySelectorAll('details')) details.open = true")


def column(browser: Any, table: str, number: int) -> list[str]:
    """The texts of a table's column, from top to bottom."""
    script = "return [...document.querySelectorAll(arguments[0])].map((cell) => cell.textContent)"
    found: list[str] = browser.execute_script(script, f"table:has(#{table}) tbody tr > :nth-child({number})")
    return found


def heading(browser: Any, table: str, number: int) -> Any:
    return browser.find_element("css selector", f"table:has(#{table}) thead th:nth-child({number}) button")


def test_it_loads_without_errors_and_without_a_request(browser: Any, page: Path) -> None:
    browser.get_log("performance")
    browser.get_log("browser")
    show(browser, page)
    open_all(browser)
    asked = requested(browser)
    assert page.as_uri() in asked
    assert [url for url in asked if url != page.as_uri() and not url.startswith("data:")] == []
    assert browser.get_log("browser") == []
    assert browser.title.startswith("escort report")
    assert "owned" in browser.find_element("tag name", "body").text  # shown, not run


def test_a_script_that_is_not_the_pages_own_cannot_run(browser: Any, page: Path) -> None:
    show(browser, page)
    script = "const s = document.createElement('script'); s.textContent = 'window.x = 1'; document.body.append(s)"
    browser.execute_script(script)
    assert browser.execute_script("return window.x === undefined")
    assert any("Content Security Policy" in entry["message"] for entry in browser.get_log("browser"))


def test_all_images_show(browser: Any, page: Path) -> None:
    show(browser, page)
    open_all(browser)
    sizes = browser.execute_script(
        "return Promise.all([...document.images].map((i) => i.decode().then(() => [i.naturalWidth, i.width, i.alt])))"
    )
    assert len(sizes) >= 12
    assert all(natural > 0 and shown > 0 and alt for natural, shown, alt in sizes)


def test_tables_sort_by_mouse_and_keyboard(browser: Any, page: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    show(browser, page)
    before = column(browser, "table-results", 3)
    values = sorted(float(text.split()[0]) for text in before)
    assert len(set(values)) == 3
    heading(browser, "table-results", 3).click()
    assert [float(text.split()[0]) for text in column(browser, "table-results", 3)] == values
    heads = browser.find_elements("css selector", "table:has(#table-results) thead th")
    assert [head.get_attribute("aria-sort") for head in heads[:4]] == [None, None, "ascending", None]
    heading(browser, "table-results", 3).send_keys(Keys.ENTER)
    assert [float(text.split()[0]) for text in column(browser, "table-results", 3)] == values[::-1]
    assert heads[2].get_attribute("aria-sort") == "descending"
    heading(browser, "table-results", 1).send_keys(Keys.SPACE)
    assert column(browser, "table-results", 1) == ["finetune", "icarl", "wa"]
    assert [head.get_attribute("aria-sort") for head in heads[:3]] == ["ascending", None, None]


def test_a_dash_stands_last_both_ways(browser: Any, page: Path) -> None:
    show(browser, page)
    open_all(browser)
    titles = browser.execute_script(
        "return [...document.querySelectorAll('table:has(#table-phases) thead button')].map((b) => b.textContent)"
    )
    number = titles.index("Forgetting") + 1
    for _ in range(2):
        heading(browser, "table-phases", number).click()
        texts = column(browser, "table-phases", number)
        assert texts[-3:] == ["–"] * 3
        assert "–" not in texts[:-3]


def test_a_phone_scrolls_tables_not_the_page(browser: Any, page: Path) -> None:
    show(browser, page, width=360)
    open_all(browser)
    assert browser.execute_script("return document.documentElement.scrollWidth") == 360
    wide = browser.execute_script(
        "return [...document.querySelectorAll('.scroll')].filter((box) => box.scrollWidth > box.clientWidth)"
        ".map((box) => [box.clientWidth, getComputedStyle(box).overflowX, box.tabIndex])"
    )
    assert wide
    assert all(width <= 360 and overflow == "auto" and focus == 0 for width, overflow, focus in wide)
    smallest = browser.execute_script(
        "return Math.min(...[...document.querySelectorAll('.plots.side svg.plot text')]"
        ".map((text) => text.getBoundingClientRect().height))"
    )
    assert smallest >= 8


@pytest.mark.parametrize("dark", [False, True])
def test_text_and_lines_are_legible_in_light_and_dark(browser: Any, page: Path, dark: bool) -> None:
    show(browser, page, dark=dark)
    ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (luminance(ground) < 0.1) == dark
    script = "return [...document.querySelectorAll(arguments[0])].map((e) => getComputedStyle(e)[arguments[1]])"
    for selector in ("p", "caption", "tbody th", "td small", "a", ".legend li"):
        colours = set(browser.execute_script(script, selector, "color"))
        assert colours
        assert all(contrast(colour, ground) >= 4.5 for colour in colours), selector
    words = set(browser.execute_script(script, "svg.plot text", "fill"))
    assert all(contrast(colour, ground) >= 4.5 for colour in words - {ground})
    lines = set(browser.execute_script(script, ".legend path[style*=stroke]", "stroke"))
    assert len(lines) == 3
    assert all(contrast(colour, ground) >= 3 for colour in lines)


def test_plots_have_names_for_those_who_do_not_see_them(browser: Any, page: Path) -> None:
    show(browser, page)
    plot = browser.find_element("css selector", "svg.plot")
    assert plot.aria_role == "image"
    assert plot.accessible_name.startswith("Accuracy")
    assert "icarl: " in plot.accessible_name


def test_paper_shows_what_is_open_and_is_white(browser: Any, page: Path) -> None:
    show(browser, page, dark=True)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": []})
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    opened = "return document.querySelectorAll('details[open]:not(.run)').length"
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert browser.execute_script(opened) == browser.execute_script(
        "return document.querySelectorAll('details:not(.run)').length"
    )
    browser.execute_script("dispatchEvent(new Event('afterprint'))")
    assert browser.execute_script(opened) == 0
    pdf = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
    assert pdf.startswith(b"%PDF")
