"""A service's front: what it refuses and how, and what it lets out."""

import json
from typing import Any

import pytest

from localcloud.emulator.service import (
    Parameters,
    Request,
    ServiceError,
    ServiceFront,
    coerce,
    shape_output,
)

MODEL = {
    "ModelName": "cars",
    "ExecutionRoleArn": "arn:aws:iam::000000000000:role/sagemaker",
    "PrimaryContainer": {"Image": "trainer"},
}


@pytest.fixture
def front() -> ServiceFront:
    def create(request: Parameters) -> Parameters:
        if request["ModelName"] == "refused":
            raise ServiceError("ResourceInUse", "it is there already", 409, Extra=1)
        return {"ModelArn": "arn", "internal": "never seen"}

    return ServiceFront(
        "sagemaker", {"CreateModel": create}, validation_error="ValidationException"
    )


def answer(front: ServiceFront, name: str, **changes: Any) -> tuple[int, dict[str, Any]]:
    request = Request(method="POST", path="/", headers={}, body=b"")
    status, _, body = front.call(name, {**MODEL, **changes}, request)
    return status, json.loads(body)


def test_an_answer_holds_only_what_the_model_knows(front: ServiceFront) -> None:
    assert answer(front, "CreateModel") == (200, {"ModelArn": "arn"})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"ModelName": None}, "ModelName"),
        ({"ModelName": "under_score"}, "regular expression pattern"),
        ({"ModelName": "a" * 64}, "length less than or equal to 63"),
        ({"PrimaryContainer": {"Mode": "Sideways"}}, "enum value set: [SingleModel, MultiModel]"),
        ({"Colour": "red"}, "Colour"),
        ({"Tags": [{"Key": "a"}]}, "Value"),
        ({"PrimaryContainer": {"Environment": {"0bad": "x"}}}, "PrimaryContainer.Environment.key"),
    ],
)
def test_a_malformed_request_is_refused_naming_the_member(
    front: ServiceFront, change: dict[str, Any], says: str
) -> None:
    status, body = answer(front, "CreateModel", **change)
    assert (status, body["__type"]) == (400, "ValidationException")
    assert says in body["message"]


def test_an_error_comes_with_its_code_status_and_fields(front: ServiceFront) -> None:
    status, body = answer(front, "CreateModel", ModelName="refused")
    assert status == 409
    assert (body["__type"], body["message"], body["Extra"]) == (
        "ResourceInUse",
        "it is there already",
        1,
    )


def test_an_operation_that_is_not_offered_says_so(front: ServiceFront) -> None:
    status, body = answer(front, "CreateDomain")
    assert (status, body["__type"]) == (400, "UnknownOperationException")
    assert "does not offer CreateDomain" in body["message"]


def test_rest_paths_name_operations_and_their_parameters() -> None:
    front = ServiceFront("batch", {}, validation_error="ClientException")
    assert front.rest_operation("POST", "/v1/submitjob") == ("SubmitJob", {})
    name, parameters = front.rest_operation("GET", "/v1/tags/arn:aws:batch:x:y:job/z")
    assert (name, parameters) == (
        "ListTagsForResource",
        {"resourceArn": "arn:aws:batch:x:y:job/z"},
    )
    with pytest.raises(ServiceError, match="no operation GET /v1/nothing"):
        front.rest_operation("GET", "/v1/nothing")


def test_cloudformations_properties_become_the_apis() -> None:
    front = ServiceFront("batch", {}, validation_error="ClientException")
    shape = front.input_shape("RegisterJobDefinition")
    assert coerce(
        shape,
        {
            "JobDefinitionName": "pack",
            "Type": "container",
            "Parameters": {"KeepMyCase": "1"},
            "PropagateTags": "true",
            "Timeout": {"AttemptDurationSeconds": "3600"},
            "ContainerProperties": {
                "Image": "i",
                "ResourceRequirements": [{"Type": "VCPU", "Value": 2}],
                "FargatePlatformConfiguration": {"PlatformVersion": "1.4.0"},
            },
        },
    ) == {
        "jobDefinitionName": "pack",
        "type": "container",
        "parameters": {"KeepMyCase": "1"},
        "propagateTags": True,
        "timeout": {"attemptDurationSeconds": 3600},
        "containerProperties": {
            "image": "i",
            "resourceRequirements": [{"type": "VCPU", "value": "2"}],
            "fargatePlatformConfiguration": {"platformVersion": "1.4.0"},
        },
    }
    with pytest.raises(ValueError, match="Imagine is not a property of"):
        coerce(shape, {"ContainerProperties": {"Imagine": "i"}})


def test_absent_members_stay_absent() -> None:
    front = ServiceFront("sagemaker", {}, validation_error="ValidationException")
    shape = front.input_shape("CreateModel")
    assert shape_output(shape, {"ModelName": "m", "Tags": None}) == {"ModelName": "m"}
