"""A client of a Kubeflow Pipelines server, and one sentence for each way in which it cannot be used."""

import contextlib
import io
import logging
import multiprocessing
import operator
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import urllib3

from laptop.kubeflow.access import Access
from laptop.kubeflow.answers import A, Page, entries, parse, read
from laptop.volume.cluster import ACCOUNT, NAMESPACE
from sightline.errors import SightlineError
from sightline.processes.deadline import deadline_seconds
from sightline.services.versioning.git import without_password

T = TypeVar("T")

OLDEST = (2, 5)
CONNECT_SECONDS = 10.0
TOKEN_IN_POD = "/var/run/secrets/kubeflow/pipelines/token"  # noqa: S105  # where Kubeflow mounts it, not a token
PAGE = 100  # entries; servers give 200 at most


class ServerError(SightlineError):
    """The server could not do what was asked; `status` is HTTP's, 0 when there was no answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Server:
    """A connected server. A question is named by the client's interface and its method: `runs.run_service_get_run`."""

    def __init__(self, client: Any, access: Access) -> None:
        self._client, self._access = client, access
        self.host = without_password(client._existing_config.host)
        self.namespace = ""  # of users' things; a server for a single user knows none

    @property
    def pods(self) -> str:
        """The Kubernetes namespace of the runs' pods."""
        return self.namespace or self._access.namespace or NAMESPACE

    @property
    def within(self) -> dict[str, str]:
        """What keeps a list to the user's namespace; nothing on a server for a single user."""
        return {"namespace": self.namespace} if self.namespace else {}

    def ask(self, question: str, **values: Any) -> Mapping[str, Any]:
        """What the server answers, as it came; ServerError where that is nothing, a refusal or no answer of its kind."""
        # The client's own records refuse a state that they do not know, and leave out every field that is new.
        method = operator.attrgetter(question)(self._client)
        client = method.__self__.api_client
        client.deserialize = lambda response, _kind: str(response.data)
        # A connection that breaks is tried once more; how long a server would like one to wait is not waited.
        repeats = urllib3.Retry(total=1, status=0, respect_retry_after_header=False)
        client.rest_client.pool_manager.connection_pool_kw["retries"] = repeats
        with _telling(self._access, self.host):
            limits = (CONNECT_SECONDS, deadline_seconds())
            text = _within(3 * deadline_seconds(), lambda: method(**values, _request_timeout=limits))
        if (answer := parse(text)) is None:
            raise ServerError(_login_page(self._access, self.host))
        return answer

    def list(self, kind: type[A], question: str, field_name: str, **values: Any) -> Iterator[A]:
        """All entries of a list, page by page."""
        token, seen = "", {""}
        while True:
            answer = self.ask(question, page_token=token, page_size=PAGE, **values)
            yield from entries(kind, answer, field_name)
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
    """A server that answers, lets us in and is new enough; ServerError says what to do where it is not."""
    _require_address(access)
    with _telling(access, without_password(access.host) or "Kubeflow Pipelines"):
        client = _client(access)
    # One sentence instead of a warning for each try; the level of urllib3 itself is set by the client, again and again.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    server = Server(client, access)
    try:
        health = server.ask("healthzs.healthz_service_get_healthz")
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
        server.namespace = access.namespace or client.get_user_namespace()
        if not server.namespace:
            with contextlib.suppress(OSError):
                server.namespace = (ACCOUNT / "namespace").read_text().strip()
        if not server.namespace:
            raise ServerError(
                f"{server.host} serves several users, each in a namespace. Choose yours with --kfp-namespace, or once for "
                "all with kfp.Client().set_user_namespace()."
            )
    return server


def try_connect(access: Access) -> tuple[Server | None, str, str]:
    """A server, or why there is none; and the Kubernetes namespace of the runs' pods."""
    try:
        server = connect(access)
    except ServerError as error:
        return None, str(error), access.namespace or NAMESPACE
    return server, "", server.pods


