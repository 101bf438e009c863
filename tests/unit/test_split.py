"""Which images train, validate and test, over a history of annotation versions."""

import hashlib
import json
import os
import random
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sightline.annotations.findings import Code
from sightline.annotations.labelme import Document, write_document
from sightline.annotations.recipe import Fractions, Recipe, RecipeError, read_recipe
from sightline.annotations.split_file import SplitFileError, read_split_file
from sightline.images.similarity import group_similar, perceptual_hash
from sightline.services.database.versions import ImageRow
from sightline.services.versioning.shards import SPLITS
from sightline.steps.record.build import Inputs, build_dataset
from sightline.steps.record.groups import SplitImage, as_first_published, assemble_first_published
from sightline.steps.record.split import EmptySplitError, assign_splits, missing_classes
from tests.make_labelme import box, files_in

REPOSITORY = Path(__file__).resolve().parents[2]
THIRDS = Fractions(train=0.4, val=0.3, test=0.3)


def row(name, looks=None, content=None, labels=("plug",)):
    """An image of an annotation version; content and looks follow from the name unless they are given."""
    sha256 = hashlib.sha256((content or name).encode()).hexdigest()
    looks = f"{int(sha256[:16], 16) >> 1:016x}" if looks is None else looks
    return ImageRow(name, None, 48, 32, 100, sha256, len(labels), looks, dict.fromkeys(labels, 1))


def rows(count, prefix="", **facts):
    return [row(f"{prefix}{number}.jpg", **facts) for number in range(count)]


def flipped(looks, *bits):
    """The same looks with some bits the other way round."""
    value = int(looks, 16)
    for bit in bits:
        value ^= 1 << bit
    return f"{value:016x}"


def record(*versions, listed=None, **recipe):
    """Split the last of some annotation versions, the others having been published before it in this order."""
    chosen = Recipe(**recipe)
    images = [
        SplitImage(one.name, one.sha256, one.perceptual_hash, frozenset(one.labels), len(versions) - 1)
        for one in versions[-1]
    ]
    return assign_splits(*as_first_published(images, assemble_first_published(versions, chosen)), chosen, listed or {})


def sides(splitting):
    return {name: part for part, names in splitting.split.items() for name in names}


def moved(before, after):
    """Names whose split is another one after it."""
    old, new = sides(before), sides(after)
    return {name for name in old.keys() & new.keys() if old[name] != new[name]}


def codes(splitting):
    return [(str(one.code), one.file) for one in splitting.findings]


# --- by content ------------------------------------------------------------------------------------------------------


def test_every_image_is_in_one_split_in_the_shares_asked_for():
    fractions = Fractions(train=0.5, val=0.3, test=0.2)
    split = record(rows(5000), fractions=fractions, seed=3).split
    assert np.allclose([len(split[name]) / 5000 for name in SPLITS], [0.5, 0.3, 0.2], atol=0.03)
    assert sorted(split["train"] + split["val"] + split["test"]) == sorted(one.name for one in rows(5000))


def test_another_seed_is_another_split():
    assert sides(record(rows(100), seed=0)) != sides(record(rows(100), seed=1))


def test_exact_duplicates_share_a_split_and_are_a_group():
    images = rows(50)
    copies = [replace(one, name=f"copy of {one.name}") for one in images]
    splitting = record(images + copies)
    side = sides(splitting)
    assert all(side[one.name] == side[f"copy of {one.name}"] for one in images)
    assert ("0.jpg", "copy of 0.jpg") in splitting.groups
    assert len(splitting.groups) == 50


def test_exact_duplicates_share_a_split_when_looks_do_not_matter():
    images = rows(50)
    side = sides(record(images + [replace(one, name=f"copy of {one.name}") for one in images], near_duplicates=None))
    assert all(side[one.name] == side[f"copy of {one.name}"] for one in images)


def test_a_new_name_for_known_content_changes_nothing():
    before = rows(200)
    after = [replace(one, name=f"renamed/{one.name}") for one in before]
    old = sides(record(before, group_by=r"^(renamed)/"))
    new = sides(record(before, after, group_by=r"^(renamed)/"))
    assert {f"renamed/{name}": side for name, side in old.items()} == new


def test_a_split_without_a_share_stays_empty():
    split = record(rows(40), fractions=Fractions(train=0.8, val=0.2, test=0)).split
    assert split["test"] == ()
    assert len(split["train"]) + len(split["val"]) == 40


