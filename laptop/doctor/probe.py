"""A pod that doctor makes and deletes again: whether the cluster can pull both images, and their user write to the volume."""

import contextlib
import time
import uuid
from typing import Any

from components.cluster import USER, VOLUME, installation
from components.images import image
from laptop.doctor.lines import Line
from laptop.volume.cluster import ANSWER_SECONDS, CONNECT_SECONDS, Cluster

PROBE_SECONDS = 40.0
PULLING = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
WRITES = f"import tempfile; tempfile.TemporaryFile(dir={VOLUME!r}).close()"
REQUEST = (CONNECT_SECONDS, ANSWER_SECONDS)
MAY = "nothing; to have it checked, ask the cluster's administrator for that right"


def look_into_images(cluster: Cluster) -> list[Line]:
    """Pull both images into a pod of a step's kind, which writes to the volume as a step's user, and is deleted."""
    from kubernetes.client import ApiException

    name = f"sightline-doctor-{uuid.uuid4().hex[:8]}"
    try:
        cluster.api.create_namespaced_pod(cluster.namespace, probe(name), _request_timeout=REQUEST)
    except ApiException as error:
        if error.status != 403:
            raise
        return [
            Line(
                "images",
                "skip",
                f"this account may not make pods in {cluster.namespace}, so nothing is known of the images",
                MAY,
            )
        ]
    try:
        until = time.monotonic() + PROBE_SECONDS
        while True:
            pod = cluster.api.read_namespaced_pod(name, cluster.namespace, _request_timeout=REQUEST)
            lines = [_image(status) for status in pod.status.container_statuses or ()]
            if lines and all(line for line in lines):
                return [line for line in lines if line]
            if time.monotonic() > until:
                return [line or _waiting(pod) for line in lines] or [_waiting(pod)]
            time.sleep(1)
    finally:
        with contextlib.suppress(ApiException):
            cluster.api.delete_namespaced_pod(name, cluster.namespace, grace_period_seconds=0, _request_timeout=REQUEST)


def _image(status: Any) -> Line | None:
    """What is known of a container's image; None while it is not yet."""
    waiting, ended = status.state.waiting, status.state.terminated
    if waiting and waiting.reason in PULLING:
        return Line(
            "images",
            "fail",
            f"{status.image} cannot be pulled ({waiting.reason}: {waiting.message})",
            "make images push with the REGISTRY and TAG that the cluster reaches; a private registry: SIGHTLINE_PULL_SECRET",
        )
    if not ended:
        return None
    if ended.exit_code:
        return Line(
            "images",
            "fail",
            f"{status.image} was pulled; its user cannot write to the volume",
            f"kubectl get job sightline-init: it gives the volume to user 1001 ({(ended.message or '').strip()[-200:]})",
        )
    return Line("images", "ok", f"{status.image} was pulled, and may write to the volume")


def _waiting(pod: Any) -> Line:
    reasons = [each.message for each in pod.status.conditions or () if each.status == "False" and each.message]
    why = reasons[0] if reasons else "its image may be large, or the registry slow"
    return Line(
        "images",
        "fail",
        f"a pod did not run within {PROBE_SECONDS:.0f} s: {why}",
        "try again; kubectl get events says more",
    )


def probe(name: str) -> dict[str, Any]:
    """A pod with a container of each image, as a step's pod is made."""
    names = installation()
    mounts = [{"name": "volume", "mountPath": VOLUME}]
    rights = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    containers = [
        {
            "name": target,
            "image": image(target),
            "command": ["python", "-c", WRITES],
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "securityContext": rights,
            "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"cpu": "500m", "memory": "128Mi"}},
            "volumeMounts": mounts,
        }
        for target in ("data", "train")
    ]
    user = {"runAsUser": USER, "runAsGroup": USER, "runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/part-of": "sightline"}},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": user,
            "activeDeadlineSeconds": 120,
            "containers": containers,
            "imagePullSecrets": [{"name": names.pull_secret}] if names.pull_secret else [],
            "volumes": [{"name": "volume", "persistentVolumeClaim": {"claimName": names.claim}}],
        },
    }
