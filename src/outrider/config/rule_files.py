"""All rules of a policy with the place of each: those of the file itself, then those of its includes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from outrider.config.loader import Loaded, key_text, load_as
from outrider.config.problems import ConfigError, Problem
from outrider.config.schema import Rule, RuleFile
from outrider.config.source_map import Path as KeyPath
from outrider.config.source_map import SourceMap

MAX_INCLUDES = 100
"""Files; a folder's worth, and no more than anybody can keep in mind."""


@dataclass(frozen=True, slots=True)
class RulePlace:
    """Where one rule stands."""

    file: str
    key: KeyPath
    """``("policy", "rules", 0)``, in an include ``("rules", 0)``."""
    source: SourceMap

    def line(self, *below: str) -> int:
        """The line of the rule, or of a key in it, 1-based; 0 when nothing is known."""
        return self.source.line((*self.key, *below))

    def problem(self, fault: str, *below: str, remedy: str = "") -> Problem:
        """A fault of the rule, placed at its line."""
        return Problem(self.file, self.line(*below), key_text((*self.key, *below)), fault, remedy)

    def __str__(self) -> str:
        return f"{self.file}:{self.line()}"


@dataclass(frozen=True, slots=True)
class PlacedRules:
    """The rules in the order in which they are asked; `places` runs parallel to it."""

    rules: tuple[Rule, ...]
    places: tuple[RulePlace, ...]


def read_rules(loaded: Loaded) -> PlacedRules:
    """Read every file that `[policy] include` names. Raises ConfigError with every problem found."""
    policy = loaded.config.policy
    rules = list(policy.rules)
    places = [
        RulePlace(str(loaded.path), ("policy", "rules", number), loaded.source)
        for number in range(len(policy.rules))
    ]
    problems: list[Problem] = []
    for number, name in enumerate(policy.include):
        key: KeyPath = ("policy", "include", number)
        try:
            file, source = _include(loaded, key, name)
        except ConfigError as error:
            problems.extend(error.problems)
            continue
        rules.extend(file.rules)
        path = str(loaded.resolve(name))
        places.extend(RulePlace(path, ("rules", at), source) for at in range(len(file.rules)))
    if problems:
        raise ConfigError(problems)
    return PlacedRules(tuple(rules), tuple(places))


def _include(loaded: Loaded, key: KeyPath, name: str) -> tuple[RuleFile, SourceMap]:
    if len(loaded.config.policy.include) > MAX_INCLUDES:
        raise ConfigError([loaded.problem(key, f"more than {MAX_INCLUDES} files", "join some of them")])
    path: Path = loaded.resolve(name)
    if not path.is_file():
        raise ConfigError([loaded.problem(key, f"{name}: no such file", "create it, or give its path")])
    return load_as(RuleFile, path)
