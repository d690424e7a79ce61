"""The front end of an AWS service: validates requests and shapes responses by botocore's model."""

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import botocore.loaders
from botocore.model import ListShape, MapShape, ServiceModel, Shape, StringShape, StructureShape
from botocore.validate import ParamValidator

log = logging.getLogger("localcloud.service")

Parameters = dict[str, Any]
Response = tuple[int, dict[str, str], bytes]
Operation = Callable[[Parameters], Parameters]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One HTTP request; header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class ServiceError(Exception):
    """An error response, with AWS's error code."""

    def __init__(self, code: str, message: str, status: int = 400, **fields: Any):
        super().__init__(message)
        self.code, self.message, self.status, self.fields = code, message, status, fields

    def response(self) -> Response:
        body = {"__type": self.code, "message": self.message, "Message": self.message}
        headers = {"Content-Type": "application/json", "x-amzn-errortype": self.code}
        return self.status, headers, json.dumps({**body, **self.fields}).encode()


class ServiceFront:
    """Dispatches the operations of one service.

    `operations` maps operation names of botocore's model to functions from request to response
    parameters. `validation_error` is the service's error code for a malformed request.
    `authorize` raises ServiceError where the caller lacks a permission.
    """

    def __init__(
        self,
        service: str,
        operations: Mapping[str, Operation],
        *,
        validation_error: str,
        authorize: Callable[[Request, str, Parameters], None] = lambda *_: None,
    ):
        description = botocore.loaders.Loader().load_service_model(service, "service-2")
        self._model = ServiceModel(description, service)
        self._operations = operations
        self._validation_error = validation_error
        self.authorize = authorize
        unknown = set(operations) - set(self._model.operation_names)
        assert not unknown, f"{service} has no operations {unknown}"

    def call(self, name: str, parameters: Parameters, request: Request) -> Response:
        """The response, also to an invalid request: AWS's error. Raises nothing for those."""
        try:
            operation = self._operations.get(name)
            if operation is None:
                raise ServiceError(
                    "UnknownOperationException",
                    f"{self._model.service_name}: the local cloud does not offer {name}",
                )
            shapes = self._model.operation_model(name)
            if shapes.input_shape is not None:
                self._validate(shapes.input_shape, parameters)
            self.authorize(request, name, parameters)
            output = operation(parameters)
            body = shape_output(shapes.output_shape, output) if shapes.output_shape else {}
        except ServiceError as error:
            log.info("%s refused: %s: %s", name, error.code, error.message)
            return error.response()
        return 200, {"Content-Type": "application/json"}, json.dumps(body).encode()

    def rest_operation(self, method: str, path: str) -> tuple[str, Parameters]:
        """The operation that a REST request names, with the parameters in its path."""
        for name in self._model.operation_names:
            http = self._model.operation_model(name).http
            pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>.+)", re.escape(http["requestUri"]))
            if http["method"] == method and (hit := re.fullmatch(pattern, path)):
                return name, hit.groupdict()
        raise ServiceError("UnknownOperationException", f"no operation {method} {path}", 404)

    def input_shape(self, name: str) -> StructureShape:
        shape = self._model.operation_model(name).input_shape
        assert shape is not None
        return shape

    def _validate(self, shape: StructureShape, parameters: Parameters) -> None:
        problems = []
        if (report := ParamValidator().validate(parameters, shape)).has_errors():
            problems.append(report.generate_report())
        else:
            problems.extend(_constraint_errors(shape, parameters, ""))
        if problems:
            count = f"{len(problems)} validation error{'s' * (len(problems) > 1)} detected: "
            raise ServiceError(self._validation_error, count + "; ".join(problems))


def _constraint_errors(shape: Shape, value: Any, path: str) -> Iterator[str]:
    """Violations of lengths, patterns and enumerations, which botocore does not check."""
    if isinstance(shape, StructureShape):
        for name, member in shape.members.items():
            if value.get(name) is not None:
                yield from _constraint_errors(member, value[name], f"{path}.{name}".lstrip("."))
    elif isinstance(shape, ListShape):
        for number, item in enumerate(value, 1):
            yield from _constraint_errors(shape.member, item, f"{path}.{number}.member")
    elif isinstance(shape, MapShape):
        for key, item in value.items():
            yield from _constraint_errors(shape.key, key, f"{path}.key")
            yield from _constraint_errors(shape.value, item, f"{path}.{key}")
    rules = shape.metadata
    prefix = f"Value at '{path}' failed to satisfy constraint: Member must "
    if isinstance(value, (str, list, dict)) and len(value) > rules.get("max", len(value)):
        yield f"{prefix}have length less than or equal to {rules['max']}"
    if isinstance(value, int) and value > rules.get("max", value):
        yield f"{prefix}have value less than or equal to {rules['max']}"
    if isinstance(value, str):
        if (pattern := rules.get("pattern")) and not re.fullmatch(_python(pattern), value):
            yield f"{prefix}satisfy regular expression pattern: {pattern}"
        if isinstance(shape, StringShape) and shape.enum and value not in shape.enum:
            yield f"{prefix}satisfy enum value set: [{', '.join(shape.enum)}]"


_SIGNS = r"!-/:-@\[-`{-~\u00a1-\u00bf\u2010-\u205e"  # Java has two classes for these, P and S
_JAVA_CLASSES = {
    "Alnum": "a-zA-Z0-9",
    "L": r"\w",
    "M": r"\u0300-\u036f",
    "N": r"\d",
    "P": _SIGNS,
    "S": _SIGNS,
    "Z": r"\s",
}


def _python(pattern: str) -> str:
    """A pattern of the service models, which has Java's character classes (and one a length after
    its end), for Python's re."""
    pattern = re.sub(r"\$\{\d+,\d+\}$", "", pattern)
    return re.sub(r"\\p\{(\w+)\}", lambda hit: _JAVA_CLASSES[hit[1]], pattern)


def shape_output(shape: Shape, value: Any) -> Any:
    """The members that the model knows: internal ones of a record are left out."""
    if isinstance(shape, StructureShape):
        return {
            name: shape_output(member, value[name])
            for name, member in shape.members.items()
            if value.get(name) is not None
        }
    if isinstance(shape, ListShape):
        return [shape_output(shape.member, item) for item in value]
    return value


def coerce(shape: Shape, value: Any) -> Any:
    """CloudFormation's properties (PascalCase names, numbers and booleans as text) as the API
    takes them. Raises ValueError naming a property that the API does not know."""
    if isinstance(shape, StructureShape):
        known = {name.lower(): (name, member) for name, member in shape.members.items()}
        result = {}
        for key, item in value.items():
            if key.lower() not in known:
                raise ValueError(f"{key} is not a property of {shape.name}")
            name, member = known[key.lower()]
            result[name] = coerce(member, item)
        return result
    if isinstance(shape, ListShape):
        return [coerce(shape.member, item) for item in value]
    if isinstance(shape, MapShape):
        return {key: coerce(shape.value, item) for key, item in value.items()}
    if shape.type_name in ("integer", "long"):
        return int(value)
    if shape.type_name == "boolean":
        return value if isinstance(value, bool) else str(value).lower() == "true"
    return str(value) if isinstance(value, (int, float)) else value
