"""`pipeline.py sync` through the helper pod of a real Kubernetes, by the API alone: kubectl is not in its way."""

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from laptop.volume.doors import PodDoor
from sightline.services.runs.live_files import list_files
from tests.cluster.deployed import Deployed, deployed
from tests.cluster.kube import Kube
from tests.functional.test_sync import DYING_LAPTOP, MESSAGE, digest, edit, wait_for
from tests.ports import closed_port
from tests.workspace import REPOSITORY, run_pipeline

pytestmark = pytest.mark.slow

Done = subprocess.CompletedProcess[str]
NO_DATABASE = "sqlite:////tmp/none.db"
SUMS = "cd /shared_volume/code/ && find . -type f ! -name '.*' -exec sha256sum {} +"
PROCESSES = "grep -l '^python3' /proc/[0-9]*/cmdline 2>/dev/null | cut -d / -f 3"
KILL = f"cd /shared_volume/copies; until ls -d .building-*; do sleep 0.05; done; kill -9 $({PROCESSES})"
FILES = 200


@pytest.fixture(scope="module")
def installation(cluster: Path, images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """The overlay for one node: a claim with the image's code, and the helper's pod."""
    with deployed(cluster, tmp_path_factory.mktemp("overlay"), NO_DATABASE, ready=False) as here:
        here.kube.wait_for_job("sightline-init")
        here.helper_pod()
        yield here


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """200 files of helper code."""
    folder = tmp_path / "source"
    edit(folder, "sightline/__init__.py", "")
    for number in range(FILES - 1):
        edit(folder, f"sightline/part_{number % 7}/module_{number}.py", f"NUMBER = {number}\n" * 20)
    return folder


def arguments(kube: Kube, source: Path, *options: str) -> list[str]:
    return [
        "sync",
        *("--kubeconfig", str(kube.config), "--namespace", kube.namespace, "--source", str(source)),
        *options,
    ]


def sync(kube: Kube, source: Path, *options: str, **environment: str) -> Done:
    # No kubectl: the path leads to nothing but Git.
    tools = source.parent / "tools"
    tools.mkdir(exist_ok=True)
    if not (tools / "git").exists():
        (tools / "git").symlink_to(shutil.which("git") or "/nowhere")
    return run_pipeline(*arguments(kube, source, *options), environment={"PATH": str(tools), **environment})


def synced(kube: Kube, source: Path, *options: str) -> str:
    done = sync(kube, source, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def refused(kube: Kube, source: Path, *options: str) -> str:
    done = sync(kube, source, *options)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def on_the_claim(installation: Deployed) -> dict[str, str]:
    """Path -> SHA-256 of what a step on the cluster would read."""
    lines = installation.helper("sh", "-c", SUMS).splitlines()
    return {line[66:].removeprefix("./"): line[:64] for line in lines}


def here(source: Path) -> dict[str, str]:
    from hashlib import sha256

    return {file.as_posix(): sha256((source / file).read_bytes()).hexdigest() for file in list_files(source)}


def left_behind(installation: Deployed) -> str:
    return installation.helper("sh", "-c", "cd /shared_volume; ls -d .code-* copies/.building-* 2>/dev/null; true")


def beside_the_volume(installation: Deployed) -> str:
    """The process numbers of syncs in the helper's pod."""
    return installation.helper("sh", "-c", f"{PROCESSES}; true")


def test_edited_code_gets_onto_the_claim_and_only_the_changed_file_travels(installation, source):
    told = synced(installation.kube, source)
    assert f"{FILES} of {FILES} files" in told and f"code_digest {digest(source)}" in told
    assert on_the_claim(installation) == here(source)

    edit(source, "sightline/part_0/module_0.py", "#" * 1234)
    (source / "sightline" / "part_1" / "module_1.py").unlink()
    assert re.search(
        r": 1 of 199 files, 1\.2 kB, to the volume of namespace \S+; 1 deleted\n", synced(installation.kube, source)
    )
    assert on_the_claim(installation) == here(source)
    status = sync(installation.kube, source, "--status").stdout
    assert f"code_digest {digest(source)} on the volume" in status and "same as here" in status
    assert left_behind(installation) == "" and beside_the_volume(installation) == ""


def test_every_byte_and_large_files_arrive(installation, source):
    (source / "configs").mkdir()
    (source / "configs" / "weights.bin").write_bytes(bytes(range(256)) * 4096 + os.urandom(20_000_000))
    (source / "configs" / "größe & co.bin").write_bytes(b"\r\n\0\xff" * 1000)
    synced(installation.kube, source)
    assert on_the_claim(installation) == here(source)


def test_an_edit_on_the_claim_is_refused_by_name_and_kept_when_forced(installation, source):
    synced(installation.kube, source)
    installation.helper("sh", "-c", "echo 'MINE = 1' > /shared_volume/code/sightline/part_1/module_1.py")
    edit(source, "sightline/part_0/module_0.py", "OURS = 1\n")
    assert "sightline/part_1/module_1.py" in refused(installation.kube, source)
    assert "edited since: sightline/part_1/module_1.py" in sync(installation.kube, source, "--status").stdout
    kept = re.search(r"kept as (copies/\S+)", synced(installation.kube, source, "--force"))
    assert kept
    assert installation.helper("cat", f"/shared_volume/{kept[1]}/sightline/part_1/module_1.py") == "MINE = 1\n"


@pytest.mark.parametrize("message", [3, 4, 40, 204, 205, 206])
def test_the_laptop_is_killed_half_way_and_leaves_the_old_or_the_new_code_and_no_lock(
    installation, source, tmp_path, message
):
    """Messages 1 to 3 open the conversation, 4 says what will come, 5 to 204 are the files, 205 ends them, 206 is the answer."""
    synced(installation.kube, source, "--force")
    for file in source.rglob("*.py"):
        file.write_text(MESSAGE.format(f"NUMBER_{message:03}"))
    old, new = on_the_claim(installation), here(source)
    killed = subprocess.run(
        [sys.executable, "-c", DYING_LAPTOP, str(message), *arguments(installation.kube, source)],
        cwd=REPOSITORY,
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert on_the_claim(installation) in (old, new)
    wait_for(lambda: beside_the_volume(installation) == "", "the process in the pod outlived the connection", 20)
    synced(installation.kube, source)
    assert on_the_claim(installation) == new
    assert left_behind(installation) == ""


def test_the_process_in_the_pod_is_killed_half_way(installation, source):
    synced(installation.kube, source)
    for file in source.rglob("*.py"):
        file.write_text("KILLED = True\n")
    (source / "large.bin").write_bytes(os.urandom(60_000_000))
    old = on_the_claim(installation)
    process = subprocess.Popen(
        [sys.executable, str(REPOSITORY / "pipeline.py"), *arguments(installation.kube, source)],
        stderr=subprocess.PIPE,
        text=True,
    )
    installation.helper("sh", "-c", KILL)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 1
    assert complaint.startswith("error: ") and "Traceback" not in complaint
    assert "sync again" in complaint
    assert on_the_claim(installation) == old
    synced(installation.kube, source)
    assert on_the_claim(installation) == here(source)
    assert left_behind(installation) == ""


def test_of_two_syncs_at_once_the_second_is_told_whose_the_first_is(installation, source):
    synced(installation.kube, source)
    edit(source, "sightline/part_0/module_0.py", "SECOND = True\n")
    door = PodDoor(str(installation.kube.config), None, installation.kube.namespace)
    with door.open() as channel:
        channel.say({"volume": door.volume, "sync": True, "who": "ann@laptop"})
        channel.hear()
        assert re.search(
            r"being synced by ann@laptop since 20\S+ \d\d:\d\d:\d\d UTC", refused(installation.kube, source)
        )
    synced(installation.kube, source)


def test_watch_outlives_the_helpers_pod(installation, source, tmp_path):
    log = tmp_path / "watch.log"
    command = [sys.executable, str(REPOSITORY / "pipeline.py"), *arguments(installation.kube, source, "--watch")]
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_for(lambda: "200 files" in log.read_text())
        installation.kube.run("delete", "pod", installation.helper_pod(), "--wait=false")
        edit(source, "sightline/part_0/module_0.py", "AFTER = 'the pod was gone'\n")
        wait_for(lambda: log.read_text().count("200 files") == 2, log.read_text(), 120)
        installation.helper_pod()
        assert on_the_claim(installation) == here(source)
    finally:
        process.kill()
        process.wait()


# What a user may and may not


def kubeconfig_of(kube: Kube, account: str, folder: Path) -> Path:
    """A kubeconfig with a service account's token instead of the administrator's."""
    name = kube.get("serviceaccount", account)["secrets"][0]["name"]
    token = base64.b64decode(kube.get("secret", name)["data"]["token"]).decode()
    content = yaml.safe_load(kube.config.read_text())
    for user in content["users"]:
        user["user"] = {"token": token}
    file = folder / f"{account}.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def test_the_role_of_the_manifests_is_enough_and_no_role_is_explained(installation, source, tmp_path):
    kube = installation.kube
    allowed = Kube(kubeconfig_of(kube, "sightline", tmp_path), kube.namespace)
    synced(allowed, source, "--force")
    stranger = Kube(kubeconfig_of(kube, "default", tmp_path), kube.namespace)
    told = refused(stranger, source)
    assert "does not allow it: pods is forbidden" in told and "pods/exec" in told


def test_a_wrong_token_is_named(installation, source, tmp_path):
    file = kubeconfig_of(installation.kube, "default", tmp_path)
    content = yaml.safe_load(file.read_text())
    for user in content["users"]:
        user["user"]["token"] = "wrong"
    file.write_text(yaml.safe_dump(content))
    assert "does not accept this login" in refused(Kube(file, installation.kube.namespace), source)


@pytest.mark.parametrize(
    ("server", "told"),
    [
        pytest.param("https://127.0.0.1:{closed}", r"cannot be reached: .*Connection refused", id="nobody there"),
        pytest.param("https://no.such.host.invalid", r"cannot be reached: ", id="no such host"),
    ],
)
def test_a_cluster_that_cannot_be_reached_is_named(cluster, source, tmp_path, server, told):
    content = yaml.safe_load(cluster.read_text())
    file = tmp_path / "kubeconfig"
    with closed_port() as port:
        content["clusters"][0]["cluster"]["server"] = server.format(closed=port)
        file.write_text(yaml.safe_dump(content))
        assert re.search(told, refused(Kube(file, "default"), source))


def test_no_kubeconfig_and_no_such_context_are_named(cluster, source, tmp_path):
    done = run_pipeline("sync", "--source", str(source), environment={"KUBECONFIG": str(tmp_path / "none")})
    assert done.returncode == 1 and "There is no kubeconfig" in done.stderr
    assert "no context 'prod'. It has: test" in refused(Kube(cluster), source, "--context", "prod")
    (tmp_path / "broken").write_text("apiVersion: v1\nkind: Config\n")
    assert "kubeconfig cannot be used" in refused(Kube(tmp_path / "broken"), source)


def test_a_namespace_without_a_helper_is_named_with_the_command_that_brings_one(kube, source):
    told = refused(kube, source)
    assert f"no helper pod (label app.kubernetes.io/name=sightline-helper) in namespace {kube.namespace}" in told
    assert "kubectl apply -k manifests/overlays/" in told


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        pytest.param({"nodeSelector": {"no": "such-node"}}, r"0/1 nodes are available", id="no node takes it"),
        pytest.param({}, r"ErrImageNeverPull: Container image .* is not present", id="no image"),
    ],
)
def test_a_helper_that_does_not_run_is_told_with_its_reason(kube, source, more, reason):
    container = {"name": "helper", "image": "nowhere/no-such-image:1", "imagePullPolicy": "Never"}
    metadata = {"name": "waiting", "labels": {"app.kubernetes.io/name": "sightline-helper"}}
    kube.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container], **more}})
    wait_for(lambda: re.search(r"Unschedulable|ErrImageNeverPull", json.dumps(kube.get("pod", "waiting"))) is not None)
    assert re.search(rf"helper pod waiting is not running: {reason}", refused(kube, source))
    kube.run("delete", "pod", "waiting", "--grace-period=0", "--force")
