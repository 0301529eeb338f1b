"""The page in a real browser, used as people use it."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import ConsoleMessage, Page, Route, sync_playwright

from edgecell.edge.page.library import key_of
from edgecell.edge.record.trail import open_trail


def chromium() -> str | None:
    """The system's browser, or the one that 'playwright install chromium' fetched."""
    fetched = Path.home() / ".cache" / "ms-playwright"
    own = sorted(map(str, fetched.glob("chromium-*/chrome-linux*/chrome")))
    names = ("chromium", "chromium-browser")
    return next(filter(None, [*map(shutil.which, names), *own]), None)


CHROMIUM = chromium()
ROOT = Path(__file__).parent.parent.parent.parent
FLAGS = ["--no-sandbox", "--disable-background-networking"]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture
def server(folder: Path) -> Iterator[str]:
    """The address of 'edgecell page', run as a process of its own."""
    port = str(free_port())
    command = [sys.executable, "-m", "edgecell", "page", str(folder.parent)]
    with subprocess.Popen(
        [*command, "--no-sign-in", "--port", port],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"LOGNAME": "ann"},
    ) as process:
        assert process.stderr is not None
        address = process.stderr.readline().rpartition(" ")[2].strip()
        # It is bound before it says so, and served a moment later.
        with socket.create_connection(("127.0.0.1", int(port)), timeout=20):
            yield address
        process.terminate()


