import errno
import gzip
import hashlib
import io
import os
import pickle
import re
import shutil
import socket
import struct
import subprocess
import sys
import tarfile
import urllib.request
import warnings
import weakref
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from clbook import datasets
from clbook.datasets import SPLITS, load, load_folder

# The bytes of 300 scenes and of all that is known of them. To recompute: python tests/test_datasets.py
SHAPES_SHA256 = "cb121bcc62c740d767918512b03f59071f57d5bdbd38203a4be6492a55c83969"

ROOT = Path(__file__).resolve().parents[1]
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


@pytest.fixture(autouse=True)
def internet(monkeypatch, tmp_path_factory):
    """Pages that a test may fill, url -> bytes, and nothing else; what is kept on disk stays in the test's folders."""
    pages, asked = {}, []

    class Response(io.BytesIO):
        def __init__(self, url):
            super().__init__(pages[url])
            self.url, self.length = url, len(pages[url])

    def urlopen(request, *arguments, **options):
        asked.append(request.full_url)
        if request.full_url not in pages:
            raise URLError("Name or service not known")
        return Response(request.full_url)

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    monkeypatch.setenv("CLBOOK_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("CLBOOK_DATA", raising=False)
    pages["asked"] = asked
    return pages


def fingerprint(n=300):
    """SHA-256 of a small `shapes`, more than one chunk of it."""
    scenes = load("shapes", n=n)
    digest = hashlib.sha256()
    for tensor in (scenes.images, scenes.labels, scenes.masks, scenes.boxes, *scenes.factors.values()):
        array = tensor.numpy()
        digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
    digest.update("\n".join(scenes.captions).encode())
    return digest.hexdigest()


@pytest.fixture(scope="module")
def scenes():
    return load("shapes", n=600)


def same(one, other):
    """Whether two image sets hold the same, to the byte."""
    tensors = [(one.images, other.images), (one.labels, other.labels), (one.masks, other.masks)]
    tensors += [(one.boxes, other.boxes)] + [(one.factors[name], other.factors[name]) for name in one.factors]
    return one.captions == other.captions and all(torch.equal(a, b) for a, b in tensors)


# --- shapes: the same bytes everywhere --------------------------------------------------------------------


def test_the_bytes_are_those_committed():
    assert fingerprint() == SHAPES_SHA256


def test_another_process_with_other_threads_draws_the_same_bytes():
    environment = os.environ | {"OMP_NUM_THREADS": "3", "PYTHONHASHSEED": "7"}
    command = [sys.executable, __file__]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.stdout.strip() == fingerprint(), done.stderr


@pytest.mark.parametrize("cores", [None, 1, 7])
def test_any_number_of_threads_draws_the_same_bytes(monkeypatch, cores):
    expected = fingerprint(600)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert fingerprint(600) == expected


def test_a_second_call_draws_the_same_and_leaves_the_global_random_numbers_alone(scenes):
    states = np.random.get_state()[1].copy(), torch.get_rng_state()
    assert same(load("shapes", n=600), scenes)
    assert np.array_equal(np.random.get_state()[1], states[0])
    assert torch.equal(torch.get_rng_state(), states[1])


@pytest.mark.parametrize(("split", "n"), [("train", 1), ("train", 250), ("train", 251), ("test", 99)])
def test_few_scenes_are_the_beginning_of_many(split, n):
    assert same(load("shapes", split, n=n), load("shapes", split, n=400).subset(range(n)))


def test_splits_and_seeds_share_no_scene():
    sets = [load("shapes", split, n=300, seed=seed) for split in SPLITS for seed in (0, 1)]
    pictures = Counter(image.numpy().tobytes() for s in sets for image in s.images)
    assert len(pictures) == 6 * 300


def test_there_are_4000_scenes_for_training_and_1000_elsewhere():
    assert [len(load("shapes", split, image_size=8)) for split in SPLITS] == [4000, 1000, 1000]


# --- shapes: what is drawn is what is said ----------------------------------------------------------------


def test_shapes_have_the_promised_kinds_and_sizes(scenes):
    n = len(scenes)
    assert (n, scenes.name, scenes.skipped, scenes.files) == (600, "shapes", (), None)
    assert scenes.images.shape == (n, 3, 32, 32) and scenes.images.dtype == torch.uint8
    assert scenes.masks.shape == (n, 32, 32) and scenes.masks.dtype == torch.bool
    assert scenes.boxes.shape == (n, 4) and scenes.boxes.dtype == torch.float32
    assert scenes.labels.dtype == torch.int64 and torch.equal(scenes.labels, scenes.factors["shape"])
    assert scenes.classes == scenes.factor_names["shape"] == datasets.SHAPES
    assert len(scenes.captions) == n
    assert {len(column) for column in scenes.factors.values()} == {n}
    assert all(scenes.factors[name].dtype == torch.int64 for name in scenes.factor_names)


def test_every_value_of_every_factor_occurs(scenes):
    for name, values in scenes.factor_names.items():
        counts = torch.bincount(scenes.factors[name], minlength=len(values))
        assert len(counts) == len(values), name
        assert counts.min() > 0.5 * len(scenes) / len(values), (name, counts.tolist())


def naive_box(mask):
    rows = [y for y in range(len(mask)) for x in range(len(mask)) if mask[y][x]]
    columns = [x for y in range(len(mask)) for x in range(len(mask)) if mask[y][x]]
    return [min(columns), min(rows), max(columns) + 1, max(rows) + 1]


@pytest.mark.parametrize("size", [16, 32])
def test_boxes_are_the_tight_boxes_of_the_masks(size):
    some = load("shapes", "val", n=40, image_size=size)
    assert some.boxes.tolist() == [naive_box(mask) for mask in some.masks.tolist()]


def test_boxes_lie_in_the_picture_and_fit_place_and_radius(scenes):
    x0, y0, x1, y1 = scenes.boxes.T
    assert (x0 >= 0).all() and (y0 >= 0).all() and (x1 <= 32).all() and (y1 <= 32).all()
    x, y, radius = (scenes.factors[name] for name in ("x", "y", "radius"))
    for low, high, middle in ((x0, x1, x), (y0, y1, y)):
        assert ((low < middle) & (middle < high)).all()
        assert ((high - low) / radius).max() < 2.4
        assert ((high - low) / radius).min() > 0.4
        assert (((low + high) / 2 - middle).abs() / radius).max() < 0.6


@pytest.mark.parametrize("size", [32, 20])
def test_place_says_in_which_third_of_its_room_the_centre_is(size):
    scenes = load("shapes", n=600, image_size=size)
    names = scenes.factor_names["place"]
    columns = (scenes.factors[name].tolist() for name in ("place", "x", "y", "radius"))
    for place, x, y, radius in zip(*columns, strict=True):
        near, far = radius + (size - 2 * radius) / 3, radius + (size - 2 * radius) * 2 / 3
        across = "left" if x < near else "centre" if x < far else "right"
        down = "upper" if y < near else "middle" if y < far else "lower"
        assert names[place] == ("centre" if (down, across) == ("middle", "centre") else f"{down} {across}")


def test_size_orders_the_radii(scenes):
    assert scenes.factor_names["size"] == ("small", "medium", "large")
    small, medium, large = (scenes.factors["radius"][scenes.factors["size"] == i] for i in range(3))
    assert small.max() <= medium.min() < medium.max() <= large.min()


def test_captions_say_the_factors(scenes):
    pattern = re.compile(r"a (?P<size>\S+) (?P<color>\S+) (?P<texture>\S+) (?P<shape>\S+) in the "
                         r"(?P<place>[a-z ]+), on (?P<background>\S+)")  # fmt: skip
    for i, caption in enumerate(scenes.captions):
        said = pattern.fullmatch(caption).groupdict()
        assert said == {name: scenes.factor_names[name][scenes.factors[name][i]] for name in said}


def luma(images):
    return (images.float() * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1) / 255


def test_masks_are_where_the_pixels_change(scenes):
    """Objects are lighter than what is behind them, so a threshold finds them again without any geometry."""
    plain = scenes.subset(scenes.factors["texture"] == 0)
    for light, mask in zip(luma(plain.images), plain.masks, strict=True):
        threshold = (light[mask].median() + light[~mask].median()) / 2
        assert ((light > threshold) == mask).float().mean() > 0.96


def mean_color(scenes, inside):
    chosen = (scenes.masks if inside else ~scenes.masks)[:, None]
    color = (scenes.images.float() * chosen).sum((2, 3)) / chosen.sum((2, 3))  # [N, 3]
    return color / color.sum(1, keepdim=True)


@pytest.mark.parametrize(("factor", "inside"), [("color", True), ("background", False)])
def test_colours_are_those_said(scenes, factor, inside):
    """The nearest mean colour, learnt on half of the scenes, names the other half."""
    colors, names = mean_color(scenes, inside), scenes.factors[factor]
    means = torch.stack([colors[:300][names[:300] == i].mean(0) for i in range(len(scenes.factor_names[factor]))])
    assert (torch.cdist(colors[300:], means).argmin(1) == names[300:]).float().mean() > 0.9


def test_gray_pictures_hide_the_backgrounds_but_not_the_objects(scenes):
    light = luma(scenes.images)
    behind = torch.stack([light[i][~scenes.masks[i]].mean() for i in range(len(scenes))])
    before = torch.stack([light[i][scenes.masks[i]].mean() for i in range(len(scenes))])
    assert (before > behind + 0.05).all()
    by_background = torch.stack(
        [behind[scenes.factors["background"] == i].mean() for i in range(len(scenes.factor_names["background"]))]
    )
    assert by_background.max() - by_background.min() < 0.02


def in_own_axes(scenes, side=25):
    """Masks [N, side, side] as seen from the objects: centred, turned back, scaled by the radius."""
    steps = torch.linspace(-1.2, 1.2, side)
    v, u = torch.meshgrid(steps, steps, indexing="ij")
    x, y, radius, turn = (scenes.factors[name][:, None, None] for name in ("x", "y", "radius", "turn"))
    cos, sin = torch.deg2rad(turn).cos(), torch.deg2rad(turn).sin()
    column = (x + radius * (u * cos - v * sin)).floor().long()
    row = (y + radius * (u * sin + v * cos)).floor().long()
    size = scenes.masks.shape[1]
    inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
    return (
        scenes.masks[torch.arange(len(scenes))[:, None, None], row.clamp(0, size - 1), column.clamp(0, size - 1)]
        & inside
    )


def test_place_radius_and_turn_bring_every_shape_to_one_template():
    """Only the true parameters do: a wrong sign, or x for y, blurs the templates."""
    scenes = load("shapes", n=1000, image_size=64)
    seen = in_own_axes(scenes).float().flatten(1)
    templates = torch.stack([seen[:500][scenes.labels[:500] == i].mean(0) for i in range(len(scenes.classes))])
    nearest = torch.cdist(seen[500:], templates).argmin(1)
    assert (nearest == scenes.labels[500:]).float().mean() > 0.99
    sharp = (templates - 0.5).abs().mean(1) * 2  # 1 where all scenes of a shape agree in every point
    assert sharp.min() > 0.85, dict(zip(scenes.classes, sharp.tolist(), strict=True))


def test_textures_are_those_said():
    """Light varies more inside a textured object than inside a plain one."""
    large = load("shapes", n=200, image_size=96)
    light = torch.nn.functional.avg_pool2d(luma(large.images), 3)  # without most of the grain
    core = (
        torch.nn.functional.avg_pool2d(large.masks.float(), 5, 3, 1, count_include_pad=False) == 1
    )  # away from the edge
    spread = torch.stack([one[inside].std() / one[inside].mean() for one, inside in zip(light, core, strict=True)])
    plain, *textured = (spread[large.factors["texture"] == i].median() for i in range(4))
    assert min(textured) > 1.3 * plain


@pytest.mark.parametrize("size", [16, 64, 33])
def test_another_size_draws_the_same_scenes(scenes, size):
    other = load("shapes", n=200, image_size=size)
    few = scenes.subset(range(200))
    assert other.images.shape == (200, 3, size, size)
    for name in ("shape", "color", "texture", "background", "size", "place"):
        assert torch.equal(other.factors[name], few.factors[name])
    for name in ("x", "y", "radius"):
        torch.testing.assert_close(other.factors[name], few.factors[name] * size / 32)
    torch.testing.assert_close(other.boxes / size, few.boxes / 32, atol=2.1 / min(size, 32), rtol=0)
    means = [s.images.float().mean((2, 3)) for s in (other, few)]
    torch.testing.assert_close(*means, atol=6, rtol=0)


# --- ImageSet ---------------------------------------------------------------------------------------------


def test_a_subset_carries_everything(scenes):
    index = [5, 3, 3, 599]
    few = scenes.subset(index)
    assert len(few) == 4
    assert (few.name, few.classes, few.factor_names) == (scenes.name, scenes.classes, scenes.factor_names)
    assert few.captions == tuple(scenes.captions[i] for i in index)
    for name in ("images", "labels", "masks", "boxes"):
        assert torch.equal(getattr(few, name), torch.stack([getattr(scenes, name)[i] for i in index])), name
    for name, column in scenes.factors.items():
        assert torch.equal(few.factors[name], torch.stack([column[i] for i in index])), name


def test_an_image_set_says_in_one_line_what_it_is(scenes):
    assert repr(scenes) == f"ImageSet('shapes', 600 pictures [3, 32, 32], {len(scenes.classes)} classes)"


def test_a_subset_takes_lists_ranges_tensors_masks_and_nothing(scenes):
    chosen = scenes.subset(range(10, 13))
    assert same(scenes.subset([10, 11, 12]), chosen)
    assert same(scenes.subset(torch.tensor([10, 11, 12])), chosen)
    mask = torch.zeros(600, dtype=torch.bool)
    mask[10:13] = True
    assert same(scenes.subset(mask), chosen)
    assert same(scenes.subset(mask.tolist()), chosen)
    assert len(scenes.subset([])) == 0


def test_a_subset_of_a_flat_folder_has_no_labels(tmp_path):
    fill(tmp_path, [f"{i}.png" for i in range(10)])
    few = load(f"folder:{tmp_path}").subset([2, 0])
    assert few.labels is None and few.masks is None and few.captions is None
    assert len(few.files) == 2


# --- digits -----------------------------------------------------------------------------------------------


def test_digits_are_all_of_scikit_learns_in_three_parts():
    from sklearn.datasets import load_digits

    bunch = load_digits()
    wanted = Counter((tuple(np.rint(image.ravel() / 16 * 255).astype(int)), int(label))
                     for image, label in zip(bunch.images, bunch.target, strict=True))  # fmt: skip
    parts = [load("digits", split, image_size=8) for split in SPLITS]
    assert [len(part) for part in parts] == [1257, 270, 270]
    found = Counter()
    for part in parts:
        assert torch.equal(part.images[:, 0], part.images[:, 1]) and torch.equal(part.images[:, 0], part.images[:, 2])
        pictures = part.images[:, 0].flatten(1).tolist()
        found += Counter((tuple(p), label) for p, label in zip(pictures, part.labels.tolist(), strict=True))
    assert found == wanted  # 1,797 different ones, so the parts share none
    assert max(wanted.values()) == 1
    first = {tuple(np.rint(image.ravel() / 16 * 255).astype(int)) for image in bunch.images[:1257]}
    assert len(first & {tuple(picture) for picture in parts[0].images[:, 0].flatten(1).tolist()}) < 1000  # mixed


def test_digits_have_the_promised_kinds():
    part = load("digits", "val")
    assert part.images.shape == (270, 3, 32, 32) and part.images.dtype == torch.uint8
    assert part.labels.dtype == torch.int64 and part.classes == tuple("0123456789")
    assert part.images.is_contiguous()
    assert set(part.labels.tolist()) == set(range(10))
    small = load("digits", "val", image_size=8).images.float().mean()
    assert abs(part.images.float().mean() - small) < 1  # scaled, not padded


def test_n_digits_are_chosen_by_the_seed():
    every = [image.numpy().tobytes() for image in load("digits", image_size=8).images]
    few = [
        [image.numpy().tobytes() for image in load("digits", n=50, seed=seed, image_size=8).images]
        for seed in (0, 0, 1)
    ]
    assert few[0] == few[1] != few[2]
    assert len(set(few[0])) == 50 and set(few[0]) < set(every)
    more = {image.numpy().tobytes() for image in load("digits", n=100, image_size=8).images}
    assert set(few[0]) < more


# --- folder: which files, which labels --------------------------------------------------------------------


def color_of(name):
    """A colour of its own for each file name."""
    return tuple(hashlib.sha256(name.encode()).digest()[:3])


def fill(folder, names, size=(12, 12)):
    """Plain pictures; a PNG keeps its colour through every scaling, so each can be told from its pixels."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, color_of(path.name)).save(path, "PNG")
    return folder


def two_classes(folder, each=20):
    return fill(folder, [f"{kind}/{kind}{i}.png" for kind in ("cat", "dog") for i in range(each)])


def splits_of(folder, **options):
    return {split: load(f"folder:{folder}", split, image_size=8, **options) for split in SPLITS}


def names_of(images):
    return [Path(file).name for file in images.files]


def assert_colors(images):
    """That picture i really is file i."""
    assert images.images[:, :, 0, 0].tolist() == [list(color_of(name)) for name in names_of(images)]


def test_class_folders_give_labels_and_three_splits(tmp_path):
    parts = splits_of(two_classes(tmp_path))
    assert [len(part) for part in parts.values()] == [32, 4, 4]
    files = [file for part in parts.values() for file in part.files]
    assert len(set(files)) == 40
    for part in parts.values():
        assert part.classes == ("cat", "dog") and part.labels.dtype == torch.int64
        assert part.images.dtype == torch.uint8 and part.images.shape[1:] == (3, 8, 8)
        assert [part.classes[label] for label in part.labels] == [name[:3] for name in names_of(part)]
        assert Counter(part.labels.tolist())[0] == len(part) / 2  # a tenth of each class
        assert_colors(part)


def test_a_flat_folder_has_no_labels(tmp_path):
    parts = splits_of(fill(tmp_path, [f"{i}.png" for i in range(20)]))
    assert [len(part) for part in parts.values()] == [16, 2, 2]
    assert all(part.labels is None and part.classes == () for part in parts.values())
    assert len({name for part in parts.values() for name in names_of(part)}) == 20


def test_the_cut_is_the_same_each_time_and_in_another_place(tmp_path):
    one, other = two_classes(tmp_path / "a"), two_classes(tmp_path / "b" / "c")
    cuts = [{split: names_of(part) for split, part in splits_of(folder).items()} for folder in (one, one, other)]
    assert cuts[0] == cuts[1] == cuts[2]


def test_a_new_file_moves_next_to_no_other(tmp_path):
    two_classes(tmp_path)
    before = {name: split for split, part in splits_of(tmp_path).items() for name in names_of(part)}
    for extra in range(5):
        fill(tmp_path, [f"cat/new{extra}.png"])
        after = {name: split for split, part in splits_of(tmp_path).items() for name in names_of(part)}
        assert len(after) == len(before) + 1
        assert sum(after[name] != split for name, split in before.items()) <= 2
        before = after


def test_top_folders_named_after_splits_are_splits(tmp_path):
    for split, count in (("train", 20), ("val", 3), ("test", 5)):
        fill(tmp_path / split, [f"{kind}/{split}{kind}{i}.png" for kind in ("cat", "dog") for i in range(count)])
    parts = splits_of(tmp_path)
    assert [len(part) for part in parts.values()] == [40, 6, 10]
    assert all(name.startswith(split) for split, part in parts.items() for name in names_of(part))
    for part in parts.values():
        assert_colors(part)


def test_capital_letters_name_splits_unless_they_name_classes(tmp_path):
    fill(tmp_path, [f"a/{split}/{kind}/{split}{kind}{i}.png" for split in ("Train", "TEST") for kind in ("cat", "dog")
                    for i in range(20)])  # fmt: skip
    assert [len(part) for part in splits_of(tmp_path / "a").values()] == [36, 4, 40]
    fill(tmp_path, [f"b/{kind}/{kind}{i}.png" for kind in ("Bus", "Train") for i in range(20)])
    assert load_folder(tmp_path / "b", image_size=8).classes == ("Bus", "Train")


def test_a_missing_val_is_cut_from_train_and_test_stays_whole(tmp_path):
    fill(tmp_path, [f"{top}/{kind}/{top}{kind}{i}.png" for top in ("train", "test") for kind in ("cat", "dog")
                    for i in range(20)])  # fmt: skip
    parts = splits_of(tmp_path)
    assert [len(part) for part in parts.values()] == [36, 4, 40]
    trained, watched = set(names_of(parts["train"])), set(names_of(parts["val"]))
    assert not trained & watched
    assert all(name.startswith("train") for name in trained | watched)


def test_a_whole_folder_is_all_of_its_splits(tmp_path):
    two_classes(tmp_path)
    whole, parts = load_folder(tmp_path, image_size=8), splits_of(tmp_path)
    assert sorted(whole.files) == sorted(file for part in parts.values() for file in part.files)
    assert whole.classes == ("cat", "dog") and whole.name == f"folder:{tmp_path}"
    assert [whole.classes[label] for label in whole.labels] == [name[:3] for name in names_of(whole)]
    assert_colors(whole)


def test_a_whole_folder_holds_the_splits_it_has_with_the_numbers_of_train(tmp_path):
    fill(tmp_path / "train", [f"{kind}/{kind}{i}.png" for kind in "abc" for i in range(3)])
    fill(tmp_path / "test", [f"{kind}/{kind}{i}.png" for kind in "bc" for i in range(2)])
    whole = load_folder(str(tmp_path))
    assert len(whole) == 13 and whole.images.shape[1:] == (3, 32, 32)
    assert [whole.classes[label] for label in whole.labels] == [name[0] for name in names_of(whole)]
    (tmp_path / "test" / "d").mkdir()
    fill(tmp_path / "test", ["d/1.png"])
    with pytest.raises(ValueError, match=r"expected the classes of 'train' \(a, b, c\) in 'test', got b, c, d"):
        load_folder(tmp_path)


def test_a_whole_folder_may_be_small_and_flat_and_partly_broken(tmp_path):
    fill(tmp_path, ["1.png", "3.png"])
    (tmp_path / "2.png").write_bytes(b"no picture")
    with pytest.warns(UserWarning, match="skipped 1 of 3 files"):
        whole = load_folder(tmp_path, image_size=8)
    assert names_of(whole) == ["1.png", "3.png"] and whole.labels is None
    assert [Path(file).name for file, _ in whole.skipped] == ["2.png"]


def test_split_folders_may_be_flat(tmp_path):
    fill(tmp_path, [f"{top}/{top}{i}.png" for top in ("train", "test") for i in range(10)])
    parts = splits_of(tmp_path)
    assert [len(part) for part in parts.values()] == [9, 1, 10]
    assert all(part.labels is None for part in parts.values())


def test_a_test_folder_may_lack_a_class_and_keeps_the_numbers_of_train(tmp_path):
    fill(tmp_path / "train", [f"{kind}/{i}.png" for kind in "abc" for i in range(10)])
    fill(tmp_path / "test", [f"{kind}/{kind}{i}.png" for kind in "bc" for i in range(2)])
    part = load(f"folder:{tmp_path}", "test")
    assert part.classes == ("a", "b", "c")
    assert dict(zip(names_of(part), part.labels.tolist(), strict=True)) == {
        "b0.png": 1,
        "b1.png": 1,
        "c0.png": 2,
        "c1.png": 2,
    }


def test_files_are_found_at_any_depth_and_by_any_case_of_the_suffix(tmp_path):
    fill(tmp_path, [f"cat/deep/er/{i}.png" for i in range(5)] + [f"cat/{i}.PNG" for i in range(5)])
    fill(tmp_path, [f"dog/{i}.JpEg" for i in range(10)])
    (tmp_path / "cat" / "notes.txt").write_text("not a picture")
    (tmp_path / "empty").mkdir()
    assert len(load(f"folder:{tmp_path}")) == 16
    assert load(f"folder:{tmp_path}").classes == ("cat", "dog")


def test_hidden_files_and_folders_are_not_seen(tmp_path):
    two_classes(tmp_path)
    hidden = (".hidden.png", ".ipynb_checkpoints/a.png", "cat/.hidden.png", "cat/._cat0.png", "cat/.thumbnails/a.png",
              "dog/deep/.ipynb_checkpoints/a.png")  # fmt: skip
    fill(tmp_path, hidden)
    parts = splits_of(tmp_path)
    assert sum(len(part) for part in parts.values()) == 40
    assert parts["train"].classes == ("cat", "dog")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are Unicode")
def test_names_of_any_bytes_are_found(tmp_path):
    for i in range(10):
        os.rename(fill(tmp_path, ["x.png"]) / "x.png", os.fsencode(tmp_path) + b"/\xff%d.png" % i)
    assert sum(len(part) for part in splits_of(tmp_path).values()) == 10


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need rights there")
def test_symbolic_links_are_followed_once_and_dangling_ones_ignored(tmp_path):
    two_classes(tmp_path / "real")
    links = tmp_path / "links"
    links.mkdir()
    (links / "cat").symlink_to(tmp_path / "real" / "cat")
    (links / "dog").mkdir()
    for file in (tmp_path / "real" / "dog").iterdir():
        (links / "dog" / file.name).symlink_to(file)
    (links / "dog" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (links / "dog" / "round").symlink_to(links / "dog")
    assert sum(len(part) for part in splits_of(links).values()) == 40


def test_spaces_unicode_home_and_relative_paths_are_found(tmp_path, monkeypatch):
    strange = "meine Bilder – 我的图片"
    two_classes(tmp_path / strange)
    wanted = names_of(load(f"folder:{tmp_path / strange}"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name, root in ((f"folder:~/{strange}", None), (f"folder:{strange}", None), (f"folder:{strange}", tmp_path),
                       (f"folder:{strange}", "~"), (f"folder:{tmp_path / strange}", "/elsewhere")):  # fmt: skip
        assert names_of(load(name, root=root)) == wanted, (name, root)


def test_n_pictures_are_chosen_by_the_seed(tmp_path):
    two_classes(tmp_path)
    few = [load(f"folder:{tmp_path}", n=10, seed=seed) for seed in (0, 0, 1)]
    assert names_of(few[0]) == names_of(few[1]) != names_of(few[2])
    assert len(set(names_of(few[0]))) == 10
    assert list(few[0].files) == sorted(few[0].files)  # in the old order, class by class
    assert set(names_of(few[0])) < set(names_of(load(f"folder:{tmp_path}")))
    assert_colors(few[2])


# --- folder: what a picture becomes -----------------------------------------------------------------------


def read(tmp_path, picture, name="x.png", size=8, **save):
    """What one picture becomes: [size, size, 3] integers."""
    fill(tmp_path, ["test/filler.png"])
    (tmp_path / "test" / "filler.png").unlink()
    picture.save(tmp_path / "test" / name, **save)
    fill(tmp_path, [f"train/{i}.png" for i in range(10)])
    return load(f"folder:{tmp_path}", "test", image_size=size).images[0].permute(1, 2, 0).int().numpy()


def plain(mode, color, size=(20, 20)):
    return Image.new(mode, size, color)


def array(values):
    return Image.fromarray(values)


@pytest.mark.parametrize(
    ("picture", "name", "wanted"),
    [
        (plain("RGB", (1, 2, 3)), "x.png", (1, 2, 3)),
        (plain("RGB", (1, 2, 3)), "x.bmp", (1, 2, 3)),
        (plain("RGB", (1, 2, 3)), "x.ppm", (1, 2, 3)),
        (plain("RGB", (1, 2, 3)), "x.tiff", (1, 2, 3)),
        (plain("L", 77), "x.png", (77, 77, 77)),
        (plain("L", 77), "x.pgm", (77, 77, 77)),
        (plain("1", 1), "x.png", WHITE),
        (plain("RGBA", (255, 0, 0, 255)), "x.png", RED),
        (plain("RGBA", (255, 0, 0, 0)), "x.png", WHITE),
        (plain("RGBA", (255, 0, 0, 102)), "x.png", (255, 153, 153)),  # 0.4 of red, 0.6 of white
        (plain("LA", (0, 102)), "x.png", (153, 153, 153)),
        (plain("RGB", BLUE).convert("P"), "x.gif", BLUE),
        (array(np.full((20, 20), 128 * 257, np.uint16)), "x.png", (128, 128, 128)),
        (array(np.full((20, 20), 128 * 257, np.uint16)), "x.tif", (128, 128, 128)),
        (array(np.full((20, 20), 65535, np.uint16)), "x.png", WHITE),
        (array(np.full((20, 20), 70000, np.int32)), "x.tif", WHITE),
        (array(np.full((20, 20), -5, np.int32)), "x.tif", (0, 0, 0)),
    ],
)
def test_every_kind_of_picture_becomes_rgb(tmp_path, picture, name, wanted):
    assert (read(tmp_path, picture, name) == wanted).all()


def test_a_transparent_palette_entry_becomes_white(tmp_path):
    picture = plain("P", 0)
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.paste(1, (10, 0, 20, 20))
    seen = read(tmp_path, picture, transparency=0)
    assert (seen[:, 0] == WHITE).all() and (seen[:, -1] == BLUE).all()


def test_a_transparent_colour_becomes_white(tmp_path):
    assert (read(tmp_path, plain("RGB", RED), transparency=RED) == WHITE).all()


def test_cmyk_becomes_rgb(tmp_path):
    seen = read(tmp_path, plain("CMYK", (0, 255, 255, 0)), "x.jpg", quality=95)
    assert np.abs(seen - RED).max() <= 3


def test_an_animation_gives_its_first_frame(tmp_path):
    frames = [plain("RGB", color).convert("P") for color in (GREEN, RED, BLUE)]
    assert (read(tmp_path, frames[0], "x.gif", save_all=True, append_images=frames[1:]) == GREEN).all()


def bands(shape):
    """Three bands along the longer side: red, green, blue."""
    image = np.zeros((*shape, 3), np.uint8)
    long = int(shape[1] > shape[0])
    for part, color in zip(np.array_split(np.arange(max(shape)), 3), (RED, GREEN, BLUE), strict=True):
        image[(slice(None), part) if long else (part,)] = color
    return Image.fromarray(image)


@pytest.mark.parametrize("shape", [(30, 90), (90, 30), (300, 900), (8, 24)])
def test_a_long_picture_is_cropped_to_its_centre(tmp_path, shape):
    inner = read(tmp_path, bands(shape))[1:-1, 1:-1]
    assert np.abs(inner - GREEN).max() < 25


def test_the_shorter_side_is_scaled_to_the_size(tmp_path):
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, 10:50] = 255  # all of the centre square
    image[:5] = 0
    seen = read(tmp_path, array(image), size=16)
    assert seen[:2].max() < 30 and seen[2:].min() > 210  # 5 of 40 rows are 2 of 16


def test_a_one_pixel_picture_is_scaled_up(tmp_path):
    assert (read(tmp_path, plain("RGB", (9, 8, 7), (1, 1))) == (9, 8, 7)).all()


STORED = {  # EXIF orientation: how a camera stores the upright picture, so that the flag is true
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize(("flag", "suffix"), list(product(STORED, ("png", "jpg"))))
def test_pictures_stand_upright(tmp_path, flag, suffix):
    upright = np.zeros((60, 100, 3), np.uint8)  # its corners: red, green; blue, white
    upright[:30, :50], upright[:30, 50:], upright[30:, :50], upright[30:, 50:] = RED, GREEN, BLUE, WHITE
    exif = Image.Exif()
    exif[0x0112] = flag
    picture = Image.fromarray(np.ascontiguousarray(STORED[flag](upright)))
    seen = read(tmp_path, picture, f"x.{suffix}", exif=exif)
    for corner, color in zip(
        (seen[1, 1], seen[1, -2], seen[-2, 1], seen[-2, -2]), (RED, GREEN, BLUE, WHITE), strict=True
    ):
        assert np.abs(corner - color).max() < 30


XRESOLUTION_AS_TEXT = struct.pack("<HHHLH2xHHL4sL", 2, 0x0112, 3, 1, 6, 0x011A, 2, 3, b"72\0\0", 0)


@pytest.mark.parametrize(("exif", "turned"), [(b"II*\0\x08\0\0\0" + XRESOLUTION_AS_TEXT, True), (b"garbage!", False),
                                              (b"II*\0\xff\xff\0\0", False)])  # fmt: skip
def test_odd_exif_costs_no_picture(tmp_path, exif, turned):
    """Tags that Pillow reads and can't write, and what are no tags."""
    pixels = np.zeros((20, 20, 3), np.uint8)
    pixels[:10] = RED
    seen = read(tmp_path, Image.fromarray(pixels), "x.jpg", exif=b"Exif\0\0" + exif)
    place = (4, -2) if turned else (1, 4)  # turned to the right, the top is at the right
    assert np.abs(seen[place] - RED).max() < 30


# --- folder: broken files ---------------------------------------------------------------------------------


def break_files(folder):
    """Ten good pictures in each of two classes, and four broken ones among them."""
    fill(folder, [f"train/{kind}/{kind}{i}.png" for kind in ("cat", "dog") for i in range(10)])
    whole = (folder / "train" / "cat" / "cat0.png").read_bytes()
    large = folder / "large.jpg"
    Image.effect_noise((64, 64), 90).save(large)
    (folder / "train/cat/cut.jpg").write_bytes(large.read_bytes()[:500])
    large.unlink()
    (folder / "train/cat/a_empty.png").write_bytes(b"")
    (folder / "train/dog/garbage.png").write_bytes(b"<html>404</html>" * 10)
    (folder / "train/dog/half.png").write_bytes(whole[: len(whole) // 2])
    for split in ("val", "test"):
        shutil.copytree(folder / "train", folder / split)
    return folder


def test_broken_files_are_named_skipped_counted_and_warned_of(tmp_path):
    break_files(tmp_path)
    with pytest.warns(UserWarning, match=r"skipped 4 of 24 files.*a_empty\.png") as caught:
        part = load(f"folder:{tmp_path}", "test")
    assert len(caught) == 1 and caught[0].filename == __file__
    broken = {"a_empty.png", "cut.jpg", "garbage.png", "half.png"}
    assert {Path(file).name for file, _ in part.skipped} == broken
    assert all(reason and str(tmp_path) not in reason for _, reason in part.skipped)
    assert len(part) == 20 and not broken & set(names_of(part))
    assert [part.classes[label] for label in part.labels] == [name[:3] for name in names_of(part)]
    assert_colors(part)


def test_a_folder_named_like_a_picture_is_not_one(tmp_path):
    two_classes(tmp_path)
    (tmp_path / "cat" / "album.png").mkdir()
    assert load(f"folder:{tmp_path}").skipped == ()


def test_n_makes_up_for_broken_files_while_there_are_others(tmp_path):
    break_files(tmp_path)
    for n, seed in product((5, 19, 20), (0, 1, 2)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            part = load(f"folder:{tmp_path}", "test", n=n, seed=seed)
        assert len(part) == len(set(part.files)) == n
        assert len(part.skipped) <= 4
        assert_colors(part)
        assert [part.classes[label] for label in part.labels] == [name[:3] for name in names_of(part)]
    with pytest.warns(UserWarning, match="skipped 4 of 24"):
        assert len(load(f"folder:{tmp_path}", "test", n=22)) == 20  # there are no more


def test_nothing_but_broken_files_is_an_error(tmp_path):
    for i in range(10):
        (tmp_path / f"{i}.png").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"none of the 8 files in .* is a readable picture.*cannot identify"):
        load(f"folder:{tmp_path}")


# --- large folders: decoded once --------------------------------------------------------------------------


@pytest.fixture
def decoded(monkeypatch):
    """The names of the files that were decoded; more than five pictures count as many."""
    names, read = [], datasets._read_picture
    monkeypatch.setattr(datasets, "_CACHE_ABOVE", 5)
    monkeypatch.setattr(datasets, "_read_picture", lambda file, size: names.append(file.name) or read(file, size))
    return names


def cache_files():
    return sorted((Path(os.environ["CLBOOK_CACHE"]) / "pictures").glob("*"))


def equal_sets(one, other):
    same_labels = one.labels is other.labels is None or torch.equal(one.labels, other.labels)
    return (one.files, one.skipped, one.classes) == (other.files, other.skipped, other.classes) and (
        same_labels and torch.equal(one.images, other.images)
    )


def test_a_large_folder_is_decoded_once(tmp_path, decoded, monkeypatch):
    two_classes(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    first = load(f"folder:{tmp_path}")
    assert sorted(decoded) == sorted(names_of(first)) and len(first) == 32
    decoded.clear()
    second = load(f"folder:{tmp_path}")
    assert decoded == []
    monkeypatch.setattr(datasets, "_CACHE_ABOVE", 1000)
    plain = load(f"folder:{tmp_path}")
    assert len(decoded) == 32
    assert equal_sets(first, plain) and equal_sets(second, plain)
    assert_colors(second)
    assert sorted(tmp_path.rglob("*")) == before  # nothing is written among the user's pictures
    assert len(cache_files()) == 1  # and no part is left


def test_a_small_folder_leaves_no_cache(tmp_path, decoded):
    fill(tmp_path, [f"{i}.png" for i in range(10)])
    assert len(load(f"folder:{tmp_path}", n=5)) == 5
    assert cache_files() == []
    decoded.clear()
    load(f"folder:{tmp_path}", n=5)
    assert len(decoded) == 5


def test_cached_pictures_are_like_any_others(tmp_path, decoded):
    two_classes(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for part in (load(f"folder:{tmp_path}") for _ in range(2)):
            index = torch.tensor([5, 3, 3, 31])
            assert part.images.shape == (32, 3, 32, 32) and part.images.dtype == torch.uint8
            assert torch.equal(part.images[index], torch.stack([part.images[i] for i in index.tolist()]))
            assert_colors(part.subset(index))
            part.images.zero_()  # one's own copy
    assert_colors(load(f"folder:{tmp_path}"))
    assert len(decoded) == 32  # the file was not written to


def test_splits_sizes_n_and_seeds_are_kept_apart(tmp_path, decoded):
    two_classes(tmp_path, each=40)
    calls = [("train", {}), ("test", {}), ("train", {"image_size": 9}), ("train", {"n": 7}), ("train", {"n": 8}),
             ("train", {"n": 7, "seed": 1})]  # fmt: skip
    first = [load(f"folder:{tmp_path}", split, **options) for split, options in calls]
    decoded.clear()
    second = [load(f"folder:{tmp_path}", split, **options) for split, options in calls]
    assert decoded == [] and all(map(equal_sets, first, second))
    assert len(cache_files()) == len(calls)
    assert [len(part) for part in second] == [64, 8, 64, 7, 8, 7]
    for part in second:
        assert_colors(part)


def test_two_folders_of_one_name_are_kept_apart(tmp_path, decoded):
    for parent in "ab":
        fill(tmp_path / parent / "same", [f"{parent}{i}.png" for i in range(10)])
    for _ in range(2):
        for parent in "ab":
            assert_colors(load(f"folder:{tmp_path / parent / 'same'}"))
    assert len(decoded) == 16 and len(cache_files()) == 2


def rewrite(folder):
    Image.new("RGB", (12, 12), (1, 2, 3)).save(folder / "train/03.png")


def touch(folder):
    os.utime(folder / "train/03.png", ns=(5, 5))


def lengthen(folder):
    file = folder / "train/03.png"
    about = file.stat()
    file.write_bytes(file.read_bytes() + b"more")
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))


CHANGES = {  # what is done to the folder, and which files must be decoded again
    "rewritten": (rewrite, ["03.png"]),
    "of another time": (touch, ["03.png"]),
    "of another length": (lengthen, ["03.png"]),
    "added at the end": (lambda folder: fill(folder, ["train/99.png"]), ["99.png"]),
    "added in between": (lambda folder: fill(folder, ["train/035.png"]), ["035.png"]),
    "renamed": (lambda folder: (folder / "train/03.png").rename(folder / "train/033.png"), ["033.png"]),
    "removed": (lambda folder: (folder / "train/03.png").unlink(), []),
    "removed at the end": (lambda folder: (folder / "train/19.png").unlink(), []),
    "broken": (lambda folder: (folder / "train/03.png").write_bytes(b"no"), ["03.png"]),
    "repaired": (lambda folder: fill(folder, ["train/07.png"]), ["07.png"]),
    "swapped": (lambda folder: os.replace(folder / "train/03.png", folder / "train/04.png"), ["04.png"]),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.filterwarnings("ignore:skipped")
def test_changed_files_are_noticed_and_only_they_are_decoded_again(tmp_path, decoded, monkeypatch, change):
    fill(tmp_path, [f"train/{i:02}.png" for i in range(20)] + [f"{split}/1.png" for split in ("val", "test")])
    for file in tmp_path.rglob("*.png"):
        os.utime(file, ns=(10**18 + int(file.stem), 10**18))
    (tmp_path / "train/07.png").write_bytes(b"no")
    load(f"folder:{tmp_path}")
    decoded.clear()
    act, wanted = CHANGES[change]
    act(tmp_path)
    if change == "swapped":  # same name, same size, another time
        os.utime(tmp_path / "train/04.png", ns=(10**18, 10**18 + 1))
    found = load(f"folder:{tmp_path}")
    assert set(decoded) - {"07.png"} == set(wanted) - {"07.png"}  # the broken one is tried each time
    decoded.clear()
    assert equal_sets(load(f"folder:{tmp_path}"), found)
    assert set(decoded) == {Path(file).name for file, _ in found.skipped}
    assert len(cache_files()) == 1  # the old one is gone
    monkeypatch.setattr(datasets, "_CACHE_ABOVE", 1000)
    assert equal_sets(load(f"folder:{tmp_path}"), found)


def flip(place):
    def damage(content):
        content = bytearray(content)
        content[int(place * (len(content) - 1))] ^= 1
        return bytes(content)

    return damage


@pytest.mark.parametrize(
    "damage",
    [flip(0), flip(0.3), flip(0.98), flip(1), lambda b: b[:-1], lambda b: b[: len(b) // 2], lambda b: b[:10],
     lambda b: b"", lambda b: b"x" * 999, lambda b: b + b"x", lambda b: b[7:], lambda b: b[:-12] + b"\x7f" * 12,
     lambda b: None],
)  # fmt: skip
def test_a_damaged_cache_is_made_again(tmp_path, decoded, damage):
    two_classes(tmp_path)
    whole = load(f"folder:{tmp_path}")
    (cache,) = cache_files()
    content = cache.read_bytes()
    cache.unlink()
    if damage(content) is not None:
        cache.write_bytes(damage(content))
    decoded.clear()
    assert equal_sets(load(f"folder:{tmp_path}"), whole)
    assert len(decoded) == 32 and cache.read_bytes() == content


def test_another_pillow_decodes_again(tmp_path, decoded, monkeypatch):
    two_classes(tmp_path)
    load(f"folder:{tmp_path}")
    decoded.clear()
    monkeypatch.setattr(datasets, "_DECODER", "1, Pillow 99")
    load(f"folder:{tmp_path}")
    assert len(decoded) == 32


def test_broken_files_stay_named_and_only_they_are_tried_again(tmp_path, decoded):
    break_files(tmp_path)
    parts = []
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"skipped 4 of 24 files.*a_empty\.png") as caught:
            parts.append(load(f"folder:{tmp_path}", "test"))
        assert [w.filename for w in caught] == [__file__]
    assert len(decoded) == 24 + 4 and equal_sets(*parts) and len(parts[1]) == 20
    assert_colors(parts[1])


def test_a_file_that_was_only_out_of_reach_comes_back(tmp_path, decoded, monkeypatch):
    """A change of rights, or a network drive that is there again, leaves a file's size and time as they were."""
    two_classes(tmp_path)
    read = datasets._read_picture
    monkeypatch.setattr(datasets, "_read_picture", lambda file, size: (
        "PermissionError: no" if file.name == "cat3.png" else read(file, size)))  # fmt: skip
    with pytest.warns(UserWarning, match=r"skipped 1 of 32"):
        assert len(load(f"folder:{tmp_path}")) == 31
    monkeypatch.setattr(datasets, "_read_picture", read)
    decoded.clear()
    for _ in range(2):
        part = load(f"folder:{tmp_path}")
        assert len(part) == 32 and set(decoded) == {"cat3.png"}
        assert_colors(part)


@pytest.mark.filterwarnings("ignore:skipped")
def test_n_of_a_large_folder_makes_up_for_broken_files(tmp_path, decoded, monkeypatch):
    break_files(tmp_path)
    for n in (6, 20, 23):
        first = load(f"folder:{tmp_path}", "test", n=n)
        decoded.clear()
        assert equal_sets(load(f"folder:{tmp_path}", "test", n=n), first)
        assert set(decoded) <= {"a_empty.png", "cut.jpg", "garbage.png", "half.png"}
        assert len(first) == min(n, 20)
        assert_colors(first)


def test_nothing_but_broken_files_in_a_large_folder_is_an_error(tmp_path, decoded):
    for i in range(10):
        (tmp_path / f"{i}.png").write_bytes(b"no")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"folder: none of the 8 files in .* is a readable picture"):
            load(f"folder:{tmp_path}")


def no_room(*arguments, **options):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("fails", ["replace", "write", "mkdir"])
def test_without_room_the_pictures_stay_in_memory(tmp_path, decoded, monkeypatch, fails):
    two_classes(tmp_path)
    if fails == "replace":
        monkeypatch.setattr(os, "replace", no_room)
    if fails == "write":

        class Full(io.FileIO):
            write = no_room

        monkeypatch.setattr(os, "fdopen", lambda handle, mode: Full(handle, mode))
    if fails == "mkdir":
        (tmp_path / "file").write_text("in the way")
        monkeypatch.setenv("CLBOOK_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match=r"could not be kept in .* stay in memory; .*CLBOOK_CACHE") as caught:
        part = load(f"folder:{tmp_path}")
    assert [w.filename for w in caught] == [__file__]
    assert len(part) == 32 and cache_files() == []
    assert_colors(part)


def test_a_changed_cache_is_moved_when_the_old_one_is_no_longer_mapped(tmp_path, decoded, monkeypatch):
    """Windows replaces no file that is in use."""
    two_classes(tmp_path)
    file = Path(load(f"folder:{tmp_path}").files[0])
    mapped, true_open, true_replace = [], datasets._open_cache, os.replace

    def opened(cache, size):
        images, entries = true_open(cache, size)
        mapped.append(weakref.ref(images))
        return images, entries

    def replace(source, target):
        assert not any(images() is not None for images in mapped)
        true_replace(source, target)

    monkeypatch.setattr(datasets, "_open_cache", opened)
    monkeypatch.setattr(os, "replace", replace)
    file.write_bytes(file.read_bytes() + b"more")
    decoded.clear()
    load(f"folder:{tmp_path}")
    assert decoded == [file.name] and len(mapped) == 2


def test_parts_of_the_dead_are_removed_and_those_of_the_living_are_not(tmp_path, decoded):
    two_classes(tmp_path)
    load(f"folder:{tmp_path}")
    (cache,) = cache_files()
    old, new = cache.with_name("old.part"), cache.with_name("new.part")
    for part in (old, new):
        part.write_bytes(b"half")
    os.utime(old, (1e9, 1e9))
    load(f"folder:{tmp_path}", image_size=9)
    assert not old.exists() and new.exists()


def test_many_at_once_do_not_meet(tmp_path, decoded):
    two_classes(tmp_path)
    with ThreadPoolExecutor(6) as pool:
        parts = list(pool.map(lambda _: load(f"folder:{tmp_path}"), range(6)))
    assert all(equal_sets(part, parts[0]) for part in parts)
    assert_colors(parts[0])
    assert len(cache_files()) == 1


def test_a_cache_that_another_process_made_of_other_files_is_not_used(tmp_path, decoded, monkeypatch):
    fill(tmp_path, [f"{i}.png" for i in range(20)])
    theirs = [((f"other{i}.png", 1, 1), "") for i in range(16)]
    monkeypatch.setattr(datasets, "_open_cache", lambda cache, size: (torch.zeros(16, 3, size, size).byte(), theirs))
    part = load(f"folder:{tmp_path}")
    assert len(part) == 16
    assert_colors(part)


def test_a_file_that_vanishes_is_skipped(tmp_path, decoded, monkeypatch):
    two_classes(tmp_path)
    stamp = datasets._stamp

    def late(file, path):
        if file.name == "cat3.png":
            file.unlink(missing_ok=True)
        return stamp(file, path)

    monkeypatch.setattr(datasets, "_stamp", late)
    with pytest.warns(UserWarning, match=r"skipped 1 of 32 files.*cat3\.png"):
        assert len(load(f"folder:{tmp_path}")) == 31


def test_pets_are_decoded_once(internet, monkeypatch, decoded):
    publish("pets", internet, monkeypatch)
    first = load("pets")
    decoded.clear()
    second = load("pets")
    assert decoded == [] and equal_sets(first, second)
    assert torch.equal(first.factors["breed"], second.factors["breed"])


# --- what is wrong is said --------------------------------------------------------------------------------


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"expected a folder of pictures, got '.*nowhere', which does not exist"):
        load(f"folder:{tmp_path / 'nowhere'}")


def test_a_file_is_not_a_folder(tmp_path):
    fill(tmp_path, ["x.png"])
    with pytest.raises(ValueError, match=r"x\.png', which is a file"):
        load(f"folder:{tmp_path / 'x.png'}")


def test_folders_without_pictures_are_no_classes_beside_splits(tmp_path):
    fill(tmp_path, [f"{top}/{kind}/{i}.png" for top in ("train", "test") for kind in ("cat", "dog") for i in range(9)])
    fill(tmp_path, [".hidden/x.png", "labels/.x.png"])
    (tmp_path / "labels" / "notes.txt").write_text("not a picture")
    (tmp_path / "README.png").mkdir()
    assert [len(part) for part in splits_of(tmp_path).values()] == [16, 2, 18]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], r"no pictures in .*; expected class folders or files that end in \.bmp, .*\.jpg"),
        (["cat/1.png", "cat/2.png"], r"at least two class folders in .*, got one \(cat\).*without labels"),
        (["cat/1.png", "dog/2.png", "x.png"], r"holds pictures \(x\.png, \.\.\.\) beside class folders \(cat, dog\)"),
        (["test/cat/1.png", "test/dog/1.png"], r"has test but no 'train' beside it"),
        (["train/1.png", "bus/1.png", "car/1.png"],
         r"holds train beside bus, car; expected splits or classes, not both\. Rename the class"),
        (["train/cat/1.png", "train/dog/1.png", "test/cat/1.png", "extra/deep/1.png"],
         r"holds train and test beside extra; expected splits"),
        (["train/cat/1.png", "train/dog/1.png", "val/cat/1.png", "val/eel/1.png"],
         r"expected the classes of 'train' \(cat, dog\) in 'val', got cat, eel"),
        (["train/cat/1.png", "train/dog/1.png", "val/1.png"], r"of 'train' \(cat, dog\) in 'val', got no class"),
        (["train/1.png", "val/cat/1.png", "val/dog/1.png"], r"\(no class folders\) in 'val', got cat, dog"),
        (["cat/1.png", "cat/2.png", "dog/1.png"], r"3 pictures in .* are too few for a 'val' split of 10% of each"),
    ],
)  # fmt: skip
def test_a_folder_that_will_not_do_is_told_why(tmp_path, names, message):
    fill(tmp_path, names)
    with pytest.raises(ValueError, match=message):
        load(f"folder:{tmp_path}", "val")