def empty_seed(images, **recipe):
    """A seed with which some split gets nothing, and the refusal."""
    for seed in range(200):
        try:
            record(images, seed=seed, **recipe)
        except EmptySplitError as refused:
            return seed, str(refused)
    raise AssertionError("no seed leaves a split empty")


@pytest.mark.parametrize("groups", [False, True], ids=["single images", "groups"])
def test_an_empty_split_names_a_seed_that_works(groups):
    images = rows(6)
    if groups:
        images += [row(f"again {one.name}", flipped(one.perceptual_hash, 3)) for one in images]
    seed, message = empty_seed(images)
    assert f"none of the {len(images)} images" in message
    assert ("form 6 groups" in message) == groups
    works = int(re.search(r"`seed: (\d+)`", message)[1])
    assert works != seed
    assert set(sides(record(images, seed=works)).values()) == set(SPLITS)


@pytest.mark.parametrize("count", [5, 10, 18, 29])
def test_the_seed_that_is_proposed_trains_every_class_on_most_images(count):
    classes = ["cup", "mug", "bowl"]
    images = [replace(one, labels={classes[n % 3]: 1}) for n, one in enumerate(rows(count))]
    _, message = empty_seed(images, fractions=Fractions(train=0.6, val=0.2, test=0.2))
    seed = int(re.search(r"--recipe seed=(\d+)", message)[1])
    found = sides(record(images, seed=seed, fractions=Fractions(train=0.6, val=0.2, test=0.2)))
    train = [name for name, side in found.items() if side == "train"]
    assert set(found.values()) == set(SPLITS) and len(train) >= 0.5 * count - 1
    assert {label for one in images if one.name in train for label in one.labels} == set(classes[:count])


def test_fewer_images_than_splits_says_so():
    with pytest.raises(EmptySplitError, match="need 3 images"):
        record(rows(2))
    alike = [row(f"{bit}.jpg", flipped("0" * 16, bit)) for bit in range(10)]
    with pytest.raises(EmptySplitError, match="form 1 group of.*need 3 images"):
        record(alike)


# --- what belongs together -------------------------------------------------------------------------------------------


def test_images_that_look_alike_share_a_split_step_by_step():
    base = row("base.jpg").perceptual_hash
    chain = [row(f"frame {step}.jpg", flipped(base, *range(6 * step))) for step in range(5)]
    splitting = record(rows(30) + chain)
    assert tuple(sorted(one.name for one in chain)) in splitting.groups
    assert len({sides(splitting)[one.name] for one in chain}) == 1
    assert record(rows(30) + chain, near_duplicates=5).groups == ()
    assert record(rows(30) + chain, near_duplicates=None).groups == ()


def test_images_whose_names_give_one_key_share_a_split():
    frames = [row(f"{video}/frame_{number}.jpg") for video in "abcdefgh" for number in range(5)] + rows(20)
    splitting = record(frames, group_by=r"^(\w)/frame_")
    side = sides(splitting)
    assert all(len({side[f"{video}/frame_{number}.jpg"] for number in range(5)}) == 1 for video in "abcdefgh")
    assert len(splitting.groups) == 8  # names that do not match stand alone


def test_captured_parts_together_are_the_key():
    frames = [row(f"{place}_{number}_{day}.jpg") for place in "ab" for day in "xy" for number in range(3)] + rows(20)
    groups = record(frames, group_by=r"^(\w)_\d_(\w)").groups
    assert {tuple(name[0] + name[4] for name in group) for group in groups} == {
        ("ax",) * 3,
        ("ay",) * 3,
        ("bx",) * 3,
        ("by",) * 3,
    }


def test_names_and_looks_join_into_one_group():
    a, b, c, d = row("v1_a.jpg"), row("v1_b.jpg"), row("v2_c.jpg"), row("v2_d.jpg")
    c = replace(c, perceptual_hash=flipped(b.perceptual_hash, 1))
    assert record([a, b, c, d, *rows(20)], group_by=r"^(v\d)_").groups == (
        ("v1_a.jpg", "v1_b.jpg", "v2_c.jpg", "v2_d.jpg"),
    )


def test_an_image_without_known_looks_stands_alone():
    assert record([row(f"{number}.jpg", looks="") for number in range(30)]).groups == ()


