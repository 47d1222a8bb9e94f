"""INN as a peer: a news server that takes a streaming feed into a traditional spool, a file for each article,
or into cyclic buffers, one large file.

No overview, no filters, no outgoing feeds: what is left is taking articles, knowing those it has, and writing
them. It never syncs a file.
"""

from __future__ import annotations

import os

from tests.peers.mailserver import lines
from tests.peers.rooms import Room
from tests.peers.tenant import Tenant

GROUP = "bench.load"
CYCLIC_KIB = 1_048_576
_FOLDERS = (
    "run/news",
    "var/log/news",
    "var/lib/news",
    *(
        f"var/spool/news/{name}"
        for name in ("", "articles", "archive", "incoming", "incoming/bad", "incoming/tmp", "outgoing", "tmp")
    ),
)


class InnServer(Tenant):
    """A running innd on an address of its own; `GROUP` is the only group."""

    def __init__(self, address: str, port: int, *, cyclic: bool = False) -> None:
        self.address, self.port = address, port
        self._cyclic = cyclic

    def make_room(self) -> Room:
        return Room("inn", f"innd {self.address}")

    def move_in(self) -> None:
        self._configure()
        self.room.start("/usr/lib/news/bin/innd", "-f", "-N", user="news")
        self.room.wait_listening(self.address, self.port)

    def articles(self) -> int:
        """How many are in the spool."""
        folder = self.room.path / "var/spool/news/articles" / GROUP.replace(".", "/")
        return sum(1 for path in folder.iterdir() if path.name.isdigit()) if folder.is_dir() else 0

    def _configure(self) -> None:
        room = self.room
        for name in _FOLDERS:
            room.folder(name, owner="news")
        files = {
            "etc/news/inn.conf": self._settings(),
            "etc/news/storage.conf": self._storage(),
            "etc/news/cycbuff.conf": (
                f"cycbuff:ONE:/var/spool/news/one:{CYCLIC_KIB}\nmetacycbuff:BENCH:ONE\n"
            ),
            "etc/news/incoming.conf": (
                "streaming: true\nmax-connections: 8\n"
                f'peer load {{\n hostname: "127.0.0.1, {self.address}"\n}}\n'
            ),
            "etc/news/newsfeeds": "ME:*::\n",
            "etc/news/expire.ctl": "/remember/:11\n*:A:1:10:never\n",
            "var/lib/news/active": "".join(
                f"{name} 0000000000 0000000001 y\n" for name in ("control", "control.cancel", "junk", GROUP)
            ),
            "var/lib/news/active.times": "",
            "var/lib/news/newsgroups": "",
            "var/lib/news/history": "",
            "etc/hosts": f"{self.address} news.inn.example news\n127.0.0.1 localhost\n",
        }
        for name, text in files.items():
            room.write(name, text, owner="news")
        room.run(
            "/usr/lib/news/bin/makedbz", "-i", "-o", "-s", "1000000", "-f", "/var/lib/news/history",
            user="news",
        )  # fmt: skip

    def _storage(self) -> str:
        if not self._cyclic:
            return "method tradspool {\n newsgroups: *\n class: 0\n}\n"
        buffer = self.room.write("var/spool/news/one", b"", owner="news")
        os.truncate(buffer, CYCLIC_KIB * 1024)
        return "method cnfs {\n newsgroups: *\n class: 0\n options: BENCH\n}\n"

    def _settings(self) -> str:
        return lines(
            'mta: "/bin/true %s"',
            "organization: bench",
            "pathhost: news.inn.example",
            "domain: inn.example",
            "pathnews: /usr/lib/news",
            "runasuser: news",
            "runasgroup: news",
            f"port: {self.port}",
            f"bindaddress: {self.address}",
            "hismethod: hisv6",
            "enableoverview: false",
            "noreader: true",
            "pathdb: /var/lib/news",
            "pathetc: /etc/news",
            "pathlog: /var/log/news",
            "pathrun: /run/news",
            "pathspool: /var/spool/news",
            "pathtmp: /var/spool/news/incoming/tmp",
        )
