"""A client of a Kubeflow Pipelines server, and one sentence for each way in which it cannot be used."""

import contextlib
import io
import json
import logging
import os
import queue
import re
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

from laptop.kubeflow.answers import Page, entries, read
from sightline.errors import SightlineError
from sightline.processes.deadline import deadline_seconds
from sightline.services.versioning.git import without_password

if TYPE_CHECKING:
    import kfp

T = TypeVar("T")

OLDEST = (2, 5)
CONNECT_SECONDS = 10.0
TOKEN_IN_POD = "/var/run/secrets/kubeflow/pipelines/token"  # noqa: S105  # where Kubeflow mounts it, not a token
NAMESPACE_IN_POD = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
NAMESPACE = "kubeflow"  # of a server for a single user
PAGE = 100  # entries; servers give 200 at most


class ServerError(SightlineError):
    """The server could not do what was asked; `status` is HTTP's, 0 when there was no answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Access:
    """Where the server is and who we are; what is empty is found by kfp itself."""

    host: str = ""
    ui: str = ""
    namespace: str = ""
    token: str = field(default="", repr=False)
    cookies: str = field(default="", repr=False)
    ca: Path | None = None


class Server:
    """A connected server. Every question goes through `ask`, which has a deadline and tells errors in a sentence."""

    def __init__(self, client: "kfp.Client", access: Access) -> None:
        self._client: Any = client
        self._access = access
        self.host = without_password(_host_of(client))
        self.namespace = ""  # of users' things; a server for a single user knows none

    @property
    def pods(self) -> str:
        """The Kubernetes namespace of the runs' pods."""
        return self.namespace or self._access.namespace or NAMESPACE

    def api(self, name: str) -> Any:
        """One of the server's interfaces, with its generated methods: runs, experiments, pipelines, …"""
        return getattr(self._client, name)

    def ask(self, method: Callable[..., Any], **values: Any) -> Mapping[str, Any]:
        """What the server answers, as it came: `answers.py` reads it.

        Raises:
            ServerError: no answer, a refusal, or something that is no answer of Kubeflow Pipelines.
        """
        # The client's own records refuse a state that they do not know, and leave out every field that is new.
        client: Any = method.__self__.api_client  # type: ignore[attr-defined]
        client.deserialize = _as_it_came
        client.rest_client.pool_manager.connection_pool_kw["retries"] = _repeats()
        with _telling(self._access, self.host):
            text = _within(
                3 * deadline_seconds(),
                lambda: method(**values, _request_timeout=(CONNECT_SECONDS, deadline_seconds())),
            )
        try:
            answer = json.loads(text)
        except (TypeError, ValueError, RecursionError):
            answer = None
        if not isinstance(answer, Mapping):
            raise ServerError(_login_page(self._access, self.host))
        return answer

    def list(self, method: Callable[..., Any], field_name: str, **values: Any) -> Iterator[Any]:
        """All entries of a list, page by page."""
        token, seen = "", {""}
        while True:
            answer = self.ask(method, page_token=token, page_size=PAGE, **values)
            yield from entries(answer, field_name)
            token = read(Page, answer).next_page_token
            if token in seen:
                return
            seen.add(token)

    def link(self, run_id: str) -> str:
        """The run's page in the UI, which is at the host that was named; kfp's own ways reach no pages."""
        ui = self._access.ui or self._access.host
        page = f"#/runs/details/{run_id}"
        return f"{ui.rstrip('/')}/{page}" if ui else f"{page} in Kubeflow's UI (say where that is with --ui)"


