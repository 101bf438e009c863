"""A Cloud Storage emulator that keeps its promises: gcp-storage-emulator, with the preconditions and paging that it ignores.

`python gcs_emulator.py` listens on a free port of the loopback, keeps everything in memory and prints its address. Clients
need STORAGE_EMULATOR_HOST, gcsfs and DVC also GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT=false.

Unlike the real service all the same: one request at a time, no multipart upload by XML, no old generations, no storage
classes, gzip transcoding wrong, signatures of signed URLs unchecked.
"""

import contextlib
import functools
import http.server
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from gcp_storage_emulator import server
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects
from gcp_storage_emulator.storage import Storage

Handler = Callable[..., None]
AGE = "updated"
"""The field of an object that a test may write, unlike anybody at Google: when it was written."""
REFUSAL = "At least one of the pre-conditions you specified did not hold."


class MemoryOnly(Storage):
    """Without the copy of all metadata that the package writes after each request, which takes longer with every object."""

    def __init__(self) -> None:
        super().__init__(use_memory_fs=True)

    def _write_config_to_file(self) -> None:
        """Nothing to keep: it ends with the process."""


def with_preconditions(handler: Handler, named: Callable[[Any], str | None]) -> Handler:
    """A handler that first compares the generations that a request asks for with those of the stored object."""

    def checked(request: Any, response: Any, storage: Any, *rest: Any) -> None:
        stored: dict[str, Any] = {}
        with contextlib.suppress(NotFound):
            stored = storage.get_file_obj(request.params["bucket_name"], named(request))
        if not _holds(request, stored):
            refusal = {"code": 412, "message": REFUSAL, "errors": [{"reason": "conditionNotMet", "message": REFUSAL}]}
            response.status = HTTPStatus.PRECONDITION_FAILED
            response.json({"error": refusal})
        else:
            handler(request, response, storage, *rest)

    return checked


def _holds(request: Any, stored: dict[str, Any]) -> bool:
    generation, metageneration = str(stored.get("generation", "0")), str(stored.get("metageneration", ""))
    return (
        _asked(request, "ifGenerationMatch") in (None, generation)
        and _asked(request, "ifGenerationNotMatch") != generation
        and _asked(request, "ifMetagenerationMatch") in (None, metageneration)
    )


def existing_name(request: Any) -> str | None:
    """The object that a request is about."""
    name: str | None = request.params.get("object_id")
    return name


def uploaded_name(request: Any) -> str | None:
    """The object that an upload makes: in the address, or in the body's metadata."""
    if name := _asked(request, "name"):
        return name
    given = request.data if isinstance(request.data, dict) else {}
    named: str | None = given.get("meta", given).get("name")
    return named


def in_pages(handler: Handler) -> Handler:
    """A listing in order of names, in pages of at most `maxResults`, between `startOffset` and `endOffset`."""

    def listing(request: Any, response: Any, storage: Any, *rest: Any) -> None:
        answer: dict[str, Any] = {}
        send, response.json = response.json, answer.update
        handler(request, response, storage, *rest)
        response.json = send
        first, end, after = (_asked(request, key) for key in ("startOffset", "endOffset", "pageToken"))
        items = [
            item
            for item in sorted(answer.get("items", []), key=lambda item: item["name"])
            if item["name"] >= (first or "") and (not end or item["name"] < end) and item["name"] > (after or "")
        ]
        most = int(_asked(request, "maxResults") or len(items) or 1)
        if len(items) > most:
            answer["nextPageToken"] = items[most - 1]["name"]
        send(answer | {"items": items[:most]})

    return listing


def _asked(request: Any, key: str) -> str | None:
    values = request.query.get(key)
    return values[0] if isinstance(values, list) else values


REPLACED = {
    objects.insert: with_preconditions(objects.insert, uploaded_name),
    **{
        handler: with_preconditions(handler, existing_name)
        for handler in (objects.delete, objects.patch, objects.get, objects.download)
    },
    objects.ls: in_pages(objects.ls),
}


def main() -> None:
    """Serve until killed."""
    objects._WRITABLE_FIELDS = (*objects._WRITABLE_FIELDS, AGE)
    for _, methods in server.HANDLERS:
        methods.update({method: REPLACED.get(handler, handler) for method, handler in methods.items()})
    answering = functools.partial(server.RequestHandler, MemoryOnly())
    with http.server.HTTPServer(("127.0.0.1", 0), answering) as listening:
        print(f"http://127.0.0.1:{listening.server_port}", flush=True)
        listening.serve_forever()


if __name__ == "__main__":
    main()