def test_an_empty_folder_is_told_for_every_split(tmp_path):
    for split in SPLITS:
        with pytest.raises(ValueError, match="no pictures in"):
            load(f"folder:{tmp_path}", split)


def test_more_pictures_than_there_are_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"digits, split val has 270 pictures, got n=271"):
        load("digits", "val", n=271)
    two_classes(tmp_path)
    with pytest.raises(ValueError, match=r"split train has 32 pictures, got n=33\. Ask for fewer"):
        load(f"folder:{tmp_path}", n=33)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("shape", "'shapes'"),
        ("Digits", "'digits'"),
        ("petz", "'pets'"),
        ("imagenet", ""),
        ("", ""),
        (None, ""),
        (7, ""),
    ],
)
def test_an_unknown_data_set_is_told_the_nearest_names(name, hint):
    with pytest.raises(ValueError, match=f"expected one of {', '.join(datasets.available())}; got") as caught:
        load(name)
    assert repr(name) in str(caught.value)
    assert str(caught.value).endswith(f"Did you mean {hint}?") if hint else "Did you mean" not in str(caught.value)


@pytest.mark.parametrize(("split", "hint"), [("tset", "Did you mean 'test'?"), ("all", ""), (None, "")])
def test_an_unknown_split_is_told_the_three(split, hint):
    with pytest.raises(ValueError, match=re.escape(f"expected one of train, val, test, got {split!r}")) as caught:
        load("shapes", split)
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    ("option", "value", "least"),
    [(option, value, least) for option, least in (("n", 1), ("image_size", 8), ("seed", 0))
     for value in (least - 1, -5, True, 9.0, "9", float("nan"))],
)  # fmt: skip
@pytest.mark.parametrize("name", ["shapes", "digits", "folder:."])
def test_numbers_out_of_range_are_refused(name, option, value, least):
    with pytest.raises(
        ValueError, match=re.escape(f"{option}: expected an integer of at least {least}, got {value!r}")
    ):
        load(name, **{option: value})


