import base64
import csv
import dataclasses
import errno
import html
import importlib.util
import itertools
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import types
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from clbook import datasets, evaluation, plots, runs, training
from clbook.datasets import ImageSet
from clbook.runs import RunFolder
from clbook.training import TrainConfig, new_encoder

EVENTS = {"tensorboard"} if importlib.util.find_spec("tensorboard") else set()
FILES = {"config.json", "metrics.csv", "encoder.pt", "curves.png", "tsne.png", "neighbours.png", "summary.txt",
         "environment.json", "report.html"} | EVENTS  # fmt: skip


def draw(folder, names):
    """Small noisy pictures, those of a class in a colour of their own."""
    generator = np.random.RandomState(0)
    for i, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        color = np.array([200, 60, 60] if i % 2 else [60, 60, 200])
        Image.fromarray((color + generator.randint(0, 50, (16, 16, 3))).astype(np.uint8)).save(path)
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Sixty in two classes: 48 for training, 6 to watch, 6 for the end."""
    return draw(tmp_path_factory.mktemp("pictures"), [f"{'ba'[i % 2]}/{i}.png" for i in range(60)])


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    return draw(tmp_path_factory.mktemp("flat"), [f"{i}.png" for i in range(30)])


def tiny(folder, **changes):
    options = {"data": f"folder:{folder}", "image_size": 16, "width": 4, "batch_size": 8, "steps": 12, "evaluations": 2,
               "device": "cpu", "precision": "fp32"}  # fmt: skip
    return TrainConfig(**options | changes)


def metrics(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def assert_png(path):
    with Image.open(path) as picture:
        picture.load()
        assert picture.format == "PNG" and picture.width > 300


# --- a whole run ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(pictures, tmp_path_factory):
    """One run: its configuration, its folder, what `train` returned, and the `Fit` inside."""
    inside = []
    true_fit = training.fit
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "fit", lambda *args, **kwargs: inside.append(true_fit(*args, **kwargs)) or inside[-1])
        folder = tmp_path_factory.mktemp("runs") / "new" / "mine"
        line, interrupted = runs.train(tiny(pictures), folder, progress=False)
    assert interrupted is False
    return tiny(pictures), folder, line, inside[0]


def test_a_run_leaves_these_files_and_no_others(finished):
    _, folder, _, _ = finished
    assert {path.name for path in folder.iterdir()} == FILES
    assert_png(folder / "curves.png")
    assert_png(folder / "tsne.png")
    assert_png(folder / "neighbours.png")


def test_the_report_shows_the_files_of_the_folder(finished):
    _, folder, line, _ = finished
    page = (folder / "report.html").read_text()
    embedded = [base64.b64decode(data) for data in re.findall(r'src="data:image/png;base64,([^"]+)"', page)]
    assert embedded == [(folder / name).read_bytes() for name in ("curves.png", "tsne.png", "neighbours.png")]
    assert html.escape(line) in page
    about = json.loads((folder / "environment.json").read_text())
    assert (about["torch"], about["precision"], about["device"]) == (torch.__version__.split("+")[0], "fp32", "cpu")


def test_a_run_is_read_back(finished):
    config, folder, _, fit = finished
    assert runs.read_metrics(folder / "metrics.csv") == [pytest.approx(row, rel=1e-5) for row in fit.history]
    read, encoder = runs.load_encoder(folder)
    assert read == config and not encoder.training
    torch.testing.assert_close(dict(encoder.state_dict()), dict(fit.encoder.state_dict()), rtol=0, atol=0)


@pytest.mark.parametrize("spoil", ["gone", "cut off", "another width", "code"])
def test_an_encoder_that_is_none_of_the_runs_is_refused(finished, tmp_path, spoil):
    config, folder, _, _ = finished
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    file = tmp_path / "encoder.pt"
    if spoil == "cut off":
        file.write_bytes((folder / "encoder.pt").read_bytes()[:500])
    elif spoil == "another width":
        torch.save(new_encoder(dataclasses.replace(config, width=5)).state_dict(), file)
    elif spoil == "code":
        torch.save({"0.weight": Trap()}, file)
    with pytest.raises(ValueError, match=r"expected in '.*encoder.pt' the weights of the small .*, got .*; give"):
        runs.load_encoder(tmp_path)
    assert not Trap.sprung


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "can't read '.*metrics.csv'"), ("step,loss\n1,low\n", "expected numbers in"), ("a,b\n1,2\n", "the columns"),
     ("step\n1,2\n", "expected numbers in")],
)  # fmt: skip
def test_metrics_that_are_none_are_refused(content, words, tmp_path):
    if content is not None:
        (tmp_path / "metrics.csv").write_text(content)
    with pytest.raises(ValueError, match=f"metrics: .*{words}"):
        runs.read_metrics(tmp_path / "metrics.csv")


def test_the_summary_is_one_line_with_knn_beside_its_baselines(finished):
    config, folder, line, fit = finished
    assert (folder / "summary.txt").read_text() == line + "\n"
    pattern = (r"kNN (\d\.\d{3}) on 6 test pictures \(pixels (\d\.\d{3}), random encoder (\d\.\d{3})\); "
               r"loss \d+\.\d{3}, 12 steps, 2\.0 epochs, \d+\.\d minutes; in (.*)")  # fmt: skip
    *said, where = re.fullmatch(pattern, line).groups()
    bank, test = (datasets.load(config.data, split, image_size=16) for split in ("train", "test"))
    scores = [evaluation.knn_score(encoder, bank, test) for encoder in (fit.encoder, None, new_encoder(config))]
    assert [float(score) for score in said] == pytest.approx(scores, abs=5e-4)
    assert where == str(folder)


def test_the_configuration_can_be_read_back(finished):
    config, folder, _, _ = finished
    assert TrainConfig(**json.loads((folder / "config.json").read_text())) == config


def test_the_metrics_are_the_history(finished):
    _, folder, _, fit = finished
    rows = metrics(folder)
    assert tuple(rows[0]) == runs.COLUMNS
    assert [row["step"] for row in rows] == ["0", "6", "10", "12"]
    assert rows[0]["loss"] == "" and rows[0]["knn"] != "" and rows[2]["knn"] == ""
    for row, true in zip(rows, fit.history, strict=True):
        assert {name: float(value) for name, value in row.items() if value} == pytest.approx(true, rel=1e-5)


def test_the_encoder_loads_without_clbook(finished):
    config, folder, _, fit = finished
    state = torch.load(folder / "encoder.pt", weights_only=True)
    layers, channels = [], (3, 4, 8, 16, 32)
    for c_in, c_out in itertools.pairwise(channels):
        layers += [nn.Conv2d(c_in, c_out, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU()]
    encoder = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    encoder.load_state_dict(state)
    images = datasets.load(config.data, "test", image_size=16).images
    with torch.no_grad():
        features = encoder(images.float() / 255)
    torch.testing.assert_close(features, evaluation.encode(fit.encoder, images))
    assert all(type(tensor) is torch.Tensor and tensor.is_contiguous() for tensor in state.values())
    assert not torch.equal(state["0.weight"], new_encoder(config).state_dict()["0.weight"])


def test_a_flat_folder_trains_without_labels_and_says_so(flat, tmp_path):
    line, _ = runs.train(tiny(flat, batch_size=4), tmp_path, progress=False)
    assert line.startswith("No labels, so no kNN; loss ") and line.endswith(f"; in {tmp_path}")
    assert {path.name for path in tmp_path.iterdir()} == FILES
    assert all(row["knn"] == "" for row in metrics(tmp_path))


def test_a_single_test_picture_is_enough(tmp_path):
    folder = draw(tmp_path / "pictures", [f"{i}.png" for i in range(10)])
    runs.train(tiny(folder, batch_size=4, steps=1), tmp_path / "run", progress=False)
    assert_png(tmp_path / "run" / "tsne.png")


@pytest.fixture
def no_maps(monkeypatch):
    """t-SNE takes seconds; most tests look at something else."""
    monkeypatch.setattr(plots, "tsne", lambda features: np.zeros((len(features), 2)))


@pytest.mark.parametrize("data", ["shapes", "digits"])
def test_data_that_comes_along_trains_too(data, tmp_path, no_maps):
    line, _ = runs.train(
        TrainConfig.for_data(data, n=64, image_size=16, width=4, batch_size=8, steps=2), tmp_path, progress=False
    )
    assert re.match(rf"kNN 0\.\d+ on {1000 if data == 'shapes' else 270:,} test pictures", line)


def test_n_limits_what_is_trained_on(pictures, tmp_path, monkeypatch, no_maps):
    seen = []
    true_fit = training.fit
    monkeypatch.setattr(
        training, "fit", lambda images, *args, **kwargs: seen.append(len(images)) or true_fit(images, *args, **kwargs)
    )
    runs.train(tiny(pictures, n=20, steps=1), tmp_path, progress=False)
    assert seen == [20]


def test_what_is_watched_and_mapped_has_all_classes_though_they_come_in_order(tmp_path, monkeypatch, no_maps):
    """A folder's pictures are sorted by class: its first thousand would be one class."""
    labels = torch.arange(8000) // 800
    images = torch.randint(256, (8000, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    everything = ImageSet("sorted", images, labels, tuple("abcdefghij"))
    monkeypatch.setattr(datasets, "load", lambda *args, **kwargs: everything)
    watched, mapped = [], []
    monkeypatch.setattr(evaluation, "knn_score", lambda encoder, *sets: watched.append(sets) or 0.5)
    true_maps = plots.embedding_maps
    monkeypatch.setattr(plots, "embedding_maps", lambda maps, labels, *args, **kwargs: mapped.append(labels) or
                        true_maps(maps, labels, *args, **kwargs))  # fmt: skip
    runs.train(TrainConfig(steps=1, width=4, image_size=8, batch_size=8), tmp_path, progress=False)
    bank, queries = watched[0]
    assert (len(bank), len(queries), len(mapped[0])) == (5000, 1000, 1000)
    for some in (bank.labels, queries.labels, mapped[0]):
        counts = torch.bincount(some, minlength=10)
        assert counts.min() > 0.5 * counts.float().mean()
    assert [len(s) for s in watched[-1]] == [8000, 8000]  # the summary uses all


def test_the_test_split_is_used_once_at_the_end(pictures, tmp_path, monkeypatch, no_maps):
    """By the trained encoder, the pixels and the encoder that nothing has trained, in this order."""
    config = tiny(pictures)
    tested = set(datasets.load(config.data, "test", image_size=16).files)
    calls, encoders = [], []
    true_score = evaluation.knn_score

    def score(encoder, bank, queries):
        calls.append(set(queries.files))
        encoders.append(encoder and encoder.state_dict()["0.weight"].clone())
        return true_score(encoder, bank, queries)

    monkeypatch.setattr(evaluation, "knn_score", score)
    runs.train(config, tmp_path, progress=False)
    assert [files == tested for files in calls] == [False] * 4 + [True] * 3
    fresh, (trained, pixels, random) = new_encoder(config).state_dict()["0.weight"], encoders[4:]
    assert pixels is None and torch.equal(random, fresh) and not torch.equal(trained, fresh)


def test_the_curve_and_its_baseline_are_of_the_same_pictures(pictures, tmp_path, monkeypatch, no_maps):
    asked, drawn, true_curves = [], [], plots.curves

    def score(encoder, bank, queries):
        asked.append((encoder, set(queries.files)))
        return len(asked) / 10

    def curves(history, *, baselines, **options):
        drawn.append(([row["knn"] for row in history if "knn" in row], baselines))
        return true_curves(history, baselines=baselines, **options)

    monkeypatch.setattr(evaluation, "knn_score", score)
    monkeypatch.setattr(plots, "curves", curves)
    runs.train(tiny(pictures), tmp_path, progress=False)
    assert drawn == [([0.1, 0.2, 0.3], {"pixels": 0.4})]
    assert asked[3][0] is None and asked[3][1] == asked[0][1] != asked[4][1]


# --- the folder -------------------------------------------------------------------------------------------


def test_a_folder_is_made_and_named_after_data_and_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = RunFolder(None, TrainConfig(data="folder:/some where/My Cats"))
    assert re.fullmatch(r"runs.My Cats-\d{8}-\d{6}", str(made.path))
    assert (made.path / "config.json").exists()


def test_an_empty_folder_is_taken_and_a_full_one_refused(tmp_path):
    RunFolder(tmp_path, TrainConfig())
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(
        ValueError, match=r"expected a new or empty folder, '.*' holds config.json; choose another with --run"
    ):
        RunFolder(tmp_path, TrainConfig(seed=1))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def forbidden(*args, **kwargs):
    raise AssertionError("training has begun")


def test_a_folder_below_a_file_is_found_before_training(pictures, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(training, "fit", forbidden)
    for place in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(
            ValueError, match=r"run folder: can't write to '.*file.*' \(.*\); choose another with --run"
        ):
            runs.train(tiny(pictures), place)


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs a place where not even root can write")
def test_an_unwritable_folder_is_found_before_training(pictures, monkeypatch):
    monkeypatch.setattr(training, "fit", forbidden)
    with pytest.raises(ValueError, match="run folder: can't write to '/sys/kernel/run'"):
        runs.train(tiny(pictures), "/sys/kernel/run")


def test_a_folder_that_takes_no_files_is_found_before_training(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "fit", forbidden)
    monkeypatch.setattr(Path, "write_bytes", full_disk_for("config.json"))
    with pytest.raises(ValueError, match=r"can't write to .* \(No space left on device\)"):
        runs.train(tiny(pictures), tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"model": "smal"}, "model: "), ({"device": "tpu"}, "device: "), ({"precision": "fp8"}, "precision: "),
     ({"batch_size": 1000}, "at least one batch of 1000 pictures, got 48"), ({"data": "shape"}, "data set: "),
     ({"n": 1000}, "n: ")],
)  # fmt: skip
def test_bad_input_leaves_no_folder_behind(pictures, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        runs.train(tiny(pictures, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_bad_test_folder_is_found_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "fit", forbidden)
    draw(tmp_path, [f"train/{'ab'[i % 2]}/{i}.png" for i in range(40)] + ["test/a/1.png", "test/c/2.png"])
    with pytest.raises(ValueError, match=r"expected the classes of 'train' \(a, b\) in 'test', got a, c"):
        runs.train(tiny(tmp_path), tmp_path / "run")


# --- files appear whole or not at all ---------------------------------------------------------------------


def full_disk_for(name):
    """A `Path.write_bytes` that writes half of such a file, then has no more room."""
    true_write = Path.write_bytes

    def write_bytes(path, content):
        if name not in path.name:
            return true_write(path, content)
        true_write(path, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    return write_bytes


@pytest.fixture
def folder(tmp_path):
    made = RunFolder(tmp_path / "run", TrainConfig())
    made.write("x.bin", b"old" * 1000)
    return made


def assert_old(folder):
    assert (folder.path / "x.bin").read_bytes() == b"old" * 1000
    assert {path.name for path in folder.path.iterdir()} == {"config.json", "x.bin"}


def test_a_file_is_replaced_whole(folder):
    assert folder.write("x.bin", b"new").read_bytes() == b"new"
    assert {path.name for path in folder.path.iterdir()} == {"config.json", "x.bin"}


def test_a_full_disk_leaves_the_old_file_whole(folder, monkeypatch):
    monkeypatch.setattr(Path, "write_bytes", full_disk_for("x.bin"))
    with pytest.raises(OSError, match="No space left"):
        folder.write("x.bin", b"new")
    assert_old(folder)


def test_a_failed_move_leaves_the_old_file_whole(folder, monkeypatch):
    def replace(source, target):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OSError, match="Input/output"):
        folder.write("x.bin", b"new")
    assert_old(folder)


def test_an_interrupted_write_leaves_the_old_file_whole(folder, monkeypatch):
    def write_bytes(path, content):
        path.open("wb").close()
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    with pytest.raises(KeyboardInterrupt):
        folder.write("x.bin", b"new")
    assert_old(folder)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on the size of files")
def test_a_true_limit_leaves_the_old_file_whole(folder):
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            folder.write("x.bin", b"new" * 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert_old(folder)


def test_metrics_are_on_disk_row_by_row(folder):
    folder.add_metrics({"step": 0, "epoch": 0.0, "seconds": 0.0, "knn": 0.25})
    assert metrics(folder.path) == [
        {"step": "0", "epoch": "0", "seconds": "0", "learning_rate": "", "loss": "", "knn": "0.25"}
    ]
    folder.add_metrics(
        {"step": 1234567, "epoch": 1 / 3, "seconds": 2.0, "loss": 1e-7, "learning_rate": 1e-3, "other": 1.0}
    )
    assert metrics(folder.path)[1] == {"step": "1234567", "epoch": "0.333333", "seconds": "2", "learning_rate": "0.001",
                                       "loss": "1e-07", "knn": ""}  # fmt: skip
    assert (folder.path / "metrics.csv").read_bytes().count(b"step") == 1


def test_a_full_disk_during_training_keeps_what_was_saved(pictures, tmp_path, monkeypatch):
    saves = []
    true_save = RunFolder.save_encoder

    def save(folder, encoder):
        saves.append(encoder)
        if len(saves) == 3:
            monkeypatch.setattr(Path, "write_bytes", full_disk_for("encoder.pt"))
        return true_save(folder, encoder)

    monkeypatch.setattr(RunFolder, "save_encoder", save)
    with pytest.raises(OSError, match="No space left on device"):
        runs.train(tiny(pictures), tmp_path / "run", progress=False)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"config.json", "metrics.csv", "encoder.pt"} | EVENTS
    assert torch.load(tmp_path / "run" / "encoder.pt", weights_only=True)["0.weight"].isfinite().all()
    assert [row["step"] for row in metrics(tmp_path / "run")] == ["0", "6", "10"]


def test_a_diverging_run_keeps_the_last_good_encoder(pictures, tmp_path):
    config = tiny(pictures, learning_rate=math.inf)
    with pytest.raises(FloatingPointError) as error:
        runs.train(config, tmp_path / "run", progress=False)
    assert (tmp_path / "run" / "diverged.txt").read_text() == f"{error.value}\n"
    state = torch.load(tmp_path / "run" / "encoder.pt", weights_only=True)
    torch.testing.assert_close(state, dict(new_encoder(config).state_dict()), rtol=0, atol=0)


# --- stopped ----------------------------------------------------------------------------------------------


def test_an_interrupted_run_is_saved_and_says_so(pictures, tmp_path, monkeypatch):
    true_add = RunFolder.add_metrics

    def add(folder, row):
        true_add(folder, row)
        if row["step"] == 10:
            raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "add_metrics", add)
    line, interrupted = runs.train(tiny(pictures, steps=100), tmp_path, progress=False)
    assert interrupted
    assert re.search(r"; stopped early: loss \d\.\d+, 10 steps, 1\.7 epochs", line)
    assert {path.name for path in tmp_path.iterdir()} == FILES


def as_options(config):
    values = {name: value for name, value in dataclasses.asdict(config).items() if value is not None}
    return [f"--{'' if value else 'no-'}{name.replace('_', '-')}" if isinstance(value, bool)
            else f"--{name.replace('_', '-')}={value}" for name, value in values.items()]  # fmt: skip


@pytest.fixture(scope="module")
def running(pictures, tmp_path_factory):
    """Two commands under way, to be stopped by a signal each; they start together, for that takes the time.

    SIGTERM comes to a process that ignores SIGINT, as one does that a script has put into the background.
    """
    config = tiny(pictures, steps=None, minutes=30.0)
    options = as_options(config)
    processes = {}
    for stop in (signal.SIGINT, signal.SIGTERM):
        place = tmp_path_factory.mktemp(stop.name)
        handler = signal.SIG_IGN if stop == signal.SIGTERM else signal.SIG_DFL  # these tests may run in the background
        command = [sys.executable, "-m", "clbook", "train", "--run", "run", *options]
        processes[stop] = place / "run", subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            preexec_fn=lambda handler=handler: signal.signal(signal.SIGINT, handler), cwd=place,
            env=os.environ | {"OMP_NUM_THREADS": "1"})  # fmt: skip
    yield config, processes
    for _, process in processes.values():
        process.kill()
        process.wait()


