"""The images: what is in them, what is not, and that they work with no more rights than a careful cluster gives."""

import configparser
import json
import os
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from sightline import errors
from sightline.tasks.task import OURS
from tests.cluster.conftest import SOURCE, TAG, TARGETS, add_wheels, copy_context, inspected, make_images
from tests.live_code import LIVE, append
from tests.workspace import REPOSITORY, run_pipeline

pytestmark = pytest.mark.slow

START_SECONDS = 20
MOST_MEGABYTES = {"data": 700, "train": 2500}
LOCKED_DOWN = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
SEED = "/opt/sightline/shared_volume"
COMPILERS = ("cc", "gcc", "g++", "c++", "clang", "as", "ld", "make", "cmake", "ninja", "nvcc", "uv")
COMPLAINTS = re.compile(r"writable|writeable|read-only|permission denied|cache|warning", re.IGNORECASE)
SECRET = re.compile(r"(pass(word|wd)?|secret|token|credential|api_?key|private_?key)\w*\s*[=:]\s*\S", re.IGNORECASE)
OTHER_USER = "4711:4711"
"""Somebody without an entry in /etc/passwd: on a laptop the containers run as the caller."""
BOTH = pytest.mark.parametrize("target", TARGETS)

IMPORT_ALL = """
import importlib, os, pkgutil, sys
import kfp, kfp.kubernetes, sightline
left_out = tuple(sys.argv[1:])
names = [module.name for module in pkgutil.walk_packages(sightline.__path__, "sightline.")
         if not module.name.startswith(left_out) and not module.name.endswith("__main__")]
for name in names:
    importlib.import_module(name)
if "torch" in sys.modules:
    import mmdet, matplotlib.pyplot, imgaug, numba
    from mmdet.utils import register_all_modules
    register_all_modules()
    matplotlib.pyplot.figure().savefig("/tmp/figure.png")
    numba.njit(cache=True)
print(len(names), os.getuid())
"""
WITH_TORCH = (
    "backbones",
    "fit",
    "freezing",
    "mended",
    "metrics",
    "mixing",
    "modules",
    "network",
    "ops",
    "predict",
    "proposals",
    "registry",
    "report",
    "results",
    "scoring",
)
LEFT_OUT = {
    "data": (
        *("steps.train", "steps.evaluate", "steps.testing", "processes.devices"),
        *("models.config", "models.imports"),
        *(f"tasks.{task}.{part}" for task in OURS for part in WITH_TORCH),
    ),
    "train": ("publish", "catalogue", "formats"),
}
"""Parts of the library that an image does not have to run."""


def run_in(
    image: str, *command: str, options: Sequence[str] = (), check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a command in a locked-down container."""
    done = subprocess.run(
        ["docker", "run", "--rm", "--network", "none", *LOCKED_DOWN, *options, image, *command],
        capture_output=True,
        text=True,
        check=False,
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def distributions(image: str) -> dict[str, str]:
    """What is installed in an image's environment: name -> version."""
    script = "import importlib.metadata as m; print(*(f'{d.name}=={d.version}' for d in m.distributions()), sep='\\n')"
    lines = run_in(image, "python", "-c", script).stdout.split()
    return {
        re.sub(r"[-_.]+", "-", name).lower(): version for name, _, version in (line.partition("==") for line in lines)
    }


@BOTH
def test_an_image_is_small_enough(images: dict[str, str], target: str) -> None:
    megabytes = inspected(images[target])["Size"] / 1e6
    assert 100 < megabytes < MOST_MEGABYTES[target]


@BOTH
def test_an_image_says_who_runs_it_and_what_it_is_of(images: dict[str, str], target: str) -> None:
    config = inspected(images[target])["Config"]
    assert config["User"] == "1001:1001"  # numbers: under runAsNonRoot a name would never start
    assert {"HOME=/tmp", "PYTHONDONTWRITEBYTECODE=1"} <= set(config["Env"])
    assert not any(entry.startswith("PYTHONPATH=") for entry in config["Env"])
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    head = subprocess.run(
        ["git", "-C", str(REPOSITORY), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    )
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in config["Labels"].items()}
    wanted = {"title": f"sightline-{target}", "version": setup["metadata"]["version"], "source": SOURCE}
    assert labels.items() >= wanted.items()
    assert re.fullmatch(r"[0-9a-f]{40}", labels["revision"]) and len(head.stdout.strip()) == 40


@BOTH
def test_an_image_holds_exactly_what_its_lock_pins(images: dict[str, str], target: str) -> None:
    lock = (REPOSITORY / "docker" / "requirements" / f"{target}.txt").read_text()
    pins = dict(re.findall(r"^([\w.-]+)(?:\[.*\])?==([^\s;]+)", lock, re.MULTILINE))
    pinned = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins.items()}
    found = distributions(images[target])
    torch = found.pop("torch", None)
    assert found == pinned
    pin = (REPOSITORY / "docker" / "requirements" / "torch.txt").read_text().rpartition("==")[2].strip()
    assert torch == ({"data": None, "train": f"{pin}+cpu"}[target])


