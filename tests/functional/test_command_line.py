"""`python pipeline.py …` as a user types it: a process of its own for every command."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.workspace import REPOSITORY, run_pipeline

COMMANDS = (
    *("publish", "local", "versions", "diff", "verify", "export", "compile", "annotate", "sample"),
    *("sync", "submit", "schedule", "retry", "runs", "logs"),
)
HEAVY = {"kfp", "kubernetes", "torch", "numpy", "pydantic", "rich", "sqlalchemy", "dvc", "google", "mmengine", "mmdet"}

Done = subprocess.CompletedProcess[str]


def refusal(done: Done) -> str:
    """What a command that must fail said, once it is clear that it failed as it should."""
    assert done.returncode not in (0, None), done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stderr.count("error:") == 1, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace that holds the annotation version v0.1.0 of plates."""
    folder = tmp_path_factory.mktemp("published")
    workspace = folder / "workspace"
    for command in (
        ("sample", str(folder / "plates"), "--images", "3", "--labels", "board"),
        ("publish", str(folder / "plates"), "--category", "plates", "--version", "v0.1.0"),
    ):
        done = run_pipeline(*command, "--workspace", str(workspace))
        assert done.returncode == 0, done.stderr
    return workspace


def test_publish_names_the_next_command_with_its_workspace(tmp_path):
    workspace = tmp_path / "my work"
    run_pipeline("sample", str(tmp_path / "plates"), "--images", "3", "--labels", "board")
    command = ("publish", str(tmp_path / "plates"), "--category", "plates", "--version", "v0.1.0")
    done = run_pipeline(*command, "--workspace", str(workspace))
    assert done.stdout.endswith(
        f"next: python {REPOSITORY}/pipeline.py local --category plates --workspace '{workspace}'\n"
    )


def test_publish_inside_a_pod_names_submit_which_runs_elsewhere(tmp_path):
    environment = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    run_pipeline("sample", str(tmp_path / "plates"), "--images", "3", "--labels", "board")
    command = ("publish", str(tmp_path / "plates"), "--category", "plates", "--version", "v0.1.0")
    done = run_pipeline(*command, "--workspace", str(tmp_path / "w"), environment=environment)
    assert done.stdout.endswith("next, on your laptop: python pipeline.py submit --category plates\n")


# --help


def test_help_lists_every_command():
    done = run_pipeline("--help")
    assert done.returncode == 0
    for command in COMMANDS:
        assert f"\n    {command} " in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_and_names_its_options(command):
    done = run_pipeline(command, "--help")
    assert done.returncode == 0
    assert f"usage: pipeline.py {command}" in done.stdout
    assert "--workspace DIR" in done.stdout


