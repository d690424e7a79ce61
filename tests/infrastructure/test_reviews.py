"""The table of reviews is the one that the code was tested on."""

from droplens.state.reviews import EXPIRES
from tests.support.aws_account import REVIEWS_TABLE
from tests.support.expanded_template import Stack


def test_its_keys_and_indexes_are_those_of_the_tests(stack: Stack) -> None:
    table = stack.properties("Reviews")
    assert {name: table[name] for name in REVIEWS_TABLE} == REVIEWS_TABLE


def test_dynamodb_deletes_what_has_expired(stack: Stack) -> None:
    expiry = stack.properties("Reviews")["TimeToLiveSpecification"]
    assert expiry == {"AttributeName": EXPIRES, "Enabled": True}
