"""Pages in a real browser: what it says of them, and what of them cannot be seen."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
HEIGHT = 900

# Elements that reach beyond the window, and those that hide a part of what is in them. What a
# picture draws lies in its own box.
_CUT = """
const found = [];
for (const one of document.querySelectorAll("body *")) {
  if (one.closest("svg") && one.tagName !== "svg") continue;
  const box = one.getBoundingClientRect();
  if (!box.width || !box.height) continue;
  const kind = one.className.baseVal ?? one.className;
  const name = `${one.tagName} ${kind}: ${one.textContent.trim().slice(0, 40)}`;
  if (box.right > innerWidth + 1 || box.left < -1) found.push(`outside: ${name}`);
  const style = getComputedStyle(one);
  if (style.display === "inline") continue;
  if (one.scrollWidth > one.clientWidth + 1) found.push(`too wide: ${name}`);
  const higher = one.scrollHeight > one.clientHeight + 1;
  if (style.overflowY !== "visible" && higher) found.push(`too high: ${name}`);
}
return found;
"""


def missing() -> str:
    """Why there is no browser to test with; empty where there is one."""
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "selenium is not installed"
    if not any(map(shutil.which, BROWSERS)) or not shutil.which("chromedriver"):
        return "there is no Chromium: apt-get install chromium chromium-driver"
    return ""


class Browser:
    """A browser without a window.

    Args:
        driver: Selenium's.
    """

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, page: Path, *, width: int = 1300, scheme: str = "light") -> None:
        """Opens a page, with what earlier ones left in the logs gone."""
        self.resize(width)
        self.show(scheme)
        for log in ("browser", "performance"):
            self.driver.get_log(log)
        self.driver.get(page.as_uri())

    def resize(self, width: int) -> None:
        """Makes the window as wide, in CSS pixels; a real one has a least width."""
        sizes = {"width": width, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", sizes)

    def show(self, scheme: str, media: str = "") -> None:
        """Prefers light or dark pages, on the screen or as another medium."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"media": media, "features": features}
        )

    def run(self, script: str, *arguments: object) -> Any:
        """What a script of the test's returns."""
        return self.driver.execute_script(script, *arguments)

    def unfold(self) -> None:
        """Opens all that is folded."""
        self.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")

    def cut(self) -> list[str]:
        """What cannot be seen at once, or only by scrolling sideways."""
        found: list[str] = self.run(_CUT)
        return found

    def errors(self) -> list[str]:
        """What the console has."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Addresses that something was asked of."""
        messages = (json.loads(one["message"]) for one in self.driver.get_log("performance"))
        return [
            one["message"]["params"]["request"]["url"]
            for one in messages
            if one["message"]["method"] == "Network.requestWillBeSent"
        ]


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser, which ends with the context."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = next(filter(None, map(shutil.which, BROWSERS)))
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
