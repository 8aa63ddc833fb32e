"""The hub's pages in a real browser: nothing runs, loads from elsewhere or breaks out; keyboard, colours, widths.

With PERDURE_SCREENSHOTS=FOLDER it also leaves pictures there, to be looked at.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hubs import TOKEN
from pages import commit, create, fill
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from test_web_hostile import BRANCH, NAME, fill_with_malice

from perdure.hub.server import HubServer

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
AXE = Path(__file__).parents[2] / ".clients/js/node_modules/axe-core/axe.min.js"

needs_axe = pytest.mark.skipif(not AXE.exists(), reason="waits for axe-core: scripts/install-clients")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="waits for chromium and chromedriver: scripts/install-clients"
)

PAGES = {
    "home": "/",
    "list": "/models?sort=name",
    "nothing-found": "/models?search=nothing-like-it",
    "card": "/me/maths",
    "folder": "/me/maths/tree/main",
    "text": "/me/maths/blob/main/train/run.py",
    "tensors": "/me/maths/blob/main/model.safetensors",
    "commits": "/me/maths/commits/main",
    "commit": "/me/maths/commit/main",
    "revisions": "/me/maths/refs",
    "checkpoints": "/me/maths/checkpoints",
    "discussions": "/me/maths/discussions",
    "pull-request": "/me/maths/discussions/1",
    "sign-in": "/login",
    "not-found": "/me/absent",
}
HOSTILE = [
    "/me/evil",
    "/me/evil/tree/main",
    f"/me/evil/blob/main/{quote(NAME)}",
    "/me/evil/blob/main/model.safetensors",
    "/me/evil/commit/main",
    "/me/evil/refs",
    "/me/evil/checkpoints",
    "/me/evil/discussions/1",
    f"/me/evil/tree/{quote(BRANCH, safe='')}",
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with HubServer(tmp_path_factory.mktemp("hub"), user="me", token=TOKEN) as running:
        fill_with_malice(running.url)
        fill(running.url, private="hidden")
        create(running.url, "many")
        commit(running.url, "me/many", {f"shard-{number:05d}.txt": b"x" for number in range(999)})
        yield running.url


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    options = Options()
    options.binary_location = CHROMIUM or ""
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=Service(DRIVER))
    driver.set_page_load_timeout(60)
    yield driver
    driver.quit()


@pytest.fixture(autouse=True)
def _fresh(browser: Chrome) -> None:
    browser.delete_all_cookies()
    show(browser)


def show(browser: Chrome, *, width: int = 1280, dark: bool = False) -> None:
    """Set the window's width and the colours that the person prefers."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def picture(browser: Chrome, name: str) -> None:
    if folder := os.environ.get("PERDURE_SCREENSHOTS"):
        browser.save_screenshot(str(Path(folder) / f"{name}.png"))


def requested(browser: Chrome) -> set[str]:
    """Every address the browser asked for since this was called last."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return {event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"}


def complaints(browser: Chrome) -> list[str]:
    """What the browser refused or failed at, such as a script that the page's policy forbids."""
    entries = [entry["message"] for entry in browser.get_log("browser") if entry["level"] in {"SEVERE", "WARNING"}]
    return [message for message in entries if "status of 40" not in message]


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)], ids=["wide-light", "phone-dark"])
def test_pages_fit_and_ask_nobody_else(browser: Chrome, url: str, width: int, dark: bool) -> None:
    show(browser, width=width, dark=dark)
    requested(browser)
    for name, path in PAGES.items():
        browser.get(url + path)
        picture(browser, f"{name}-{width}-{'dark' if dark else 'light'}")
        over = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert browser.execute_script(over) <= 0, f"{name} is wider than {width} pixels"
    assert all(address.startswith((url, "data:")) for address in requested(browser))
    assert complaints(browser) == []


@needs_axe
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)], ids=["wide-light", "phone-dark"])
def test_pages_pass_the_accessibility_checks(browser: Chrome, url: str, width: int, dark: bool) -> None:
    """Contrast in both colour schemes, names of controls, landmarks, headings and tables."""
    show(browser, width=width, dark=dark)
    violations = []
    for name, path in PAGES.items():
        browser.get(url + path)
        browser.execute_cdp_cmd("Runtime.evaluate", {"expression": AXE.read_text()})
        found = browser.execute_async_script(
            "axe.run(document, {resultTypes: ['violations']}).then(r => arguments[arguments.length - 1]("
            "r.violations.map(v => [v.id, v.nodes.map(n => n.html.slice(0, 200))])))"
        )
        violations += [(name, *violation) for violation in found]
    assert violations == []


@needs_axe
def test_the_accessibility_checker_is_at_work(browser: Chrome, url: str) -> None:
    browser.get(url + "/me/maths")
    browser.execute_script("document.querySelector('input, main').innerHTML += '<input><img src=x>'")
    browser.execute_cdp_cmd("Runtime.evaluate", {"expression": AXE.read_text()})
    found = browser.execute_async_script(
        "axe.run().then(r => arguments[arguments.length - 1](r.violations.map(v => v.id)))"
    )
    assert {"label", "image-alt"} <= set(found)


