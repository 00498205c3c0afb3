"""A headless Chromium that tests drive by the Chrome DevTools Protocol, through a pipe: clicks, keys, screenshots."""

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars", "--disable-sync"),
    *("--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update"),
    *("--force-color-profile=srgb", "--remote-debugging-pipe"),
)
SECONDS = 60  # for an answer

# The browser reads its commands from descriptor 3 and answers on 4.
CONNECT = (
    "import os, sys; _, commands, answers, *words = sys.argv; "
    "os.dup2(int(commands), 3); os.dup2(int(answers), 4); os.execv(words[0], words)"
)


def program():
    """The browser that is installed, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page of a browser. What it logs, throws or asks the network for is kept."""

    def __init__(self, width=1200, height=900):
        import fcntl  # of Unix only

        self.errors, self.requests, self._number = [], [], 0
        self._received = b""
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        from_us, self._to = os.pipe()
        self._from, to_us = os.pipe()
        given = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 10) for descriptor in (from_us, to_us)]
        command = [program(), *FLAGS, f"--window-size={width},{height}", f"--user-data-dir={self._profile.name}"]
        start = [sys.executable, "-c", CONNECT, *map(str, given), *command, "about:blank"]
        self._process = subprocess.Popen(start, pass_fds=given, stderr=subprocess.DEVNULL)
        for descriptor in (from_us, to_us, *given):
            os.close(descriptor)
        self._session = None
        try:
            self._attach()
        except BaseException:
            self.__exit__()
            raise

    def _attach(self):
        """Talk to the one page that is open, and hear what it does."""
        (page,) = [t for t in self.ask("Target.getTargets")["targetInfos"] if t["type"] == "page"]
        self._session = self.ask("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        os.close(self._from)
        os.close(self._to)
        self._profile.cleanup()

    def ask(self, method, **params):
        """Send one command, and wait for its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                return answer["result"]

    def wait_for(self, event):
        """Read until something happens."""
        while self._read().get("method") != event:
            pass

    def _read(self):
        """One message of the browser; those that tell of errors and requests are kept."""
        while b"\0" not in self._received:
            assert select.select([self._from], [], [], SECONDS)[0], "the browser does not answer"
            data = os.read(self._from, 1 << 16)
            assert data, "the browser has ended"
            self._received += data
        text, _, self._received = self._received.partition(b"\0")
        message = json.loads(text)
        method, params = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.errors.append(params["exceptionDetails"]["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.errors.append(str(params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.errors.append(params["entry"]["text"])
        elif method == "Network.requestWillBeSent" and not params["request"]["url"].startswith(("data:", "file:")):
            self.requests.append(params["request"]["url"])
        return message

    def open(self, path):
        """Load a file and wait until it is there."""
        self.ask("Page.navigate", url=path.resolve().as_uri())
        self.wait_for("Page.loadEventFired")

    def run(self, script):
        """The value of an expression of JavaScript."""
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def click(self, selector, count=1):
        """Click into the middle of an element."""
        x, y = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); "
            "e.scrollIntoView({block: 'center'}); "
            "const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=count)

    def press(self, key, code=0, text=""):
        """Press a key where the focus is."""
        options = {"key": key, "windowsVirtualKeyCode": code, **({"text": text} if text else {})}
        self.ask("Input.dispatchKeyEvent", type="keyDown", **options)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **options)

    def screenshot(self, path, whole=False):
        """Write what is seen as a PNG."""
        answer = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))
