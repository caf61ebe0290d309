"""The report as a browser shows it: nothing is fetched, nothing complains, and everything answers."""

import base64
import contextlib
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.test_report import page, results

__all__ = ["page", "results"]

#: Browsers and drivers by the names that systems give them.
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-component-update",
    "--disable-background-networking", "--disable-sync", "--hide-scrollbars", "--disable-dev-shm-usage",
)  # fmt: skip

pytestmark = [
    pytest.mark.skipif(not (BROWSER and DRIVER), reason="needs chromium and chromedriver"),
    # the driver's connection to the browser is closed by the garbage collector
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def browser(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return a browser that shows the page."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    size(driver, 1280)
    driver.get(page.as_uri())
    yield driver
    driver.quit()


def size(browser: Any, width: int) -> None:
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)


def scheme(browser: Any, name: str) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": name}]}
    )


def ask(browser: Any, code: str, *arguments: Any) -> Any:
    return browser.execute_script(f"const all = (s) => [...document.querySelectorAll(s)]; {code}", *arguments)


def move_to(browser: Any, selector: str, share: float = 0.5) -> None:
    code = "const e = document.querySelector(arguments[0]); e.scrollIntoView({block: 'center', behavior: 'instant'});"
    ask(browser, code + "return 0", selector)
    box = ask(browser, "const b = document.querySelector(arguments[0]).getBoundingClientRect();"
                       "return [b.left, b.top, b.width, b.height]", selector)  # fmt: skip
    at = {"x": box[0] + share * box[2], "y": box[1] + box[3] / 2}
    # a scroll event hides what is shown, so it has to be over
    browser.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(() => arguments[0]()))")
    browser.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": "mouseMoved", **at})


def tip(browser: Any) -> str:
    return str(ask(browser, "const t = document.getElementById('tip'); return t.hidden ? '' : t.innerText"))


def test_nothing_is_fetched_and_nothing_complains(browser: Any, page: Path) -> None:
    log = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [one["params"] for one in log if one["method"] == "Network.requestWillBeSent"]
    asked = {one["request"]["url"] for one in sent if one["documentURL"] == page.as_uri()}
    assert {url for url in asked if not url.startswith("data:")} == {page.as_uri()}
    assert browser.get_log("browser") == []
    assert ask(browser, "return window.evil === undefined")


def test_pictures_are_drawn(browser: Any) -> None:
    drawn = ask(
        browser, "return all('figure .line').filter((l) => l.closest('.plane') && l.getTotalLength() > 100).length"
    )
    assert drawn >= 10
    flat = (
        "return all('details[open] .plane, .shapes .plane').filter((p) => Math.min(p.clientHeight, p.clientWidth) < 50)"
    )
    assert ask(browser, f"{flat}.length") == 0
    assert ask(browser, "return all('.heat td[data-tip]').length") >= 8
    assert ask(browser, "return all('.spans .bar').length") >= 4
    colours = "return new Set(all('.legend .line').map((l) => getComputedStyle(l).stroke)).size"
    assert ask(browser, colours) >= 3


@pytest.mark.parametrize("width", [1280, 768, 375])
def test_a_page_fits_any_width(browser: Any, width: int) -> None:
    size(browser, width)
    try:
        assert ask(browser, "return document.documentElement.scrollWidth") <= width
        small = ask(browser, "return all('figure text, .axis i, .rule b, td, th').filter((e) => e.offsetParent && "
                             "parseFloat(getComputedStyle(e).fontSize) < 9).length")  # fmt: skip
        assert small == 0
    finally:
        size(browser, 1280)


def test_pointing_at_a_curve_tells_its_values_and_a_field_its_interval(browser: Any) -> None:
    move_to(browser, "figure.curves .plane", 0.98)
    told = tip(browser)
    assert told.startswith("time since the onset")
    last = ask(browser, "return all('figure.curves')[0].querySelector('.numbers tbody tr:last-child td').textContent")
    assert f"noop {last}" in told
    move_to(browser, ".heat td[data-tip]")
    assert "fault" in tip(browser)
    assert ask(browser, "return all('.here').length") == 1
    browser.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": "mouseMoved", "x": 1, "y": 1})
    assert tip(browser) == ""