# --- downloads: torchvision's files, a few pictures each --------------------------------------------------
#
# Every file is made here byte by byte as its authors describe it, and torchvision is told the tiny ones' checksums.

OFFICIAL = {"cifar10": 32, "cifar100": 32, "fashion_mnist": 28, "stl10": 96, "pets": 40}  # name -> its own size
CLASSES = tuple(f"kind {i}" for i in range(10))


def official(name, part):
    """The pictures uint8 [M, 3, h, w] and labels of an official split; no two pictures are the same."""
    count = {"train": 40, "test": 10, "unlabeled": 30}[part]
    random = np.random.RandomState(len(name) + count)
    size = OFFICIAL[name]
    coarse = random.randint(0, 256, (count, 1 if name == "fashion_mnist" else 3, size // 4, size // 4))
    smooth = coarse.repeat(4, 2).repeat(4, 3).astype(np.uint8)
    return np.broadcast_to(smooth, (count, 3, size, size)), random.randint(0, 10, count)


def md5(content):
    return hashlib.md5(content).hexdigest()


def tar(files):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for path, content in files.items():
            about = tarfile.TarInfo(path)
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))
    return packed.getvalue()


def publish(name, internet, monkeypatch):
    """Put a data set where torchvision looks for it."""
    parts = {part: official(name, part) for part in ("train", "test")}
    {"cifar10": publish_cifar, "cifar100": publish_cifar, "fashion_mnist": publish_fashion, "stl10": publish_stl,
     "pets": publish_pets}[name](name, parts, internet, monkeypatch)  # fmt: skip