def test_the_cpu_image_holds_no_cuda(images: dict[str, str]) -> None:
    assert [name for name in distributions(images["train"]) if name.startswith(("nvidia", "cuda", "triton"))] == []
    script = "import torch; print(torch.version.cuda)"
    assert run_in(images["train"], "python", "-c", script).stdout.strip() == "None"
    found = run_in(
        images["train"], "find", "/", "-xdev", "-name", "libcud*", "-o", "-xdev", "-name", "libnccl*", check=False
    )
    assert found.stdout.split() == []


def test_mmcv_has_its_compiled_ops(images: dict[str, str]) -> None:
    script = "import torch, sightline.tasks.detection.ops as ops; print(ops.supply_missing_ops())"
    options = ("--env", f"PYTHONPATH={SEED}")
    assert run_in(images["train"], "python", "-c", script, options=options).stdout.strip() == "False"


@BOTH
def test_no_compiler_is_left_inside(images: dict[str, str], target: str) -> None:
    script = f"for name in {' '.join(COMPILERS)}; do command -v $name; done; ls /build /var/lib/apt/lists 2>/dev/null"
    assert run_in(images[target], "sh", "-c", script, check=False).stdout.split() in ([], ["/var/lib/apt/lists:"])


@BOTH
@pytest.mark.parametrize("user", ["1001:1001", OTHER_USER])
def test_everything_is_imported_without_rights_and_without_complaint(
    images: dict[str, str], target: str, user: str
) -> None:
    options = ("--user", user, "--env", f"PYTHONPATH={SEED}")
    left_out = [f"sightline.{name}" for name in LEFT_OUT[target]]
    done = run_in(images[target], "python", "-c", IMPORT_ALL, *left_out, options=options)
    modules, uid = map(int, done.stdout.split()[-2:])
    assert modules > 40
    assert uid == int(user.partition(":")[0])
    assert [line for line in done.stderr.splitlines() if COMPLAINTS.search(line)] == []


@BOTH
def test_the_seed_is_the_helper_code_of_the_checkout(images: dict[str, str], target: str) -> None:
    script = f"cd {SEED} && find . -type f | sort"
    listed = run_in(images[target], "sh", "-c", script).stdout.split()
    command = ["git", "-C", str(REPOSITORY / "shared_volume"), "ls-files", "--cached", "--others", "--exclude-standard"]
    tracked = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert {f"./{name}" for name in tracked} >= set(listed) > {"./sightline/__init__.py", "./configs/yolox_s.py"}
    assert run_in(images[target], "find", "/opt", "-perm", "/o+w", "!", "-type", "l").stdout == ""
    unreadable = run_in(images[target], "find", "/opt", "!", "-readable").stdout
    assert unreadable == ""


@BOTH
def test_no_layer_tells_a_secret(images: dict[str, str], target: str) -> None:
    command = ["docker", "history", "--no-trunc", "--format", "{{.CreatedBy}}", images[target]]
    steps = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert any("ARG REVISION" in step for step in steps)
    told = [*steps, *inspected(images[target])["Config"]["Env"]]
    assert [line for line in told if SECRET.search(line)] == []