@pytest.mark.skipif(os.name == "nt", reason="Windows has other signals")
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.slow
def test_a_signal_ends_the_command_with_all_saved(running, stop):
    config, processes = running
    folder, process = processes[stop]
    wait_for_rows(process, folder / "metrics.csv", 4)
    process.send_signal(stop)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert out.startswith("kNN ") and f"stopped early, `clbook train --resume {folder.name}` goes on" in out
    assert out.count("\n") == 1
    assert {path.name for path in folder.iterdir()} == FILES | {"checkpoint.pt"}
    assert runs.RunFolder.reopen(folder).load_checkpoint(config)["log"]["count"] > 0
    assert (folder / "summary.txt").read_text() == out
    state = torch.load(folder / "encoder.pt", weights_only=True)
    assert not torch.equal(state["0.weight"], new_encoder(config).state_dict()["0.weight"])


def wait_for_rows(process, path, count):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if path.exists() and len(path.read_text().splitlines()) > count:
            return
        time.sleep(0.05)
    pytest.fail(f"no rows came: {'too slow' if process.poll() is None else process.communicate()[1]}")


# --- stop and go on -----------------------------------------------------------------------------------------


def stopping(monkeypatch, at, error=None):
    """Training that is asked to stop at a step, or fails there."""
    true_step = runs._Keeper.after_step

    def after_step(keeper, state):
        keeper.count = getattr(keeper, "count", 0) + 1
        if keeper.count == at and error:
            raise error
        keeper.stop = keeper.stop or keeper.count == at
        return true_step(keeper, state)

    monkeypatch.setattr(runs._Keeper, "after_step", after_step)