def test_the_keyboard_reaches_what_the_pointer_does(browser: Any) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    plane = browser.find_element(By.CSS_SELECTOR, "figure.timeline .plane")
    plane.send_keys(Keys.ARROW_RIGHT)
    assert "system" in tip(browser)
    plane.send_keys(Keys.ESCAPE)
    assert tip(browser) == ""
    browser.find_element(By.CSS_SELECTOR, ".map").send_keys(Keys.ARROW_DOWN)
    assert "fault" in tip(browser)
    browser.find_element(By.CSS_SELECTOR, "details.numbers summary").send_keys(Keys.ENTER)
    assert ask(browser, "return document.querySelector('details.numbers').open")
    ring = ask(browser, "return getComputedStyle(document.activeElement).outlineStyle")
    assert ring != "none"


def test_filters_leave_what_was_asked_for(browser: Any) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.select import Select

    visible = "return all('#part-1 [data-policy]').filter((e) => !e.hidden).map((e) => e.dataset.policy)"
    before = ask(browser, visible)
    Select(browser.find_element(By.CSS_SELECTOR, "[data-filter=policy]")).select_by_value("random")
    assert set(ask(browser, visible)) == {"random"}
    fault = ask(browser, "return document.querySelector('[data-filter=fault]').options[1].value")
    Select(browser.find_element(By.CSS_SELECTOR, "[data-filter=fault]")).select_by_value(fault)
    assert set(
        ask(browser, "return all('#part-1 [data-fault]').filter((e) => !e.hidden).map((e) => e.dataset.fault)")
    ) <= {fault}
    browser.find_element(By.CSS_SELECTOR, ".filters button").click()
    browser.execute_async_script("setTimeout(arguments[0], 20)")
    assert ask(browser, visible) == before


def test_a_table_can_be_put_in_order(browser: Any) -> None:
    column = (
        "return all('#part-1-outcomes tbody tr').map((r) => parseFloat(r.cells[7].textContent.replace('\\u2212', '-')))"
    )
    head = "document.querySelectorAll('#part-1-outcomes thead th')[7]"
    ask(browser, f"{head}.querySelector('button').click()")
    assert ask(browser, f"return {head}.getAttribute('aria-sort')") == "ascending"
    values = [value for value in ask(browser, column) if value is not None]
    assert values == sorted(values)
    ask(browser, f"{head}.querySelector('button').click()")
    values = [value for value in ask(browser, column) if value is not None]
    assert values == sorted(values, reverse=True)


def test_lines_can_be_hidden(browser: Any) -> None:
    key = "document.querySelector('figure.timeline .legend button')"
    hidden = f"return [...{key}.closest('figure').querySelectorAll('g[hidden]')].length"
    ask(browser, f"{key}.click()")
    assert (ask(browser, hidden) >= 4, ask(browser, f"return {key}.getAttribute('aria-pressed')")) == (True, "false")
    ask(browser, f"{key}.click()")
    assert ask(browser, hidden) == 0


def test_colours_follow_the_system_and_the_button(browser: Any) -> None:
    ground = "return getComputedStyle(document.body).backgroundColor"
    scheme(browser, "light")
    light = ask(browser, ground)
    scheme(browser, "dark")
    dark = ask(browser, ground)
    assert light != dark
    press = "document.querySelector('.theme').click()"
    ask(browser, press)
    assert ask(browser, ground) == light
    ask(browser, press)
    scheme(browser, "light")
    assert ask(browser, ground) == dark
    ask(browser, press)
    assert ask(browser, ground) == light


def there(browser: Any, selector: str) -> bool:
    """Return whether the page has such an element, without a script; asked again if it was exchanged meanwhile."""
    from selenium.common.exceptions import WebDriverException

    for _ in range(50):
        root = browser.execute_cdp_cmd("DOM.getDocument", {"depth": 0})["root"]["nodeId"]
        with contextlib.suppress(WebDriverException):
            asked = {"nodeId": root, "selector": selector}
            return bool(browser.execute_cdp_cmd("DOM.querySelector", asked)["nodeId"])
        time.sleep(0.1)
    raise AssertionError("the page did not come to rest")


def test_a_page_can_be_printed_and_read_without_scripts(browser: Any) -> None:
    printed = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert printed.startswith(b"%PDF")
    assert printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page ") + printed.count(b"/Type/Page") >= 4
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.refresh()
        assert there(browser, "html")
        assert not there(browser, "html.js")
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
        browser.refresh()
    assert browser.get_log("browser") == []