def test_only_what_the_images_are_made_of_travels_to_the_builder(engine: str, tmp_path: Path) -> None:
    context = tmp_path / "context"
    copy_context(context)
    planted = (
        ".sightline/secret",
        ".venv/bin/python",
        ".git/config",
        ".env",
        "shared_volume/.env",
        "shared_volume/sightline/__pycache__/settings.pyc",
        "laptop/.netrc",
        "elsewhere/torch.whl",
        "key.json",
    )
    for name in planted:
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        (context / name).write_text("canary-of-the-context")
    (context / "docker" / "Dockerfile").write_text("FROM python:3.11-slim\nCOPY . /context\n")
    tag = f"sightline-test-context:{os.urandom(4).hex()}"
    command = [
        "docker",
        "build",
        "--quiet",
        "--file",
        str(context / "docker" / "Dockerfile"),
        "--tag",
        tag,
        str(context),
    ]
    subprocess.run(command, capture_output=True, check=True)
    try:
        listed = run_in(tag, "sh", "-c", "cd /context && find . -type f").stdout.split()
        found = run_in(tag, "grep", "-rl", "canary-of-the-context", "/context", check=False).stdout
    finally:
        subprocess.run(["docker", "image", "rm", "--force", tag], capture_output=True, check=False)
    assert found == ""
    tops = {name.split("/")[1] for name in listed}
    assert tops - {"Dockerfile", ".dockerignore"} == {"docker", "shared_volume", "pipeline.py", "components", "laptop"}


def test_git_takes_user_and_password_from_the_mounted_secret(images: dict[str, str], tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "username").write_text("robot")
    (tmp_path / "password").write_text("canary-git-password\n")
    fill = "printf 'protocol=https\\nhost=git.example.com\\n\\n' | GIT_TERMINAL_PROMPT=0 git credential fill"
    mounted = ("--volume", f"{tmp_path}:/var/secrets/git:ro")
    filled = run_in(images["data"], "sh", "-c", fill, options=mounted).stdout.splitlines()
    assert {"username=robot", "password=canary-git-password"} <= set(filled)
    without = run_in(images["data"], "sh", "-c", fill, check=False)
    assert without.returncode != 0
    assert "terminal prompts disabled" in without.stderr


@pytest.mark.parametrize(("hosts", "checking"), [(True, "yes"), (False, "accept-new")])
def test_git_takes_the_key_from_the_mounted_secret(images: dict[str, str], tmp_path: Path, hosts, checking) -> None:
    secret, programs = tmp_path / "secret", tmp_path / "programs"
    secret.mkdir()
    programs.mkdir()
    (secret / "ssh-privatekey").write_text("canary-key")  # no end of line: ssh would refuse it as it is
    if hosts:
        (secret / "known_hosts").write_text("git.example.com ssh-ed25519 AAAA\n")
    # Stands in for ssh: says what it was given.
    ssh = programs / "ssh"
    ssh.write_text('#!/bin/sh\necho "GIVEN $*" >&2\nstat -c "MODE %a" "$2" >&2\nod -c "$2" | tail -2 >&2\nexit 1\n')
    ssh.chmod(0o755)
    mounted = ("--volume", f"{secret}:/var/secrets/git:ro", "--volume", f"{programs}:/programs:ro")
    script = "PATH=/programs:$PATH git ls-remote ssh://git@git.example.com/team/data; ls -A /tmp"
    done = run_in(images["data"], "sh", "-c", script, options=mounted, check=False)
    assert re.search(rf"GIVEN -i /tmp/\S+ .*StrictHostKeyChecking={checking} .*git@git.example.com", done.stderr)
    assert ("UserKnownHostsFile=/var/secrets/git/known_hosts" in done.stderr) == hosts
    assert "MODE 600" in done.stderr and "\\n" in done.stderr
    assert "tmp." not in done.stdout  # the copy of the key is gone