@pytest.fixture
def page(server: str) -> Iterator[Page]:
    """A browser's page, in which nothing may be refused or fail."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        opened = browser.new_page(base_url=server)
        faults: list[str] = []

        def note(message: ConsoleMessage) -> None:
            if message.type == "error" and "409" not in message.text:
                faults.append(message.text)

        opened.on("pageerror", lambda error: faults.append(str(error)))
        opened.on("console", note)
        yield opened
        browser.close()
        assert faults == []


def saved(folder: Path) -> dict[int, str]:
    with open_trail(folder, "ro") as trail:
        return trail.reviewed()


def test_twenty_cells_are_named_by_keyboard_undone_signed_and_printed(
    page: Page, folder: Path, tmp_path: Path
) -> None:
    base = f"/s/{key_of(folder)}"
    page.goto(f"{base}/review?state=waiting")
    page.wait_for_selector(".cell.here")
    order = page.eval_on_selector_all(".cell", "cells => cells.map(c => +c.dataset.n)")
    assert len(order) == 24
    keys = "sbtypkaeloSbtypkaelo".lower()
    for i, key in enumerate(keys):
        page.keyboard.press(key)
        page.wait_for_selector(f"#c{order[i]}.named")
    by_key = {"s": "SNE", "b": "BNE", "t": "MMY", "y": "MY", "p": "PMY", "k": "MYE"}
    by_key |= {"a": "BA", "e": "EO", "l": "LY", "o": "MO"}
    named = {order[i]: by_key[key] for i, key in enumerate(keys)}
    assert saved(folder) == named

    page.keyboard.press("Backspace")
    page.wait_for_selector(f"#c{order[19]}:not(.named)")
    del named[order[19]]
    assert saved(folder) == named

    page.goto(f"{base}/report")
    assert "waiting for review (5)" in page.inner_text("main")
    assert page.query_selector("#sign") is None
    page.goto(f"{base}/review?state=waiting")
    page.keyboard.press("Control+a")
    page.keyboard.press("n")
    page.wait_for_selector(".cell.out >> nth=4")
    assert sorted(saved(folder).values()).count("not a cell") == 5

    page.goto(f"{base}/report")
    page.fill("input[name=sample]", "S-17")
    page.click("text=Save")
    page.click("#sign")
    assert "Version 1, signed by" in page.inner_text(".standing")
    page.pdf(path=tmp_path / "printed.pdf", prefer_css_page_size=True)
    import pypdf

    (printed,) = pypdf.PdfReader(tmp_path / "printed.pdf").pages
    text = printed.extract_text()
    assert "S-17" in text
    assert "research use only" in text
    assert "Sign as" not in text


def test_mouse_and_tablet_do_the_same(page: Page, folder: Path) -> None:
    page.goto(f"/s/{key_of(folder)}/review")
    first, second, third = page.query_selector_all(".cell")[:3]
    first.click()
    page.wait_for_selector("#detail article")
    page.click('#detail button[data-label="LY"]')
    page.wait_for_selector(f"#{first.get_attribute('id')}.named")
    page.click("#many")
    second.click()
    third.click()
    assert page.locator('.cell[aria-selected="true"]').count() == 2
    page.wait_for_selector("#detail article")
    page.click('#detail button[data-label="MO"]')
    page.wait_for_selector(f"#{third.get_attribute('id')}.named")
    assert sorted(saved(folder).values()) == ["LY", "MO", "MO"]


def test_range_selection_comment_map_and_keys(page: Page, folder: Path) -> None:
    page.goto(f"/s/{key_of(folder)}/review")
    cells = page.locator(".cell")
    cells.nth(0).click()
    cells.nth(3).click(modifiers=["Shift"])
    assert page.locator('.cell[aria-selected="true"]').count() == 4
    page.keyboard.press("Escape")
    assert page.locator('.cell[aria-selected="true"]').count() == 0
    page.keyboard.press("m")
    page.wait_for_selector(".cell img.heat")
    page.keyboard.press("?")
    assert page.locator("dialog#keys").is_visible()
    page.keyboard.press("Escape")
    page.locator("dialog#keys").wait_for(state="hidden")  # Chromium closes it later
    page.keyboard.press("c")
    page.keyboard.type("smudged s b")
    page.keyboard.press("Enter")
    page.wait_for_selector(".cell.named")
    with open_trail(folder, "ro") as trail:
        (naming,) = trail.namings()
    assert (naming.comment, naming.label) == ("smudged s b", "SNE")


def test_a_comment_is_sent_that_was_typed_before_its_field_came(
    page: Page, folder: Path
) -> None:
    page.goto(f"/s/{key_of(folder)}/review")
    page.wait_for_selector("#detail article")

    held: list[Route] = []
    page.route("**/cell/*", lambda route: held.append(route), times=1)
    with page.expect_request("**/cell/*"):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("c")
    page.keyboard.type("smudged")
    page.keyboard.press("Enter")
    held.pop().continue_()
    page.wait_for_selector(".cell.named")
    with open_trail(folder, "ro") as trail:
        assert [naming.comment for naming in trail.namings()] == ["smudged"]


def test_what_the_server_refuses_is_said_and_not_shown_as_saved(
    page: Page, folder: Path
) -> None:
    page.goto(f"/s/{key_of(folder)}/review")
    page.wait_for_selector(".cell.here")
    page.route("**/name", lambda route: route.fulfill(status=409, body="disk full"))
    page.keyboard.press("l")
    page.wait_for_selector("#notices .bad")
    assert "disk full" in page.inner_text("#notices")
    assert page.locator(".cell.named").count() == 0


@pytest.mark.parametrize("address", ["/", "/status", "review", "report", "trace/1"])
def test_axe_finds_no_barrier(page: Page, folder: Path, address: str) -> None:
    there = address if address[0] == "/" else f"/s/{key_of(folder)}/{address}"
    page.goto(there)
    if address == "review":
        page.wait_for_selector("#detail article")
        page.keyboard.press("l")
        page.wait_for_selector(".cell.named")
        page.keyboard.press("q")
        page.wait_for_selector(".cell.asked")
    found = Axe().run(page).response["violations"]
    barriers = [v for v in found if v["impact"] in ("serious", "critical")]
    assert barriers == []


def test_a_screen_reader_hears_what_stands_there(page: Page, folder: Path) -> None:
    page.goto(f"/s/{key_of(folder)}/review")
    page.wait_for_selector("#detail article")
    option = page.locator(".cell").first
    assert "SNE" in (option.get_attribute("aria-label") or "")
    unnamed = page.evaluate(
        "() => [...document.querySelectorAll('button, a, input:not([type=hidden]), "
        "select, img')].filter(e => !(e.hidden || e.innerText || e.ariaLabel || "
        "e.title || e.labels?.length || e.hasAttribute('alt')))"
        ".map(e => e.outerHTML)"
    )
    assert unnamed == []