def test_values_of_a_run_stand_in_for_those_of_the_recipe_file(tmp_path):
    file = tmp_path / "desk.yaml"
    file.write_text("seed: 3\nstratify: true\n")
    # As KFP hands them on: whole numbers as floats, and null, which it cannot carry, as the word.
    recipe = read_recipe(
        file, {"seed": 5.0, "near_duplicates": "null", "fractions": {"train": 1.0, "val": 0.0, "test": 0.0}}
    )
    expected = Recipe(seed=5, stratify=True, near_duplicates=None, fractions=Fractions(train=1, val=0, test=0))
    assert recipe == expected
    assert isinstance(recipe.seed, int)
    assert read_recipe(None, {"near_duplicates": 4.0}) == Recipe(near_duplicates=4)
    with pytest.raises(RecipeError, match="This run's recipe values: there is no key 'sead'. Did you mean 'seed'"):
        read_recipe(file, {"sead": 1})


def test_two_misspelt_keys_read_as_two_sentences():
    says = "values: there is no key 'sead'. Did you mean 'seed'? There is no key 'stratifi'. Did you mean 'stratify'?"
    with pytest.raises(RecipeError, match=f"{re.escape(says)}$"):
        read_recipe(None, {"sead": 1, "stratifi": True})


def test_a_pattern_that_is_none_is_refused_when_the_recipe_is_read(tmp_path):
    file = tmp_path / "desk.yaml"
    file.write_text("group_by: '(['\n")
    with pytest.raises(RecipeError, match=r"desk.yaml: group_by: .*regular expression"):
        read_recipe(file)


# --- history ---------------------------------------------------------------------------------------------------------

RECIPES = [
    {},
    {"stratify": True},
    {"group_by": r"_(v\d+)\."},
    {"group_by": r"_(v\d+)\.", "stratify": True},
    {"near_duplicates": None},
]


def a_thousand():
    """1,000 images; of classes, common and rare; some of one video; some look alike in pairs or nearly so."""
    draw = random.Random(4)
    images = []
    for number in range(1000):
        labels = ["plug"] if number % 3 else ["plug", "switch"]
        labels += ["rare"] if number in (10, 20, 30, 40) else []
        labels += ["common rare"] if number % 50 == 0 else []
        video = f"_v{number % 40}" if number % 5 == 0 else ""
        looks = None
        if number % 10 in (1, 2) and number > 100:
            # 4 bits from the one before: alike. 12 bits: not alike, and yet a third may resemble both.
            bits = draw.sample(range(63), 4 if number % 10 == 1 else 12)
            looks = flipped(images[-1].perceptual_hash, *bits)
        images.append(row(f"{number:04d}{video}.jpg", looks, labels=tuple(labels)))
    return images


def two_hundred_more(old):
    """New images: like nothing before, like one image, or like two that are 12 bits apart; some of known videos."""
    draw = random.Random(5)
    new = []
    pairs = [
        (one, other)
        for one, other in zip(old, old[1:], strict=False)
        if (int(one.perceptual_hash, 16) ^ int(other.perceptual_hash, 16)).bit_count() == 12
    ]
    for number in range(200):
        looks = None
        if number < 60:
            looks = flipped(draw.choice(old).perceptual_hash, *draw.sample(range(63), 5))
        elif number < 110:
            one, other = pairs[number - 60]
            differing = [
                bit for bit in range(63) if (int(one.perceptual_hash, 16) ^ int(other.perceptual_hash, 16)) >> bit & 1
            ]
            looks = flipped(one.perceptual_hash, *differing[:6])
        video = f"_v{number % 60}" if number >= 150 else ""
        labels = ("plug", "new class") if number % 60 == 0 else ("plug",)
        new.append(row(f"new {number:03d}{video}.jpg", looks, labels=labels))
    return new


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_two_hundred_images_added_to_a_thousand_move_none(recipe):
    old = a_thousand()
    new = two_hundred_more(old)
    before, after = record(old, **recipe), record(old, old + new, **recipe)
    assert moved(before, after) == set()
    assert len(sides(after)) == 1200
    assert len({sides(after)[one.name] for one in new}) == 3
    if recipe.get("near_duplicates", 6) is not None:
        assert_pairs_are_together_or_reported(old + new, after)
        torn = [file for code, file in codes(after) if code == Code.SIMILAR_TO_SEVERAL]
        assert len(torn) > 5
        assert set(torn) <= {one.name for one in new}


