"""A headless Chromium, driven over a pair of pipes by its DevTools protocol; no other package is needed."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-quic",
    "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking", "--hide-scrollbars",
    "--disable-component-update", "--disable-sync", "--disable-extensions", "--no-default-browser-check",
)  # fmt: skip
# The browser reads commands from descriptor 3 and answers on 4, whatever numbers they have here.
_LAUNCH = (
    "import os, sys, fcntl\n"
    "read, write = (fcntl.fcntl(int(n), fcntl.F_DUPFD, 10) for n in sys.argv[1:3])\n"
    "os.dup2(read, 3); os.dup2(write, 4)\n"
    "os.execv(sys.argv[3], sys.argv[3:])"
)
Answer = dict[str, Any]


def find_browser() -> str | None:
    """The path of a Chromium or Chrome; None if there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Chromium:
    """A browser with one page, to be closed by ``with``.

    Attributes:
        events: All events that the page has sent, in order: dicts with "method" and "params".
        patience: Seconds to wait for an answer, and for what `wait` waits for; a busy machine needs many.
    """

    def __init__(self, browser: str, profile: Path, patience: float = 900) -> None:
        self.events: list[Answer] = []
        self.patience = patience
        self._buffer = b""
        self._last = 0
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        pipes = (theirs_in, theirs_out)
        command = [sys.executable, "-c", _LAUNCH, *map(str, pipes), browser, *FLAGS]
        self._process = subprocess.Popen(
            [*command, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=pipes, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for descriptor in pipes:
            os.close(descriptor)
        self._read, self._write = ours_in, ours_out
        self._session = ""
        pages = self.call("Target.getTargets")["targetInfos"]
        page = next(info["targetId"] for info in pages if info["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=page, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Chromium:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._write)  # the browser ends when its pipe does
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._read)

    def call(self, method: str, **params: Any) -> Answer:
        """Send a command and return what it answers.

        Raises:
            RuntimeError: If the browser refuses the command, or has ended.
            TimeoutError: If there is no answer in time.
        """
        self._last += 1
        number = self._last
        message: Answer = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + self.patience
        while True:
            answer = self._next(end)
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                result: Answer = answer["result"]
                return result

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression in the page; a promise is waited for.

        Raises:
            RuntimeError: If the script throws.
        """
        found = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )  # fmt: skip
        if "exceptionDetails" in found:
            raise RuntimeError(json.dumps(found["exceptionDetails"])[:2000])
        return found["result"].get("value")

    def open(self, path: Path) -> None:
        """Load a file, and return when all scripts in it have run."""
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        self.wait(
            f"location.href.startsWith({path.as_uri()!r}) && document.readyState == 'complete'"
        )

    def wait(self, condition: str) -> None:
        """Wait until a JavaScript expression is true.

        Raises:
            TimeoutError: If it does not become true in time.
        """
        end = time.monotonic() + self.patience
        while not self.run(f"Boolean({condition})"):
            if time.monotonic() > end:
                raise TimeoutError(f"In {self.patience:g} s this did not become true: {condition}")
            time.sleep(0.05)

    def press(self, key: str, code: int, **more: Any) -> None:
        """Press a key and let it go."""
        for kind in ("rawKeyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **more
            )  # fmt: skip

    def seen(self, method: str) -> list[Answer]:
        """What the events of a kind said since the page was opened."""
        return [event["params"] for event in self.events if event["method"] == method]

    def _next(self, end: float) -> Answer:
        """The next message; events are kept."""
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise TimeoutError(f"The browser did not answer in {self.patience:g} s.")
            more = os.read(self._read, 1 << 20)
            if not more:
                raise RuntimeError("The browser has ended.")
            self._buffer += more
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: Answer = json.loads(line)
        if "method" in message:
            self.events.append(message)
        return message