def connect(access: Access) -> Server:
    """A server that answers, lets us in and is new enough.

    Raises:
        ServerError: it is not; the message says what to do.
    """
    _require_address(access)
    with _telling(access, without_password(access.host) or "Kubeflow Pipelines"):
        client = _client(access)
    # One sentence instead of a warning for each try; the level of urllib3 itself is set by the client, again and again.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    server = Server(client, access)
    try:
        health = server.ask(server.api("healthzs").healthz_service_get_healthz)
    except ServerError as error:
        if error.status == 404:
            raise ServerError(
                f"There is no Kubeflow Pipelines 2 at {server.host} (404). Check the address (Kubeflow's own ends in "
                f"/pipeline); a server of version 1 is too old, Sightline needs {OLDEST[0]}.{OLDEST[1]} or newer.",
                404,
            ) from None
        raise
    _require_version(server.host, str(health.get("tag_name", "")))
    if health.get("multi_user"):
        server.namespace = access.namespace or client.get_user_namespace() or _namespace_in_pod()
        if not server.namespace:
            raise ServerError(
                f"{server.host} serves several users, each in a namespace. Name yours with --kfp-namespace, or once for "
                "all with kfp.Client().set_user_namespace()."
            )
    return server


def try_connect(access: Access) -> tuple[Server | None, str]:
    """A server, or why there is none."""
    try:
        return connect(access), ""
    except ServerError as error:
        return None, str(error)


def namespace_of(server: Server | None, access: Access) -> str:
    """The Kubernetes namespace of the runs' pods, also where the server cannot be reached."""
    return server.pods if server else access.namespace or NAMESPACE


def _repeats() -> Any:
    """A connection that breaks is tried once more; how long a server would like one to wait is not waited."""
    from urllib3 import Retry

    return Retry(total=1, status=0, respect_retry_after_header=False)


def _within(seconds: float, ask: Callable[[], T]) -> T:
    """What a question gives, or TimeoutError: the client's own limit is for a silence, and a byte a second is none."""
    answers: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def work() -> None:
        try:
            answers.put((ask(), None))
        except BaseException as error:
            answers.put((None, error))

    threading.Thread(target=work, daemon=True).start()
    try:
        answer, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no whole answer within {seconds:g} s") from None
    if error is not None:
        raise error
    return answer  # type: ignore[return-value]


def _as_it_came(response: Any, _kind: Any) -> str:
    return str(response.data)


def _client(access: Access) -> "kfp.Client":
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        import kfp
        from kfp.client import ServiceAccountTokenVolumeCredentials

        class Client(kfp.Client):
            def get_kfp_healthz(self, sleep_duration: int = 0) -> Any:
                """Left to `connect`: kfp's own asks five times and logs the whole answers."""
                return SimpleNamespace(multi_user=False)

        path = os.environ.get("KF_PIPELINES_SA_TOKEN_PATH", TOKEN_IN_POD)
        in_pod = not (access.token or access.cookies) and Path(path).is_file()
        try:
            client = Client(
                host=access.host or None,
                existing_token=access.token or None,
                cookies=access.cookies or None,
                ssl_ca_cert=str(access.ca) if access.ca else None,
                credentials=ServiceAccountTokenVolumeCredentials(path) if in_pod else None,
                ui_host=access.ui or None,
            )
        except (KeyError, ValueError) as error:
            context = kfp.Client._LOCAL_KFP_CONTEXT
            raise ServerError(
                f"kfp's own configuration cannot be read ({type(error).__name__}). Mend or remove {context}."
            ) from None
    client._existing_config.host = _host_of(client)  # through kubectl's proxy kfp would ask for …/proxy//apis
    return client


def _namespace_in_pod() -> str:
    with contextlib.suppress(OSError):
        return Path(NAMESPACE_IN_POD).read_text().strip()
    return ""


def _require_address(access: Access) -> None:
    kubeconfig = Path(os.environ.get("KUBECONFIG", "~/.kube/config").split(os.pathsep)[0]).expanduser()
    if not (access.host or "KUBERNETES_SERVICE_HOST" in os.environ or kubeconfig.is_file()):
        raise ServerError(
            "Nothing says where Kubeflow Pipelines is. Give --host https://… or set KF_PIPELINES_ENDPOINT; the address is "
            "that of its UI."
        )
    if access.ca and not (access.ca.is_file() and b"BEGIN CERTIFICATE" in access.ca.read_bytes()):
        raise ServerError(f"--ca {access.ca} is no file with certificates. It takes PEM: -----BEGIN CERTIFICATE-----.")


