"""`--config mmdet::NAME --pretrained auto`, by the command that one types: from a team's mirror, from the web, and from neither.

The published file is made here, as mmdet's tool makes one, of a model with random values; the copy of the index that these runs use
names this file, as its name ends in its digest.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from safetensors.torch import load_file

from sightline.models.bundle import read_bundle
from sightline.models.mmdet_index import find
from sightline.models.mmdet_listed import SERVER
from sightline.models.shipped import config_path
from sightline.tasks.detection.fit import build_model
from tests.ports import closed_port
from tests.web_server import running_web_server, whole
from tests.workspace import REPOSITORY, copy_checkout, run_pipeline

pytestmark = pytest.mark.slow

CONFIG = "mmdet::rtmdet_tiny_8xb32-300e_coco"
LISTED = "shared_volume/sightline/models/mmdet_listed.py"
COCO = tuple(f"coco {number}" for number in range(80))
CHEAP = {
    "train_batch_size": 2,
    "num_workers": 0,
    "train_pipeline.2.img_scale": [64, 64],
    "train_pipeline.3.scale": [128, 128],
    "train_pipeline.4.crop_size": [64, 64],
    "train_pipeline.7.size": [64, 64],
    "train_pipeline.8.img_scale": [64, 64],
    "test_pipeline.1.scale": [64, 64],
    "test_pipeline.2.size": [64, 64],
    "optim_wrapper.optimizer.lr": 0.0,  # so that one sees afterwards what the training began from
    "optim_wrapper.optimizer.weight_decay": 0.0,
    "param_scheduler": [],
}


@dataclass(frozen=True)
class Published:
    """A file of weights, and a checkout whose index names it."""

    file: Path
    checkout: Path

    @property
    def address(self) -> str:
        """Where the checkout's index says that it is."""
        return _address(self.file, (self.checkout / LISTED).read_text().split('SERVER = "')[1].partition('"')[0])

    def run(self, workspace: Path, *arguments: str, **settings: str) -> tuple[int, str]:
        done = run_pipeline(
            "--workspace", str(workspace), *arguments, environment=settings, checkout=self.checkout
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    def train(self, workspace: Path, *more: str, **settings: str) -> tuple[int, str]:
        sets = [word for key, value in CHEAP.items() for word in ("--set", f"{key}={json.dumps(value)}")]
        asked = ["--category", "plates", "--config", CONFIG, "--pretrained", "auto", "--epochs", "1", *sets, *more]
        return self.run(workspace, "local", *asked, **settings)


def _address(file: Path, server: str) -> str:
    real = find(CONFIG).weights[0].address
    return f"{server}{real.removeprefix(SERVER).rpartition('/')[0]}/{file.name}"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """rtmdet_tiny at its full size, published as mmdet's tools/model_converters/publish_model.py does."""
    folder = tmp_path_factory.mktemp("published")
    config = Config.fromfile(config_path(REPOSITORY / "shared_volume", CONFIG))
    config.model.backbone.init_cfg = None
    torch.manual_seed(3)
    made = folder / "made.pth"
    torch.save(
        {"meta": {"dataset_meta": {"CLASSES": COCO}, "epoch": 300}, "state_dict": build_model(config).state_dict()},
        made,
        _use_new_zipfile_serialization=False,
    )
    digest = hashlib.sha256(made.read_bytes()).hexdigest()[:8]
    real = find(CONFIG).weights[0]
    name = real.address.rpartition("/")[2].replace(real.digest, digest)
    file = made.rename(folder / name)
    checkout = copy_checkout(folder / "checkout")
    index = checkout / LISTED
    index.write_text(index.read_text().replace(f"-{real.digest}.pth", f"-{digest}.pth"))
    return Published(file, checkout)


@pytest.fixture
def workspace(published: Published, tmp_path: Path) -> Path:
    """plates v0.1.0, published there."""
    made = tmp_path / "workspace"
    for arguments in (
        ("sample", str(tmp_path / "plates"), "--images", "12", "--labels", "board"),
        ("publish", str(tmp_path / "plates"), "--category", "plates", "--version", "v0.1.0"),
    ):
        code, told = published.run(made, *arguments)
        assert code == 0, told
    return made


@pytest.fixture
def server_of(published: Published) -> Iterator[None]:
    """Puts the index back as it was."""
    index = published.checkout / LISTED
    before = index.read_text()
    yield
    index.write_text(before)


def asks(published: Published, server: str) -> None:
    """From now on the index names files of this server."""
    index = published.checkout / LISTED
    index.write_text(index.read_text().replace(SERVER, server))


def assert_began_from_it(published: Published, workspace: Path) -> None:
    """The trained model's values are those of the file, but for the head of the classes."""
    run = json.loads((workspace / "last_run.json").read_text())
    bundle = workspace / "storage/models" / run["model"]["sha256"]
    facts = read_bundle(bundle).facts
    assert facts["weights_origin"] == published.address
    assert facts["weights_sha256"] == hashlib.sha256(published.file.read_bytes()).hexdigest()
    ours = load_file(bundle / "model.safetensors")
    theirs = torch.load(published.file, weights_only=True)["state_dict"]
    for name in ("backbone.stem.0.conv.weight", "neck.out_convs.0.conv.weight", "bbox_head.rtm_reg.0.weight"):
        assert torch.equal(ours[name], theirs[name]), name
    assert ours["bbox_head.rtm_cls.0.weight"].shape[0] == 2
    assert "Began from" in Path(run["reports"]["train"]).read_text()


def test_a_mirror_stands_in_for_the_web(published: Published, workspace: Path) -> None:
    code, told = published.train(workspace, SIGHTLINE_WEIGHTS=str(published.file.parent))
    assert code == 0, told
    assert_began_from_it(published, workspace)


def test_without_a_mirror_the_index_s_server_is_asked(published: Published, workspace: Path, server_of: None) -> None:
    with running_web_server() as server:
        server.answers["/" + _address(published.file, "")] = whole(published.file.read_bytes())
        asks(published, f"{server.address}/")
        code, told = published.train(workspace, "--steps", "record,train")
        assert server.asked == ["/" + _address(published.file, "")], told
    assert code == 0, told
    assert_began_from_it(published, workspace)


def test_without_a_way_there_the_message_says_where_to_put_which_file(
    published: Published, workspace: Path, server_of: None, tmp_path: Path
) -> None:
    with closed_port() as port:
        asks(published, f"http://127.0.0.1:{port}/")
        code, told = published.train(workspace, SIGHTLINE_TIMEOUT="1")
    assert code == 1 and "the step snapshot failed" in told
    assert f"put it, as {published.file.name}, into a folder or bucket that SIGHTLINE_WEIGHTS names" in " ".join(
        told.split()
    )
    assert published.address in told and "Traceback" not in told
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / published.file.name).write_bytes(b"another file")
    code, told = published.train(workspace, SIGHTLINE_WEIGHTS=str(tmp_path / "mirror"))
    assert code == 1 and f"is not the file that {CONFIG} names" in " ".join(told.split())
