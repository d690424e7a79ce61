"""HTTP responses, and errors as JSON."""

import json
import logging
from dataclasses import dataclass
from http import HTTPStatus

log = logging.getLogger(__name__)

JSON, JSON_LINES = "application/json", "application/jsonlines"
# {"probabilities": […], "novelty": 1.2}; JSON stays the bare list for callers that know no other.
PREDICTION_JSON = "application/vnd.droplens.prediction+json"


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP response. headers: further ones than the content's type and length."""

    status: HTTPStatus
    body: bytes
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


class RequestError(Exception):
    """A request that is refused. code: stable, for programs; message: a sentence for users."""

    def __init__(
        self, status: HTTPStatus, code: str, message: str, *headers: tuple[str, str]
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers

    def response(self) -> Response:
        """The response as JSON; also logs the refusal."""
        log.info("refused status=%d code=%s: %s", self.status, self.code, self.message)
        body = json.dumps(error_json(self.code, self.message)).encode()
        return Response(self.status, body, JSON, self.headers)


def error_json(code: str, message: str) -> dict[str, dict[str, str]]:
    """The JSON of an error, of a whole request or of one line."""
    return {"error": {"code": code, "message": message}}
