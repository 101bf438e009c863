"""Secret values planted in the environment appear in nothing that Sightline writes: looked for byte by byte."""

import gzip
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy

from sightline.services.storage.access import open_storage
from tests.make_labelme import make_labelme
from tests.ports import closed_port
from tests.workspace import run_pipeline

KEY_CANARY = "canary-private-key-5f0c2d7e9b"
TOKEN_CANARY = "canary-token-81b34a6fd0"
WRONG_PASSWORD = "canary-wrong-password-27e9"


def everything_under(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file's name and content, gzip unpacked."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            yield str(path), gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def every_git_object(repository: Path) -> bytes:
    """Every commit, tree, tag and blob, unpacked."""
    command = ["git", "-C", str(repository), "cat-file", "--batch", "--batch-all-objects"]
    return subprocess.run(command, capture_output=True, check=True).stdout


def every_row(url: str) -> Iterator[tuple[str, bytes]]:
    engine = sqlalchemy.create_engine(url)
    with engine.connect() as connection:
        for table in sqlalchemy.inspect(engine).get_table_names():
            for row in connection.execute(sqlalchemy.text(f"SELECT * FROM `{table}`")):
                yield f"table {table}", repr(tuple(row)).encode()
    engine.dispose()


def holders(secrets: list[str], contents: Iterator[tuple[str, bytes]]) -> list[str]:
    """The names of those that hold one of the secrets."""
    wanted = [secret.encode() for secret in secrets]
    return [name for name, data in contents if any(secret in data for secret in wanted)]


@pytest.fixture
def planted(tmp_path: Path, mariadb_url: str, bucket: str) -> dict[str, str]:
    """The settings of an installation with a database password, a service account key and a token to be kept."""
    key = tmp_path / "elsewhere" / "key.json"
    key.parent.mkdir()
    key.write_text(json.dumps({"type": "service_account", "project_id": "test", "private_key": KEY_CANARY}))
    return {
        "SIGHTLINE_STORAGE": f"gs://{bucket}",
        "SIGHTLINE_DATABASE_URL": mariadb_url,
        "GOOGLE_APPLICATION_CREDENTIALS": str(key),
        "GOOGLE_SERVICE_ACCOUNT_KEY": key.read_text(),
        "GIT_TOKEN": TOKEN_CANARY,
    }


@pytest.mark.parametrize(
    "steps", ["record", pytest.param("record,train,evaluate,test", marks=pytest.mark.slow)], ids=["record", "all"]
)
def test_a_run_writes_no_secret_anywhere(tmp_path: Path, planted: dict[str, str], steps: str) -> None:
    password = str(sqlalchemy.make_url(planted["SIGHTLINE_DATABASE_URL"]).password)
    assert len(password) > 12, "too short to be told from other text"
    secrets = [password, KEY_CANARY, TOKEN_CANARY, WRONG_PASSWORD]
    workspace, plates, compiled = tmp_path / "workspace", tmp_path / "plates", tmp_path / "pipeline.yaml"
    make_labelme(plates, [f"{number}.png" for number in range(16)])
    said = []
    for arguments in (
        ("publish", str(plates), "--category", "plates", "--version", "v0.1.0"),
        ("local", "--category", "plates", "--epochs", "1", "--steps", steps),
        ("compile", "-o", str(compiled)),
    ):
        done = run_pipeline("--workspace", str(workspace), *arguments, environment=planted)
        assert done.returncode == 0, done.stderr
        said.append((" ".join(arguments), (done.stdout + done.stderr).encode()))

    stored = open_storage(planted["SIGHTLINE_STORAGE"])
    objects = [item.key for item in stored.list()]
    assert any(key.endswith("report.html") for key in objects) and any(key.endswith(".tar.gz") for key in objects)
    rows = list(every_row(planted["SIGHTLINE_DATABASE_URL"]))
    filled = ("versions", "runs", "steps", *(["metric_values"] if "evaluate" in steps else []))
    assert {name for name, _ in rows} >= {f"table {name}" for name in filled}
    history = every_git_object(workspace / "dataset.git")
    assert b"plates_ann_v0.1.0" in history
    kept = list(everything_under(workspace))
    assert any("/logs/" in name for name, _ in kept) and any("/kfp/" in name for name, _ in kept)

    assert holders(secrets, iter(said)) == []
    assert holders(secrets, iter(kept)) == []
    assert holders(secrets, iter([("the YAML", compiled.read_bytes()), ("Git", history)])) == []
    assert holders(secrets, iter(rows)) == []
    contents = ((key, stored.read_bytes(key)) for key in objects)
    assert (
        holders(secrets, ((key, gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data) for key, data in contents))
        == []
    )


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param({"SIGHTLINE_DATABASE_URL": "wrong password"}, marks=pytest.mark.slow, id="refused"),
        pytest.param(
            {"SIGHTLINE_DATABASE_URL": f"mysql+pymysql://team:{WRONG_PASSWORD}@127.0.0.1:{{closed}}/sightline"},
            marks=pytest.mark.slow,
            id="out of reach",
        ),
        pytest.param({"SIGHTLINE_DATABASE_URL": f"mysql+pymysql//team:{WRONG_PASSWORD}@host"}, id="malformed"),
        pytest.param(
            {"SIGHTLINE_DATASET_REPO": f"http://team:{WRONG_PASSWORD}@127.0.0.1:{{closed}}/dataset.git"},
            id="repository",
        ),
    ],
)
def test_what_fails_does_not_tell_the_secret_it_failed_with(
    tmp_path: Path, planted: dict[str, str], broken: dict[str, str]
) -> None:
    if broken.get("SIGHTLINE_DATABASE_URL") == "wrong password":
        url = sqlalchemy.make_url(planted["SIGHTLINE_DATABASE_URL"]).set(password=WRONG_PASSWORD)
        broken = {"SIGHTLINE_DATABASE_URL": url.render_as_string(hide_password=False)}
    workspace, plates = tmp_path / "workspace", tmp_path / "plates"
    run_pipeline("sample", str(plates), "--images", "4")
    with closed_port() as port:
        broken = {name: value.replace("{closed}", str(port)) for name, value in broken.items()}
        settings = planted | {"SIGHTLINE_TIMEOUT": "2"} | broken
        for arguments in (
            ("publish", str(plates), "--category", "plates", "--version", "v0.1.0"),
            ("local", "--category", "plates", "--epochs", "1"),
        ):
            done = run_pipeline("--workspace", str(workspace), *arguments, environment=settings)
            assert done.returncode == 1
            assert WRONG_PASSWORD not in done.stdout + done.stderr
    assert holders([WRONG_PASSWORD], everything_under(workspace)) == []
