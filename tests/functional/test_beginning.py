"""What a training begins from: named, fetched by snapshot, matched before the first iteration, and told."""

import hashlib
import os
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import ConfigDict

from sightline.errors import ConfigError, SightlineError
from sightline.models import shipped
from sightline.models.bundle import write_bundle
from sightline.models.config import config_text, load_config
from sightline.models.store import store_bundle
from sightline.models.weights.base import WeightsError
from sightline.models.weights.chosen import bring_weights, find_weights, require_there
from sightline.models.weights.configured import drop_inits, find_inits, settle
from sightline.models.weights.places import parse
from sightline.models.weights.taken import Taken, take
from sightline.references import WeightsReference
from sightline.services.storage.access import open_storage
from sightline.settings import Settings
from sightline.steps.train.began_report import began_from
from sightline.steps.train.beginning import Beginning, lineage, read_began
from sightline.tasks.detection.fit import build_model
from tests.live_code import copy_live
from tests.web_server import running_web_server, whole
from tests.workspace import REPOSITORY

CONFIG = "mask_rcnn_r18_small"
RESNET = {"type": "Pretrained", "checkpoint": "torchvision://resnet50"}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The live code, with a config whose backbone would fetch weights, and one that begins from a file."""
    code = copy_live(tmp_path_factory.mktemp("beginning") / "code")
    configs = code / "custom" / "configs"
    configs.mkdir(parents=True, exist_ok=True)
    based = f'_base_ = "../../configs/{CONFIG}.py"\n'
    backbone = f"model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='{RESNET['checkpoint']}')))\n"
    (configs / "fetches.py").write_text(based + backbone)
    (configs / "begins.py").write_text(based + "load_from = 'lite0'\n")
    return code


def settings(volume: Path, weights: str = "") -> Settings:
    storage = (volume / "storage").as_uri()
    return Settings(storage=storage, database_url="sqlite://", dataset_repo="", volume=volume, weights=weights)


def model(*classes: str, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return build_model(load_config(REPOSITORY / "shared_volume" / "configs" / f"{CONFIG}.py", {}, classes))


def beginning(path: Path, *classes: str, few_allowed: bool = False) -> Beginning:
    reference = WeightsReference(hashlib.sha256(path.read_bytes()).hexdigest(), str(path), path.name)
    return Beginning(reference, lambda: Taken(path), classes, few_allowed)


def saved(path: Path, trained: torch.nn.Module, *classes: str) -> Path:
    meta = {"dataset_meta": {"classes": classes}, "epoch": 12}
    torch.save({"state_dict": trained.state_dict(), "meta": meta}, path)
    return path


# --- which weights ---------------------------------------------------------------------------------------------------


def test_what_is_asked_for_holds_instead_of_what_the_config_names(live: Path) -> None:
    assert find_weights(live, CONFIG, {}, "") is None
    assert find_weights(live, "begins", {}, "").name == "efficientnet-lite0-57934424.pth"  # type: ignore[union-attr]
    assert find_weights(live, "begins", {}, "/other.pth").name == "other.pth"  # type: ignore[union-attr]
    assert find_weights(live, "begins", {"load_from": None}, "") is None
    assert find_weights(live, CONFIG, {"+load_from": "lite0"}, "").text == "lite0"  # type: ignore[union-attr]


def test_a_config_that_would_fetch_by_itself_is_refused_by_name(live: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        find_weights(live, "fetches", {}, "")
    told = str(refused.value)
    assert "model.backbone.init_cfg names torchvision://resnet50" in told and "--pretrained WHERE" in told
    assert told.endswith("--set model.backbone.init_cfg=null")
    assert find_weights(live, "fetches", {"model.backbone.init_cfg": None}, "") is None
    assert find_weights(live, "fetches", {}, "lite0") is not None


def test_a_config_of_mmdet_is_refused_before_anything_runs(live: Path) -> None:
    """Its files are read where its package is installed, also by a config that inherits it."""
    mask_rcnn = "mmdet::mask-rcnn_r50_fpn_1x_coco"
    (live / "custom/configs/inherits.py").write_text(f'_base_ = "{mask_rcnn}"\n')
    for config in (mask_rcnn, "inherits"):
        with pytest.raises(ConfigError, match="model.backbone.init_cfg names torchvision://resnet50"):
            find_weights(live, config, {}, "")
        assert find_weights(live, config, {"model.backbone.init_cfg": None}, "") is None
    with pytest.raises(ConfigError, match="model.backbone.init_cfg names https://.*cspnext-tiny"):
        find_weights(live, "mmdet::rtmdet_tiny_8xb32-300e_coco", {}, "")
    with pytest.raises(
        ConfigError, match="--pretrained auto, the weights that were published for it, or --pretrained WHERE"
    ):
        find_weights(live, "mmdet::rtmdet_tiny_8xb32-300e_coco", {}, "")
    with pytest.raises(ConfigError, match="LoadPanopticAnnotations.*Choose a config"):
        find_weights(live, "mmdet::panoptic-fpn_r50_fpn_1x_coco", {}, "")


def test_where_mmdet_is_not_installed_its_configs_are_left_to_train(
    live: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipped, "find_spec", lambda _: None)
    assert find_weights(live, "mmdet::mask-rcnn_r50_fpn_1x_coco", {}, "") is None


def test_inits_with_files_are_found_and_dropped_wherever_they_are() -> None:
    neck = {"init_cfg": [{"type": "Kaiming"}, {"type": "mmengine.PretrainedInit", "checkpoint": "a.pth"}]}
    values = ConfigDict(model={"backbone": {"init_cfg": RESNET}, "neck": [neck], "old": {"pretrained": "b.pth"}})
    values.model.pyramid = {"init_cfg": {"checkpoint": "c.pth"}}  # such a backbone reads the file itself
    keys = ["model.backbone.init_cfg", "model.neck.0.init_cfg", "model.old.pretrained", "model.pyramid.init_cfg"]
    assert find_inits(values) == dict(zip(keys, ["torchvision://resnet50", "a.pth", "b.pth", "c.pth"], strict=True))
    assert drop_inits(values) == keys
    assert find_inits(values) == {}
    assert values.model.neck[0].init_cfg == [{"type": "Kaiming"}] and values.model.backbone.init_cfg is None


def test_a_loaded_config_fetches_nothing_by_itself() -> None:
    """What only running a config tells, snapshot did not see."""
    with pytest.raises(ConfigError, match="names torchvision://resnet50"):
        settle("x", {"model": {"backbone": {"init_cfg": RESNET}}}, given=False)
    with pytest.raises(ConfigError, match="--pretrained https://server/net.pth"):
        settle("x", {"model": {}, "load_from": "https://server/net.pth"}, given=False)
    values = {"model": {"backbone": {"init_cfg": RESNET}}, "load_from": "https://server/net.pth"}
    settle("x", values, given=True)
    assert values == {"model": {"backbone": {"init_cfg": None}}}


# --- from words to a file --------------------------------------------------------------------------------------------


def brought(live: Path, words: str, volume: Path) -> WeightsReference | None:
    return bring_weights(find_weights(live, CONFIG, {}, words), settings(volume))


def test_snapshot_hands_on_one_line_and_train_takes_the_file_by_it(live: Path, tmp_path: Path) -> None:
    content = b"PK weights"
    with running_web_server() as server:
        address = server.publish(content)
        reference = WeightsReference.from_text(brought(live, address, tmp_path).to_text())  # type: ignore[union-attr]
    assert (reference.sha256, reference.origin) == (hashlib.sha256(content).hexdigest(), address)
    assert (tmp_path / reference.folder / reference.file_name).read_bytes() == content
    assert take(reference, settings(tmp_path)).path.read_bytes() == content, "the server is gone by now"
    (tmp_path / reference.folder / reference.file_name).unlink()
    with pytest.raises(WeightsError, match=r"no\s+longer on the volume. Start the run anew"):
        take(reference, settings(tmp_path))


def test_an_address_whose_file_is_another_is_refused_in_snapshot(live: Path, tmp_path: Path) -> None:
    with running_web_server() as server:
        server.answers["/net-01234567.pth"] = whole(b"something else")
        with pytest.raises(WeightsError, match="is not the file that .* names"):
            brought(live, f"{server.address}/net-01234567.pth", tmp_path)
    assert list((tmp_path / "weights").iterdir()) == []


def test_a_model_of_ours_is_handed_on_with_its_classes(live: Path, tmp_path: Path) -> None:
    config = load_config(REPOSITORY / "shared_volume" / "configs" / f"{CONFIG}.py", {}, ("cup", "plate"))
    trained, facts = model("cup", "plate", seed=1), {"category": "desk", "dataset_version": "v0.1.0", "epoch": 3}
    bundle = tmp_path / "bundle"
    sha256 = write_bundle(bundle, trained.state_dict(), config_text(config), ("cup", "plate"), None, None, facts)
    uri = store_bundle(open_storage((tmp_path / "storage").as_uri()), bundle, sha256)
    reference = brought(live, uri, tmp_path)
    assert reference is not None and (reference.bundle, reference.model_uri) == (sha256, uri)
    begins = Beginning(reference, lambda: take(reference, settings(tmp_path)), ("plate", "fork"))
    begins.apply(begun := model("plate", "fork"), tmp_path)
    heads = (
        begun.state_dict()["roi_head.bbox_head.fc_cls.weight"],
        trained.state_dict()["roi_head.bbox_head.fc_cls.weight"],
    )
    assert torch.equal(heads[0][0], heads[1][1]), "the row of the class with the same name"
    began = read_began(tmp_path)
    assert began is not None and began["trained_on"]["dataset_version"] == "v0.1.0"
    assert lineage(began) == {
        "weights_sha256": reference.sha256,
        "weights_origin": reference.origin,
        "parent_sha256": sha256,
    }
    told = str(began_from(began, ("plate", "fork")))
    assert "values of the model that was trained on desk v0.1.0; all others were random at first." in told
    for name, value in (("after epoch", "3"), ("its classes", "cup, plate"), ("no longer in this model", "cup")):
        assert f"{name} | {value} |" in _cells(told), name
    assert "New among its classes: fork." in told and "2 of 3 rows, those of classes with the same names" in told


def _cells(page: str) -> str:
    """A page's text, with a bar between elements."""
    return re.sub(r"(\s*<[^>]+>\s*)+", " | ", page)