def publish_cifar(name, parts, internet, monkeypatch):
    kind = torchvision.datasets.CIFAR10 if name == "cifar10" else torchvision.datasets.CIFAR100
    labels_key = "labels" if name == "cifar10" else "fine_labels"
    files = {kind.meta["filename"]: pickle.dumps({kind.meta["key"]: list(CLASSES)})}
    for listed, part in ((kind.train_list, "train"), (kind.test_list, "test")):
        for (file, _), rows in zip(listed, np.array_split(np.arange(len(parts[part][1])), len(listed)), strict=True):
            images, labels = parts[part][0][rows], parts[part][1][rows].tolist()
            files[file] = pickle.dumps({"data": images.reshape(len(rows), -1), labels_key: labels})
    packed = tar({f"{kind.base_folder}/{file}": content for file, content in files.items()})
    monkeypatch.setattr(kind, "train_list", [[file, md5(files[file])] for file, _ in kind.train_list])
    monkeypatch.setattr(kind, "test_list", [[file, md5(files[file])] for file, _ in kind.test_list])
    monkeypatch.setattr(kind, "meta", kind.meta | {"md5": md5(files[kind.meta["filename"]])})
    monkeypatch.setattr(kind, "tgz_md5", md5(packed))
    internet[kind.url] = packed


