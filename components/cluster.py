"""What every task gets on Kubernetes: the claim, settings and secrets by reference, resources, retries, a user."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from kfp import kubernetes
from kfp.dsl import PipelineTask

VOLUME = "/shared_volume"
USER = 1001  # the images' user and group; a number, since a cluster that wants non-root users cannot check a name

SETTINGS = ("SIGHTLINE_STORAGE", "SIGHTLINE_DATASET_REPO")
OPTIONAL_SETTINGS = (
    "SIGHTLINE_TIMEOUT",
    "SIGHTLINE_WEIGHTS",
    "SIGHTLINE_GIT_USER_NAME",
    "SIGHTLINE_GIT_USER_EMAIL",
    "SIGHTLINE_KEEP_RELEASES",
    "SIGHTLINE_KEEP_DAYS",
    "SIGHTLINE_KEEP_FOLDERS",
    "SIGHTLINE_DEBUG",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_CLOUD_PROJECT",
    "STORAGE_EMULATOR_HOST",
    "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT",
)
"""Keys of the ConfigMap; each becomes the environment variable of its name."""
DATABASE_KEY = "url"

HOUR = 3600
LONGEST_SECONDS = {"snapshot": HOUR, "record": 12 * HOUR, "train": 168 * HOUR, "evaluate": 24 * HOUR, "test": 24 * HOUR}
RETRIES = 5
CPU_REQUEST = "250m"  # below any sensible limit: a node with other work takes the pod all the same
SNAPSHOT_RESOURCES = {"cpu": "1", "memory": "1Gi"}


@dataclass(frozen=True, slots=True)
class Installation:
    """Names that belong to one installation on a cluster, from SIGHTLINE_<NAME> when the pipeline is compiled."""

    claim: str = "sightline-volume"
    config_map: str = "sightline-config"  # holds SETTINGS and any of OPTIONAL_SETTINGS
    database_secret: str = "sightline-database"  # holds the database's URL under DATABASE_KEY
    git_secret: str = "sightline-git"  # optional on the cluster; username and password, or ssh-privatekey
    storage_secret: str = "sightline-gcs"  # optional on the cluster; a service account's key.json
    shared_memory: str = "1Gi"  # of /dev/shm where several processes load data; it counts as the step's memory
    pull_secret: str = ""  # the registry's, when it is private


def installation() -> Installation:
    """The names that the environment says at the moment."""
    defaults = asdict(Installation())
    return Installation(**{name: os.environ.get(f"SIGHTLINE_{name.upper()}", defaults[name]) for name in defaults})


def set_up_pod(task: PipelineTask, step: str, pod: Mapping[str, Any]) -> PipelineTask:
    """Prepare a task for Kubernetes; kfp's local runners leave all of this aside.

    `pod` holds node_selector and tolerations, cpu and memory (not of snapshot), gpus of a step that may have some.
    """
    names = installation()
    # The task's own name: KFP looks up who produced an input by it.
    task.set_display_name(step)
    # Repeats a task whose pod was lost; KFP's stock settings repeat no task that failed by itself.
    task.set_retry(RETRIES, backoff_duration="10s", backoff_factor=2.0, backoff_max_duration="10m")
    kubernetes.set_timeout(task, LONGEST_SECONDS[step])
    sizes = {**SNAPSHOT_RESOURCES, **pod} if step == "snapshot" else pod
    task.set_cpu_request(CPU_REQUEST).set_cpu_limit(sizes["cpu"]).set_memory_limit(sizes["memory"])
    if "gpus" in sizes:
        task.set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(sizes["gpus"])
    kubernetes.add_node_selector_json(task, pod["node_selector"])
    kubernetes.add_toleration_json(task, pod["tolerations"])
    # With a tag like latest, Kubernetes would ask the registry at every start, also where the image was loaded by hand.
    kubernetes.set_image_pull_policy(task, "IfNotPresent")
    if names.pull_secret:
        kubernetes.set_image_pull_secrets(task, [names.pull_secret])
    kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
    kubernetes.mount_pvc(task, pvc_name=names.claim, mount_path=VOLUME)
    if step in ("train", "evaluate", "test"):
        kubernetes.empty_dir_mount(task, "shm", "/dev/shm", medium="Memory", size_limit=names.shared_memory)
    _give_settings(task, names)
    return task


def _give_settings(task: PipelineTask, names: Installation) -> None:
    kubernetes.use_field_path_as_env(task, env_name="SIGHTLINE_RUN", field_path="metadata.labels['pipeline/runid']")
    kubernetes.use_config_map_as_env(task, names.config_map, {name: name for name in SETTINGS})
    kubernetes.use_config_map_as_env(task, names.config_map, {name: name for name in OPTIONAL_SETTINGS}, optional=True)
    kubernetes.use_secret_as_env(task, names.database_secret, {DATABASE_KEY: "SIGHTLINE_DATABASE_URL"})
    kubernetes.use_secret_as_volume(task, names.git_secret, "/var/secrets/git", optional=True)
    kubernetes.use_secret_as_volume(task, names.storage_secret, "/var/secrets/gcs", optional=True)