# --- matched and applied ---------------------------------------------------------------------------------------------


def test_a_model_gets_the_values_of_a_file_and_tells_which(tmp_path: Path) -> None:
    trained = model("cup", "plate", seed=1)
    begins = beginning(saved(tmp_path / "net.pth", trained, "cup", "plate"), "cup", "plate")
    begins.apply(begun := model("cup", "plate"), tmp_path)
    state = trained.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in begun.state_dict().items())
    began = read_began(tmp_path)
    assert began is not None and began["share"] == 1 and began["left"] == [] and began["told"]["epoch"] == 12
    assert began["modules"]["backbone.layer1"] == [37120, 37120]


def test_another_architecture_is_refused_with_the_share_that_fits(tmp_path: Path) -> None:
    other = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 2))
    path = saved(tmp_path / "net.pth", other)
    with pytest.raises(WeightsError, match="fit only 0% of the model.*--pretrained-fit any"):
        beginning(path, "cup").apply(model("cup"), tmp_path)
    assert read_began(tmp_path) is None
    beginning(path, "cup", few_allowed=True).apply(model("cup"), tmp_path)
    assert read_began(tmp_path)["share"] < 0.001  # type: ignore[index]


def test_no_code_of_a_file_runs(tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'canary'}",)

    torch.save({"state_dict": model("cup", seed=1).state_dict(), "meta": Runs()}, tmp_path / "net.pth")
    beginning(tmp_path / "net.pth", "cup").apply(model("cup"), tmp_path)
    assert not (tmp_path / "canary").exists()
    assert read_began(tmp_path)["share"] == 1  # type: ignore[index]
    assert any("not built" in line for line in read_began(tmp_path)["skipped"])  # type: ignore[index]


def test_words_that_name_no_weights_are_refused_before_anything_runs(live: Path, tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match="Did you mean 'lite0'"):
        find_weights(live, CONFIG, {}, "lite1")
    with pytest.raises(WeightsError, match="Choose a config mmdet::NAME"):
        find_weights(live, CONFIG, {}, "auto")
    (tmp_path / "model.pth").write_bytes(b"weights")
    with pytest.raises(SightlineError, match="Did you mean 'model.pth'"):
        require_there(parse(str(tmp_path / "modle.pth")))
    require_there(parse(str(tmp_path / "model.pth")))
