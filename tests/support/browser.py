"""A headless Chromium for the tests of the report's page: screenshots, console, requests, accessibility."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
SIZES = {"desktop": (1280, 900, False), "phone": (360, 740, True)}


def why_not() -> str | None:
    """Why there is no browser to test with, or None."""
    if CHROMIUM is None or DRIVER is None:
        return "no browser: apt-get install chromium chromium-driver"
    try:
        import selenium_axe_python  # noqa: F401
    except ImportError as error:
        return f"no {error.name}: pip install -e '.[test]'"
    return None


class Browser:
    """Opens pages from the disk, one after the other."""

    def __init__(self) -> None:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(DRIVER))
        self.driver.set_script_timeout(100)

    def close(self) -> None:
        self.driver.quit()

    def open(self, page: Path, size: str = "desktop", scheme: str = "light") -> None:
        """Load the page at a width and in a colour scheme."""
        width, height, phone = SIZES[size]
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        command = self.driver.execute_cdp_cmd
        command("Emulation.setDeviceMetricsOverride", metrics)
        command("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
        self.driver.get_log("browser"), self.driver.get_log("performance")
        self.driver.get(page.resolve().as_uri())

    def console(self) -> list[str]:
        """What the page wrote to the console since it was opened."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Addresses asked for since the page was opened."""
        found = []
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                found.append(message["params"]["request"]["url"])
        return found

    def run(self, script: str):
        """The value of a piece of JavaScript."""
        return self.driver.execute_script(f"return {script}")

    def axe(self, options: dict | None = None) -> list[dict]:
        """axe-core's findings: by default of all its rules, WCAG A and AA and its best practices."""
        from selenium_axe_python import Axe

        axe = Axe(self.driver)
        axe.inject()
        return axe.run(options=json.dumps({"resultTypes": ["violations"], **(options or {})}))["violations"]

    def screenshot(self, file: Path) -> None:
        """The whole page as a picture."""
        import base64

        size = self.driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 16000), "scale": 1}
        shot = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
        file.write_bytes(base64.b64decode(shot["data"]))