def assert_pairs_are_together_or_reported(images, splitting, distance=6):
    side = sides(splitting)
    reported = {file for code, file in codes(splitting)}
    looks = {one.name: int(one.perceptual_hash, 16) for one in images}
    for one, other in combinations(looks, 2):
        if (looks[one] ^ looks[other]).bit_count() <= distance and side[one] != side[other]:
            assert reported & {one, other}, (one, other)


def test_a_new_image_goes_where_its_like_was_published_first():
    old = rows(60)
    new = [row(f"like {one.name}", flipped(one.perceptual_hash, 1, 2)) for one in old]
    side = sides(record(old, old + new))
    assert all(side[f"like {one.name}"] == side[one.name] for one in old)
    # Even when the first was taken out, and what is between the two was never in one version with either.
    newer = [row(f"still like {one.name}", flipped(one.perceptual_hash, *range(8))) for one in old]
    later = sides(record(old, new, newer))
    assert all(later[f"still like {one.name}"] == side[one.name] for one in old)


def test_a_new_image_that_resembles_old_ones_of_two_splits_is_reported():
    a = row("a.jpg")
    b = row("b.jpg", flipped(a.perceptual_hash, *range(12)))
    between = row("between.jpg", flipped(a.perceptual_hash, *range(6)))
    rest = rows(30)
    seed = next(
        seed
        for seed in range(50)
        if sides(record([a, b, *rest], seed=seed))["b.jpg"] != sides(record([a, b, *rest], seed=seed))["a.jpg"]
    )
    before = record([a, b, *rest], seed=seed)
    for first, second in ((a, b), (b, a)):
        # Whichever was published first has it.
        after = record([first, *rest], [a, b, *rest], [a, b, between, *rest], seed=seed)
        side = sides(after)
        assert side["between.jpg"] == side[first.name] != side[second.name]
        assert codes(after) == [("similar_to_several_splits", "between.jpg")]
        message = after.findings[0].message
        assert f"{second.name} in {side[second.name]}" in message
        assert f"goes to {side[first.name]}" in message
    assert moved(before, after) == set()
    assert codes(record([first, *rest], [a, b, *rest], [a, between, *rest], seed=seed)) == [] or first is b


@pytest.mark.slow
def test_recording_an_older_version_again_gives_what_it_gave():
    old = a_thousand()
    new = two_hundred_more(old)
    before = record(old, stratify=True)
    record(old, old + new, stratify=True)
    assert record(old, stratify=True) == before


def test_the_order_of_the_input_does_not_matter():
    old = a_thousand()[:300]
    new = two_hundred_more(a_thousand())
    recipe = {"stratify": True, "group_by": r"_(v\d+)\."}
    expected = record(old, old + new, **recipe)
    draw = random.Random(6)
    for _ in range(3):
        shuffled = [draw.sample(version, len(version)) for version in (old, old + new)]
        assert record(*shuffled, **recipe) == expected


SPLIT_IN_ANOTHER_PROCESS = """
import json, sys
from sightline.services.database.versions import ImageRow
from sightline.annotations.recipe import Recipe
from sightline.steps.record.groups import SplitImage, as_first_published, assemble_first_published
from sightline.steps.record.split import assign_splits
versions = [[ImageRow(**one) for one in version] for version in json.load(open(sys.argv[1], encoding="utf-8"))]
recipe = Recipe(stratify=True, group_by="_(v\\\\d+)")
images = [SplitImage(one.name, one.sha256, one.perceptual_hash, frozenset(one.labels), 1) for one in versions[-1]]
found = assign_splits(*as_first_published(images, assemble_first_published(versions, recipe)), recipe, {"İstanbul ı 3.jpg": "test"})
result = [*found.split.values(), found.groups, [one.to_json() for one in found.findings], found.warnings]
sys.stdout.buffer.write(json.dumps(result).encode())
"""


