"""A headless Chromium for tests: open a page, do what a person does, look at what is shown.

Spoken to by the DevTools protocol over two pipes, so that nothing has to be installed but the
browser; without a network, and with WebGL2 in software.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pytest

BROWSER = next(
    (b for b in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if b), None
)
#: Tests with a browser carry this.
needs_browser = pytest.mark.skipif(
    BROWSER is None, reason="no headless browser: install Debian's package chromium"
)
PATIENCE_S = 200.0
_KEYS = {"Enter": 13, "Escape": 27, "ArrowUp": 38, "ArrowDown": 40, "Tab": 9}


class Browser:
    """One page of a headless browser.

    ``console`` collects what the page complains about: messages, exceptions, refused requests.
    ``downloads`` is where files land that the page offers.
    """

    def __init__(self, profile: Path, *, webgl: bool = True, width: int = 1100) -> None:
        self.downloads = profile / "downloads"
        self.downloads.mkdir(parents=True)
        self.console: list[str] = []
        self._number = 0
        self._rest = b""
        to_browser, ours = os.pipe()
        theirs, from_browser = os.pipe()
        self._write, self._read = ours, theirs
        gl = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
        arguments = [
            str(BROWSER),
            "--headless",
            "--remote-debugging-pipe",
            "--disable-background-networking",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--hide-scrollbars",
            "--no-first-run",
            f"--user-data-dir={profile / 'profile'}",
            *(gl if webgl else ["--disable-3d-apis"]),
            # Its sandbox refuses to run for root, as in most containers.
            *(["--no-sandbox"] if os.geteuid() == 0 else []),
            "about:blank",
        ]
        # The browser reads from its descriptor 3 and writes to 4.
        script = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
        self._process = subprocess.Popen(
            ["/bin/bash", "-c", script, "bash", *arguments],
            pass_fds=(to_browser, from_browser),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._session = ""
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(t["targetId"] for t in targets if t["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=page, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "DOM"):
            self.call(f"{domain}.enable")
        self.resize(width, 900)
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(self.downloads))

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError, AssertionError):
            self.call("Browser.close")
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._write)
        os.close(self._read)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol and its answer."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session and not method.startswith(("Target.", "Browser.")):
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        for answer in self._messages(time.monotonic() + PATIENCE_S):
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer.get("result", {})
        raise AssertionError(f"{method}: no answer within {PATIENCE_S:.0f} s")

    def _messages(self, until: float) -> Iterator[dict[str, Any]]:
        while True:
            while b"\0" in self._rest:
                one, self._rest = self._rest.split(b"\0", 1)
                message = json.loads(one)
                self._listen(message)
                yield message
            left = until - time.monotonic()
            if left <= 0 or not select.select([self._read], [], [], left)[0]:
                return
            block = os.read(self._read, 1 << 20)
            assert block, "the browser has gone"
            self._rest += block

    def _listen(self, message: dict[str, Any]) -> None:
        parameters = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.console.append(json.dumps(parameters["exceptionDetails"])[:600])
        elif message.get("method") == "Log.entryAdded":
            entry = parameters["entry"]
            if entry["level"] in ("warning", "error"):
                self.console.append(f"{entry['text']} {entry.get('url', '')}")
        elif message.get("method") == "Runtime.consoleAPICalled" and parameters["type"] in (
            "warning",
            "error",
            "assert",
        ):
            said = [str(a.get("value", a.get("description"))) for a in parameters["args"]]
            self.console.append(" ".join(said))

    def open(self, page: Path) -> None:
        """Go to a file and wait until it is loaded."""
        self.console.clear()
        self.call("Page.navigate", url=page.as_uri())
        self.wait_for(f"location.href === {json.dumps(page.as_uri())}")
        self.wait_for("document.readyState === 'complete'")

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression; promises are awaited."""
        result = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait_for(self, condition: str, seconds: float = PATIENCE_S) -> None:
        """Wait until a JavaScript condition holds; ``AssertionError`` if it never does."""
        until = time.monotonic() + seconds
        while not self._holds(condition):
            assert time.monotonic() < until, f"never came true: {condition}; {self.console}"
            time.sleep(0.05)

    def _holds(self, condition: str) -> bool:
        """Whether the condition is true now; a page that is just being left answers nothing."""
        try:
            return bool(self.run(f"Boolean({condition})"))
        except AssertionError as error:
            if "navigated or closed" in str(error) or "context was destroyed" in str(error):
                return False
            raise

    def text(self, selector: str) -> str:
        """What a person reads in an element; empty if it is hidden."""
        return self.run(f"document.querySelector({json.dumps(selector)}).innerText")

    def shown(self, selector: str) -> bool:
        """Whether an element takes any room on the page."""
        found = json.dumps(selector)
        return self.run(
            f"(e => !!e && e.getClientRects().length > 0)(document.querySelector({found}))"
        )

    def where(self, selector: str, across: float = 0.5, down: float = 0.5) -> tuple[float, float]:
        """A point in an element, which is scrolled into view: window pixels."""
        found = json.dumps(selector)
        self.run(f"document.querySelector({found}).scrollIntoView({{block: 'center'}})")
        box = self.run(
            f"(r => [r.left, r.top, r.width, r.height])"
            f"(document.querySelector({found}).getBoundingClientRect())"
        )
        assert min(box[2:]) > 0, f"{selector} is not shown"
        return box[0] + across * box[2], box[1] + down * box[3]

    def _mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def click(self, selector: str, across: float = 0.5, down: float = 0.5) -> None:
        """Press and release the mouse on a point of an element."""
        x, y = self.where(selector, across, down)
        self._mouse("mouseMoved", x, y)
        self._mouse("mousePressed", x, y, button="left", buttons=1, clickCount=1)
        self._mouse("mouseReleased", x, y, button="left", clickCount=1)

    def scroll(self, selector: str, by: float, across: float = 0.5, down: float = 0.5) -> None:
        """Turn the wheel over a point of an element."""
        x, y = self.where(selector, across, down)
        self._mouse("mouseMoved", x, y)
        self._mouse("mouseWheel", x, y, deltaX=0, deltaY=by)

    def type(self, text: str) -> None:
        """Type into whatever has the focus."""
        for letter in text:
            self.key(letter)

    def key(self, key: str) -> None:
        """Press and release one key."""
        code = _KEYS.get(key, ord(key.upper()) if len(key) == 1 else 0)
        common = {"key": key, "windowsVirtualKeyCode": code}
        if len(key) == 1:
            common["text"] = key
        elif key == "Enter":
            common["text"] = "\r"
        if len(key) == 1 and key.isalpha():
            common["code"] = f"Key{key.upper()}"
        self.call("Input.dispatchKeyEvent", type="keyDown", **common)
        common.pop("text", None)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def choose_file(self, selector: str, file: Path) -> None:
        """Give a file to a file input."""
        document = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=document, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(file)], nodeId=node)

    def downloaded(self) -> Path:
        """The file that the page has offered, once it is there."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            found = [f for f in self.downloads.iterdir() if not f.name.endswith(".crdownload")]
            if found:
                return found[0]
            time.sleep(0.05)
        raise AssertionError("nothing was downloaded")

    def resize(self, width: int, height: int, *, phone: bool = False) -> None:
        """The size of the window; that of a phone, with its way to lay pages out."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=phone,
        )

    def emulate(self, media: str = "", scheme: str = "") -> None:
        """Look as on paper (``media="print"``), or in the dark (``scheme="dark"``)."""
        features = [{"name": "prefers-color-scheme", "value": scheme}] if scheme else []
        self.call("Emulation.setEmulatedMedia", media=media, features=features)

    def screenshot(self, file: Path | None = None, *, whole: bool = False) -> np.ndarray:
        """The window, or the whole page, as (rows, columns, 3) integers; kept in ``file``."""
        from PIL import Image

        taken = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        data = base64.b64decode(taken["data"])
        if file is not None:
            file.write_bytes(data)
        return np.array(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)

    def pdf(self, file: Path) -> bytes:
        """The page as it is printed."""
        data = base64.b64decode(
            self.call("Page.printToPDF", preferCSSPageSize=True, printBackground=True)["data"]
        )
        file.write_bytes(data)
        return data
