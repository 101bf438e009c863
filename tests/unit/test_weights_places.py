"""What a user's words for the place of weights mean."""

from pathlib import Path

import pytest

from sightline.errors import ConfigError, SightlineError
from sightline.models.weights.base import WeightsError
from sightline.models.weights.digests import digest_in
from sightline.models.weights.places import Kind, parse
from sightline.services.storage.addresses import shown

WHOLE = "0123456789abcdef" * 4
TINY = "rtmdet_tiny_8xb32-300e_coco"
TINY_FILE = "rtmdet_tiny_8xb32-300e_coco_20220902_112414-78e30dcc.pth"


@pytest.mark.parametrize(
    ("words", "kind", "uri", "name", "digest"),
    [
        ("/models/a.pth", Kind.FILE, "file:///models/a.pth", "a.pth", ""),
        ("file:///models/a%20b.pth", Kind.FILE, "file:///models/a%20b.pth", "a b.pth", ""),
        ("/models/ours-78e30dcc.pth", Kind.FILE, "file:///models/ours-78e30dcc.pth", "ours-78e30dcc.pth", ""),
        (f"/models/a.safetensors#sha256={WHOLE.upper()}", Kind.FILE, "file:///models/a.safetensors", "a.safetensors", WHOLE),
        ("gs://bucket/a/b.pth", Kind.FILE, "gs://bucket/a/b.pth", "b.pth", ""),
        ("gs://bucket/run/evaluate/selected.json", Kind.STORED, "gs://bucket/run/evaluate/selected.json", "", ""),
        ("gs://bucket/models/", Kind.STORED, "gs://bucket/models", "", ""),
        ("/models/best/", Kind.STORED, "file:///models/best", "", ""),
        ("https://server/x/net-78e30dcc.pth", Kind.ADDRESS, "https://server/x/net-78e30dcc.pth", "net-78e30dcc.pth", "78e30dcc"),
        ("https://server/net.pth", Kind.ADDRESS, "https://server/net.pth", "net.pth", ""),
        (f"https://server/net-78e30dcc.pth#sha256={WHOLE}", Kind.ADDRESS, "https://server/net-78e30dcc.pth", "net-78e30dcc.pth", WHOLE),
        (f"http://server/net.pth#sha256={WHOLE}", Kind.ADDRESS, "http://server/net.pth", "net.pth", WHOLE),
        ("https://server/a%2Bb%2F..%2Fc.pth?v=1", Kind.ADDRESS, "https://server/a%2Bb%2F..%2Fc.pth?v=1", "a+b_.._c.pth", ""),
        ("lite0", Kind.NAMED, "lite0", "efficientnet-lite0-57934424.pth", "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    ],
)  # fmt: skip
def test_words_name_a_place(words: str, kind: Kind, uri: str, name: str, digest: str) -> None:
    found = parse(words)
    assert (found.kind, found.uri, found.name, found.digest) == (kind, uri, name, digest)


@pytest.mark.parametrize(("words", "config"), [(f"mmdet::{TINY}", ""), ("auto", f"mmdet::{TINY}"), ("auto", f"mmdet::rtmdet/{TINY}.py")])  # fmt: skip
def test_a_config_of_mmdet_names_the_weights_that_were_published_for_it(words: str, config: str) -> None:
    found = parse(words, config)
    assert found.uri == f"https://download.openmmlab.com/mmdetection/v3.0/rtmdet/{TINY}/{TINY_FILE}"
    assert (found.kind, found.name, found.digest, found.text) == (Kind.ADDRESS, TINY_FILE, "78e30dcc", f"mmdet::{TINY}")


def test_a_path_is_taken_from_where_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    assert parse("mine").uri == (tmp_path / "mine").as_uri()
    assert parse("a.pth").uri == (tmp_path / "a.pth").as_uri()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse("~/b.pth").uri == (tmp_path / "b.pth").as_uri()


@pytest.mark.parametrize(
    ("words", "config", "told"),
    [
        ("", "", "'' names no weights.*Give a file or folder"),
        ("lite", "", "Did you mean 'lite0'"),
        ("auto", "", "the config is 'not given'"),
        ("auto", "mask_rcnn_r18_small", "the config is 'mask_rcnn_r18_small'.*Choose a config mmdet::NAME"),
        ("s3://bucket/a.pth", "", "cannot be fetched from s3://.*Give a file"),
        ("torchvision://resnet50", "", "cannot be fetched from torchvision://"),
        ("a.pth#sha256=12ab", "", "#sha256=12ab is not a SHA-256: write its 64 hex digits"),
        ("http://server/net-78e30dcc.pth", "", "without encryption.*Write https://, or add.*#sha256="),
        ("https://server/", "", "no file of weights by its name"),
        ("https://server/download?id=3", "", r"https://server/download\?… is no file of weights"),
        ("https:///net.pth", "", "is not the address of a file"),
        ("https://server:port/net.pth", "", "is not the address of a file"),
        ("mmdet::rtmdet-ins_x_8xb16-300e_cocoo", "", "Did you mean 'rtmdet-ins_x_8xb16-300e_coco'"),
        ("mmdet::atss_r18_fpn_8xb8-amp-lsj-200e_coco", "", "Nobody published weights for.*atss_r18.*neighbours.*atss_r50_fpn_1x_coco"),
        ("mmdet::strongsort_yolox_x_8xb4-80e_crowdhuman-mot20train_test-mot20test", "", "several files.*https://.*, https://"),
    ],
)  # fmt: skip
def test_words_that_name_none_are_refused_in_a_sentence(words: str, config: str, told: str) -> None:
    with pytest.raises(SightlineError, match=told) as error:
        parse(words, config)
    assert isinstance(error.value, ConfigError) == ("Did you mean 'rtm" in told)


@pytest.mark.parametrize(
    "address",
    [
        "https://me:s3cret@server/net.pth",
        "https://me:s3cret@server:8443/net.pth?token=s3cret",
        "https://server/net.pth?X-Amz-Signature=s3cret",
        "https://me:s3cr/s3cret@server/net.pth",
        "http://me:s3cret@server/net.pth",
        "https://me:s3cret@server/",
    ],
)
def test_a_password_is_never_shown(address: str) -> None:
    assert "s3cret" not in shown(address)
    try:
        told = repr(parse(address))
    except SightlineError as error:
        told = str(error)
    assert "s3cret" not in told and "server" in told


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("rtmdet-78e30dcc.pth", "78e30dcc"),
        (f"net-{WHOLE}.safetensors", WHOLE),
        ("net-25944287.pth", "25944287"),
        ("net-20240131.pth", ""),  # a date
        ("net-20243131.pth", "20243131"),
        ("net-78e30dc.pth", ""),
        ("net-78E30DCC.pth", ""),
        ("net_78e30dcc.pth", ""),
        ("net-78e30dcc.pth.txt", ""),
        ("net-78e30dcc.zip", ""),
    ],
)
def test_a_file_name_ends_in_the_beginning_of_a_digest(name: str, digest: str) -> None:
    assert digest_in(name) == digest


def test_it_needs_no_module_of_training() -> None:
    import subprocess
    import sys

    script = "import sys\nfor each in ('torch', 'mmengine', 'mmdet', 'google', 'requests'): sys.modules[each] = None\nfrom sightline.models.weights.places import parse\nparse('https://server/net.pth')\nprint(parse('auto', 'mmdet::rtmdet_tiny_8xb32-300e_coco').digest)"  # fmt: skip
    path = {"PYTHONPATH": str(Path(__file__).parents[2] / "shared_volume")}
    done = subprocess.run([sys.executable, "-c", script], env=path, check=True, capture_output=True, text=True)
    assert done.stdout == "78e30dcc\n"


def test_a_place_of_no_kind_is_an_error_of_weights() -> None:
    with pytest.raises(WeightsError):
        parse("nothing")