@pytest.mark.slow
def test_another_locale_and_hash_seed_give_the_same(tmp_path):
    names = ["İstanbul ı", "istanbul i", "Zürich", "日本", "a b", "한국", "😀"]
    old = [row(f"{name} {number}.jpg", labels=(name, "plug")) for number in range(20) for name in names]
    new = [row(f"new {one.name}", flipped(one.perceptual_hash, 5), labels=(one.name[:2],)) for one in old[::3]]
    results = set()
    for number, (language, hash_seed) in enumerate([("C", "1"), ("tr_TR.UTF-8", "2")]):
        draw = random.Random(number)
        versions = [draw.sample(old, len(old)), draw.sample(old + new, len(old + new))]
        file = tmp_path / f"{number}.json"
        file.write_text(json.dumps([[as_json(one) for one in version] for version in versions]))
        environment = os.environ | {
            "LC_ALL": language,
            "LANG": language,
            "PYTHONHASHSEED": hash_seed,
            "PYTHONPATH": str(REPOSITORY / "shared_volume"),
        }
        command = [sys.executable, "-c", SPLIT_IN_ANOTHER_PROCESS, str(file)]
        results.add(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)
    assert len(results) == 1
    assert sum(map(len, json.loads(results.pop())[:3])) == len(old + new)


def as_json(one):
    return {name: getattr(one, name) for name in ImageRow.__dataclass_fields__}


def drawn(folder, names, labels=("plug",)):
    """Real files, written in the order of `names`; a name with `like` looks almost as the one after that word."""
    folder.mkdir(exist_ok=True)
    for name in names:
        noise = np.random.default_rng(int(name.rpartition(" ")[2])).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        if "like" in name:
            noise[0, 0, 0] ^= 1
        Image.fromarray(noise).save(folder / f"{name}.png", compress_level=1)
        write_document(
            folder / f"{name}.json", Document(f"{name}.png", 16, 16, (box(left=2, top=2, right=9, bottom=9),))
        )
    return folder


def built(folder, target, earlier=()):
    """The rows of a dataset that is built from a folder."""
    facts = {"category": "desk", "version": "v0.1.0", "annotation_version": "v0.1.0"}
    summary = build_dataset(folder, target, Recipe(), facts, Inputs(earlier=earlier))
    return summary.images


@pytest.mark.slow
def test_real_files_keep_their_split_whatever_is_added_and_however_they_lie_on_the_disk(tmp_path):
    old = [f"image {number}" for number in range(1000)]
    new = [f"image {number}" for number in range(1000, 1100)] + [f"like image {number}" for number in range(100)]
    before = built(drawn(tmp_path / "a", old), tmp_path / "a set")
    earlier = assemble_first_published([[replace(one, split=None) for one in before]], Recipe())
    after = built(drawn(tmp_path / "a", new), tmp_path / "both", earlier)
    first, second = ({one.name: one.split for one in images} for images in (before, after))
    assert len(second) == 1200
    assert {name: second[name] for name in first} == first
    assert [second[f"like image {number}.png"] for number in range(100)] == [
        first[f"image {number}.png"] for number in range(100)
    ]
    backwards = built(drawn(tmp_path / "b", [*new, *old][::-1]), tmp_path / "b set", earlier)
    assert backwards == after
    assert files_in(tmp_path / "b set") == files_in(tmp_path / "both")


SCENES = [row(f"scene {number}").perceptual_hash for number in range(4)]

pool = st.builds(
    lambda number, scene, bits, video, labels: row(
        f"{video}{number}.jpg",
        flipped(SCENES[scene], *bits) if scene < len(SCENES) else None,
        content=str(number),
        labels=labels,
    ),
    st.integers(0, 60),
    st.integers(0, 12),
    st.sets(st.integers(0, 62), max_size=9),
    st.sampled_from(["", "v1_", "v2_", "v3_"]),
    st.sets(st.sampled_from("abcd"), max_size=3),
)


@st.composite
def histories(draw):
    """Annotation versions, each made from the one before: images taken out, put in, put back, renamed, labelled anew."""
    known = draw(st.lists(pool, min_size=12, max_size=30, unique_by=lambda one: one.name))
    looks = {}
    versions = []
    for _ in range(draw(st.integers(2, 4))):
        version = {}
        for one in draw(st.lists(st.sampled_from(known), min_size=4, unique_by=lambda one: one.name)):
            same = replace(one, perceptual_hash=looks.setdefault(one.sha256, one.perceptual_hash))
            if draw(st.booleans()) and draw(st.booleans()):
                same = replace(same, name=f"renamed {same.name}", labels={"d": 1})
            version[same.name] = same
        versions.append(list(version.values()))
    return versions


def try_record(*versions, **options):
    try:
        return record(*versions, **options)
    except EmptySplitError:
        return None