def publish_fashion(name, parts, internet, monkeypatch):
    kind = torchvision.datasets.FashionMNIST
    resources = []
    for (file, _), part in zip(kind.resources, ("train", "train", "test", "test"), strict=True):
        images, labels = parts[part]
        if "images" in file:
            content = struct.pack(">4i", 2051, len(images), 28, 28) + np.ascontiguousarray(images[:, 0]).tobytes()
        else:
            content = struct.pack(">2i", 2049, len(labels)) + labels.astype(np.uint8).tobytes()
        packed = gzip.compress(content)
        resources.append((file, md5(packed)))
        internet[kind.mirrors[0] + file] = packed
    monkeypatch.setattr(kind, "resources", resources)
    monkeypatch.setattr(kind, "classes", list(CLASSES))


def publish_stl(name, parts, internet, monkeypatch):
    kind = torchvision.datasets.STL10
    files = {"class_names.txt": "\n".join(CLASSES).encode() + b"\n"}
    for part, (images, labels) in (parts | {"unlabeled": official(name, "unlabeled")}).items():
        files[f"{part}_X.bin"] = images.transpose(0, 1, 3, 2).tobytes()  # column by column
        files[f"{part}_y.bin"] = (labels + 1).astype(np.uint8).tobytes()
    packed = tar({f"stl10_binary/{file}": content for file, content in files.items()})
    for listed in ("train_list", "test_list"):
        monkeypatch.setattr(kind, listed, [[file, md5(files[file])] for file, _ in getattr(kind, listed)])
    monkeypatch.setattr(kind, "tgz_md5", md5(packed))
    internet[kind.url] = packed


