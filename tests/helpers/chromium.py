"""A headless Chromium driven over its debugging pipe, with the standard library alone."""

import fcntl
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--remote-debugging-pipe",
)  # fmt: skip


class Browser:
    """One page. `requests` are the addresses that it asked for, `refused` those among them that
    the page's own policy forbade, `faults` what its console said of exceptions and refused parts."""

    def __init__(self, profile: Path, downloads: Path) -> None:
        (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()

        def place() -> None:  # Chromium reads its orders from 3 and answers on 4
            far = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (theirs_in, theirs_out)]  # a pipe's own number may be 3 or 4
            for number, end in enumerate(far, 3):
                os.dup2(end, number)

        command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(command, preexec_fn=place, close_fds=False, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        os.close(theirs_in)
        os.close(theirs_out)
        self._out, self._in, self._number, self._session = ours_out, os.fdopen(ours_in, "rb"), 0, None
        self.requests: list[str] = []
        self.refused: list[str] = []
        self._asked: dict[str, str] = {}
        self.faults: list[str] = []
        self.events: list[dict] = []
        self._waiting = b""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads), eventsEnabled=True)

    def call(self, method: str, **parameters) -> dict:
        """Gives an order and returns its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session and not method.startswith(("Target.", "Browser.")):
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def wait_for(self, event: str, **values) -> None:
        """Reads on until an event with these values comes."""
        while not any(found["method"] == event and values.items() <= found["params"].items() for found in self.events):
            self._next()
        self.events.clear()

    def open(self, address: Path | str) -> None:
        """Loads a file or what an address has."""
        loader = self.call("Page.navigate", url=address.as_uri() if isinstance(address, Path) else address)["loaderId"]
        self.wait_for("Page.lifecycleEvent", name="load", loaderId=loader)  # of this page: the empty one before it may load late

    def evaluate(self, expression: str):
        """The value of a JavaScript expression."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, expression: str, seconds: float = 180.0):
        """The value of an expression as soon as it is one that counts as true; `AssertionError` where it never is."""
        ends = time.monotonic() + seconds
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < ends, f"never true: {expression}"
            time.sleep(0.2)
        return value

    def type(self, text: str, field: str) -> None:
        """Puts a text into the field of a selector, in place of what stands there, as typing would."""
        self.evaluate(f"document.querySelector({json.dumps(field)}).select()")
        self.call("Input.insertText", text=text)

    def press(self, key: str) -> None:
        """One key, down and up."""
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, text=key if len(key) == 1 else "\r" if key == "Enter" else "")
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def resize(self, width: int, height: int) -> None:
        """The size of the page's window in CSS pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)

    def close(self) -> None:
        """Ends the browser."""
        self._process.terminate()
        self._process.wait()
        os.close(self._out)
        self._in.close()

    def _next(self) -> dict:
        while b"\0" not in self._waiting:
            part = os.read(self._in.fileno(), 1 << 16)
            assert part, "Chromium ended"
            self._waiting += part
        data, self._waiting = self._waiting.split(b"\0", 1)
        found = json.loads(data)
        if method := found.get("method"):
            self.events.append(found)
            if method == "Network.requestWillBeSent":
                self.requests.append(found["params"]["request"]["url"])
                self._asked[found["params"]["requestId"]] = self.requests[-1]
            elif method == "Network.loadingFailed" and found["params"].get("blockedReason") == "csp":
                self.refused.append(self._asked[found["params"]["requestId"]])
            elif method == "Runtime.exceptionThrown":
                self.faults.append(json.dumps(found["params"]))
            elif method == "Log.entryAdded" and found["params"]["entry"]["level"] == "error":
                self.faults.append(found["params"]["entry"]["text"])
        return found