@given(
    histories(),
    st.sampled_from([6, 0, 12, None]),
    st.sampled_from([None, r"(v\d)_"]),
    st.booleans(),
    st.dictionaries(
        st.sampled_from([f"{video}{n}.jpg" for n in range(60) for video in ("", "v1_")]), st.sampled_from(SPLITS)
    ),
    st.integers(0, 5),
)
def test_no_history_of_versions_ever_moves_an_image(versions, near_duplicates, group_by, stratify, listed, seed):
    recipe = Recipe(near_duplicates=near_duplicates, group_by=group_by, stratify=stratify, seed=seed, fractions=THIRDS)
    options = dict(recipe) | {"listed": listed}
    placed = {}  # (content, name) -> split, over all versions
    for upto in range(1, len(versions) + 1):
        splitting = try_record(*versions[:upto], **options)
        if splitting is None:
            continue
        side = sides(splitting)
        assert set(side) == {one.name for one in versions[upto - 1]}
        for one in versions[upto - 1]:
            key = (one.sha256, one.name if one.name in listed else None)
            assert placed.setdefault(key, side[one.name]) == side[one.name]
            assert side[one.name] == listed.get(one.name, side[one.name])
        if near_duplicates is not None:
            assert_pairs_are_together_or_reported(versions[upto - 1], splitting, near_duplicates)
        backwards = try_record(*(version[::-1] for version in versions[:upto]), **options)
        assert backwards == splitting


# --- rare classes ----------------------------------------------------------------------------------------------------


def classes_by_split(images, splitting):
    side = sides(splitting)
    found = {part: Counter() for part in SPLITS}
    for one in images:
        found[side[one.name]].update(one.labels.keys())
    return found


@given(st.lists(st.integers(3, 8), min_size=1, max_size=12), st.integers(0, 60), st.integers(0, 1000))
def test_a_class_on_as_many_images_as_there_are_splits_is_in_each(counts, others, seed):
    images = rows(others) if others else []
    for label, count in enumerate(counts):
        images += [row(f"{label} {number}.jpg", labels=(f"class {label}",)) for number in range(count)]
    found = classes_by_split(images, record(images, stratify=True, seed=seed))
    assert all(found[part][f"class {label}"] for part in SPLITS for label in range(len(counts)))


def test_several_rare_classes_on_an_image_are_still_spread():
    draw = random.Random(7)
    for seed in range(20):
        images = []
        for number in range(200):
            labels = {"plug"} | {f"rare {one}" for one in range(12) if draw.random() < 0.03}
            images.append(row(f"{number}.jpg", labels=tuple(sorted(labels))))
        total = Counter(label for one in images for label in one.labels)
        found = classes_by_split(images, record(images, stratify=True, seed=seed))
        assert all(found[part][label] for label, count in total.items() if count >= 4 for part in SPLITS)


def test_few_images_with_many_classes_cover_every_split_where_dealing_alone_would_not():
    for case in range(60):
        draw = random.Random(case)
        images = []
        for number in range(20):
            labels = {"plug"} | {f"rare {one}" for one in range(5) if draw.random() < 0.25}
            images.append(row(f"{case} {number}.jpg", labels=tuple(sorted(labels))))
        total = Counter(label for one in images for label in one.labels)
        found = classes_by_split(images, record(images, stratify=True))
        assert all(found[part][label] for label, count in total.items() if count >= 3 for part in SPLITS), case


def test_without_stratify_a_rare_class_is_missing_somewhere():
    images = rows(60) + [row(f"rare {number}.jpg", labels=("rare",)) for number in range(3)]
    missing = [
        seed
        for seed in range(20)
        if min(part["rare"] for part in classes_by_split(images, record(images, seed=seed)).values()) == 0
    ]
    assert len(missing) > 10


def test_stratified_shares_come_out_as_asked():
    images = [
        row(f"{number}.jpg", labels=("plug", "switch") if number % 4 == 0 else ("plug",)) for number in range(1000)
    ]
    found = classes_by_split(images, record(images, stratify=True))
    for label, count in (("plug", 1000), ("switch", 250)):
        assert np.allclose([found[part][label] / count for part in SPLITS], [0.7, 0.2, 0.1], atol=0.01)


def test_new_images_of_a_rare_class_go_where_it_is_missing():
    old = rows(40) + [row("rare 0.jpg", labels=("rare",))]
    new = [row(f"rare {number}.jpg", labels=("rare",)) for number in (1, 2)]
    before, after = record(old, stratify=True), record(old, old + new, stratify=True)
    assert moved(before, after) == set()
    assert all(part["rare"] == 1 for part in classes_by_split(old + new, after).values())