BREEDS = ("Abyssinian", "american_bulldog", "Maine_Coon")  # cats have capitals there


def publish_pets(name, parts, internet, monkeypatch):
    images, lists = {}, {}
    for part, file in (("train", "trainval"), ("test", "test")):
        for i, (pixels, label) in enumerate(zip(*parts[part], strict=True)):
            picture, breed = io.BytesIO(), (label + i) % 3
            Image.fromarray(pixels.transpose(1, 2, 0)).save(picture, "PNG")  # their .jpg are not all JPEG either
            images[f"images/{BREEDS[breed]}_{part}{i}.jpg"] = picture.getvalue()
            species = 1 if BREEDS[breed][0].isupper() else 2
            lists.setdefault(file, []).append(f"{BREEDS[breed]}_{part}{i} {breed + 1} {species} 7")
    annotations = {f"annotations/{file}.txt": "\n".join(lines).encode() + b"\n" for file, lines in lists.items()}
    kind, resources = torchvision.datasets.OxfordIIITPet, []
    for (url, _), files in zip(kind._RESOURCES, (images, annotations), strict=True):
        internet[url] = tar(files)
        resources.append((url, md5(internet[url])))
    monkeypatch.setattr(kind, "_RESOURCES", resources)


TENSORS = [name for name in OFFICIAL if name != "pets"]