def test_git_works_in_folders_of_another_user(images: dict[str, str], tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make folders that belong to another user")
    repository = tmp_path / "data.git"
    subprocess.run(["git", "init", "--quiet", "--bare", str(repository)], check=True)
    mounted = ("--volume", f"{repository}:/data.git")
    assert run_in(images["data"], "git", "ls-remote", "/data.git", options=mounted).returncode == 0


def test_the_dockerfile_is_for_every_builder_and_pins_its_base() -> None:
    text = (REPOSITORY / "docker" / "Dockerfile").read_text()
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", text, re.MULTILINE)
    assert len(stages) == len(re.findall(r"^FROM", text, re.MULTILINE))
    assert {base for base, _ in stages} - {name for _, name in stages} == {"python:3.11-slim"}
    assert not re.search(r"^\s*(RUN --|COPY --link|ADD )|<<", text, re.MULTILINE)  # BuildKit's alone
    assert re.findall(r"pip install (?!.*--no-deps)", text) == []


def test_an_edit_of_the_helper_code_changes_the_last_layer_only(images: dict[str, str], tmp_path: Path) -> None:
    copy_context(tmp_path)
    add_wheels(tmp_path)
    append(tmp_path / LIVE.relative_to(REPOSITORY), errors, "EDITED = True")
    done = make_images(tmp_path, "sightline-edited", TAG, TARGETS="data", REVISION="1" * 40)
    assert done.returncode == 0, done.stderr[-3000:]
    edited, built = inspected(f"sightline-edited/sightline-data:{TAG}"), inspected(images["data"])
    subprocess.run(
        ["docker", "image", "rm", f"sightline-edited/sightline-data:{TAG}"], capture_output=True, check=False
    )
    assert edited["RootFS"]["Layers"][:-1] == built["RootFS"]["Layers"][:-1]
    assert edited["RootFS"]["Layers"][-1] != built["RootFS"]["Layers"][-1]
    assert re.search(rf"sightline-edited/sightline-data:{TAG}  \d+ MB", done.stdout)


def test_a_cuda_version_without_a_lock_is_refused(images: dict[str, str], tmp_path: Path) -> None:
    copy_context(tmp_path)
    add_wheels(tmp_path)
    done = make_images(tmp_path, "sightline-never", TAG, TARGETS="train", TORCH="cu99")
    assert done.returncode != 0
    assert "TORCH=cu99 is neither cpu nor cu130" in done.stdout + done.stderr


def test_a_password_in_the_remote_is_no_label(tmp_path: Path) -> None:
    copy_context(tmp_path)
    remote = "https://robot:canary-remote-password@git.example.com/team/sightline"
    for command in (("init", "--quiet"), ("remote", "add", "origin", remote)):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    printed = subprocess.run(
        ["make", "-C", str(tmp_path), "-n", "images"], capture_output=True, text=True, check=True
    ).stdout
    assert "SOURCE=https://git.example.com/team/sightline" in printed
    assert "canary" not in printed


@pytest.fixture
def registry(engine: str, tmp_path: Path) -> Iterator[str]:
    """host:port of an empty registry."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("a registry is not installed (Debian: apt install docker-registry)")
    config = {"version": 0.1, "storage": {"filesystem": {"rootdirectory": str(tmp_path / "registry")}}}
    (tmp_path / "registry.json").write_text(json.dumps(config | {"http": {"addr": "127.0.0.1:0"}}))
    log = tmp_path / "registry.log"
    with log.open("w") as output:
        process = subprocess.Popen([program, "serve", str(tmp_path / "registry.json")], stdout=output, stderr=output)
    until = time.monotonic() + START_SECONDS
    while (listening := re.search(r"listening on (127\.0\.0\.1:\d+)", log.read_text())) is None:
        assert process.poll() is None and time.monotonic() < until, log.read_text()
        time.sleep(0.05)
    yield listening[1]
    process.kill()
    process.wait()


def test_pushed_images_are_pinned_by_the_digests_that_push_writes(engine: str, registry: str, tmp_path: Path) -> None:
    context = tmp_path / "context"
    copy_context(context)
    for target in TARGETS:  # two small images do
        tag = f"{registry}/team/sightline-{target}:v1"
        dockerfile = f"FROM scratch\nLABEL target={target}\nCOPY setup.cfg /{target}\n"
        command = ["docker", "build", "--quiet", "--tag", tag, "--file", "-", str(context)]
        (context / ".dockerignore").unlink(missing_ok=True)
        subprocess.run(command, input=dockerfile, text=True, capture_output=True, check=True)
    done = make_images(context, f"{registry}/team", "v1", goal="push")
    assert done.returncode == 0, done.stderr
    digests = json.loads((context / "image-digests.json").read_text())
    assert digests.keys() == set(TARGETS)
    for target, digest in digests.items():
        accept = {"Accept": "application/vnd.docker.distribution.manifest.v2+json"}
        url = f"http://{registry}/v2/team/sightline-{target}/manifests/{digest}"
        with urllib.request.urlopen(urllib.request.Request(url, headers=accept), timeout=10) as answer:
            assert answer.status == 200
    pipeline = tmp_path / "pipeline.yaml"
    arguments = ("--registry", f"{registry}/team", "--tag", "v1", "--digests", str(context / "image-digests.json"))
    compiled = run_pipeline("compile", "-o", str(pipeline), *arguments)
    assert compiled.returncode == 0, compiled.stderr
    text = pipeline.read_text()
    assert all(f"{registry}/team/sightline-{target}:v1@{digest}" in text for target, digest in digests.items())
    for target in TARGETS:
        command = ["docker", "image", "rm", "--force", f"{registry}/team/sightline-{target}:v1"]
        subprocess.run(command, capture_output=True, check=False)