@pytest.fixture(scope="module")
def undisturbed(pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    runs.train(tiny(pictures, steps=25), folder, progress=False)
    return folder


def assert_same_run(folder, other):
    one, two = (torch.load(path / "encoder.pt", weights_only=True) for path in (folder, other))
    assert all(torch.equal(one[name], two[name]) for name in one)
    rows = [[{k: v for k, v in row.items() if k != "seconds"} for row in metrics(path)] for path in (folder, other)]
    assert rows[0] == rows[1]
    assert {path.name for path in folder.iterdir()} == FILES


def test_a_stopped_run_goes_on_to_the_same_end(pictures, undisturbed, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        stopping(patch, at=13)
        line, interrupted = runs.train(tiny(pictures, steps=25), tmp_path / "run", progress=False)
    assert interrupted and "`clbook train --resume" in line
    line, interrupted = runs.resume(tmp_path / "run", progress=False)
    assert not interrupted and "25 steps" in line and "stopped early" not in line
    assert_same_run(tmp_path / "run", undisturbed)


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_end(pictures, undisturbed, tmp_path):
    """SIGKILL at whatever step it is in, twice; the rows behind the last checkpoint are made again."""
    config = dataclasses.replace(tiny(pictures, steps=25), checkpoint_minutes=1e-9)
    threads = str(torch.get_num_threads())  # bit for bit holds with as many of them
    slow = "import sys, time; from clbook import cli, runs; save = runs.RunFolder.save_checkpoint\n"
    slow += "runs.RunFolder.save_checkpoint = lambda run, state: (save(run, state), time.sleep(0.5))[0]\n"
    slow += "sys.exit(cli.main(sys.argv[1:]))"
    for arguments in ["train", "--run", "run", *as_options(config)], ["train", "--resume", "run"]:
        process = subprocess.Popen([sys.executable, "-c", slow, *arguments], cwd=tmp_path, stderr=subprocess.PIPE,
                                   text=True, env=os.environ | {"OMP_NUM_THREADS": threads})  # fmt: skip
        before = checkpoint_count(tmp_path / "run", config)
        deadline = time.monotonic() + 120
        while checkpoint_count(tmp_path / "run", config) < before + 4:
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1]
            time.sleep(0.02)
        process.kill()
        process.communicate()
    assert before >= 4
    assert not (tmp_path / "run" / "summary.txt").exists()
    runs.resume(tmp_path / "run", progress=False)
    assert_same_run(tmp_path / "run", undisturbed)


def checkpoint_count(folder, config):
    try:
        return RunFolder.reopen(folder).load_checkpoint(config)["log"]["count"]
    except ValueError:
        return 0


@pytest.fixture
def stopped(pictures, tmp_path):
    """A run with two checkpoints, at steps 4 and 5."""
    with pytest.MonkeyPatch.context() as patch:
        stopping(patch, at=5)
        config = tiny(pictures, steps=25, checkpoint_minutes=1e-9)
        runs.train(config, tmp_path / "run", progress=False)
    return tmp_path / "run", config


@pytest.mark.parametrize("spoil", ["cut off", "foreign", "another config", "gone", "empty", "code"])
def test_a_spoilt_checkpoint_is_recognised_and_the_one_before_used(stopped, spoil):
    folder, config = stopped
    newest = folder / "checkpoint.pt"
    content = newest.read_bytes()
    if spoil == "cut off":
        newest.write_bytes(content[: len(content) // 2])
    elif spoil == "foreign":
        torch.save({"weights": torch.zeros(3)}, newest)
    elif spoil == "another config":
        state = torch.load(newest, weights_only=True)
        torch.save(state | {"config": state["config"] | {"seed": 7}}, newest)
    elif spoil == "gone":
        newest.unlink()
    elif spoil == "empty":
        newest.write_bytes(b"")
    else:
        torch.save({"clbook": Trap()}, newest)
    assert RunFolder.reopen(folder).load_checkpoint(config)["log"]["count"] == 4
    (folder / "checkpoint-before.pt").unlink()
    with pytest.raises(ValueError, match=r"resume: expected a checkpoint in .*checkpoint-before.pt is not there"):
        runs.resume(folder)
    assert not Trap.sprung


class Trap:
    sprung = False

    def __reduce__(self):
        return setattr, (Trap, "sprung", True)


def test_a_full_disk_leaves_the_last_good_checkpoint(pictures, tmp_path, monkeypatch):
    true_write = Path.write_bytes

    def write(path, content):
        if path.name == ".checkpoint.pt.part" and (tmp_path / "checkpoint-before.pt").exists():
            true_write(path, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return true_write(path, content)

    monkeypatch.setattr(Path, "write_bytes", write)
    config = tiny(pictures, steps=25, checkpoint_minutes=1e-9)
    with pytest.raises(OSError, match="No space left"):
        runs.train(config, tmp_path, progress=False)
    assert not list(tmp_path.glob(".*"))
    assert RunFolder.reopen(tmp_path).load_checkpoint(config)["log"]["count"] == 1


def test_a_kill_between_two_checkpoints_leaves_one_and_nothing_else(pictures, tmp_path, monkeypatch, no_maps):
    true_replace = os.replace

    def replace(source, target):
        if Path(target).name == "checkpoint.pt" and (tmp_path / "checkpoint-before.pt").exists():
            raise KeyboardInterrupt
        true_replace(source, target)

    monkeypatch.setattr(os, "replace", replace)
    config = tiny(pictures, checkpoint_minutes=1e-9)
    line, interrupted = runs.train(config, tmp_path, progress=False)
    assert interrupted and f"`clbook train --resume {tmp_path}` goes on" in line
    assert {path.name for path in tmp_path.iterdir()} == FILES | {"checkpoint-before.pt"}
    assert RunFolder.reopen(tmp_path).load_checkpoint(config)["log"]["count"] == 1


def test_a_resume_that_is_refused_changes_nothing(tmp_path, monkeypatch, no_maps):
    folder = draw(tmp_path / "pictures", [f"{'ba'[i % 2]}/{i}.png" for i in range(60)])
    config = tiny(folder, steps=25, checkpoint_minutes=1e-9)
    monkeypatch.setattr(RunFolder, "drop_checkpoints", lambda run: None)
    runs.train(config, tmp_path / "run", progress=False)
    before = metrics(tmp_path / "run")
    for file in (folder / "a").iterdir():
        Image.new("RGB", (16, 16)).save(file)  # as many, others
    with pytest.raises(ValueError, match="got one on 48 others"):
        runs.resume(tmp_path / "run", progress=False)
    assert metrics(tmp_path / "run") == before


def test_a_run_among_the_pictures_is_refused(tmp_path, monkeypatch):
    """Its own pictures would be those of a class in the next run."""
    monkeypatch.chdir(draw(tmp_path, [f"{'ba'[i % 2]}/{i}.png" for i in range(30)]))
    monkeypatch.setattr(training, "fit", forbidden)
    for place in (None, "a/run"):
        with pytest.raises(ValueError, match=r"would lie among the pictures, .*; choose another with --run"):
            runs.train(tiny("."), place)
    assert datasets.load("folder:.").classes == ("a", "b")


@pytest.mark.skipif(sys.platform != "linux", reason="names that are no UTF-8")
def test_a_name_that_is_no_text_costs_no_report(flat, tmp_path, monkeypatch, no_maps):
    monkeypatch.setattr(runs, "_summary_writer", lambda: None)  # TensorBoard refuses such names
    place = tmp_path / os.fsdecode(b"caf\xe9 1")
    runs.train(tiny(flat, steps=2), place, progress=False)
    assert {path.name for path in place.iterdir()} >= {"summary.txt", "report.html"}


def test_the_command_that_goes_on_can_be_pasted(pictures, tmp_path, monkeypatch):
    fit = training.Fit(tiny(pictures), None, None, [{"step": 1, "epoch": 1.0, "seconds": 1.0}], interrupted=True)
    (tmp_path / "my run").mkdir()
    (tmp_path / "my run" / "checkpoint.pt").touch()
    assert f"`clbook train --resume '{tmp_path}/my run'` goes on" in runs._summary(fit, {}, 0, tmp_path / "my run")
    monkeypatch.setattr(runs.distributed, "world_size", lambda: 2)
    assert "`torchrun --nproc-per-node 2 -m -- clbook train" in runs._summary(fit, {}, 0, tmp_path / "my run")


def test_the_summary_looks_at_so_many_pictures_at_most(pictures, tmp_path, monkeypatch, no_maps):
    monkeypatch.setattr(runs, "BANK", 20)
    monkeypatch.setattr(runs, "TESTED", 4)
    seen, true_score = [], evaluation.knn_score
    monkeypatch.setattr(evaluation, "knn_score", lambda encoder, bank, queries: seen.append(
        (len(bank), len(queries))) or true_score(encoder, bank, queries, k=3))  # fmt: skip
    line, _ = runs.train(tiny(pictures, steps=2, evaluations=0), tmp_path / "run", progress=False)
    assert seen[-3:] == [(20, 4)] * 3 and "on 4 test pictures" in line


def test_a_run_that_was_killed_over_its_report_goes_on_to_it(pictures, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(plots, "tsne", killed)
    with pytest.raises(KeyboardInterrupt):
        runs.train(tiny(pictures, checkpoint_minutes=1e-9), tmp_path, progress=False)
    monkeypatch.undo()
    assert not (tmp_path / "report.html").exists()
    line, interrupted = runs.resume(tmp_path, progress=False)
    assert not interrupted and ", 12 steps, " in line
    assert {path.name for path in tmp_path.iterdir()} == FILES


def test_a_finished_run_has_nothing_to_go_on_from(undisturbed):
    with pytest.raises(ValueError, match="A run that came to its end keeps none; start a new one with --config"):
        runs.resume(undisturbed)


def test_a_second_ctrl_c_stops_at_once(tmp_path):
    before = signal.getsignal(signal.SIGINT)  # a shell's background job ignores it
    with runs._Keeper(RunFolder.reopen(tmp_path), 5) as keeper:
        for number in (signal.SIGINT, signal.SIGTERM):  # one request that came by two ways
            signal.raise_signal(number)
            assert keeper.stop
        keeper.asked -= 2
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "can't read"),
        ("{", "is no JSON"),
        ('{"stepz": 3}', "got stepz"),
        ("[1]", "got no object"),
        ('{"steps": "3"}', "steps: expected int.*, got '3'"),
        ('{"steps": 0}', "steps: expected a number > 0"),
    ],
)
def test_a_config_that_is_none_is_refused(content, words, tmp_path):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=words):
        runs.read_config(tmp_path / "config.json")


@pytest.mark.parametrize("method", training.METHODS)
def test_each_method_leaves_a_whole_run(method, pictures, tmp_path):
    line, _ = runs.train(tiny(pictures, method=method, steps=4, queue_size=32), tmp_path, progress=False)
    assert "4 steps" in line
    assert {path.name for path in tmp_path.iterdir()} == FILES


def test_a_supervised_method_needs_labels(flat, tmp_path):
    with pytest.raises(ValueError, match="learns from labels, and these pictures have none"):
        runs.train(tiny(flat, method="sup_con"), tmp_path, progress=False)


# --- TensorBoard ----------------------------------------------------------------------------------------------


class Writer:
    """Stands in for torch's SummaryWriter: what it was told, in order."""

    made = ()

    def __init__(self, folder, purge_step=None):
        self.folder, self.purge_step, self.told = folder, purge_step, []
        Writer.made = (*Writer.made, self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.told.append("closed")

    def add_scalar(self, name, value, step):
        self.told.append((name, step, value))

    def flush(self):
        self.told.append("on disk")


@pytest.fixture
def writers(monkeypatch):
    """The writers that were made; a run's end, which takes seconds, is left out."""
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=Writer))
    monkeypatch.setattr(runs, "_finish", lambda *_: "done")
    monkeypatch.setattr(Writer, "made", ())
    return lambda: Writer.made


