"""An S3 server on loopback (moto's), and what a user sets in the environment to use it."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import obstore
from moto.moto_server.threaded_moto_server import ThreadedMotoServer
from moto.moto_server.werkzeug_app import DomainDispatcherApplication
from obstore.store import S3Store

from ernie_core.errors import OutputError
from ernie_core.object_store import commit

ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}


def wins(path: Path, data: bytes) -> bool:
    """Put a record; return whether it is there now, or another writer's was."""
    try:
        commit(path, data)
    except OutputError as e:
        if e.code != "E-COMMIT-LOST":
            raise
        return False
    return True


class S3:
    """A running server. `asked`: (method, path, Range header or "") of each request since it was last emptied.

    `first`: sees each request before the server does, may change it, and may answer it with a status and a body, as other servers do.
    `last`: sees the headers of each answer, and may change them.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[tuple[str, str, str]] = []
        self.first: Callable[[dict[str, Any]], tuple[str, bytes] | None] = lambda request: None
        self.last: Callable[[list[tuple[str, str]]], None] = lambda headers: None

    @property
    def environment(self) -> dict[str, str]:
        return {**ENVIRONMENT, "AWS_ENDPOINT_URL": self.url, "AWS_ALLOW_HTTP": "true"}

    def bucket(self, name: str) -> S3Store:
        """Make an empty bucket, and return it."""
        with urllib.request.urlopen(urllib.request.Request(f"{self.url}/{name}", method="PUT")):
            pass
        return S3Store(
            name, endpoint=self.url, region="us-east-1", access_key_id="key", secret_access_key="secret", client_options={"allow_http": True}
        )

    def empty(self) -> None:
        """Take away all buckets."""
        self.first, self.last = lambda request: None, lambda headers: None
        self._order("reset", b"")
        self.asked.clear()

    @contextmanager
    def denying(self) -> Iterator[None]:
        """Check keys, of which none is known, as long as the block runs."""
        self._order("reset-auth", b"0")
        try:
            yield
        finally:
            self._order("reset-auth", b"inf")

    def _order(self, name: str, body: bytes) -> None:
        order = urllib.request.Request(f"{self.url}/moto-api/{name}", data=body, headers={"Content-Type": "text/plain"}, method="POST")
        with urllib.request.urlopen(order) as answer:
            assert json.loads(answer.read())["status"] == "ok"


def put(bucket: S3Store, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        obstore.put(bucket, name, data)


def held(bucket: S3Store, prefix: str = "") -> dict[str, bytes]:
    """Return everything in a bucket under a folder, by its path in there."""
    found = [entry["path"] for page in obstore.list(bucket, prefix or None) for entry in page]
    return {path.removeprefix(f"{prefix}/"): obstore.get(bucket, path).bytes().to_bytes() for path in found}


@contextmanager
def running() -> Iterator[S3]:
    """Run a server in this process."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    s3 = S3(f"http://{host}:{port}")
    answer = DomainDispatcherApplication.__call__

    def noting(self: Any, environ: dict[str, Any], start_response: Any) -> Any:
        s3.asked.append((environ["REQUEST_METHOD"], environ["PATH_INFO"], environ.get("HTTP_RANGE", "")))

        def answered(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            s3.last(headers)
            return start_response(status, headers, *error)

        if (other := s3.first(environ)) is None:
            return answer(self, environ, answered)
        start_response(other[0], [("Content-Type", "application/xml"), ("Content-Length", str(len(other[1])))])
        return [other[1]]

    DomainDispatcherApplication.__call__ = noting
    try:
        yield s3
    finally:
        DomainDispatcherApplication.__call__ = answer
        server.stop()