def test_a_class_whose_images_were_taken_out_is_spread_again():
    old = rows(40) + [row(f"rare {number}.jpg", labels=("rare",)) for number in range(3)]
    new = rows(40) + [row(f"rare {number}.jpg", labels=("rare",)) for number in range(3, 6)]
    assert moved(record(old, stratify=True), record(old, new, stratify=True)) == set()
    assert all(part["rare"] == 1 for part in classes_by_split(new, record(old, new, stratify=True)).values())


def test_a_class_on_images_that_belong_together_cannot_be_spread():
    alike = [row(f"rare {bit}.jpg", flipped("0" * 16, bit), labels=("rare",)) for bit in range(6)]
    found = classes_by_split(rows(60) + alike, record(rows(60) + alike, stratify=True))
    assert sorted(part["rare"] for part in found.values()) == [0, 0, 6]


# --- the split file --------------------------------------------------------------------------------------------------


def test_a_listed_image_stays_where_it_is_listed_and_its_group_follows():
    base = rows(40)
    frames = [row(f"frame {step}.jpg", flipped("0" * 16, step)) for step in range(4)]
    for part in SPLITS:
        splitting = record(base + frames, listed={"frame 2.jpg": part, "7.jpg": part})
        side = sides(splitting)
        assert {side[one.name] for one in frames} == {part}
        assert side["7.jpg"] == part
        assert splitting.findings == ()
        expected = sides(record(base + frames))
        assert all(side[one.name] == expected[one.name] for one in base if one.name != "7.jpg")


def test_listed_images_of_one_group_in_two_splits_stay_and_are_reported():
    frames = [row(f"frame {step}.jpg", flipped("0" * 16, step)) for step in range(4)]
    splitting = record(rows(40) + frames, listed={"frame 0.jpg": "test", "frame 1.jpg": "val"})
    assert sides(splitting)["frame 0.jpg"] == "test"
    assert sides(splitting)["frame 1.jpg"] == "val"
    assert codes(splitting) == [
        ("similar_images_listed_apart", "frame 0.jpg"),
        ("similar_images_listed_apart", "frame 1.jpg"),
    ]


def test_a_listed_new_image_moves_no_older_one_that_resembles_it():
    old = rows(40)
    new = row("new.jpg", flipped(old[0].perceptual_hash, 3))
    before = record(old)
    elsewhere = next(part for part in SPLITS if part != sides(before)["0.jpg"])
    after = record(old, [*old, new], listed={"new.jpg": elsewhere})
    assert moved(before, after) == set()
    assert sides(after)["new.jpg"] == elsewhere
    assert codes(after) == [("similar_to_several_splits", "new.jpg")]


def test_a_listed_name_that_no_image_has_is_reported():
    splitting = record(rows(40), listed={"nowhere.jpg": "test"})
    assert codes(splitting) == [("listed_image_unknown", "nowhere.jpg")]
    assert len(sides(splitting)) == 40