def by_pixels(images, labels):
    return {
        image.tobytes(): label for image, label in zip(np.asarray(images), np.asarray(labels).tolist(), strict=True)
    }


@pytest.mark.parametrize("name", TENSORS)
def test_downloads_are_the_official_pictures_in_three_parts(name, internet, monkeypatch):
    publish(name, internet, monkeypatch)
    parts = {split: load(name, split, image_size=OFFICIAL[name]) for split in SPLITS}
    assert [len(part) for part in parts.values()] == [36, 4, 10]
    for part in parts.values():
        assert part.images.dtype == torch.uint8 and part.labels.dtype == torch.int64 and part.images.is_contiguous()
        assert part.classes == CLASSES and part.name == name
    trained, watched = (by_pixels(parts[split].images, parts[split].labels) for split in ("train", "val"))
    assert not trained.keys() & watched.keys()
    assert trained | watched == by_pixels(*official(name, "train"))
    images, labels = official(name, "test")
    assert np.array_equal(parts["test"].images, images) and parts["test"].labels.tolist() == labels.tolist()
    again = load(name, "val", image_size=OFFICIAL[name])
    assert torch.equal(again.images, parts["val"].images)  # the same pictures each time
    shuffled = [list(by_pixels(*official(name, "train"))).index(picture) for picture in watched]
    assert shuffled != list(range(4))  # not the first ones: official lists may be sorted


@pytest.mark.parametrize("name", OFFICIAL)
def test_the_second_time_nothing_is_downloaded(name, internet, monkeypatch, tmp_path):
    publish(name, internet, monkeypatch)
    assert not datasets.downloads(tmp_path / "new")[name]
    load(name, root=tmp_path / "new")
    assert internet["asked"]
    internet["asked"].clear()
    for split in SPLITS:
        load(name, split, root=str(tmp_path / "new"))
    assert internet["asked"] == []
    assert datasets.downloads(tmp_path / "new")[name]
    assert len(list((tmp_path / "new").iterdir())) == 1  # no archive, no half
    assert sum(datasets.downloads(tmp_path / "new").values()) == (2 if name == "stl10" else 1)
    kind = {"cifar10": "CIFAR10", "cifar100": "CIFAR100", "fashion_mnist": "FashionMNIST", "stl10": "STL10",
            "pets": "OxfordIIITPet"}[name]  # fmt: skip
    assert len(getattr(torchvision.datasets, kind)(tmp_path / "new")) == 40  # torchvision finds it there, too


@pytest.mark.parametrize(("name", "size"), [("cifar10", 16), ("fashion_mnist", 32), ("stl10", 32), ("cifar100", 50)])
def test_downloads_are_scaled_as_pillow_scales(name, size, internet, monkeypatch):
    publish(name, internet, monkeypatch)
    seen = load(name, "test", image_size=size).images
    assert seen.shape == (10, 3, size, size) and seen.dtype == torch.uint8
    wanted = [Image.fromarray(image.transpose(1, 2, 0)).resize((size, size), Image.Resampling.BICUBIC)
              for image in official(name, "test")[0]]  # fmt: skip
    wanted = np.stack([np.asarray(image).transpose(2, 0, 1) for image in wanted])
    assert np.abs(seen.numpy().astype(int) - wanted).max() <= 2
    if size == 32:
        assert torch.equal(load(name, "test").images, seen)  # unless told


def test_more_pictures_than_are_scaled_at_once_stay_in_order(monkeypatch):
    data = (np.arange(2500) % 251).astype(np.uint8)[:, None, None, None].repeat(8, 2).repeat(8, 3)
    rows = np.random.RandomState(0).permutation(2500)[:2300]
    for size in (8, 9):
        images = datasets._scaled(data, rows, size)
        assert images.shape == (2300, 3, size, size)
        assert (images.numpy() == data[rows][:, :, :1, :1]).all()


