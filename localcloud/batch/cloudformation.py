"""CloudFormation's resource types of Batch, on top of the Batch service."""

import uuid
from collections.abc import Callable
from typing import Any, Protocol

from localcloud.batch.service import Batch
from localcloud.emulator.service import Parameters, ServiceError, coerce

# Properties that direct CloudFormation itself and are not sent to Batch.
_CLOUDFORMATION_ONLY = {"ReplaceComputeEnvironment", "UpdatePolicy", "SkipDeregisterOnUpdate"}

Properties = dict[str, Any]
Operation = Callable[[Parameters], Parameters]


class Provide(Protocol):
    """How a resource type is registered with CloudFormation."""

    def __call__(
        self,
        name: str,
        *,
        create: Callable[[str, Properties, str], tuple[str, dict[str, str]]],
        update: Callable[[str, Properties, Properties, str], tuple[str, dict[str, str]]],
        delete: Callable[[str, Properties], None],
    ) -> None: ...


def install(batch: Batch, provide: Provide) -> None:
    """Register the three resource types with CloudFormation."""
    _provide(
        batch,
        provide,
        "ComputeEnvironment",
        ("CreateComputeEnvironment", batch.create_compute_environment),
        ("UpdateComputeEnvironment", batch.update_compute_environment),
        batch.delete_compute_environment,
    )
    _provide(
        batch,
        provide,
        "JobQueue",
        ("CreateJobQueue", batch.create_job_queue),
        ("UpdateJobQueue", batch.update_job_queue),
        batch.delete_job_queue,
    )
    # A job definition is never changed: each update registers a revision with an ARN of its own.
    _provide(
        batch,
        provide,
        "JobDefinition",
        ("RegisterJobDefinition", batch.register_job_definition),
        None,
        batch.deregister_job_definition,
    )


def _provide(
    batch: Batch,
    provide: Provide,
    kind: str,
    creation: tuple[str, Operation],
    change: tuple[str, Operation] | None,
    remove: Operation,
) -> None:
    member = kind[0].lower() + kind[1:]
    name_property = f"{kind}Name"

    def make(properties: dict[str, Any], name: str) -> tuple[str, dict[str, str]]:
        operation, call = creation
        request = _request(batch, operation, {name_property: name, **properties})
        arn = _call(call, request)[f"{member}Arn"]
        return arn, {f"{kind}Arn": arn}

    def create(logical_id: str, properties: Properties, stack: str) -> tuple[str, dict[str, str]]:
        name = properties.get(name_property) or f"{stack}-{logical_id}-{uuid.uuid4().hex[:8]}"
        return make(properties, name)

    def update(
        physical_id: str, _old: Properties, new: Properties, _stack: str
    ) -> tuple[str, dict[str, str]]:
        name = physical_id.rsplit("/", 1)[-1].partition(":")[0]
        if change is None:
            _call(remove, {member: physical_id})
            return make(new, name)
        operation, call = change
        shape = batch.front.input_shape(operation)
        known = {key.lower() for key in shape.members}
        kept = {key: value for key, value in new.items() if key.lower() in known}
        _call(call, {**_request(batch, operation, kept), member: physical_id})
        return physical_id, {f"{kind}Arn": physical_id}

    def delete(physical_id: str, _: Properties) -> None:
        _call(remove, {member: physical_id})

    provide(f"AWS::Batch::{kind}", create=create, update=update, delete=delete)


def _request(batch: Batch, operation: str, properties: dict[str, Any]) -> Parameters:
    given = {key: value for key, value in properties.items() if key not in _CLOUDFORMATION_ONLY}
    request: Parameters = coerce(batch.front.input_shape(operation), given)
    return request


def _call(call: Operation, request: Parameters) -> Parameters:
    """CloudFormation reports a resource's failure by the message of a ValueError."""
    try:
        return call(request)
    except ServiceError as error:
        raise ValueError(f"{error.code}: {error.message}") from error
