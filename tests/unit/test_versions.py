"""The grammar of versions, categories and tags."""

import pytest

from sightline.versions import (
    BadNameError,
    Tag,
    Version,
    check_category,
    check_kind,
    make_tag,
    newest_version,
    next_version,
    parse_tag,
    parse_version,
)

CATEGORIES = ["desk", "a", "0", "licence-plates", "a_b", "desk_ann_v1", "desk_train", "x" * 100]
BAD_CATEGORIES = ["", "Desk", "-a", "_a", "a b", "a/b", "../a", "a.b", "ä", "desk\n", "x" * 101]
BAD_VERSIONS = {
    "": None,
    "1.2.3": "v1.2.3",
    "V1.2.3": "v1.2.3",
    "v1.2": "v1.2.0",
    "v1": "v1.0.0",
    "v01.2.3": "v1.2.3",
    "v1.2.3.4": None,
    "v1.2.3-rc1": None,
    "v1.2.3\n": "v1.2.3",
    "v-1.2.3": None,
    "v١.2.3": None,
    "latest": None,
    "v1.2.9999999999": None,
}
BAD_TAGS = [
    "",
    "desk",
    "desk_v1.2.3",
    "desk_ann_1.2.3",
    "desk_val_v1.2.3",
    "_ann_v1.2.3",
    "Desk_ann_v1.2.3",
    "desk_ann_v1.2",
]


def test_versions_order_by_number() -> None:
    assert sorted(map(parse_version, ["v0.10.0", "v1.0.0", "v0.9.9"])) == [
        Version(0, 9, 9),
        Version(0, 10, 0),
        Version(1, 0, 0),
    ]
    assert newest_version(["v0.9.0", "v0.10.0", "v0.2.0"]) == "v0.10.0"
    assert newest_version([]) is None


@pytest.mark.parametrize("text", ["v0.0.0", "v1.2.3", "v10.20.30"])
def test_a_version_prints_as_it_was_written(text: str) -> None:
    assert str(parse_version(text)) == text


@pytest.mark.parametrize(("text", "meant"), BAD_VERSIONS.items(), ids=[repr(text) for text in BAD_VERSIONS])
def test_a_malformed_version_is_refused_with_what_was_meant(text: str, meant: str | None) -> None:
    with pytest.raises(BadNameError) as caught:
        parse_version(text)
    assert repr(text) in str(caught.value)
    assert (f"Did you mean '{meant}'?" in str(caught.value)) if meant else ("mean" not in str(caught.value))


def test_the_next_version_raises_one_number() -> None:
    assert next_version("v1.2.3") == "v1.2.4"
    assert next_version("v0.9.9") == "v0.9.10"


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_tag_names_what_it_was_made_of(category: str) -> None:
    assert make_tag(category, "annotation", "v1.2.3") == f"{category}_ann_v1.2.3"
    assert make_tag(category, "dataset", "v1.2.3") == f"{category}_train_v1.2.3"
    for kind in ("annotation", "dataset"):
        tag = make_tag(category, check_kind(kind), "v1.2.3")
        assert parse_tag(tag) == Tag(category, check_kind(kind), "v1.2.3")
        assert str(parse_tag(tag)) == tag


@pytest.mark.parametrize("category", BAD_CATEGORIES, ids=map(repr, BAD_CATEGORIES))
def test_a_malformed_category_is_refused(category: str) -> None:
    with pytest.raises(BadNameError, match="is not a category name"):
        check_category(category)
    with pytest.raises(BadNameError):
        make_tag(category, "dataset", "v1.2.3")


def test_a_category_with_capitals_is_told_the_small_form() -> None:
    with pytest.raises(BadNameError, match="Did you mean 'licence-plates'"):
        check_category("Licence Plates")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("Küche", "kueche"),
        ("Ku\u0308che", "kueche"),
        ("straße", "strasse"),
        ("café crème", "cafe-creme"),
        ("Ångström", "angstroem"),
    ],
)
def test_letters_with_accents_are_written_without_in_the_name_that_is_proposed(typed, meant):
    with pytest.raises(BadNameError, match=f"Did you mean '{meant}'"):
        check_category(typed)


@pytest.mark.parametrize("tag", BAD_TAGS, ids=map(repr, BAD_TAGS))
def test_a_malformed_tag_is_refused(tag: str) -> None:
    with pytest.raises(BadNameError):
        parse_tag(tag)


def test_a_misspelt_kind_is_told_the_nearest() -> None:
    with pytest.raises(BadNameError, match="Did you mean 'dataset'"):
        check_kind("datasets")
