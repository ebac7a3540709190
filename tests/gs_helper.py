"""A stand-in for Google Cloud Storage: moto's server behind the names that Google's XML API has for the same things (no emulator with conditional
PUT is to be had as a package: gcp-storage-emulator speaks JSON alone, fake-gcs-server's XML has neither PUT nor conditions)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from s3_helper import S3

SIGNED = "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
"""Who asks, as moto wants it said; no signature is checked."""


class Google:
    """What makes an S3 server answer as Google's; a generation stands for each ETag. `conditions`: every generation that was asked for."""

    def __init__(self, s3: S3) -> None:
        self.conditions: list[str] = []
        self._etags: dict[str, str] = {}
        s3.first, s3.last = self._ask, self._answer

    def _ask(self, request: dict[str, Any]) -> None:
        request["HTTP_AUTHORIZATION"] = SIGNED
        if (generation := request.pop("HTTP_X_GOOG_IF_GENERATION_MATCH", None)) is not None:
            self.conditions.append(generation)
            name, value = ("HTTP_IF_NONE_MATCH", "*") if generation == "0" else ("HTTP_IF_MATCH", self._etags.get(generation, "of no object"))
            request[name] = value
        if (source := request.pop("HTTP_X_GOOG_COPY_SOURCE", None)) is not None:
            request["HTTP_X_AMZ_COPY_SOURCE"] = source

    def _answer(self, headers: list[tuple[str, str]]) -> None:
        for etag in [value for name, value in headers if name.lower() == "etag"]:
            generation = str(int(etag.strip('"').partition("-")[0][:15], 16))
            self._etags[generation] = etag
            headers.append(("x-goog-generation", generation))


def account(folder: Path, url: str) -> dict[str, str]:
    """Write the key file of an account that needs no token at `url`; return the environment that names it."""
    path = folder / "account.json"
    path.write_text(json.dumps({"gcs_base_url": url, "disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}))
    return {"GOOGLE_SERVICE_ACCOUNT": str(path)}
