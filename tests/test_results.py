import csv
import io
import json
import math
import re
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from clbook import datasets, evaluation, plots, results, runs, training
from clbook.training import TrainConfig


def draw(folder, names):
    """Small noisy pictures, those of a class in a colour of their own, so noisy that a neighbour can mislead."""
    generator = np.random.RandomState(0)
    for i, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        color = np.array([140, 100, 100] if i % 2 else [100, 100, 140])
        Image.fromarray((color + generator.randint(-90, 91, (8, 8, 3))).astype(np.uint8)).save(path)
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Sixty in two classes: 48 for training, 6 to choose by, 6 for the end."""
    return draw(tmp_path_factory.mktemp("pictures"), [f"{'ba'[i % 2]}/{i}.png" for i in range(60)])


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    """Three, too few to be split."""
    return draw(tmp_path_factory.mktemp("flat"), [f"{i}.png" for i in range(3)])


def tiny(folder, **changes):
    options = {"data": f"folder:{folder}", "image_size": 8, "width": 2, "batch_size": 8, "steps": 12, "evaluations": 2,
               "device": "cpu", "precision": "fp32"}  # fmt: skip
    return TrainConfig(**options | changes)


def a_run(path, config):
    """What `runs.train` leaves, as far as it is read again."""
    run = runs.RunFolder(path, config)
    fit = training.fit(runs.load_splits(config)["train"].images, config, on_row=run.add_metrics,
                       monitor=lambda encoder: {"knn": 0.5})  # fmt: skip
    run.save_encoder(fit.encoder)
    return run.path, fit


@pytest.fixture(scope="module")
def trained(pictures, tmp_path_factory):
    return a_run(tmp_path_factory.mktemp("runs") / "one", tiny(pictures))


@pytest.fixture
def run(trained, tmp_path):
    """A copy, to write into."""
    for file in trained[0].iterdir():
        (tmp_path / "one").mkdir(exist_ok=True)
        (tmp_path / "one" / file.name).write_bytes(file.read_bytes())
    return tmp_path / "one"


def rows_of(run):
    with (run / "evaluation.csv").open(newline="") as file:
        return list(csv.DictReader(file))


# --- evaluate -----------------------------------------------------------------------------------------------


def voted(bank, labels, query, k):
    """kNN as Wu et al. print it, for one query."""
    cosines = sorted(((float(query @ h / query.norm() / h.norm()), int(y)) for h, y in zip(bank, labels, strict=True)),
                     reverse=True)[:k]  # fmt: skip
    votes = [sum(math.exp(c / 0.07) for c, label in cosines if label == y) for y in range(2)]
    return votes.index(max(votes))


def naive_knn(encoder, sets):
    """The accuracy on test of the k that is best on val, and that k."""
    h = {split: encoder(s.images.float() / 255).detach() for split, s in sets.items()}

    def accuracy(split, k):
        found = [voted(h["train"], sets["train"].labels, query, k) for query in h[split]]
        return float(np.mean([f == y for f, y in zip(found, sets[split].labels.tolist(), strict=True)]))

    best = max((1, 5, 20), key=lambda k: (accuracy("val", k), -k))  # 100 neighbours aren't to be had
    return accuracy("test", best), best


def test_evaluate_tells_knn_and_probes_beside_the_baselines(run, trained, pictures):
    said = results.evaluate(run, progress=False)
    rows, sets = rows_of(run), runs.load_splits(tiny(pictures))
    assert tuple(rows[0]) == results.COLUMNS and {row["data"] for row in rows} == {f"folder:{pictures}"}
    encoders = {"trained": trained[1].encoder, "random encoder": training.new_encoder(tiny(pictures)),
                "pixels": nn.Flatten()}  # fmt: skip
    assert list(dict.fromkeys(row["encoder"] for row in rows)) == list(encoders)
    for name, encoder in encoders.items():
        knn, *probes = [row for row in rows if row["encoder"] == name]
        accuracy, k = naive_knn(encoder, sets)
        assert (float(knn["accuracy"]), knn["chosen"]) == (pytest.approx(accuracy, abs=1e-5), f"k={k}")
        assert [(row["labels_a_class"], row["labels"]) for row in probes] == [
            ("1", "2"), ("5", "10"), ("20", "40"), ("all", "48")]  # fmt: skip
        for row in probes[:-1]:
            assert float(row["low"]) <= float(row["accuracy"]) <= float(row["high"]) and row["chosen"] == ""
        splits = [(evaluation.encode(encoder, s.images), s.labels) for s in sets.values()]
        probe = evaluation.linear_probe(*splits)
        assert (float(probes[-1]["accuracy"]), probes[-1]["chosen"]) == (
            pytest.approx(probe.accuracy, abs=1e-5), f"C={probe.strength:g}")  # fmt: skip
    header, *lines, _, _ = said.splitlines()
    assert re.split(r"\s{2,}", header.strip()) == ["kNN", "probe, 1 a class", "probe, 5 a class", "probe, 20 a class",
                                                   "probe, all labels"]  # fmt: skip
    for line, row in zip(lines, rows[::5], strict=True):
        assert line.startswith(row["encoder"]) and f"{float(row['accuracy']):.3f} ({row['chosen']})" in line
    assert "Accuracy on 6 test pictures" in said and said.endswith(f"in {run / 'evaluation.csv'}")


def test_nothing_is_chosen_on_the_test_split(run, monkeypatch):
    """With every test label wrong the choices are the same, and each accuracy of two classes turns over."""
    results.evaluate(run, progress=False)
    before = rows_of(run)
    true_load = runs.load_splits

    def turned(config):
        sets = true_load(config)
        sets["test"].labels.sub_(1).neg_()
        return sets

    monkeypatch.setattr(runs, "load_splits", turned)
    results.evaluate(run, progress=False)
    for one, other in zip(before, rows_of(run), strict=True):
        assert one["chosen"] == other["chosen"]
        assert float(one["accuracy"]) + float(other["accuracy"]) == pytest.approx(1, abs=1e-5)


def test_a_probe_with_few_labels_sees_as_few_to_choose_by(run, monkeypatch):
    """The validation split has three of each class."""
    seen = []
    monkeypatch.setattr(evaluation, "linear_probe_accuracy", lambda *splits: seen.append(splits) or 0.5)
    results.evaluate(run, progress=False)
    sizes = [tuple(split[1].bincount().tolist() for split in splits) for splits in seen]
    assert sizes == 3 * (5 * [([1, 1], [1, 1], [3, 3])] + 5 * [([5, 5], [3, 3], [3, 3])]
                         + 5 * [([20, 20], [3, 3], [3, 3])])  # fmt: skip


def test_a_probe_of_many_numbers_says_how_many_labels_it_saw(run, monkeypatch):
    monkeypatch.setattr(results, "_NUMBERS", 30 * 192)  # 30 pictures of 8 x 8 pixels, more of features
    monkeypatch.setattr(results, "BUDGETS", (1,))
    assert results.evaluate(run, progress=False).count(", 30 labels)") == 1
    assert [row["labels"] for row in rows_of(run) if row["labels_a_class"] == "all" and row["chosen"][0] == "C"] == [
        "48", "48", "30"]  # fmt: skip


def test_results_on_other_data_stay(run, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(results, "BUDGETS", (1,))
    other = f"folder:{draw(tmp_path / 'other', [f'{i % 2}/{i}.png' for i in range(40)])}"
    results.evaluate(run, progress=False)
    own = rows_of(run)
    assert "4 test pictures" in results.evaluate(run, other, progress=False)
    both = rows_of(run)
    assert both[:9] == own and [row["data"] for row in both[9:]] == [other] * 9
    results.evaluate(run, progress=False)
    assert sorted(map(str, rows_of(run))) == sorted(map(str, both))


def test_pictures_without_labels_cant_be_evaluated_on(run, tmp_path):
    bare = draw(tmp_path / "bare", [f"{i}.png" for i in range(20)])
    with pytest.raises(
        ValueError, match=r"evaluate: expected pictures with labels, got folder:.*, which has none; give"
    ):
        results.evaluate(run, f"folder:{bare}", progress=False)
    assert not (run / "evaluation.csv").exists()


# --- embed --------------------------------------------------------------------------------------------------


def test_vectors_are_the_encoders_of_the_files_beside_them(trained, pictures, tmp_path):
    said = results.embed(trained[0], f"folder:{pictures}", tmp_path / "v.npz")
    assert said == f"60 vectors of 16 numbers in {tmp_path / 'v.npz'}"
    with np.load(tmp_path / "v.npz", allow_pickle=False) as made:
        assert set(made.files) == {"vectors", "files", "labels", "classes", "skipped", "preprocessing"}
        assert sorted(made["files"]) == sorted(f"{'ba'[i % 2]}/{i}.png" for i in range(60))
        assert [str(made["classes"][label]) for label in made["labels"]] == [file[0] for file in made["files"]]
        pixels = np.stack([np.asarray(Image.open(pictures / file)) for file in made["files"]])
        with torch.no_grad():
            expected = trained[1].encoder(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255)
        assert made["vectors"].dtype == np.float32 and made["labels"].dtype == np.int64
        np.testing.assert_allclose(made["vectors"], expected.numpy(), atol=1e-5)
        needs = json.loads(str(made["preprocessing"]))
    assert (needs["image_size"], needs["channels"], needs["range"]) == (8, "RGB", [0, 1])
    assert needs["encoder"] == {"model": "small", "width": 2} and "centre" in needs["crop"]


def test_a_bad_file_is_named_skipped_and_counted(trained, tmp_path):
    folder = draw(tmp_path / "mine", ["1.png", "2.png", "4.png"])
    (folder / "3.png").write_bytes(b"no picture")
    with pytest.warns(UserWarning, match=r"skipped 1 of 4 files that could not be read: .*3\.png"):
        said = results.embed(trained[0], f"folder:{folder}", tmp_path / "v.npz")
    assert said.startswith("3 vectors of 16 numbers in ") and f"; skipped {folder / '3.png'}: Unidentified" in said
    with np.load(tmp_path / "v.npz") as made:
        assert made["files"].tolist() == ["1.png", "2.png", "4.png"] and made["skipped"].tolist() == ["3.png"]
        assert "labels" not in made and len(made["vectors"]) == 3


def test_a_small_folder_goes_into_the_runs_own(run, flat):
    assert results.embed(run, f"folder:{flat}").startswith("3 vectors")
    with np.load(run / f"vectors-{flat.name}.npz") as made:
        assert made["files"].tolist() == ["0.png", "1.png", "2.png"]


@pytest.mark.parametrize("split", [None, "val"])
def test_data_without_files_has_row_numbers(trained, tmp_path, split):
    results.embed(trained[0], "digits", tmp_path / "v.npz", split=split)
    s = datasets.load("digits", split or "train", image_size=8)
    with np.load(tmp_path / "v.npz") as made:
        assert made["rows"].tolist() == list(range(len(s))) and made["labels"].tolist() == s.labels.tolist()
        np.testing.assert_allclose(made["vectors"], evaluation.encode(trained[1].encoder, s.images).numpy(), atol=1e-5)


def test_a_split_of_a_folder(trained, pictures, tmp_path):
    results.embed(trained[0], f"folder:{pictures}", tmp_path / "v.npz", split="test")
    tested = datasets.load(f"folder:{pictures}", "test", image_size=8).files
    with np.load(tmp_path / "v.npz") as made:
        assert [str(pictures / file) for file in made["files"]] == list(tested)


@pytest.mark.parametrize("name", ["v.csv", "v", "nowhere/v.npz"])
def test_a_file_of_no_kind_or_place_is_refused(trained, flat, tmp_path, name):
    with pytest.raises(ValueError, match=r"out: expected a file that ends in .npz or .parquet, in a folder .* got"):
        results.embed(trained[0], f"folder:{flat}", tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_parquet_without_pyarrow_is_a_clear_error(trained, flat, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"expected pyarrow to be installed for a .parquet, got no such package"):
        results.embed(trained[0], f"folder:{flat}", tmp_path / "v.parquet")
    assert list(tmp_path.iterdir()) == []


def test_parquet_holds_the_same(trained, pictures, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    for name in ("v.npz", "v.parquet"):
        results.embed(trained[0], f"folder:{pictures}", tmp_path / name)
    made = parquet.read_table(tmp_path / "v.parquet")
    with np.load(tmp_path / "v.npz") as other:
        for column in ("files", "labels", "vectors"):
            assert made[column].to_pylist() == other[column].tolist()
        for name, value in made.schema.metadata.items():
            expected = other[name.decode()]
            assert json.loads(value) == (json.loads(str(expected)) if expected.ndim == 0 else expected.tolist())


def test_embed_wants_a_run_and_a_name(trained, tmp_path):
    with pytest.raises(ValueError, match=r"can't read '.*config.json'"):
        results.embed(tmp_path, "digits")
    with pytest.raises(TypeError, match="data: expected a name such as folder:PATH, got NoneType"):
        results.embed(trained[0], None)


# --- compare ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def other(pictures, tmp_path_factory):
    return a_run(tmp_path_factory.mktemp("runs") / "two", tiny(pictures, width=3, hue=0.3, steps=10))


def test_the_table_tells_what_differs_and_how_it_ended(trained, other, tmp_path):
    said = results.compare([trained[0], other[0]], tmp_path / "curves.png")
    header, one, two, _, words = said.splitlines()
    assert re.split(r"\s{2,}", header) == ["run", "width", "steps", "hue", "loss", "kNN (val)", "at step",
                                            "after minutes"]  # fmt: skip
    begins = (["one", "2", "12", "0.1"], ["two", "3", "10", "0.3"])
    for line, (_, fit), begin in zip((one, two), (trained, other), begins, strict=True):
        last = fit.history[-1]
        *begins_so, loss, knn, step, minutes = line.split()
        assert (begins_so, knn, step) == (begin, "0.500", str(last["step"]))
        assert float(loss) == pytest.approx(last["loss"], abs=6e-4)
        assert float(minutes) == pytest.approx(last["seconds"] / 60, abs=0.06)
    histories = {"one": trained[1].history, "two": other[1].history}
    assert words == f"{tmp_path / 'curves.png'}: {plots.curves_of_runs(histories).alt}"
    with Image.open(io.BytesIO((tmp_path / "curves.png").read_bytes())) as picture:
        assert picture.format == "PNG"
    assert results.compare([trained[0], other[0]]) == "\n".join((header, one, two))


def test_runs_of_one_name_are_told_apart_and_what_is_missing_is_a_dash(trained, tmp_path):
    for place in ("a", "b"):
        runs.RunFolder(tmp_path / place / "one", TrainConfig()).add_metrics({"step": 0, "seconds": 0.0})
    header, *lines = results.compare([tmp_path / "a" / "one", tmp_path / "b" / "one"]).splitlines()
    assert header.split("  ")[0] == "run" and "kNN (val)" in header
    assert [line.split() for line in lines] == [[str(tmp_path / p / "one"), "-", "-", "0", "0.0"] for p in "ab"]


def test_what_cant_be_compared_is_refused(trained, other, tmp_path):
    one, two = trained[0], other[0]
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_bytes((one / "config.json").read_bytes())
    for paths, out, words in (
        ([one], None, "expected at least two run folders, got"),
        (str(one), None, "expected at least two run folders, got"),
        ([one, one.parent / "." / "one"], None, "expected different runs, got one twice"),
        ([one, tmp_path], None, "can't read '.*config.json'"),
        ([one, tmp_path / "broken"], None, "metrics: can't read '.*metrics.csv'"),
        ([one, two], tmp_path / "c.jpg", "out: expected a .png in a folder that is there, got '.*c.jpg'"),
        ([one, two], tmp_path / "no" / "c.png", "out: expected a .png in a folder that is there"),
    ):
        with pytest.raises(ValueError, match=words):
            results.compare(paths, out)


def test_a_table_stands_in_columns():
    assert results.table(["", "b"], [["long", "1"], ["x", "2345"]]) == "         b\nlong     1\nx     2345"
