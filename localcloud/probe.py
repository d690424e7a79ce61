"""Whether an HTTP server on this machine responds."""

import http.client

from localcloud.settings import HOST


def responds(port: int, path: str, seconds: float) -> bool:
    """Whether GET `path` on 127.0.0.1:`port` returns 200 within `seconds`."""
    connection = http.client.HTTPConnection(HOST, port, timeout=seconds)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