LISTED = {"a.jpg": "test", "b, c.jpg": "test", "kitchen/日本.jpg": "val"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("splits.yaml", 'test: [a.jpg, "b, c.jpg"]\nval:\n  - kitchen/日本.jpg\n'),
        ("splits.yml", 'test: [a.jpg, "b, c.jpg"]\nval:\n  - kitchen/日本.jpg\ntrain: []\n'),
        ("splits.json", '{"test": ["a.jpg", "b, c.jpg"], "val": ["kitchen/日本.jpg"]}'),
        ("splits.csv", 'name,split\na.jpg,test\n"b, c.jpg", test\n\nkitchen/日本.jpg,val\n'),
        ("splits.txt", '\ufeffa.jpg,test\r\n"b, c.jpg",test\r\nkitchen/日本.jpg, val\r\na.jpg,test\r\n'),
    ],
)
def test_a_split_file_is_read_in_every_form(tmp_path, name, text):
    (tmp_path / name).write_bytes(text.encode())
    assert read_split_file(tmp_path / name) == LISTED


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("s.csv", "a.jpg,tset\n", "s.csv, line 1: there is no split 'tset'. Did you mean 'test'?"),
        ("s.csv", "a.jpg,test\na.jpg,val\n", "line 2: a.jpg is already listed in test"),
        ("s.csv", "a.jpg\n", "line 1: not of the form"),
        ("s.csv", "b, c.jpg,test\n", "line 1: not of the form"),
        ("s.csv", '"a.jpg,test\n', "line 1: unexpected end"),
        ("s.csv", ",test\n", "line 1: not of the form"),
        ("s.yaml", "tests: [a.jpg]\n", "there is no split 'tests'"),
        ("s.yaml", "test: [a.jpg]\nval: [a.jpg]\n", "a.jpg is already listed in test"),
        ("s.yaml", "test: a.jpg\n", "maps splits to lists"),
        ("s.yaml", "- a.jpg\n", "maps splits to lists"),
        ("s.yaml", "test: [1]\n", "maps splits to lists"),
        ("s.yaml", "test: [\n", "malformed"),
        ("s.json", "{", "malformed"),
        ("s.json", "", "malformed"),
        ("s.csv", b"\xff\xfe", "not UTF-8"),
        ("s.csv", None, "cannot be read"),
    ],
)
def test_a_split_file_that_cannot_be_used_is_refused(tmp_path, name, text, says):
    if text is not None:
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SplitFileError) as refused:
        read_split_file(tmp_path / name)
    assert says in str(refused.value)
    assert str(tmp_path / name) in str(refused.value)


# --- warnings, and real photographs ----------------------------------------------------------------------------------


def test_a_group_of_over_a_fifth_is_warned_of():
    alike = [row(f"frame {bit:02d}.jpg", flipped("0" * 16, bit)) for bit in range(21)]
    warned = record(rows(79) + alike, fractions=THIRDS).warnings
    assert len(warned) == 1
    assert warned[0].startswith("21 of the 100 images are one group, that of frame 00.jpg")
    assert record(rows(80) + alike[:20], fractions=THIRDS).warnings == ()


def test_a_class_missing_from_a_split_is_named():
    sentences = missing_classes({"train": {"a": 3, "b": 0}, "val": {"a": 1, "b": 2}, "test": {"a": 0, "b": 0}})
    assert sentences == [
        "No object of b is in train: it cannot be learnt. Add images, set `stratify: true`, or choose another seed."
    ]


def test_a_class_that_nothing_has_is_named_once_with_the_label_that_may_be_meant():
    counts = {"train": {"shp": 0, "boat": 3}, "val": {"shp": 0, "boat": 1}, "test": {"shp": 0, "boat": 0}}
    assert missing_classes(counts, "object", ["car", "ship"]) == [
        "No object at all is of the class shp. Did you mean 'ship'?"
    ]
    assert missing_classes(counts, "image", ["car"]) == ["No image at all is of the class shp."]


def test_a_large_group_of_images_that_keep_their_splits_is_not_said_to_go_to_one():
    alike = [row(f"frame {bit:02d}.jpg", flipped("0" * 16, bit)) for bit in range(21)]
    listed = {image.name: "val" for image in alike}
    assert record(rows(79) + alike, fractions=THIRDS, listed=listed).warnings == ()


@pytest.fixture(scope="module")
def photographs(data_dir):
    images = []
    for path in sorted((data_dir / "desk").rglob("*.jpg")):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        images.append(replace(row(path.name, perceptual_hash(path)), sha256=content))
    return images


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("stratify", [False, True])
def test_video_frames_never_straddle_splits(photographs, seed, stratify):
    splitting = record(photographs, seed=seed, stratify=stratify)
    side = sides(splitting)
    pairs = [
        (one.name, other.name)
        for one, other in combinations(photographs, 2)
        if (int(one.perceptual_hash, 16) ^ int(other.perceptual_hash, 16)).bit_count() <= 6
    ]
    assert len(pairs) > 40
    assert [pair for pair in pairs if side[pair[0]] != side[pair[1]]] == []
    assert splitting.findings == ()
    assert splitting.warnings == ()
    groups = group_similar([one.perceptual_hash for one in photographs], 6)
    assert len(splitting.groups) == sum(len(group) > 1 for group in groups)
    assert max(map(len, splitting.groups)) == 8


def test_chained_video_frames_are_warned_of(photographs):
    splitting = record(photographs, near_duplicates=12, fractions=THIRDS, stratify=True)
    assert len(splitting.warnings) == 1
    assert splitting.warnings[0].startswith("57 of the 92 images are one group")
