"""A headless Chromium that opens pages, waits until they stand still, and takes pictures of them.

Pages of the MLflow UI fill themselves long after they are loaded, which `chromium --screenshot` does not wait
for; so it is steered by its DevTools protocol.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
import websocket

START_SECONDS = 60
PAGE_SECONDS = 120
STILL_SECONDS = 4
"""A page that has not changed for so long is complete."""


class Browser:
    """One page of a running Chromium.

    Args:
        port: of its DevTools.
    """

    def __init__(self, port: int) -> None:
        pages = requests.get(f"http://127.0.0.1:{port}/json/list", timeout=10).json()
        address = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
        self._socket = websocket.create_connection(address, timeout=PAGE_SECONDS, suppress_origin=True)
        self._number = 0
        self.call("Page.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Asks the browser for something and waits for its answer."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == self._number:
                assert "error" not in message, f"{method}: {message['error']}"
                return dict(message["result"])

    def size(self, width: int, height: int, dark: bool = False) -> None:
        """Sets the size of the window, and light or dark."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, address: str, expected: str) -> None:
        """Opens a page and waits until a text is there and nothing changes any more."""
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=address)
        self.wait(f"document.body && document.body.innerText.includes({json.dumps(expected)})")
        self.settle()

    def run(self, script: str) -> Any:
        """Value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Waits until a JavaScript expression is true."""
        until = time.monotonic() + PAGE_SECONDS
        while not self.run(f"Boolean({condition})"):
            if time.monotonic() > until:
                raise TimeoutError(f"{condition}\n{self.run('document.body.innerText')}")
            time.sleep(0.5)

    def settle(self) -> None:
        """Waits until the page has stood still for a while."""
        until, seen, since = time.monotonic() + PAGE_SECONDS, "", time.monotonic()
        while time.monotonic() < until and time.monotonic() - since < STILL_SECONDS:
            shown = str(self.run("document.body.innerText + document.querySelectorAll('*').length"))
            if shown != seen:
                seen, since = shown, time.monotonic()
            time.sleep(0.5)

    def picture(self) -> bytes:
        """PNG of what the window shows."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def close(self) -> None:
        """Lets go of the page."""
        self._socket.close()


@contextmanager
def browser() -> Iterator[Browser]:
    """Starts a Chromium with a profile of its own, and ends it."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        raise SystemExit("error: there is no chromium; on Debian: apt-get install chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
        options += ["--disable-background-networking", "--remote-debugging-port=0", "--lang=en-US"]
        command = [program, *options, f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            page = Browser(_port(Path(profile)))
            yield page
            page.close()
        finally:
            process.terminate()
            process.wait(30)


def _port(profile: Path) -> int:
    """Which port Chromium chose."""
    until, file = time.monotonic() + START_SECONDS, profile / "DevToolsActivePort"
    while not file.is_file() or not file.read_text():
        if time.monotonic() > until:
            raise TimeoutError("chromium does not start")
        time.sleep(0.2)
    return int(file.read_text().splitlines()[0])
