"""The cluster that kubectl would take, by the Kubernetes API alone: who talks to pods needs no kubectl."""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sightline.errors import SightlineError, clause

NAMESPACE = "kubeflow"  # where a Kubeflow Pipelines for one user runs its pods
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
CONNECT_SECONDS, ANSWER_SECONDS = 10.0, 60.0
SPOILT = (yaml.YAMLError, ValueError, TypeError, AttributeError, KeyError)
"""What reading a kubeconfig raises beside ConfigException and OSError: its parser checks little."""


class LostError(SightlineError):
    """The way into the cluster, or to the volume, is closed at the moment: trying again may help."""


class NoPodError(SightlineError):
    """There is no such pod, and none that ends: for who had one a moment ago, the next is being made."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A namespace of a cluster, and the API's client."""

    client: Any
    namespace: str

    @classmethod
    def find(cls, kubeconfig: str | None, context: str | None, namespace: str | None, instead: str = "") -> "Cluster":
        """Take the cluster that kubectl would take, or the one that this pod runs in.

        Raises a SightlineError for no kubeconfig (with what the command could be told `instead`), or no such context.
        """
        from kubernetes import client, config

        usual = config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION.split(os.pathsep)
        if kubeconfig is None and not any(Path(path).expanduser().is_file() for path in usual):
            if context is None and ACCOUNT.is_dir():
                configuration = client.Configuration()
                config.load_incluster_config(configuration)
                return cls(client.ApiClient(configuration), namespace or (ACCOUNT / "namespace").read_text().strip())
            raise SightlineError(
                f"There is no kubeconfig: neither $KUBECONFIG nor ~/.kube/config. Name one with --kubeconfig{instead}."
            )
        try:
            contexts, current = config.list_kube_config_contexts(kubeconfig)
            chosen = next((each for each in contexts if each["name"] == context), None) if context else current
            if chosen is None:
                names = ", ".join(sorted(each["name"] for each in contexts))
                raise SightlineError(f"The kubeconfig has no context {context!r}. It has: {names}.")
            api = config.new_client_from_config(kubeconfig, chosen["name"])
        except config.ConfigException as error:
            raise SightlineError(
                f"The kubeconfig cannot be used: {clause(error)}. kubectl config view shows it."
            ) from None
        except (OSError, *SPOILT) as error:
            told = " ".join(str(error).split())[:200]
            raise SightlineError(
                f"The kubeconfig {kubeconfig or os.environ.get('KUBECONFIG') or '~/.kube/config'} cannot be read "
                f"({type(error).__name__}: {told}). kubectl config view shows it."
            ) from None
        return cls(api, namespace or chosen["context"].get("namespace") or NAMESPACE)

    @property
    def api(self) -> Any:
        """Kubernetes' core API."""
        from kubernetes import client

        return client.CoreV1Api(self.client)

    def connection(self, method: str, pod: str, **how: Any) -> Any:
        """A connection to a pod by a method of the core API; `sock` is its WebSocket."""
        from kubernetes import client
        from kubernetes.stream import stream

        # `stream` changes the client while it opens a connection, so each has one of its own, with the same login.
        api = client.CoreV1Api(client.ApiClient(self.client.configuration))
        return stream(getattr(api, method), pod, self.namespace, binary=True, _preload_content=False, **how)

    def running_pod(self, selector: str, name: str, missing: str) -> Any:
        """A ready pod of the labels name=value,name=value; `name` is what to call it, `missing` what to do for one.

        Raises a LostError when it is not running at the moment, a NoPodError when there is none.
        """
        found = self.api.list_namespaced_pod(
            self.namespace, label_selector=selector, _request_timeout=(CONNECT_SECONDS, ANSWER_SECONDS)
        ).items
        if not found:
            raise NoPodError(f"There is no {name} (label {selector}) in namespace {self.namespace}. {missing}")
        pods = [pod for pod in found if pod.metadata.deletion_timestamp is None]
        for pod in pods:
            if pod.status.phase == "Running" and all(each.ready for each in pod.status.container_statuses or ()):
                return pod
        why = f"is not running: {_why(pods[0])}" if pods else "is being deleted, and there is no other yet"
        raise LostError(f"The {name} {(pods or found)[0].metadata.name} {clause(why)}.")

    @contextlib.contextmanager
    def explained(self, needs: str) -> Iterator[None]:
        """Turn what the libraries raise into a sentence; `needs` says what the command needs, where it is refused."""
        import urllib3
        import websocket
        from kubernetes.client import ApiException

        host = self.client.configuration.host
        try:
            yield
        except ApiException as error:
            raise _refusal(error, host, needs) from None
        except (urllib3.exceptions.HTTPError, websocket.WebSocketException, OSError) as error:
            reason = clause(str(getattr(error, "reason", None) or error).rpartition(": ")[2])
            raise LostError(
                f"The cluster at {host} cannot be reached: {reason}. Check the kubeconfig's address and the VPN."
            ) from None


def _refusal(error: Any, host: str, needs: str) -> SightlineError:
    reason = str(error.reason).partition("\n")[0].strip()[:300]
    with contextlib.suppress(ValueError, TypeError, LookupError):
        reason = json.loads(error.body)["message"]
    reason = clause(reason)
    if error.status == 401 or "401" in reason:
        return SightlineError(f"The cluster at {host} does not accept this login: {reason}. Log in again and repeat.")
    if error.status == 403 or "403" in reason:
        return SightlineError(f"The cluster does not allow it: {reason}. {needs}")
    return LostError(f"The cluster at {host} could not do it: {reason}.")


def _why(pod: Any) -> str:
    for each in pod.status.container_statuses or ():
        state = each.state.waiting or each.state.terminated
        if state:
            return f"{state.reason or 'waiting'}{': ' + state.message if state.message else ''}"
    for condition in pod.status.conditions or ():
        if condition.status == "False" and condition.message:
            return condition.message
    return pod.status.phase
