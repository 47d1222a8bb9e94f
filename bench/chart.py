"""A bar chart as SVG, written as text: groups of bars that are comparable within their group only.

Each group has a scale of its own, because loads differ by a factor of a thousand. The colours are distinct
for people who do not see red or green; text and lines follow a reader who prefers a dark page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, LABELS, BAR, GAP, HEAD = 860, 190, 15, 26, 44
COLOURS = ("#0072b2", "#56b4e9", "#e69f00", "#cc79a7", "#d55e00", "#009e73", "#999999", "#b8a13c")
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#24292f}.title{font-size:15px;font-weight:600}"
    ".group{font-weight:600}.axis{stroke:#8c959f}"
    "@media(prefers-color-scheme:dark){text{fill:#d0d7de}}"
)


@dataclass(frozen=True, slots=True)
class Bar:
    """One value."""

    name: str
    value: float


@dataclass(frozen=True, slots=True)
class Group:
    """Values of one kind."""

    title: str
    bars: tuple[Bar, ...]


def chart(title: str, groups: Sequence[Group], names: Sequence[str]) -> str:
    """The chart; `names` settles which colour belongs to whom."""
    colours = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(names)}
    top = HEAD
    parts = [f'<text class="title" x="8" y="24">{escape(title)}</text>']
    for group in groups:
        parts.append(f'<text class="group" x="8" y="{top + 4}">{escape(group.title)}</text>')
        top += 12
        parts += _bars(group, top, colours)
        top += BAR * len(group.bars) + GAP
    size = f'viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" height="{top}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(title)}">',
            f"<style>{_STYLE}</style>",
            *parts,
            "</svg>\n",
        ]
    )


def _bars(group: Group, top: int, colours: dict[str, str]) -> list[str]:
    most = max((bar.value for bar in group.bars), default=0.0) or 1.0
    room = WIDTH - LABELS - 90
    height = BAR * len(group.bars)
    parts = [f'<line class="axis" x1="{LABELS}" y1="{top}" x2="{LABELS}" y2="{top + height}"/>']
    for number, bar in enumerate(group.bars):
        y, length = top + BAR * number, max(1.0, room * bar.value / most)
        digits = 1 if bar.value < 50 else 0
        box = f'x="{LABELS}" y="{y + 2}" width="{length:.1f}" height="{BAR - 4}"'
        parts += [
            f'<text x="{LABELS - 8}" y="{y + 12}" text-anchor="end">{escape(bar.name)}</text>',
            f'<rect {box} fill="{colours[bar.name]}"/>',
            f'<text x="{LABELS + length + 6:.1f}" y="{y + 12}">{bar.value:,.{digits}f}</text>',
        ]
    return parts
