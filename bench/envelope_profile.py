"""Where the gateway's time goes from an envelope's arrival to its settlement: the functions that take most.

python -m bench.envelope_profile [--messages 2000] [--order cumulative]

The profiler itself takes time, more of it the smaller the functions are: shares count, not seconds.
"""

from __future__ import annotations

import argparse

from tests.peers.addresses import loopback_address

from bench.amdp import put_envelopes
from bench.bulk_profile import Profiled, shown
from bench.measuring import GENERATORS, PORT, holder_files
from bench.subjects import OutriderEnvelopes
from bench.work import SHAPES, Kind, Work


class _Gateway(OutriderEnvelopes):
    server = Profiled


def profile(messages: int, order: str) -> str:
    """The table, for people."""
    shape = next(one for one in SHAPES if one.kind is Kind.ENVELOPES)
    holder = loopback_address()
    work = Work(loopback_address(), PORT, shape.sessions, tls=holder_files(), holder=holder)
    with _Gateway(work) as gateway:
        seconds, _ = put_envelopes(shape, gateway, messages, GENERATORS)
        table = shown(gateway.stop(), order)
    return f"{messages} envelopes in {seconds:.1f} s under the profiler\n{table}"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="bench.envelope_profile", description=__doc__)
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--order", choices=("tottime", "cumulative", "ncalls"), default="tottime")
    arguments = parser.parse_args()
    print(profile(arguments.messages, arguments.order))


if __name__ == "__main__":
    main()
