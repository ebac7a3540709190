"""Conditional PUT, on which records rely (`object_store`): stores that have it in their own way, and stores that do not keep it."""

from __future__ import annotations

from typing import Any

from ernie_core.errors import ErnieError, ResourceError

OTHER = {"e_tag": '"00000000000000000000000000000000"', "version": "1"}
"""A version that no record has, in S3's terms (an ETag) and in Google's (a generation)."""


def put_if(place: tuple[Any, str], data: bytes, seen: dict[str, str] | None, where: str) -> Any:
    """Put `data` if nothing is there, or the version that was seen; return its meta data.

    HTTP has an ETag in quotes. Ceph before Reef compares If-Match with the ETag without them, so that no record could be replaced there: where a
    version is refused that is there nevertheless, it is named without quotes. That is as conditional as the first try.

    Args:
        place: (store, key).
        seen: e_tag and, where the store has generations, version; None for nothing.
        where: the address, for the error.

    Raises:
        AlreadyExistsError, PreconditionError, FileNotFoundError: obstore's, another version is there, or none.
        ResourceError: E-STORE-CONDITIONS, the store says that it has no conditional PUT (Swift's s3api).
    """
    import obstore
    from obstore.exceptions import GenericError, PreconditionError

    mode: Any = "create" if seen is None else seen
    try:
        return obstore.put(*place, data, mode=mode)
    except PreconditionError:
        bare: Any = {} if seen is None else {**seen, "e_tag": seen.get("e_tag", "").strip('"')}
        if seen is None or bare == seen or is_another(place, seen):
            raise
        return obstore.put(*place, data, mode=bare)
    except GenericError as e:
        if "501 Not Implemented" not in str(e):
            raise
        raise _unfit("the object store has no conditional PUT", where, "501 Not Implemented") from e


def is_another(place: tuple[Any, str], seen: dict[str, str] | None) -> bool:
    """Return whether a record is there, and not the one that was seen."""
    import obstore

    try:
        return bool(obstore.head(*place)["e_tag"] != (seen or {}).get("e_tag"))
    except FileNotFoundError:
        return False


def not_kept(place: tuple[Any, str], data: bytes, where: str) -> ErnieError | None:
    """Return an error if the store puts though a condition does not hold; None if it keeps both conditions.

    Two puts are tried that must be refused. They would change nothing, and cost no more than these two requests.

    Args:
        place: (store, key) of a record that this process holds.
        data: what stands there.
        where: its address.
    """
    import obstore
    from obstore.exceptions import AlreadyExistsError, PreconditionError

    for name, mode in (("If-None-Match: *", "create"), ("If-Match of another version", OTHER)):
        wrong: Any = mode
        try:
            obstore.put(*place, data, mode=wrong)
        except (AlreadyExistsError, PreconditionError):
            continue
        return _unfit("the object store puts whatever the condition says: of two writers both would win", where, f"PUT with {name} was done")
    return None


def _unfit(what: str, where: str, found: str) -> ResourceError:
    fix = "take a store with conditional PUT, or a folder that all nodes mount (pipelines/docs/object_stores.md)"
    return ResourceError("E-STORE-CONDITIONS", what, where=where, expected="412 where the condition does not hold", found=found, fix=fix)
