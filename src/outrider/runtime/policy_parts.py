"""The policy from its files, compiled, with what is wrong in it at the line where it stands."""

from __future__ import annotations

import re

from outrider.config.problems import ConfigError, Problem
from outrider.config.rule_files import PlacedRules, read_rules
from outrider.config.schema import Policy
from outrider.policy.lint import Surroundings, lint
from outrider.policy.policy import NO_POLICY, CompiledPolicy, compile_policy
from outrider.policy.rules import PolicyError
from outrider.routing.ways import parse_way
from outrider.runtime.findings import Findings

_RULE_NUMBER = re.compile(r"policy\.rules\[([0-9]+)\]")
_RULE_CONDITION = re.compile(r'(when|unless)\."([^"]*)": ')


def read_policy(findings: Findings) -> CompiledPolicy:
    """The policy; an empty one when it has faults."""
    try:
        placed = read_rules(findings.loaded)
    except ConfigError as error:
        findings.problems.extend(error.problems)
        return NO_POLICY
    try:
        policy = compile_policy(Policy(rules=placed.rules), parse_way)
    except PolicyError as error:
        findings.problems.append(_rule_problem(findings, str(error), placed))
        return NO_POLICY
    for finding in lint(policy, Surroundings.of(findings.config)):
        place = placed.places[finding.rule.number]
        findings.warnings.append(f"{place.file}:{place.line(*finding.key)}: {finding}")
    return policy


def _rule_problem(findings: Findings, text: str, placed: PlacedRules) -> Problem:
    """A fault of a rule at the line where it stands, in whichever file (ITP-4a)."""
    match = _RULE_NUMBER.match(text)
    fault = text.partition(": ")[2]
    if match is None:
        return findings.loaded.problem(("policy",), fault)
    condition = _RULE_CONDITION.match(fault)
    place = placed.places[int(match[1]) - 1]
    if condition is None:
        return place.problem(fault)
    return place.problem(fault[condition.end() :], condition[1], condition[2])
