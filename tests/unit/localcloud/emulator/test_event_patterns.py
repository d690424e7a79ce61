"""How complex a pattern is, by the cases that Event Ruler publishes, and what is refused for it."""

import json
import time

import pytest

from localcloud.emulator.event_patterns import (
    LARGEST_COMPLEXITY,
    TOO_COMPLEX,
    complexity,
    pattern_complexity,
    refusal,
)

# The rule that this template had until November 2026; AWS would have refused it.
WILDCARDS_OF_OLD = [
    {"wildcard": f"datasets/*{ending}"}
    for ending in (
        "/_READY",
        ".zip",
        ".tar",
        ".tar.gz",
        ".tgz",
        "/labels.csv",
        "/labels.jsonl",
        "/labels.lst",
    )
]
# What was problematic for Quamina, the same engine in Go.
EXPLODER = (
    "aahed* aal*ii aargh* aarti* a*baca *abaci a*back ab*acs abaf*t *abaka ab*amp a*band *abase "
    "abash* abas*k ab*ate aba*ya abbas* abbed* ab*bes abbey* *abbot ab*cee abea*m abe*ar a*bele "
    "a*bers abet*s *abhor abi*de a*bies *abled"
)


# MachineComplexityEvaluatorTest.java of github.com/aws/event-ruler: the cases of wildcards.
@pytest.mark.parametrize(
    ("wildcards", "expected"),
    [
        ("*", 1),
        ("abc", 1),
        ("*ab", 2),
        ("*aa", 3),
        ("a*b", 2),
        ("aa*", 2),
        ("a*bc", 2),
        ("a*bb", 3),
        ("a*bcb", 3),
        ("a*bbb", 4),
        ("*ab*ad", 4),
        ("*ab*d", 3),
        ("*aba*", 4),
        ("a*b*bb", 5),
        ("a*b*cb", 4),
        ("a*b*cd", 3),
        ("a*b*b", 4),
        ("a*bb*", 4),
        ("ab*b*", 3),
        ("*ab*b*b*", 7),
        ("*a*a*a*a*a*a*a*a*", 17),
        ("* ab*c", 3),
        ("ab*c x*xx", 3),
        ("*abc *abcde", 4),
        ("a*bcd ab*cd", 4),
        ("a*bc a*bcde", 4),
        ("a*aaa aa*aa", 7),
        ("a*bc abc*d", 4),
        ("a*aaa aaa*a", 6),
        ("a*aax aaa*x", 5),
        ("a*bc abc*", 4),
        ("a*aa aaa*", 5),
        ("abc* abcde*", 3),
        ("ab*cd ab*wx ab*yz", 6),
        ("ab*c ab*c", 2),
        ("F*eatureFeature Fe*atureFeature Fea*tureFeature", 10),
        (EXPLODER, 45),
    ],
)
def test_wildcards_are_as_complex_as_event_ruler_finds_them(wildcards: str, expected: int) -> None:
    assert complexity(wildcards.split()) == expected
    assert complexity(wildcards.split()[::-1]) == expected


def test_the_evaluation_of_a_hostile_pattern_ends_at_its_cap() -> None:
    assert complexity(["F*e*a*t*u*r*e*" * 200]) == 100
    began = time.process_time()
    assert complexity(["*".join("abcdefghij"[n % 10] * 7 for n in range(250))], cap=9) == 9
    assert time.process_time() - began < 30


def test_a_character_behind_a_backslash_is_no_wildcard() -> None:
    assert complexity([r"a\*b\\*"]) == complexity(["axbx*"]) == 2


def test_characters_count_by_their_bytes() -> None:
    assert complexity(["*éé"]) == 3


def of_key(*matchers: object) -> dict[str, object]:
    return {"source": ["aws.s3"], "detail": {"object": {"key": list(matchers)}}}


def test_yesterday_s_upload_rule_is_refused_and_suffixes_cost_nothing() -> None:
    assert complexity([one["wildcard"] for one in WILDCARDS_OF_OLD]) == 16
    old = of_key("datasets/_READY", *WILDCARDS_OF_OLD)
    assert refusal(json.dumps(old)) == ("InvalidEventPatternException", TOO_COMPLEX)
    assert pattern_complexity(of_key({"suffix": ".zip"}, {"prefix": "datasets/"}, "a")) == 0


def test_the_threshold_lies_below_what_is_known_to_be_taken() -> None:
    """Rules of three such stacks were accepted and rules of four refused (vals-ai/Valkyrie 278)."""
    stacks = [{"wildcard": f"*:stack/{name}/*"} for name in ("Shared", "Net", "Batch", "Monitor")]
    found = [complexity([one["wildcard"] for one in stacks[:count]]) for count in (3, 4)]
    assert found == [9, 12]
    assert found[0] > LARGEST_COMPLEXITY
    assert refusal(json.dumps(of_key(*stacks[:2]))) is None


def test_the_most_complex_field_decides_and_alternatives_count_together() -> None:
    two = {"bucket": [{"wildcard": "a*bb"}], "key": [{"wildcard": "*a"}]}
    assert pattern_complexity(two) == 3
    either = {"$or": [{"key": [{"wildcard": "a*bc"}]}, {"key": [{"wildcard": "a*bcde"}]}]}
    assert pattern_complexity(either) == 4
    but = {"key": [{"anything-but": {"wildcard": ["a*bc", "a*bcde"]}}]}
    assert pattern_complexity(but) == 4


def test_a_pattern_longer_than_a_new_account_s_quota_is_refused() -> None:
    reason = refusal(json.dumps({"source": ["x" * 2100]}))
    assert reason is not None
    assert reason[0] == "LimitExceededException"