def test_n_downloaded_pictures_are_chosen_by_the_seed(internet, monkeypatch):
    publish("cifar10", internet, monkeypatch)
    every = by_pixels(*official("cifar10", "train"))
    few = [load("cifar10", n=9, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(few[0].images, few[1].images) and not torch.equal(few[0].images, few[2].images)
    for part in few:
        found = by_pixels(part.images, part.labels)
        assert len(found) == 9 and found.items() <= every.items()
    with pytest.raises(ValueError, match=r"cifar10, split val has 4 pictures, got n=5\. Ask for fewer"):
        load("cifar10", "val", n=5)


def test_stl10_unlabelled_trains_on_the_unlabelled_and_is_watched_on_the_others(internet, monkeypatch):
    publish("stl10", internet, monkeypatch)
    train = load("stl10-unlabelled", image_size=96)
    assert np.array_equal(train.images, official("stl10", "unlabeled")[0])
    assert train.labels is None and train.classes == () and train.name == "stl10-unlabelled"
    for split in ("val", "test"):
        one, other = load("stl10-unlabelled", split), load("stl10", split)
        assert torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)
    assert len(load("stl10-unlabelled", n=7)) == 7


def test_pets_are_cats_and_dogs_with_breeds(internet, monkeypatch):
    publish("pets", internet, monkeypatch)
    parts = {split: load("pets", split, image_size=40) for split in SPLITS}
    assert [len(part) for part in parts.values()] == [36, 4, 10]
    assert len({file for part in parts.values() for file in part.files}) == 50
    for split, part in parts.items():
        assert part.classes == ("cat", "dog") and part.labels.dtype == part.factors["breed"].dtype == torch.int64
        assert part.factor_names == {"breed": ("Abyssinian", "American Bulldog", "Maine Coon")}
        for name, image, label, breed in zip(
            names_of(part), part.images, part.labels, part.factors["breed"], strict=True
        ):
            kind, place = name.removesuffix(".jpg").rsplit("_", 1)
            assert kind == BREEDS[breed] and label == (0 if kind[0].isupper() else 1)
            assert place.startswith("test" if split == "test" else "train")
            images, _ = official("pets", "test" if split == "test" else "train")
            assert np.array_equal(image, images[int(re.sub(r"\D", "", place))])


def test_a_pet_that_cannot_be_read_is_skipped_with_its_label(internet, monkeypatch, tmp_path):
    publish("pets", internet, monkeypatch)
    whole = load("pets", "test", root=tmp_path)
    Path(whole.files[3]).write_bytes(b"no")
    with pytest.warns(UserWarning, match="skipped 1 of 10 files") as caught:
        part = load("pets", "test", root=tmp_path)
    assert caught[0].filename == __file__
    rest = whole.subset([i for i in range(10) if i != 3])
    assert part.files == rest.files and torch.equal(part.labels, rest.labels)
    assert torch.equal(part.factors["breed"], rest.factors["breed"])


def test_data_lies_where_it_was_told_to(internet, monkeypatch, tmp_path):
    publish("cifar10", internet, monkeypatch)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    folder = "cifar-10-batches-py"
    for root, variables, place in (
        (None, {}, f"home/.cache/clbook/data/{folder}"),
        (None, {"CLBOOK_CACHE": str(tmp_path / "cache")}, f"cache/data/{folder}"),
        (None, {"CLBOOK_CACHE": str(tmp_path / "c"), "CLBOOK_DATA": "~/mine"}, f"home/mine/{folder}"),
        ("~/told", {"CLBOOK_DATA": str(tmp_path / "unused")}, f"home/told/{folder}"),
    ):
        for name in ("CLBOOK_CACHE", "CLBOOK_DATA"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        load("cifar10", n=1, root=root)
        assert (tmp_path / place).is_dir(), place
    assert not (tmp_path / "unused").exists()


@pytest.mark.parametrize("name", [*OFFICIAL, "stl10-unlabelled"])
def test_without_a_network_the_choices_left_are_named(name, internet, tmp_path):
    with pytest.raises(
        OSError, match=rf"^{name}: could not be downloaded to '.*data' \(.*Name or service.*\)"
    ) as caught:
        load(name, root=tmp_path / "data")
    for words in ("'shapes'", "'digits'", "'folder:PATH'", "copy the folder"):
        assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert list((tmp_path / "data").iterdir()) == []
    assert internet["asked"]


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"<html>404</html>", lambda b: b""])
@pytest.mark.parametrize("name", OFFICIAL)
def test_a_broken_download_leaves_nothing_and_can_be_tried_again(name, damage, internet, monkeypatch, tmp_path):
    publish(name, internet, monkeypatch)
    last = list(internet)[-1]
    whole = internet[last]
    internet[last] = damage(whole)
    with pytest.raises(OSError, match=f"{name}: could not be downloaded .*corrupted"):
        load(name, root=tmp_path)
    assert list(tmp_path.iterdir()) == [] and not datasets.downloads(tmp_path)[name]
    internet[last] = whole
    assert len(load(name, root=tmp_path)) == 36


def test_what_a_killed_download_left_is_removed(internet, monkeypatch, tmp_path):
    publish("cifar10", internet, monkeypatch)
    for name in (".cifar10-old", ".cifar10-new"):
        (tmp_path / name / "half").mkdir(parents=True)
    os.utime(tmp_path / ".cifar10-old", (1e9, 1e9))
    load("cifar10", root=tmp_path)
    assert not (tmp_path / ".cifar10-old").exists() and (tmp_path / ".cifar10-new").exists()


def test_an_interrupted_download_leaves_nothing(internet, monkeypatch, tmp_path):
    publish("cifar10", internet, monkeypatch)
    extract = torchvision.datasets.utils.extract_archive
    patience = []

    def interrupted(*arguments):
        extract(*arguments)
        patience.append(socket.getdefaulttimeout())
        raise KeyboardInterrupt

    monkeypatch.setattr(torchvision.datasets.utils, "extract_archive", interrupted)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(77)
    with pytest.raises(KeyboardInterrupt):
        load("cifar10", root=tmp_path)
    after = socket.getdefaulttimeout()
    socket.setdefaulttimeout(before)
    assert list(tmp_path.iterdir()) == []
    assert 0 < patience[0] <= 60 and after == 77  # a silent network ends


def test_a_place_that_cannot_be_written_to_is_told(internet, monkeypatch, tmp_path):
    publish("cifar10", internet, monkeypatch)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"cifar10: could not be downloaded to '.*file' \(\w+Error"):
        load("cifar10", root=tmp_path / "file")


def test_another_process_may_be_faster(internet, monkeypatch, tmp_path):
    publish("cifar10", internet, monkeypatch)
    load("cifar10", root=tmp_path / "theirs")
    replace = os.replace

    def late(source, target):
        if Path(target) == tmp_path / "ours" / "cifar-10-batches-py":
            shutil.copytree(tmp_path / "theirs" / "cifar-10-batches-py", target)
        replace(source, target)

    monkeypatch.setattr(os, "replace", late)
    assert len(load("cifar10", root=tmp_path / "ours")) == 36
    assert [path.name for path in (tmp_path / "ours").iterdir()] == ["cifar-10-batches-py"]


@pytest.mark.parametrize(
    ("name", "file", "content"),
    [
        ("cifar10", "cifar-10-batches-py/data_batch_3", None),
        ("cifar10", "cifar-10-batches-py/test_batch", b"garbage"),
        ("cifar100", "cifar-100-python/meta", b"garbage"),
        ("fashion_mnist", "FashionMNIST/raw/train-images-idx3-ubyte", struct.pack(">4i", 2051, 40, 28, 28) + b"half"),
        ("fashion_mnist", "FashionMNIST/raw/train-labels-idx1-ubyte", None),
        ("stl10", "stl10_binary/train_X.bin", b"garbage"),
        ("pets", "oxford-iiit-pet/annotations/trainval.txt", None),
        ("pets", "oxford-iiit-pet/annotations/trainval.txt", b"one two three"),
    ],
)
def test_damaged_files_are_told_with_the_remedy(name, file, content, internet, monkeypatch, tmp_path):
    publish(name, internet, monkeypatch)
    load(name, root=tmp_path)
    (tmp_path / file).unlink()
    if content is not None:
        (tmp_path / file).write_bytes(content)
    folder = tmp_path / file.split("/")[0]
    with pytest.raises(OSError, match=f"{name}: expected torchvision's files in '{folder}', got damaged .*; delete"):
        load(name, root=tmp_path)
    shutil.rmtree(folder)
    assert len(load(name, root=tmp_path)) == 36  # as the message says


class Trap:
    """What a pickle can do to whoever opens it."""

    def __reduce__(self):
        return os.mkdir, (os.environ["TRAP"],)


def test_a_pickle_of_somebody_else_is_never_opened(internet, monkeypatch, tmp_path):
    publish("cifar10", internet, monkeypatch)
    load("cifar10", root=tmp_path)
    monkeypatch.setenv("TRAP", str(tmp_path / "sprung"))
    for file in ("data_batch_1", "test_batch", "batches.meta"):
        (tmp_path / "cifar-10-batches-py" / file).write_bytes(pickle.dumps(Trap()))
    with pytest.raises(OSError, match="damaged"):
        load("cifar10", root=tmp_path)
    assert not (tmp_path / "sprung").exists()


def test_too_little_memory_is_no_damage(internet, monkeypatch, tmp_path):
    publish("fashion_mnist", internet, monkeypatch)
    load("fashion_mnist", root=tmp_path)

    def full(*arguments):
        raise MemoryError

    monkeypatch.setattr(torchvision.datasets.mnist, "read_image_file", full)
    with pytest.raises(MemoryError):
        load("fashion_mnist", root=tmp_path)


def test_what_is_available_loads(internet, monkeypatch):
    names = datasets.available()
    assert names[-1] == "folder:PATH"
    for name in OFFICIAL:
        publish(name, internet, monkeypatch)
    assert set(OFFICIAL) | {"shapes", "digits", "stl10-unlabelled", "folder:PATH"} == set(names)
    for name, split in product(names[:-1], SPLITS):
        part = load(name, split, n=3, image_size=16)
        assert part.images.shape == (3, 3, 16, 16) and part.images.dtype == torch.uint8 and part.name == name


if __name__ == "__main__":
    print(fingerprint())


def test_a_data_set_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    from torchvision import datasets as theirs

    def forbidden(*args, **kwargs):
        raise PermissionError(13, "Permission denied", "data_batch_1")

    (tmp_path / "cifar-10-batches-py").mkdir()
    monkeypatch.setattr(theirs, "CIFAR10", forbidden)
    with pytest.raises(PermissionError, match="Permission denied"):
        datasets.load("cifar10", root=tmp_path)
