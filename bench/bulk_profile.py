"""Where the server's time goes while it is fed by MT2: the functions that take most of it.

python -m bench.bulk_profile [--messages 5000] [--unverified]

The profiler itself takes time, more of it the smaller the functions are: shares count, not seconds.
"""

from __future__ import annotations

import argparse
import io
import pstats
import sys
from pathlib import Path

from tests.peers.addresses import loopback_address
from tests.peers.outrider_server import OUTRIDER, OutriderServer

from bench.bulk import TlsIdentity, run_feed
from bench.bulk_feeds import Mt2Feed
from bench.measuring import PORT, SERVER_NAME, client_files, server_files
from bench.subjects import OUTRIDER_NAME, OutriderMt2, OutriderMt2Unverified
from bench.work import CLIENT_NAME, KIB, Work
from outrider.identity.seals import Sealer

LINES = 40
FILE = "profile"


class Profiled(OutriderServer):
    """A server under cProfile, which writes what it has seen when the server stops."""

    def start(self) -> None:
        self._command = [sys.executable, "-m", "cProfile", "-o", str(self.folder / FILE), str(OUTRIDER)]
        super().start()


def profile(messages: int, *, verified: bool) -> str:
    """The table, for people."""
    kind = OutriderMt2 if verified else OutriderMt2Unverified
    work = Work(loopback_address(), PORT, 1, (), server_files(), CLIENT_NAME)
    files = client_files()
    sealer = Sealer.from_pem(files.certificate.read_bytes(), files.key.read_bytes())
    feed = Mt2Feed(messages, 4 * KIB, sealer, OUTRIDER_NAME)
    identity = TlsIdentity(files.certificate, files.key, files.authority, SERVER_NAME)
    with Profiled(kind(work).configuration()) as server:
        seconds = run_feed(feed, messages, work.address, work.port, identity)
        server.stop()
        table = shown(server.folder)
    return f"{messages} messages in {seconds:.1f} s under the profiler\n{table}"


def shown(folder: Path, order: str = "tottime") -> str:
    """What the profiler wrote into a server's folder."""
    text = io.StringIO()
    pstats.Stats(str(folder / FILE), stream=text).sort_stats(order).print_stats(LINES)
    return _without_paths(text.getvalue())


def _without_paths(text: str) -> str:
    """What is printed may be published: no paths of this machine."""
    for folder in (str(Path(__file__).parents[1]), sys.base_prefix, sys.prefix):
        text = text.replace(f"{folder}/", "")
    return text


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="bench.bulk_profile", description=__doc__)
    parser.add_argument("--messages", type=int, default=5000)
    parser.add_argument("--unverified", action="store_true", help="with verify_seals = false")
    arguments = parser.parse_args()
    print(profile(arguments.messages, verified=not arguments.unverified))
    return 0


if __name__ == "__main__":
    sys.exit(main())
