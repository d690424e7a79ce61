"""The complexity of event patterns, by which EventBridge refuses some.

EventBridge matches events with Event Ruler, which is open source: a pattern's complexity is the
largest number of prefixes of its wildcards that one value can match at the same time, the largest
over all fields. Sources: MachineComplexityEvaluator of github.com/aws/event-ruler and its tests;
EventBridge User Guide, "Comparison operators", "Wildcard matching", "Pattern complexity".

AWS does not publish the threshold. Event Ruler's README advises 10 at most; rules of 9 were
accepted, rules of 12 refused (github.com/vals-ai/Valkyrie, pull request 278).
"""

import json
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from typing import Any

LARGEST_COMPLEXITY = 8
LONGEST_PATTERN = 2048
"""Characters: a new account's quota "Event pattern size", which can be raised to the API's 4096
(EventBridge User Guide, "EventBridge event bus quotas"; terraform-provider-aws, issue 33732)."""
TOO_COMPLEX = (
    "Rule is too complex - try using fewer wildcard characters or fewer repeating character "
    "sequences after a wildcard character"
)
# Sets of states that one evaluation visits: a pattern that needs more is refused, as AWS stops too.
_MOST_STATES = 20_000

_Token = int | None
"""A byte, or None for a wildcard."""


def refusal(pattern: str) -> tuple[str, str] | None:
    """(code, message) of PutRule's error for this valid pattern; None if it is accepted. The
    text of AWS's error for the quota is not known."""
    if len(pattern) > LONGEST_PATTERN:
        message = f"The event pattern is longer than the quota of {LONGEST_PATTERN} characters."
        return "LimitExceededException", message
    if pattern_complexity(json.loads(pattern)) > LARGEST_COMPLEXITY:
        return "InvalidEventPatternException", TOO_COMPLEX
    return None


def pattern_complexity(pattern: dict[str, Any]) -> int:
    """The complexity of an event pattern, as far as LARGEST_COMPLEXITY + 1."""
    fields: defaultdict[str, list[str]] = defaultdict(list)
    for field, wildcard in _wildcards(pattern, ""):
        fields[field].append(wildcard)
    return max(
        (complexity(wildcards, LARGEST_COMPLEXITY + 1) for wildcards in fields.values()), default=0
    )


def complexity(wildcards: Sequence[str], cap: int = 100) -> int:
    """How many prefixes of these wildcards of one field a single value can match; at most `cap`.

    The largest number is found by following all wildcards at once over every byte that
    distinguishes them.
    """
    tokens = [_tokens(wildcard) for wildcard in dict.fromkeys(wildcards)]
    # -1 represents all bytes that are in no wildcard.
    alphabet = {token for one in tokens for token in one if token is not None} | {-1}
    # A state: a wildcard and how many of its tokens are matched.
    start = frozenset(state for number in range(len(tokens)) for state in _reached(tokens, number))
    seen, queue, largest = {start}, deque([start]), _counted(start)
    while queue:
        states = queue.popleft()
        for byte in alphabet:
            following = frozenset(_after(tokens, states, byte))
            if not following or following in seen:
                continue
            largest = max(largest, _counted(following))
            if largest >= cap or len(seen) >= _MOST_STATES:
                return cap
            seen.add(following)
            queue.append(following)
    return largest


def _counted(states: frozenset[tuple[int, int]]) -> int:
    return sum(matched > 0 for _, matched in states)


def _reached(
    tokens: Sequence[Sequence[_Token]], number: int, matched: int = 0
) -> Iterator[tuple[int, int]]:
    """The state, and the one behind a wildcard that needs no byte."""
    yield number, matched
    if matched < len(tokens[number]) and tokens[number][matched] is None:
        yield number, matched + 1


def _after(
    tokens: Sequence[Sequence[_Token]], states: frozenset[tuple[int, int]], byte: int
) -> Iterator[tuple[int, int]]:
    for number, matched in states:
        if matched and tokens[number][matched - 1] is None:
            yield number, matched
        if matched < len(tokens[number]) and tokens[number][matched] == byte:
            yield from _reached(tokens, number, matched + 1)


def _tokens(wildcard: str) -> list[_Token]:
    r"""`*` is a wildcard, `\*` and `\\` are the characters behind the backslash."""
    found: list[_Token] = []
    escaped = False
    for character in wildcard:
        if character == "\\" and not escaped:
            escaped = True
            continue
        found.extend([None] if character == "*" and not escaped else character.encode())
        escaped = False
    return found


def _wildcards(pattern: Any, field: str) -> Iterator[tuple[str, str]]:
    """Every (field, wildcard). The alternatives of an $or count together, and so do wildcards
    under anything-but, both of which Event Ruler may spare."""
    for name, wanted in pattern.items():
        if name == "$or" and isinstance(wanted, list):
            for alternative in wanted:
                yield from _wildcards(alternative, field)
        elif isinstance(wanted, dict):
            yield from _wildcards(wanted, f"{field}.{name}")
        else:
            for one in wanted if isinstance(wanted, list) else ():
                for text in _texts(one):
                    yield f"{field}.{name}", text


def _texts(matcher: Any) -> list[str]:
    if not isinstance(matcher, dict):
        return []
    if isinstance(matcher.get("anything-but"), dict):
        return _texts(matcher["anything-but"])
    found = matcher.get("wildcard", [])
    return [found] if isinstance(found, str) else list(found)