def events_of(rows):
    """The metrics' rows as a writer should be told them, each on disk before training goes on."""
    names = ("learning_rate", "loss", "knn")
    rows = [[(name, row["step"], pytest.approx(row[name], rel=1e-5)) for name in names if name in row] for row in rows]
    return [event for row in rows for event in [*row, "on disk"]]


def test_a_runs_rows_are_tensorboards_events(pictures, tmp_path, writers):
    runs.train(tiny(pictures, steps=25), tmp_path / "run", progress=False)
    (writer,) = writers()
    assert (writer.folder, writer.purge_step) == (tmp_path / "run" / "tensorboard", None)
    rows = runs.read_metrics(tmp_path / "run" / "metrics.csv")
    assert [row["step"] for row in rows] == [0, 10, 13, 20, 25]
    assert writer.told == [*events_of(rows), "closed"]


def test_events_after_the_checkpoint_give_way_when_a_run_goes_on(pictures, tmp_path, writers):
    with pytest.MonkeyPatch.context() as patch:
        stopping(patch, at=17)
        _, interrupted = runs.train(tiny(pictures, steps=25), tmp_path / "run", progress=False)
    assert interrupted and runs.read_metrics(tmp_path / "run" / "metrics.csv")[-1]["step"] == 17
    runs.resume(tmp_path / "run", progress=False)
    before, after = writers()
    assert before.told[-3:] == [("loss", 17, before.told[-3][2]), "on disk", "closed"]
    assert after.purge_step == 14  # of 17's row the run that goes on knows nothing, of 13's it does
    kept = [event for event in before.told if isinstance(event, tuple) and event[1] < after.purge_step]
    new = [event for event in after.told if isinstance(event, tuple)]
    rows = runs.read_metrics(tmp_path / "run" / "metrics.csv")
    assert kept + new == [event for event in events_of(rows) if isinstance(event, tuple)]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_no_event_is_lost_where_a_run_breaks_off(pictures, tmp_path, writers, monkeypatch, error):
    def spoilt(folder, row):
        if row["step"] == 13:
            raise error

    monkeypatch.setattr(RunFolder, "add_metrics", spoilt)
    try:
        _, interrupted = runs.train(tiny(pictures, steps=25), tmp_path / "run", progress=False)
        assert interrupted  # by Ctrl-C; a full disk is an error
    except OSError:
        assert error is OSError
    (writer,) = writers()
    assert [event[1] for event in writer.told if event[0] == "loss"] == [10] and writer.told[-1] == "closed"