def _within(seconds: float, ask: Callable[[], T]) -> T:
    """What a question gives, or TimeoutError: the client's own limit is for a silence, and a byte a second is none."""
    with ThreadPool(1) as pool:  # whose end waits for no thread
        try:
            return pool.apply_async(ask).get(seconds)
        except multiprocessing.TimeoutError:
            raise TimeoutError(f"no whole answer within {seconds:g} s") from None


def _client(access: Access) -> Any:
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
                f"kfp's own configuration cannot be read ({type(error).__name__}). Correct or remove {context}."
            ) from None
    host = str(client._existing_config.host)
    client._existing_config.host = host.rstrip("/")  # through kubectl's proxy kfp would ask for …/proxy//apis
    return client


def _require_address(access: Access) -> None:
    kubeconfig = Path(os.environ.get("KUBECONFIG", "~/.kube/config").split(os.pathsep)[0]).expanduser()
    if not (access.host or "KUBERNETES_SERVICE_HOST" in os.environ or kubeconfig.is_file()):
        raise ServerError(
            "Nothing says where Kubeflow Pipelines is. Give --host https://… or set KF_PIPELINES_ENDPOINT; the address is "
            "that of its UI."
        )
    if access.ca and not (access.ca.is_file() and b"BEGIN CERTIFICATE" in access.ca.read_bytes()):
        raise ServerError(
            f"--ca {access.ca} is not a file with certificates. It takes PEM: -----BEGIN CERTIFICATE-----."
        )


def _require_version(host: str, tag: str) -> None:
    """A server that was built by hand calls itself `unknown` or by a commit; it is believed."""
    found = re.match(r"v?(\d+)\.(\d+)", tag)
    if found and (int(found[1]), int(found[2])) < OLDEST:
        raise ServerError(
            f"Kubeflow Pipelines at {host} is version {tag}, too old: Sightline needs {OLDEST[0]}.{OLDEST[1]} or newer. "
            "Ask its administrator to upgrade it."
        )


@contextlib.contextmanager
def _telling(access: Access, host: str) -> Iterator[None]:
    """Whatever the client raises becomes a sentence; no token or cookie is in it."""
    import kfp_server_api

    try:
        yield
    except kfp_server_api.ApiException as error:
        raise ServerError(access.without_secrets(_refusal(access, host, error)), error.status or 0) from None
    except UnicodeDecodeError:
        raise ServerError(_login_page(access, host)) from None
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise ServerError(access.without_secrets(_unreachable(host, error))) from None


def _refusal(access: Access, host: str, error: Any) -> str:
    body = parse(error.body) or {}
    text = str(body.get("message") or body.get("error_message") or "")
    detail = str(body.get("error_details") or "")
    said = " ".join((detail if detail.startswith(text) else text).split())[:600]
    if error.status == 401:
        return f"Kubeflow Pipelines at {host} refuses the login ({access.sent}). {access.advice}"
    if error.status == 403:
        return (
            f"Kubeflow Pipelines at {host} forbids this ({said or 'no reason given'}; {access.sent}). "
            "Check --kfp-namespace and the account's rights there, or log in as somebody else."
        )
    if error.status and 300 <= error.status < 400:
        return _login_page(access, host)
    return f"Kubeflow Pipelines at {host} refuses ({error.status}): {said or error.reason or 'no reason given'}"


def _unreachable(host: str, error: Exception) -> str:
    reason: Any = getattr(error, "reason", None) or error
    words = " ".join(str(reason).split())
    if "CERTIFICATE_VERIFY_FAILED" in words or "certificate verify failed" in words:
        return (
            f"The TLS certificate of {host} is not trusted here. If it comes from a private authority, give that "
            "authority's certificate with --ca FILE."
        )
    words = re.sub(r"^<?[\w.]+(\(.*?\))?(object at 0x\w+>)?: ", "", words)
    return (
        f"Kubeflow Pipelines at {host} cannot be reached ({re.sub(r'.Errno -?[0-9]+. ', '', words)[:200]}). Check the "
        "address, the VPN or port-forward, and that the server runs."
    )


def _login_page(access: Access, host: str) -> str:
    return (
        f"{host} answers with a web page, likely a login, instead of Kubeflow Pipelines' JSON ({access.sent}). "
        f"{access.advice}"
    )
