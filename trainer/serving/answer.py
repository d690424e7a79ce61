"""What the server says: an HTTP answer, and how a refusal is told."""

import json
import logging
from dataclasses import dataclass
from http import HTTPStatus

log = logging.getLogger(__name__)

JSON, JSON_LINES = "application/json", "application/jsonlines"


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response; `headers` are those beside the content's type and length."""

    status: HTTPStatus
    body: bytes
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


class Refused(Exception):
    """A request that cannot be answered. code: for programs; message: a sentence for people."""

    def __init__(
        self, status: HTTPStatus, code: str, message: str, *headers: tuple[str, str]
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers

    def answer(self) -> Answer:
        """As JSON, noted in the log."""
        log.info("refused status=%d code=%s: %s", self.status, self.code, self.message)
        body = json.dumps(told(self.code, self.message)).encode()
        return Answer(self.status, body, JSON, self.headers)


def told(code: str, message: str) -> dict[str, dict[str, str]]:
    """The JSON of a refusal, of a whole request or of one line."""
    return {"error": {"code": code, "message": message}}
