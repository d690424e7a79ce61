"""The operator's access key: random for each local cloud, readable by its owner only.

admission.py checks it on every request.
"""

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
    """A long-term access key in IAM's format: 20 and 40 characters."""

    key: str
    secret: str


def operator_key(settings: "Settings") -> AccessKey:
    """The key with all permissions in this cloud; created where there is none yet."""
    path = settings.operator_key_file
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.{os.getpid()}")
        content = {
            "key": "AKIA" + "".join(secrets.choice(_KEY_LETTERS) for _ in range(16)),
            "secret": secrets.token_urlsafe(30),
        }
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(file, "w", encoding="utf-8") as output:
            json.dump(content, output)
        try:
            os.link(temporary, path)  # atomic: of two processes the first one's key stays
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
    return AccessKey(**json.loads(path.read_text(encoding="utf-8")))
