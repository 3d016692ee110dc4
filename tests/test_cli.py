import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import asdict, fields, replace
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import clbook
from clbook import cli, datasets, distributed, results, runs
from clbook.training import PRESETS, RECIPES, TrainConfig

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def handlers():
    """`clbook train` takes SIGTERM; give it back."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def asked(monkeypatch):
    """The (configuration, folder) pairs that `clbook train` would run."""
    calls = []
    monkeypatch.setattr(runs, "train", lambda config, path: calls.append((config, path)) or ("the summary", False))
    return calls


@pytest.fixture
def pictures(tmp_path):
    generator = np.random.RandomState(0)
    for i in range(40):
        path = tmp_path / "pictures" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.randint(0, 256, (12, 12, 3)).astype(np.uint8)).save(path)
    return tmp_path / "pictures"


def options(pictures, tmp_path):
    return ["train", f"--data=folder:{pictures}", f"--run={tmp_path / 'run'}", "--image-size=16", "--width=4",
            "--batch-size=8", "--steps=3", "--device=cpu", "--precision=fp32"]  # fmt: skip


def command(*arguments, **environment):
    return subprocess.run([sys.executable, "-m", "clbook", *arguments], env=os.environ | environment, cwd=ROOT,
                          capture_output=True, text=True, timeout=120)  # fmt: skip


# --- help -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [["--help"], *([name, "--help"] for name in ("doctor", "train", "evaluate", "embed", "compare"))]
)
def test_every_command_has_help(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith("usage: clbook")
    if arguments == ["--help"]:
        assert "doctor" in shown and "train" in shown


def test_help_names_every_field_with_its_default(capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for field in fields(TrainConfig):
        assert f"--{field.name.replace('_', '-')} " in shown
        default = "" if field.default is None else f" ({field.default})"
        assert field.metadata["help"] + default in shown
    assert "--run FOLDER" in shown


def test_the_version(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"clbook {clbook.__version__}\n"
    assert metadata.version("clbook") == clbook.__version__


def test_the_installed_command_is_this_one():
    (script,) = metadata.entry_points(group="console_scripts", name="clbook")
    assert script.load() is cli.main


@pytest.mark.parametrize(
    ("arguments", "words"),
    [([], "COMMAND"), (["trian"], "trian"), (["train", "--stepz", "3"], "--stepz 3"),
     (["train", "--steps", "many"], "'many'"), (["train", "--steps"], "expected one argument"),
     (["doctor", "--steps", "3"], "--steps")],
)  # fmt: skip
def test_what_cannot_be_parsed_ends_in_2(arguments, words, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


# --- options ----------------------------------------------------------------------------------------------

VALUES = {"data": "digits", "n": 77, "image_size": 24, "view_size": 18, "model": "small", "width": 9,
          "temperature": 0.3, "batch_size": 17,
          "learning_rate": 0.5, "weight_decay": 0.01, "warmup": 0.33, "crop": 0.11, "flip": 0.12,
          "rotation": 13.0, "jitter": 0.14, "brightness": 0.15, "contrast": 0.16, "saturation": 0.17, "hue": 0.18,
          "gray": 0.19, "seed": 20, "device": "cpu", "precision": "fp32", "evaluations": 21, "method": "moco",
          "queue_size": 44, "momentum": 0.23, "symmetric": True, "margin": 0.24, "mining": "hard", "compile": True,
          "checkpoint_minutes": 25.0, "stem": "imagenet", "init": "runs/a", "knn_every": 2.5}  # fmt: skip
LIMITS = {"steps": 4, "epochs": 5, "minutes": 0.6}


def test_the_values_tried_are_of_every_field():
    assert VALUES.keys() | LIMITS.keys() == {field.name for field in fields(TrainConfig)}


def as_option(name, value):
    return [f"--{name.replace('_', '-')}"] + ([] if value is True else [str(value)])


@pytest.mark.parametrize("limit", LIMITS)
def test_every_field_is_an_option_that_reaches_the_run(asked, limit, capsys):
    values = VALUES | {limit: LIMITS[limit]}
    given = [part for name, value in values.items() for part in as_option(name, value)]
    assert cli.main(["train", *given, "--run", "there"]) == 0
    (config, path), = asked  # fmt: skip
    assert asdict(config) == {"steps": None, "epochs": None, "minutes": None} | values
    assert path == "there"
    assert capsys.readouterr().out == "the summary\n"


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if "data" in preset])
def test_a_preset_is_a_whole_run_that_options_change(asked, name):
    assert cli.main(["train", "--preset", name]) == 0
    assert cli.main(["train", "--steps", "3", "--preset", name, "--flip", "0.25"]) == 0
    (plain, path), (changed, _) = asked
    assert path is None and PRESETS[name].items() <= asdict(plain).items()
    assert changed == replace(plain, flip=0.25, steps=3, epochs=None, minutes=None)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--preset", "pictures-gpu"], "give --data folder:PATH"),
     (["--preset", "laptop", "--config", "x"], "leave one of them out"),
     (["--preset", "laptop", "--resume", "x"], "expected no other option")],
)  # fmt: skip
def test_presets_that_cannot_be_used_say_why(asked, arguments, words, capsys):
    assert cli.main(["train", *arguments]) == 2
    assert words in capsys.readouterr().err and not asked


def test_an_unknown_preset_ends_in_2_and_lists_them(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", "--preset", "huge"])
    assert ended.value.code == 2 and "cifar10-gpu" in capsys.readouterr().err


@pytest.mark.parametrize("data", [*RECIPES, "folder:x"])
def test_the_recipe_of_the_data_holds_unless_overridden(asked, data):
    assert cli.main(["train", "--data", data]) == cli.main(["train", "--data", data, "--flip", "0.25"]) == 0
    (plain, path), (changed, _) = asked
    assert plain == TrainConfig.for_data(data) and path is None
    assert changed == TrainConfig.for_data(data, flip=0.25)


def test_shapes_are_the_default(asked):
    cli.main(["train"])
    assert asked == [(TrainConfig.for_data("shapes"), None)]


def test_arguments_come_from_the_command_line_if_none_are_given(asked, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["clbook", "train", "--seed", "5"])
    assert cli.main() == 0
    assert asked[0][0].seed == 5


# --- exit codes -------------------------------------------------------------------------------------------


def one_line(capsys):
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and captured.err.startswith("clbook: ")
    return captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--data", "shape"],
            "data set: expected one of shapes, digits",
        ),
        (["--data", "folder:nowhere"], "'nowhere', which does not exist"),
        (["--data", "digits", "--model", "smal"], "got 'smal'. Did you mean 'small'"),
        (["--data", "digits", "--device", "tpu"], "device: expected auto or one of this machine's"),
        (["--data", "digits", "--precision", "fp8"], "precision: expected auto, fp32, bf16 or fp16, got 'fp8'"),
        (["--data", "digits", "--batch-size", "5000"], "at least one batch of 5000 pictures, got 1257"),
        (["--data", "digits", "--n", "5000"], "has 1257 pictures, got n=5000"),
        (["--method", "simclear"], "method: expected one of simclr, moco, sup_con, triplet; got 'simclear'"),
        (["--resume", "nowhere"], "can't read 'nowhere/config.json'"),
        (["--resume", "nowhere", "--seed", "3"], "--resume: expected no other option"),
        (["--config", "nowhere.json"], "can't read 'nowhere.json' (No such file or directory)"),
        (["--temperature", "0"], "temperature: expected a number > 0, got 0.0"),
        (["--temperature", "nan"], "temperature: expected a number > 0, got nan"),
        (["--steps", "1", "--epochs", "1"], "expected one of steps, epochs and minutes"),
        (["--hue", "0.7"], "hue: expected a strength from 0 to 0.5, got 0.7"),
    ],
)
def test_bad_input_ends_in_2_with_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", *arguments]) == 2
    assert message in one_line(capsys)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_ends_in_2(capsys, tmp_path, pictures):
    assert cli.main([*options(pictures, tmp_path), f"--run={tmp_path}"]) == 2
    assert "expected a new or empty folder" in one_line(capsys)


def test_a_run_ends_in_0_with_one_line(capsys, tmp_path, pictures):
    assert cli.main(options(pictures, tmp_path)) == 0
    out = capsys.readouterr().out
    assert re.fullmatch(rf"kNN \d\.\d+ on 4 test pictures \(.*\); .*3 steps.*; in {tmp_path / 'run'}\n", out)


def test_divergence_ends_in_1_with_a_reason(capsys, tmp_path, pictures):
    assert cli.main([*options(pictures, tmp_path), "--learning-rate=inf", "--steps=20"]) == 1
    assert "clbook: the loss is nan after step" in capsys.readouterr().err


def failing(monkeypatch, error):
    def train(config, path):
        raise error

    monkeypatch.setattr(runs, "train", train)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (OSError(28, "No space left on device", "run/encoder.pt"), 2, "No space left on device: 'run/encoder.pt'"),
        (KeyboardInterrupt(), 130, "clbook: stopped"),
        (ConnectionError("rank 0: expected all processes of the run to go on"), 1, "clbook: rank 0: expected all"),
        (
            ImportError("No module named 'sklearn'"),
            1,
            "No module named 'sklearn'; `clbook doctor` says what is missing",
        ),
    ],
)
def test_what_goes_wrong_outside_is_one_line_too(capsys, monkeypatch, error, code, message):
    failing(monkeypatch, error)
    assert cli.main(["train"]) == code
    assert message in one_line(capsys)


def test_a_bug_keeps_its_traceback(monkeypatch):
    failing(monkeypatch, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        cli.main(["train"])


def test_an_interrupted_run_still_tells_its_summary(capsys, monkeypatch):
    monkeypatch.setattr(runs, "train", lambda config, path: ("what was learned", True))
    assert cli.main(["train"]) == 130
    assert capsys.readouterr().out == "what was learned\n"


# --- doctor, and the true command -------------------------------------------------------------------------


def test_doctor_reports_and_its_code_is_the_commands(capsys, monkeypatch):
    assert cli.main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "torch" in shown and "The course can run here." in shown
    monkeypatch.setattr(cli.doctor, "report", lambda: 1)
    assert cli.main(["doctor"]) == 1


def test_the_module_is_the_command():
    done = command("train", "--data", "digit")
    assert done.returncode == 2
    assert done.stdout == ""
    choices = ", ".join(datasets.available())
    assert done.stderr == f"clbook: data set: expected one of {choices}; got 'digit'. Did you mean 'digits'?\n"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [(["--version"], 0, "clbook "), (["--help"], 0, "doctor"),
     (["doctor"], 1, "PyTorch can't be imported: broken on purpose"), (["train"], 1, "`clbook doctor` says what")],
)  # fmt: skip
def test_without_pytorch_the_command_still_speaks(tmp_path, arguments, code, words):
    (tmp_path / "torch.py").write_text("raise ImportError('broken on purpose')")
    done = command(*arguments, PYTHONPATH=str(tmp_path))
    assert done.returncode == code
    assert words in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_config_file_repeats_a_run_with_changes(asked, tmp_path):
    config = TrainConfig(steps=3, hue=0.3, method="moco")
    (tmp_path / "run.json").write_text(json.dumps(asdict(config)))
    cli.main(["train", "--config", str(tmp_path / "run.json")])
    cli.main(["train", "--config", str(tmp_path / "run.json"), "--epochs", "2", "--no-symmetric", "--run", "there"])
    assert asked == [(config, None), (replace(config, steps=None, epochs=2), "there")]


@pytest.mark.parametrize(
    ("name", "arguments", "given"),
    [("evaluate", ["there"], (("there", None), {"device": "auto"})),
     ("evaluate", ["there", "--data=digits", "--device=cpu"], (("there", "digits"), {"device": "cpu"})),
     ("embed", ["there", "--data=folder:x", "--out=y.npz"],
      (("there", "folder:x", "y.npz"), {"split": None, "device": "auto"})),
     ("embed", ["there", "--data=digits", "--split=val", "--device=cpu"],
      (("there", "digits", None), {"split": "val", "device": "cpu"})),
     ("compare", ["one", "two", "--out=c.png"], ((["one", "two"], "c.png"), {}))],
)  # fmt: skip
def test_what_is_done_with_runs_is_printed(monkeypatch, capsys, name, arguments, given):
    calls = []
    monkeypatch.setattr(results, name, lambda *args, **kwargs: calls.append((args, kwargs)) or "what came of it")
    assert cli.main([name, *arguments]) == 0
    assert capsys.readouterr().out == "what came of it\n" and calls == [given]


@pytest.mark.parametrize("arguments", [["evaluate", "nowhere"], ["embed", "nowhere", "--data=digits"],
                                       ["compare", "nowhere", "there"]])  # fmt: skip
def test_a_run_that_is_none_ends_in_2(capsys, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nowhere").mkdir()
    assert cli.main(arguments) == 2
    assert "can't read 'nowhere/config.json'" in one_line(capsys)


def test_the_others_wait_for_long_while_one_decodes_and_reports(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(distributed, "group", lambda **options: asked.append(options) or contextlib.nullcontext())
    monkeypatch.setattr(runs, "resume", lambda path: ("", False))
    assert cli.main(["train", "--resume", "there"]) == 0 and asked[0]["minutes"] >= 600


def test_a_name_that_the_terminal_has_no_letters_for_is_printed_all_the_same(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "ascii"))
    monkeypatch.setattr(runs, "resume", lambda path: ("Łukasz", False))
    assert cli.main(["train", "--resume", "there"]) == 0
    sys.stdout.flush()
    assert sys.stdout.buffer.getvalue() == b"\\u0141ukasz\n"


def test_resume_goes_on(monkeypatch, capsys):
    monkeypatch.setattr(runs, "resume", lambda path: (f"went on with {path}", False))
    assert cli.main(["train", "--resume", "there"]) == 0
    assert capsys.readouterr().out == "went on with there\n"
