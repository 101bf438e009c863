"""Files on web servers, `https://…`: fetched, never written."""

import re
import ssl
from collections.abc import Iterator
from http import HTTPStatus
from itertools import chain
from pathlib import Path
from typing import Final
from urllib.parse import urljoin, urlsplit

import requests
from google.api_core.exceptions import GoogleAPICallError, from_http_status

from sightline.errors import clause
from sightline.processes.deadline import deadline_seconds
from sightline.processes.progress import told, track
from sightline.services.storage.addresses import check_address, shown
from sightline.services.storage.base import (
    NoSuchObjectError,
    StorageDeniedError,
    StorageError,
    StorageUnreachableError,
    local_errors,
    replacing,
)
from sightline.services.storage.patience import Patience

BLOCK: Final = 1 << 20  # bytes
TRIES: Final = 3  # of files that break off in the middle, each from its beginning
LONGEST_CHAIN: Final = 10  # redirections
PASSING: Final = (408, 429, 500, 502, 503, 504)  # answers after which one asks again
PAGE: Final = re.compile(rb"\s*<(?:!doctype\s+html|html)\b", re.IGNORECASE)


class _CutError(requests.ConnectionError):
    """An answer that broke off after it had begun."""


def download(address: str, target: Path, checked: bool = False) -> None:
    """Copy the file at a web address to `target`, which appears when it is whole.

    Args:
        checked: whether the caller compares the file with a whole digest, so that http will do as well as https.

    Raises:
        NoSuchObjectError, StorageDeniedError, StorageUnreachableError: the server said so, or SIGHTLINE_TIMEOUT seconds passed.
        StorageError: an address or redirection that is not https, or an answer that is no file.
    """
    check_address(address, checked)
    patience = Patience(deadline_seconds())
    with _Session(checked) as session, local_errors(), replacing(target) as part:
        broken = 0

        def attempt() -> None:
            nonlocal broken
            try:
                _get(session, address, part, (patience.connecting, patience.silence))
            except _CutError as error:
                broken += 1
                if broken == TRIES:
                    raise StorageUnreachableError(
                        f"{shown(address)} broke off {TRIES} times before the file was whole: {clause(error)}. Try again later."
                    ) from None
                raise

        try:
            patience(attempt)()
        except (requests.RequestException, GoogleAPICallError) as error:
            raise StorageUnreachableError(f"{shown(address)} cannot be fetched: {clause(_reason(error))}.") from None


class _Session(requests.Session):
    """Follows redirections only to where the first address could have pointed."""

    def __init__(self, checked: bool) -> None:
        super().__init__()
        self._checked = checked
        self.max_redirects = LONGEST_CHAIN

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        target: str | None = super().get_redirect_target(resp)
        if target:
            check_address(urljoin(resp.url, target), self._checked)
        return target


def _get(session: requests.Session, address: str, target: Path, timeout: tuple[float, float]) -> None:
    try:
        answer = session.get(address, stream=True, timeout=timeout, headers={"Accept-Encoding": "identity"})
    except requests.exceptions.SSLError as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):  # which time does not heal
            raise StorageError(
                f"{shown(address)}: the server's certificate is not one that this machine trusts. If your network has an authority of its "
                "own, set REQUESTS_CA_BUNDLE to its certificates."
            ) from None
        raise requests.ConnectionError(_reason(error)) from None
    except (requests.ConnectionError, requests.Timeout) as error:
        raise requests.ConnectionError(_reason(error)) from None  # its own text holds what stands after `?`
    with answer:
        _check_status(address, answer)
        _write(address, answer, target)


def _check_status(address: str, answer: requests.Response) -> None:
    code = answer.status_code
    if code == HTTPStatus.OK:
        return
    said = f"{code} {answer.reason or ''}".strip()
    if code in PASSING:
        raise from_http_status(code, said, response=answer)
    if code in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        raise NoSuchObjectError(f"There is nothing at {shown(address)} ({said}). Check the address.")
    if code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.PROXY_AUTHENTICATION_REQUIRED):
        raise StorageDeniedError(f"{shown(address)} is not given to you ({said}). Check who may read it.")
    raise StorageError(f"{shown(address)} cannot be fetched: the server answered {said}.")


def _write(address: str, answer: requests.Response, target: Path) -> None:
    length = answer.headers.get("Content-Length", "")
    blocks = _blocks(answer)
    first = next(blocks, b"")
    if answer.headers.get("Content-Type", "").startswith("text/html") or PAGE.match(first):
        raise StorageError(
            f"{shown(address)} is a web page, not a file: perhaps one that asks to log in or to confirm. Find the file's own address."
        )
    name = urlsplit(address).path.rpartition("/")[2]
    with target.open("wb") as file:
        doing, whole = f"fetching {name}", chain([first], blocks)
        known = length.isdigit() and int(length)
        told_blocks = (
            told(whole, doing, -(-int(length) // BLOCK), "megabyte") if known else track(whole, doing, unit="megabyte")
        )
        for block in told_blocks:
            file.write(block)


def _blocks(answer: requests.Response) -> Iterator[bytes]:
    try:
        yield from answer.iter_content(BLOCK)  # also refuses an answer that is shorter than it said
    except requests.RequestException as error:
        raise _CutError(_reason(error)) from None


def _reason(error: BaseException) -> str:
    """What happened, without the address and its query."""
    inner: BaseException | object = error
    while True:
        below = getattr(inner, "reason", None)
        if not isinstance(below, BaseException):
            below = next((each for each in getattr(inner, "args", ()) if isinstance(each, BaseException)), None)
        if below is None or isinstance(below, ssl.SSLError):
            break
        inner = below
    text = str(getattr(inner, "message", "") or inner) or type(inner).__name__
    text = re.sub(r"^<?[\w.]*HTTPS?Connection(?:Pool)?[^:>]*(?::\s|>:\s)", "", text)
    return re.sub(r"(\w+://)\S*@", r"\1…@", text)[:200]
