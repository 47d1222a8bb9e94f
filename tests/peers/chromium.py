"""A real browser without windows, steered over its debugging protocol: it loads, presses, and is looked at.

It reaches nothing but the names that it is given, all on loopback; every other look-up fails at once.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from tests.peers.images import PeerSetupError
from tests.peers.rooms import Room, wait_until

PROGRAM = "/usr/lib/chromium/chromium-headless-shell"
PROFILE = "tmp/profile"
DOWNLOADS = "tmp/downloads"
PATIENCE_S = 60.0
SWITCHES = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-pings"),
    *("--force-color-profile=srgb", "--hide-scrollbars", "--remote-debugging-port=0"),
    # Certificates are another test's matter.
    "--ignore-certificate-errors",
    f"--user-data-dir=/{PROFILE}",
)


class _BrowserRoom(Room):
    """With /proc, which the browser needs; in a mount namespace of its own, so that nothing remains."""

    def command(self, *command: str, user: str | None = None) -> list[str]:
        assert user is None
        inner = 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"'
        return ["unshare", "--mount", "sh", "-c", inner, str(self.path), *command]


class Chromium:
    """One browser."""

    def __init__(self, hosts: Mapping[str, str]) -> None:
        """`hosts`: names to loopback addresses."""
        self._hosts = hosts
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._pages: dict[str, BrowserPage] = {}

    async def __aenter__(self) -> Self:
        self._room = _BrowserRoom("chromium", "chromium")
        self._room.folder("proc")
        rules = ", ".join(
            [*(f"MAP {name} {address}" for name, address in self._hosts.items()), "MAP * ~NOTFOUND"]
        )
        self._room.start(PROGRAM, *SWITCHES, f"--host-resolver-rules={rules}")
        await asyncio.to_thread(wait_until, self._port_is_known, "chromium's debugging port", PATIENCE_S)
        if not self._room.is_running():
            said = self._room.log()
            await asyncio.to_thread(self._room.close)
            raise PeerSetupError(f"chromium did not start (it needs CAP_SYS_ADMIN for /proc): {said}")
        port, path = self._port_file.read_text().split("\n")[:2]
        self._session = aiohttp.ClientSession()
        self._socket = await self._session.ws_connect(f"ws://127.0.0.1:{port}{path}", max_msg_size=0)
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reading.cancel()
        await self._socket.close()
        await self._session.close()
        await asyncio.to_thread(self._room.close)

    @property
    def _port_file(self) -> Path:
        return self._room.path / PROFILE / "DevToolsActivePort"

    def _port_is_known(self) -> bool:
        if not self._room.is_running():
            return True
        return self._port_file.exists() and self._port_file.read_text().count("\n") >= 1

    async def _read(self) -> None:
        async for message in self._socket:
            told = message.json()
            if "id" in told:
                self._answers.pop(told["id"]).set_result(told)
            elif told.get("sessionId") in self._pages:
                self._pages[told["sessionId"]].happened(told["method"], told["params"])

    async def call(self, method: str, session: str = "", **arguments: Any) -> dict[str, Any]:
        """A command of the debugging protocol."""
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        order = {"id": number, "method": method, "params": arguments} | (
            {"sessionId": session} if session else {}
        )
        await self._socket.send_json(order)
        async with asyncio.timeout(PATIENCE_S):
            told = await self._answers[number]
        if "error" in told:
            raise RuntimeError(f"chromium: {method}: {told['error']}")
        result: dict[str, Any] = told["result"]
        return result

    async def page(
        self,
        width: int = 1000,
        height: int = 800,
        *,
        language: str = "en",
        features: Mapping[str, str] | None = None,
    ) -> BrowserPage:
        """A new page; `features` are media features such as `prefers-color-scheme`."""
        folder = self._room.folder(DOWNLOADS)
        allowed: dict[str, Any] = {
            "behavior": "allow",
            "downloadPath": f"/{DOWNLOADS}",
            "eventsEnabled": True,
        }
        await self.call("Browser.setDownloadBehavior", **allowed)
        target = (await self.call("Target.createTarget", url="about:blank"))["targetId"]
        session = (await self.call("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        page = self._pages[session] = BrowserPage(self, session, folder)
        for domain in ("Page", "Network", "Log", "Runtime", "Accessibility"):
            await page.call(f"{domain}.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        await page.call("Emulation.setDeviceMetricsOverride", **size)
        await page.call("Network.setExtraHTTPHeaders", headers={"Accept-Language": language})
        wanted = [{"name": name, "value": value} for name, value in (features or {}).items()]
        await page.call("Emulation.setEmulatedMedia", features=wanted)
        return page


class BrowserPage:
    """One tab."""

    def __init__(self, browser: Chromium, session: str, downloads: Path) -> None:
        self._browser = browser
        self._session = session
        self._downloads = downloads
        self._loaded = asyncio.Event()
        self.requests: list[tuple[str, str]] = []
        """Method and address of everything that was asked for."""
        self.complaints: list[str] = []
        """What the browser logged: violated policies, failures."""

    async def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        """A command for this page."""
        return await self._browser.call(method, self._session, **arguments)

    def happened(self, method: str, params: dict[str, Any]) -> None:
        """An event."""
        if method == "Page.loadEventFired":
            self._loaded.set()
        elif method == "Network.requestWillBeSent":
            self.requests.append((params["request"]["method"], params["request"]["url"]))
        elif method == "Log.entryAdded":
            self.complaints.append(params["entry"]["text"])
        elif method == "Runtime.consoleAPICalled":
            self.complaints.append(str(params["args"]))

    async def open(self, address: str) -> None:
        """Go there, and wait until it is there."""
        self._loaded.clear()
        await self.call("Page.navigate", url=address)
        await self._wait_loaded()

    async def _wait_loaded(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self._loaded.wait()

    async def evaluate(self, expression: str) -> Any:
        """A value of the page, as the debugger sees it (the page itself runs no script)."""
        told = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    async def text(self) -> str:
        """What is to be read."""
        return str(await self.evaluate("document.body.innerText"))

    async def press(self, value: str) -> None:
        """Press the button of that value with the mouse, and wait for the page that comes."""
        self._loaded.clear()
        await self._click(value)
        await self._wait_loaded()

    async def _click(self, value: str) -> None:
        box = f"document.querySelector('button[value=\"{value}\"]')"
        await self.evaluate(f"{box}.scrollIntoView({{block: 'center'}})")
        place = await self.evaluate(
            f"(r => [r.x + r.width / 2, r.y + r.height / 2])({box}.getBoundingClientRect())"
        )
        spot = {"x": place[0], "y": place[1], "button": "left", "clickCount": 1}
        await self.call("Input.dispatchMouseEvent", type="mousePressed", **spot)
        await self.call("Input.dispatchMouseEvent", type="mouseReleased", **spot)

    async def key(self, name: str, code: int, text: str = "") -> None:
        """Press and release a key."""
        stroke = {"key": name, "code": name, "windowsVirtualKeyCode": code}
        await self.call(
            "Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **stroke
        )
        await self.call("Input.dispatchKeyEvent", type="keyUp", **stroke)

    async def enter(self) -> None:
        """The Enter key, and the page that comes of it."""
        self._loaded.clear()
        await self.key("Enter", 13, "\r")
        await self._wait_loaded()

    async def save(self, value: str) -> Path:
        """Press a button that saves a file; the file, once it is whole."""
        before = set(self._downloads.iterdir())
        await self._click(value)

        def finished() -> list[Path]:
            new = set(self._downloads.iterdir()) - before
            return [path for path in new if path.suffix != ".crdownload" and not path.name.startswith(".")]

        await asyncio.to_thread(wait_until, lambda: bool(finished()), f"the file of {value}", PATIENCE_S)
        return finished()[0]

    async def accessible(self) -> list[tuple[str, str, str]]:
        """What a screen reader is told: role, name and description of every node that is not ignored."""
        tree = await self.call("Accessibility.getFullAXTree")
        return [
            (node["role"]["value"], _value(node, "name"), _value(node, "description"))
            for node in tree["nodes"]
            if not node.get("ignored")
        ]

    async def picture(self, path: Path) -> None:
        """The whole page as a PNG."""
        shot = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        await asyncio.to_thread(path.write_bytes, base64.b64decode(shot["data"]))


def _value(node: dict[str, Any], name: str) -> str:
    return str(node.get(name, {}).get("value", ""))