@pytest.mark.parametrize("path", HOSTILE)
def test_hostile_content_runs_nowhere(browser: Chrome, url: str, path: str) -> None:
    requested(browser), complaints(browser)
    browser.get(url + path)
    assert browser.execute_script("return window.pwned") is None
    assert "Sign in" in browser.find_element(By.TAG_NAME, "header").text, "nothing covers or replaces the page"
    assert (
        browser.find_elements(By.CSS_SELECTOR, "article form, article iframe, article style, article [onclick]") == []
    )
    assert all(address.startswith((url, "data:")) for address in requested(browser))
    assert complaints(browser) == [], "the policy was not even needed"


def test_an_html_file_of_a_repository_is_no_page(browser: Chrome, url: str) -> None:
    browser.get(url + "/me/evil/resolve/main/page.html")
    assert "<script>window.pwned=1</script>" in browser.find_element(By.TAG_NAME, "body").text
    assert browser.execute_script("return [window.origin, window.pwned]") == ["null", None]


def test_without_javascript_everything_is_there(browser: Chrome, url: str) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(url + "/")
        browser.find_element(By.CSS_SELECTOR, "input[name=search]").send_keys("maths", Keys.ENTER)
        WebDriverWait(browser, 20).until(lambda b: "search=maths" in b.current_url)
        browser.find_element(By.LINK_TEXT, "me/maths").click()
        browser.find_element(By.LINK_TEXT, "Files").click()
        browser.find_element(By.CSS_SELECTOR, "details.menu summary").click()
        browser.find_element(By.LINK_TEXT, "warm-step-000000300").click()
        browser.find_element(By.LINK_TEXT, "perdure.json").click()
        assert "eval_loss" in browser.find_element(By.CSS_SELECTOR, ".code").text
        browser.find_element(By.LINK_TEXT, "Sign in").click()
        browser.find_element(By.ID, "token").send_keys(TOKEN, Keys.ENTER)
        WebDriverWait(browser, 20).until(lambda b: "Sign out" in b.page_source)
        assert browser.current_url.endswith("/me/maths/blob/warm-step-000000300/perdure.json")
        browser.get(url + "/me/hidden")
        assert "private" in browser.find_element(By.CSS_SELECTOR, ".repo").text
        browser.find_element(By.XPATH, "//button[.='Sign out']").click()
        WebDriverWait(browser, 20).until(lambda b: "Sign out" not in b.page_source)
        browser.get(url + "/me/hidden")
        assert "Repository not found" in browser.find_element(By.TAG_NAME, "h1").text
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_the_keyboard_reaches_everything(browser: Chrome, url: str) -> None:
    browser.get(url + "/me/maths/tree/main")
    focus = "const e = document.activeElement; return [e.textContent.trim(), getComputedStyle(e).outlineStyle]"
    browser.switch_to.active_element.send_keys(Keys.TAB)
    assert browser.execute_script(focus) == ["Skip to content", "solid"]
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    assert browser.execute_script("return document.activeElement.id") == "main"
    reached = set()
    for _ in range(40):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        name, outline = browser.execute_script(focus)
        reached.add(name)
        assert outline != "none", f"{name!r} does not show that it has the focus"
        if name == "notes.md":
            break
    assert {"Card", "Commits", "History", "README.md", "notes.md"} <= reached
    menu = browser.find_element(By.CSS_SELECTOR, "details.menu summary")
    menu.send_keys(Keys.ENTER)
    assert browser.find_element(By.CSS_SELECTOR, "details.menu").get_attribute("open")
    menu.send_keys(Keys.ESCAPE)
    assert not browser.find_element(By.CSS_SELECTOR, "details.menu").get_attribute("open")


def test_scripts_add_copying_and_filtering(browser: Chrome, url: str) -> None:
    browser.execute_cdp_cmd(
        "Browser.grantPermissions", {"origin": url, "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    )
    browser.get(url + "/me/maths")
    button = browser.find_element(By.CSS_SELECTOR, "figure.command .copy")
    button.send_keys(Keys.ENTER)
    WebDriverWait(browser, 20).until(lambda _: button.text in {"Copied", "Selected"})
    copied = browser.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
    assert copied == f"export HF_ENDPOINT={url}\nhf download me/maths"
    browser.get(url + "/me/many/tree/main")
    rows = "return [...document.querySelectorAll('tbody tr')].filter(row => row.offsetParent).length"
    WebDriverWait(browser, 20).until(lambda b: b.execute_script(rows) == 1000)
    browser.find_element(By.CSS_SELECTOR, "input.filter").send_keys("0099")
    WebDriverWait(browser, 20).until(lambda b: b.execute_script(rows) == 10)