def test_help_imports_nothing_heavy():
    """What keeps it fast; benchmarks/startup.py has the time."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", REPOSITORY / "pipeline.py", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "argparse" in imported, "importtime said nothing"
    assert not imported & HEAVY


# What a user can get wrong


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "COMMAND"),
        (("trian",), "COMMAND: there is no 'trian'. It takes publish, local, versions"),
        (("rnus",), "Did you mean 'runs'? See python pipeline.py --help."),
        (
            ("runs", "--limt", "3"),
            "There is no option --limt here. Did you mean '--limit'? See python pipeline.py runs --help.",
        ),
        (("schedule", "lsit"), "there is no 'lsit'. Did you mean 'list'? See python pipeline.py schedule --help."),
        (("submit", "--steps", "evalute"), "Did you mean 'evaluate'? See python pipeline.py submit --help."),
        (("submit", "--epochs"), "--epochs: expected one argument. See python pipeline.py submit --help."),
        (("runs", "plates"), "'plates' is not expected here. See python pipeline.py runs --help."),
        (("publish", "somewhere", "--category", "desk"), "--version"),
        (("local",), "--category"),
        (("local", "--category", "desk", "--epochs", "0"), "--epochs: must be 1 or more"),
        (("local", "--category", "desk", "--epochs", "many"), "--epochs: 'many' is not a whole number"),
        (("local", "--category", "desk", "--split", "all"), "--split"),
        (("versions", "--category", "My Desk"), "Did you mean 'my-desk'?"),
        (("diff", "desk_ann_v0.1.0"), "B"),
        (("diff", "desk_ann_v0.1.0", "v0.2.0"), "'v0.2.0' is not a tag of a version"),
        (("verify", "desk"), "'desk' is not a tag of a version"),
        (("verify", "desk_ann_v0.1.0"), "There is no version desk_ann_v0.1.0"),
        (("export", "desk_ann_v0.1.0"), "--format"),
        (("export", "desk_ann_v0.1.0", "--format", "tfrecord"), "'tfrecord'"),
        (("local", "--category", "desk", "--steps", "record,trian"), "trian is not among snapshot, record, train"),
        (("local", "--category", "desk", "--steps", ","), "nothing is not among snapshot, record, train"),
        (("local", "--category", "desk", "--steps", "snapshot"), "Add record, train, evaluate or test"),
        (("local", "--category", "desk", "--set", "epochs"), "--set 'epochs' is not KEY=VALUE"),
        (("local", "--category", "desk", "--set", "=3"), "--set '=3' is not KEY=VALUE"),
        (("local", "--category", "desk", "--recipe", "seed"), "--recipe 'seed' is not KEY=VALUE"),
        (
            ("local", "--category", "desk", "--steps", "train", "--dataset-version", "v0.1.0", "--stratify"),
            "recipe (stratify) is for runs with record",
        ),
        (
            ("local", "--category", "desk", "--steps", "record", "--pretrained", "lite0"),
            "--pretrained lite0 is for runs with train, and --steps leaves that out.",
        ),
        (
            ("submit", "--category", "desk", "--steps", "record", "--resume-from", "latest"),
            "--resume-from latest is for runs with train, and --steps leaves that out.",
        ),
        (
            ("local", "--category", "desk", "--smoke", "--resume-from", "latest"),
            "--resume-from latest goes on with a whole training, and --smoke tries a new one",
        ),
        (("local", "--category", "desk", "--steps", "train"), "--dataset-version"),
        (("local", "--category", "desk", "--steps", "evaluate", "--dataset-version", "v0.1.0"), "--model URI"),
        (("local", "--category", "desk", "--steps", "test", "--dataset-version", "v0.1.0"), "--model URI"),
        (("local", "--category", "desk", "--steps", "test", "--model", "file:///m"), "--dataset-version"),
        (("local", "--category", "desk", "--model", "file:///m"), "--candidate URI"),
        (
            ("local", "--category", "desk", "--dataset-version", "v0.1.0"),
            "--dataset-version v0.1.0 is for runs without",
        ),
    ],
    ids=lambda value: " ".join(value) or "nothing" if isinstance(value, tuple) else "",
)
def test_a_wrong_command_says_what_is_wrong_and_starts_nothing(tmp_path, arguments, said):
    done = run_pipeline("--workspace", str(tmp_path / "workspace"), *arguments)
    message = refusal(done)
    assert said.lower() in message.lower()
    assert message.count("\n") == 1, message
    assert not list(tmp_path.rglob("*.log"))


def test_steps_without_their_predecessors_ask_for_what_those_would_have_given(tmp_path):
    done = run_pipeline("--workspace", str(tmp_path), "local", "--category", "desk", "--steps", "evaluate")
    message = refusal(done)
    assert "The step record is left out" in message
    assert "--dataset-version" in message


@pytest.mark.slow
def test_publishing_a_folder_that_is_not_there_names_it(tmp_path):
    missing = tmp_path / "photographs"
    done = run_pipeline(
        "--workspace", str(tmp_path), "publish", str(missing), "--category", "desk", "--version", "v0.1.0"
    )
    assert str(missing) in refusal(done)


@pytest.mark.slow
def test_a_malformed_version_names_the_one_that_was_meant(tmp_path):
    done = run_pipeline(
        "--workspace", str(tmp_path), "publish", str(tmp_path), "--category", "desk", "--version", "0.1.0"
    )
    assert "v0.1.0" in refusal(done)


def test_sample_data_never_overwrites(tmp_path):
    (tmp_path / "mine.jpg").write_bytes(b"mine")
    assert f"{tmp_path} is not empty" in refusal(run_pipeline("sample", str(tmp_path)))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.jpg"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("--category", "plate"),
            "no annotation version of the category plate. Did you mean 'plates'? Publish a folder",
        ),
        (
            ("--category", "desk"),
            "category desk. Known: plates. Publish a folder first: python pipeline.py publish FOLDER",
        ),
        (("--annotation-version", "v0.2.0"), "no annotation version v0.2.0 of plates. Published: v0.1.0."),
        (("--steps", "train", "--dataset-version", "v9.9.9"), "no published dataset version v9.9.9 of plates"),
        (("--images", "/nosuch"), "There is no folder /nosuch to test on."),
        (("--images", "README.md"), "README.md is a single file"),
        (("--images", "manifests"), "There is no image below manifests (.bmp, .gif"),
        (("--device", "gpu"), "There is no device 'gpu'. Did you mean 'cuda'?"),
        (("--device", "mps"), "The device 'mps' cannot be used here"),
        (("--set", "train_batch_size=lots"), "train_batch_size is 'lots', and must be a whole number of at least 1."),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, tuple) else "",
)
def test_what_is_not_there_is_refused_before_any_step_and_names_what_is(published, monkeypatch, arguments, said):
    monkeypatch.chdir(REPOSITORY)
    category = () if "--category" in arguments else ("--category", "plates")
    message = refusal(run_pipeline("--workspace", str(published), "local", *category, *arguments))
    assert said in message and message.count("\n") == 1
    assert not (published / "logs").exists(), "no step was started"


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--config", "mask_rcnn_r18_smal"), "Did you mean 'mask_rcnn_r18_small'?"),
        (("--set", "optim_wraper.optimizer.lr=1"), "Did you mean 'optim_wrapper'?"),
    ],
)
def test_what_is_misspelt_is_refused_before_any_step(published, option, said):
    message = refusal(run_pipeline("--workspace", str(published), "local", "--category", "plates", *option))
    assert said in message
    assert "step" not in message


@pytest.mark.slow
def test_publishing_the_same_again_does_nothing_and_publishing_something_else_is_refused(published, tmp_path):
    def publish(folder: Path) -> Done:
        return run_pipeline(
            "--workspace", str(published), "publish", str(folder), "--category", "plates", "--version", "v0.1.0"
        )

    again = publish(published.parent / "plates")
    assert (again.returncode, again.stderr) == (0, "")
    assert "nothing to do" in again.stdout
    run_pipeline("sample", str(tmp_path / "others"), "--images", "2", "--seed", "9")
    message = refusal(publish(tmp_path / "others"))
    assert "already published with other content" in message
    assert "v0.1.1" in message


def test_a_reader_that_has_read_enough_ends_a_command_without_a_traceback(tmp_path):
    command = [sys.executable, str(REPOSITORY / "pipeline.py"), "--workspace", str(tmp_path), "doctor"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        assert process.stderr.read() == "" and process.wait(60) == 141


def test_an_output_that_is_full_is_answered_with_a_sentence(tmp_path):
    command = [sys.executable, str(REPOSITORY / "pipeline.py"), "--workspace", str(tmp_path), "versions"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"error: the disk is full: something in {tmp_path}, or the output, cannot be written. Free some space there, then run the "
        "same command again; python pipeline.py prune shows what may go."
    ]
