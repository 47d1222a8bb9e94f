"""What one worker may use of the limits that are counted by each for itself.

Connections, and deliveries to a destination, are counted over all workers (`net.shared_counts`). Memory is a
process's own, and failed logins are remembered by the worker that saw them: their limits are divided, rounded
up. An attacker who spreads over the workers by chance meets about the limit that is written in the file.
"""

from __future__ import annotations

import os
from typing import Final

from msgspec.structs import replace

from outrider.config.schema import Config

MOST_WORKERS: Final = 64


def worker_count(config: Config) -> int:
    """How many processes are to serve: `workers`, or one for each core that we may use."""
    return config.workers or min(len(os.sched_getaffinity(0)), MOST_WORKERS)


def share_of(config: Config, workers: int) -> Config:
    """The settings as one of so many workers has to take them; a limit of 0 stays none."""
    if workers == 1:
        return config
    limits, auth = config.limits, config.auth
    return replace(
        config,
        limits=replace(limits, memory=_part(limits.memory, workers)),
        auth=replace(
            auth,
            failures_per_address=_part(auth.failures_per_address, workers),
            failures_per_user=_part(auth.failures_per_user, workers),
        ),
    )


def _part(limit: int, workers: int) -> int:
    return -(-limit // workers)
