"""``python -m tests.fuzz TARGET SEED``: one case again, outside of any guard."""

from __future__ import annotations

import random
import sys

from tests.fuzz.all_targets import TARGETS


def main() -> None:
    """Run it, and say whether its input was accepted."""
    if len(sys.argv) != 3 or sys.argv[1] not in TARGETS or not sys.argv[2].isdigit():
        sys.exit(f"usage: python -m tests.fuzz TARGET SEED; targets: {' '.join(TARGETS)}")
    accepted = TARGETS[sys.argv[1]].case(random.Random(int(sys.argv[2])))
    print("accepted" if accepted else "refused")


if __name__ == "__main__":
    main()