def test_a_process_that_only_computes_writes_no_events(writers):
    with runs._tensorboard(None, None) as add:
        add({"step": 0, "loss": 1.0})
    assert writers() == ()


@pytest.fixture
def unimported():
    """TensorBoard is yet to be imported, and what comes in its place is gone afterwards."""
    with mock.patch.dict(sys.modules):
        for name in [name for name in sys.modules if re.match(r"(torch\.utils\.)?tensorboard(\.|$)", name)]:
            del sys.modules[name]
        yield


def test_without_tensorboard_nothing_is_written_or_said(tmp_path, unimported, capsys):
    sys.modules["tensorboard"] = None
    with runs._tensorboard(RunFolder.reopen(tmp_path), None) as add:
        add({"step": 0, "loss": 1.0})
    assert list(tmp_path.iterdir()) == [] and capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("code", "words"),
    [("raise TypeError('Descriptors cannot be created directly.\\nMore lines')", "Descriptors cannot be created"),
     ("import protobuf_that_is_gone", "No module named"), ("raise AttributeError", "AttributeError"),
     ("__version__ = '1.1'", "requires TensorBoard version 1.15")],
)  # fmt: skip
def test_a_broken_tensorboard_is_told_in_a_line_and_training_goes_on(
    tmp_path, unimported, monkeypatch, capsys, code, words
):
    (tmp_path / "tensorboard.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with runs._tensorboard(RunFolder.reopen(tmp_path / "run"), None) as add:
        add({"step": 0, "loss": 1.0})
    said = capsys.readouterr().err
    assert said.startswith("clbook: no TensorBoard logs, for it can't be imported (") and words in said
    assert said.count("\n") == 1 and not (tmp_path / "run").exists()


@pytest.mark.skipif(not EVENTS, reason="TensorBoard isn't installed (it needn't be)")
def test_tensorboard_reads_what_a_run_wrote(pictures, tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setattr(runs, "_finish", lambda *_: "done")
    with pytest.MonkeyPatch.context() as patch:
        stopping(patch, at=17)
        runs.train(tiny(pictures, steps=25), tmp_path / "run", progress=False)
    runs.resume(tmp_path / "run", progress=False)
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    rows = runs.read_metrics(tmp_path / "run" / "metrics.csv")
    for name in ("learning_rate", "loss", "knn"):
        read = [(event.step, event.value) for event in events.Scalars(name)]
        assert read == [(row["step"], pytest.approx(row[name], rel=1e-5)) for row in rows if name in row]
    assert set(events.Tags()["scalars"]) == {"learning_rate", "loss", "knn"}


# --- compiled -------------------------------------------------------------------------------------------------

COMPILER = shutil.which(os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++"))  # torch's choice
HEADERS = (Path(sysconfig.get_path("include")) / "Python.h").exists()


@pytest.mark.slow
@pytest.mark.skipif(not (COMPILER and HEADERS), reason="torch.compile needs a C++ compiler and Python's headers")
def test_a_compiled_run_learns_the_same_and_goes_on(pictures, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))  # what is found there isn't compiled
    monkeypatch.setattr(runs, "_finish", lambda *_: "done")
    runs.train(tiny(pictures), tmp_path / "plain", progress=False)
    runs.train(tiny(pictures, compile=True), tmp_path / "compiled", progress=False)
    assert list((tmp_path / "cache").rglob("*.so"))
    with pytest.MonkeyPatch.context() as patch:
        stopping(patch, at=8)
        _, interrupted = runs.train(tiny(pictures, compile=True), tmp_path / "stopped", progress=False)
    assert interrupted
    runs.resume(tmp_path / "stopped", progress=False)
    plain, compiled, stopped = (torch.load(tmp_path / name / "encoder.pt", weights_only=True)
                                for name in ("plain", "compiled", "stopped"))  # fmt: skip
    assert list(compiled) == list(new_encoder(tiny(pictures)).state_dict())  # no prefix: plain names
    torch.testing.assert_close(compiled, plain, rtol=0, atol=1e-4)
    assert all(torch.equal(stopped[name], value) for name, value in compiled.items())
    rows = [runs.read_metrics(tmp_path / name / "metrics.csv") for name in ("plain", "compiled")]
    losses = [[row["loss"] for row in some if "loss" in row] for some in rows]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4) and len(losses[0]) == 3
