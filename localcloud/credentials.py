"""The access key of a local cloud's operator: random for each cloud, kept readable by its owner
only, and checked on every request (admission.py)."""

import json
import os
import secrets
import string
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from localcloud.settings import Settings

_KEY_LETTERS = string.ascii_uppercase + "234567"


@dataclass(frozen=True, slots=True)
class AccessKey:
    """A long-lived key as IAM shapes it: 20 and 40 characters."""

    key: str
    secret: str


def operator_key(settings: "Settings") -> AccessKey:
    """The key that may do everything in this cloud; made where there is none yet."""
    path = settings.operator_key_file
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        half = path.with_name(f"{path.name}.{os.getpid()}")
        made = {
            "key": "AKIA" + "".join(secrets.choice(_KEY_LETTERS) for _ in range(16)),
            "secret": secrets.token_urlsafe(30),
        }
        file = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(file, "w", encoding="utf-8") as output:
            json.dump(made, output)
        try:
            os.link(half, path)  # whole at once, and of two at the same moment the first stays
        except FileExistsError:
            pass
        finally:
            half.unlink()
    return AccessKey(**json.loads(path.read_text(encoding="utf-8")))