def _require_version(host: str, tag: str) -> None:
    """A server that was built by hand calls itself `unknown` or by a commit; it is believed."""
    found = re.match(r"v?(\d+)\.(\d+)", tag)
    if found and (int(found[1]), int(found[2])) < OLDEST:
        raise ServerError(
            f"Kubeflow Pipelines at {host} is version {tag}, too old: Sightline needs {OLDEST[0]}.{OLDEST[1]} or newer. "
            "Ask who runs it for an upgrade."
        )


def _host_of(client: Any) -> str:
    return str(client._existing_config.host).rstrip("/")


@contextlib.contextmanager
def _telling(access: Access, host: str) -> Iterator[None]:
    """Whatever the client raises becomes a sentence; no token or cookie is in it."""
    import kfp_server_api
    import urllib3

    try:
        yield
    except kfp_server_api.ApiException as error:
        raise ServerError(_clean(access, _refusal(access, host, error)), error.status or 0) from None
    except UnicodeDecodeError:
        raise ServerError(_login_page(access, host)) from None
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise ServerError(_clean(access, _unreachable(host, error))) from None


def _refusal(access: Access, host: str, error: Any) -> str:
    said = _said(error)
    if error.status == 401:
        return f"Kubeflow Pipelines at {host} refuses the login ({_login(access)}). {_other_login(access)}"
    if error.status == 403:
        return (
            f"Kubeflow Pipelines at {host} forbids this ({said or 'no reason given'}; {_login(access)}). "
            "Check --kfp-namespace and the account's rights there, or log in as somebody else."
        )
    if error.status and 300 <= error.status < 400:
        return _login_page(access, host)
    return f"Kubeflow Pipelines at {host} refuses ({error.status}): {said or error.reason or 'no reason given'}"


def _said(error: Any) -> str:
    """The server's own words, in one line."""
    try:
        body = json.loads(error.body or "")
        text = str(body.get("message") or body.get("error_message") or "")
        detail = str(body.get("error_details") or "")
    except (ValueError, AttributeError):
        return ""
    return " ".join((detail if detail.startswith(text) else text).split())[:600]


def _unreachable(host: str, error: Exception) -> str:
    reason: Any = getattr(error, "reason", None) or error
    words = " ".join(str(reason).split())
    if "CERTIFICATE_VERIFY_FAILED" in words or "certificate verify failed" in words:
        return (
            f"The TLS certificate of {host} is not trusted here. If it comes from a private authority, name that "
            "authority's certificate with --ca FILE."
        )
    words = re.sub(r"^<?[\w.]+(\(.*?\))?(object at 0x\w+>)?: ", "", words)
    return (
        f"Kubeflow Pipelines at {host} cannot be reached ({re.sub(r'.Errno -?[0-9]+. ', '', words)[:200]}). Check the "
        "address, the VPN or port-forward, and that the server runs."
    )


def _login_page(access: Access, host: str) -> str:
    return (
        f"{host} answers with a web page, likely a login, instead of Kubeflow Pipelines' JSON ({_login(access)}). "
        f"{_other_login(access)}"
    )


def _login(access: Access) -> str:
    given = [name for name, value in (("a token", access.token), ("cookies", access.cookies)) if value]
    return f"sent {' and '.join(given)}" if given else "sent no token and no cookies"


def _other_login(access: Access) -> str:
    fresh = "That may have expired: log in anew" if access.token or access.cookies else "Log in"
    return (
        f"{fresh} with --cookies FILE (the session cookie of a browser that is logged in, like "
        "authservice_session=…) or --token-file FILE."
    )


def _clean(access: Access, text: str) -> str:
    secrets = {access.token, access.cookies, *(part.partition("=")[2] for part in access.cookies.split(";"))}
    for secret in sorted((part.strip() for part in secrets if part.strip()), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text
