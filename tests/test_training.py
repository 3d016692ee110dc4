import copy
import dataclasses
import itertools
import json
import math
import random
import threading
import traceback
from dataclasses import asdict, fields
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from clbook import datasets, evaluation, methods, moco, models, training
from clbook.methods import SimCLR
from clbook.training import PHOTOGRAPHS, RECIPES, TrainConfig, fit, new_encoder

TINY = {"image_size": 16, "width": 4, "batch_size": 8, "device": "cpu", "precision": "fp32"}


def tiny(**changes):
    if not {"steps", "epochs", "minutes"} & changes.keys():
        changes["steps"] = 12
    return TrainConfig(**(TINY | changes))


@pytest.fixture(scope="module")
def images():
    return datasets.load("shapes", n=20, image_size=16).images


def weights(encoder):
    return {name: tensor.clone() for name, tensor in encoder.state_dict().items()}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# --- the configuration ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 1, "epochs": 1}, "expected one of steps, epochs and minutes, got steps=1, epochs=1, minutes=None"),
        ({"steps": 1, "minutes": 1.0}, "got steps=1, epochs=None, minutes=1.0"),
        ({"epochs": 2, "minutes": 1}, "got steps=None, epochs=2, minutes=1"),
        *[({name: value}, rf"{name}: expected a number > 0, got {value}")
          for name in ("temperature", "learning_rate", "minutes") for value in (0, -0.5, math.nan)],
        *[({name: value}, rf"{name}: expected a number > 0, got {value}")
          for name in ("n", "steps", "epochs", "image_size", "view_size", "width") for value in (0, -3)],
        *[({name: value}, rf"{name}: expected a number >= 0, got {value}")
          for name, value in (("weight_decay", -1e-4), ("weight_decay", math.nan), ("seed", -1), ("evaluations", -1))],
        ({"seed": 2**32}, "seed: expected a number below 2\\*\\*32, got 4294967296"),
        *[({"batch_size": value}, f"batch_size: expected at least 2 .*, got {value}") for value in (1, 0, -8)],
        *[({"warmup": value}, f"warmup: expected a share .*, got {value}") for value in (-0.1, 1, 1.5, math.nan)],
        *[({"crop": value}, f"crop: expected a share of the area, .*, got {value}") for value in (0, -1, 1.1)],
        *[({name: value}, f"{name}: expected a probability from 0 to 1, got {value}")
          for name in ("flip", "jitter", "gray") for value in (-0.1, 1.1, math.nan)],
        *[({name: -0.1}, f"{name}: expected a strength from 0 to .*, got -0.1")
          for name in ("rotation", "brightness", "contrast", "saturation", "hue")],
        ({"hue": 0.6}, "hue: expected a strength from 0 to 0.5, got 0.6"),
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 2.5}, r"steps: expected int \| None, got 2.5"),
        ({"batch_size": 2.5}, "batch_size: expected int, got 2.5"),
        ({"temperature": "0.2"}, "temperature: expected float, got '0.2'"),
        ({"temperature": None}, "temperature: expected float, got None"),
        ({"image_size": None}, "image_size: expected int, got None"),
        ({"hue": True}, "hue: expected float, got True"),
        ({"data": None}, "data: expected str, got None"),
        ({"device": 0}, "device: expected str, got 0"),
    ],
)
def test_values_of_another_type_are_refused(changes, message):
    with pytest.raises(TypeError, match=message):
        TrainConfig(**changes)


def test_whole_numbers_will_do_for_floats_and_the_edges_are_allowed():
    TrainConfig(
        minutes=2, temperature=1, warmup=0, crop=1, flip=1, gray=0, hue=0.5, weight_decay=0, evaluations=0, batch_size=2
    )


def test_a_configuration_is_frozen_and_survives_json():
    config = tiny(n=7, hue=0.3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.hue = 0.1
    assert TrainConfig(**json.loads(json.dumps(asdict(config)))) == config
    assert hash(config) == hash(tiny(n=7, hue=0.3))


def test_every_option_has_a_line_of_help():
    assert all(field.metadata["help"] and "%" not in field.metadata["help"] for field in fields(TrainConfig))


@pytest.mark.parametrize("data", [*RECIPES, "folder:pictures"])
def test_a_recipe_goes_with_its_data_and_changes_come_last(data):
    recipe, plain = asdict(TrainConfig.for_data(data)), asdict(TrainConfig())
    assert recipe == plain | RECIPES.get(data, PHOTOGRAPHS) | {"data": data}
    assert TrainConfig.for_data(data, flip=0.123, batch_size=10).flip == 0.123
    assert TrainConfig.for_data(data, batch_size=10).batch_size == 10


def test_a_recipe_keeps_its_width_and_its_views_to_its_own_encoder_and_size_of_pictures():
    assert TrainConfig.for_data("shapes").width == TrainConfig.for_data("shapes", image_size=16).width == 24
    assert TrainConfig.for_data("shapes", model="resnet18").width is None
    own = TrainConfig.for_data("folder:pictures")
    assert own.view_size == own.views().size == TrainConfig.for_data("folder:pictures", model="conv4").view_size < 32
    for changes in {"model": "vgg11"}, {"image_size": 64}, {"model": "small"}:
        config = TrainConfig.for_data("folder:pictures", **changes)
        assert (config.view_size, config.views().size) == (None, config.image_size)
    assert TrainConfig.for_data("folder:pictures", model="vgg11", view_size=40).views().size == 40
    with pytest.raises(ValueError, match="width"):
        training.new_encoder(TrainConfig.for_data("shapes", model="resnet18", width=24))


@pytest.mark.parametrize(
    ("before", "changes", "left_out"),
    [
        ({"model": "conv4", "width": 24, "view_size": 24}, {"model": "resnet18"}, {"width", "view_size"}),
        ({"model": "conv4", "width": 24, "view_size": 24}, {"image_size": 64}, {"view_size"}),
        ({"model": "conv4", "width": 24, "view_size": 24}, {"model": "conv4", "image_size": 32, "seed": 7}, set()),
        ({"model": "conv4", "view_size": 24}, {"image_size": 64, "view_size": 48}, set()),
        ({"model": "resnet18", "stem": "small"}, {"model": "small"}, {"stem"}),
        ({"steps": 5}, {"minutes": 2.0}, {"steps"}),
        ({"minutes": 5.0}, {"epochs": 2}, {"minutes"}),
        ({"minutes": 5.0}, {"minutes": 2.0}, set()),
        ({"knn_every": 2.0}, {"evaluations": 3}, {"knn_every"}),
    ],
)
def test_what_was_meant_for_another_setting_is_left_out(before, changes, left_out):
    config = TrainConfig(**before)
    assert asdict(config.changed(**changes)) == asdict(config) | dict.fromkeys(left_out) | changes


def test_two_limits_are_refused_also_as_changes():
    with pytest.raises(ValueError, match="expected one of steps, epochs and minutes"):
        TrainConfig(epochs=3).changed(steps=3, minutes=1.0)


def test_what_a_method_cannot_work_with_is_found_before_training(images):
    assert TrainConfig(method="moco", queue_size=8, batch_size=8).queue_size == 8
    for symmetric, keys in (False, 9), (True, 16):
        with pytest.raises(ValueError, match=f"queue_size: expected room for the {keys} keys of a batch, got 8"):
            TrainConfig(method="moco", queue_size=8, batch_size=keys // (1 + symmetric), symmetric=symmetric)
    config = tiny(method="sup_con")
    training.check(images, config, torch.arange(20) % 2)
    for labels, words in (
        (None, "these pictures have none"),
        (torch.zeros(20, dtype=torch.long), "two classes at least"),
    ):
        with pytest.raises(ValueError, match=words):
            training.check(images, config, labels)


def test_digits_are_never_mirrored():
    assert TrainConfig.for_data("digits").flip == 0


def test_recipes_are_for_data_that_there_is():
    assert set(RECIPES) <= set(datasets.available())


def test_every_strength_reaches_the_views():
    strengths = {"flip": 0.1, "rotation": 2.0, "brightness": 0.3, "contrast": 0.4, "saturation": 0.5, "hue": 0.06,
                 "jitter": 0.7, "gray": 0.8}  # fmt: skip
    views = TrainConfig(image_size=24, crop=0.9, **strengths).views()
    assert (views.size, views.scale) == (24, (0.9, 1.0))
    assert TrainConfig(image_size=24, view_size=17).views().size == 17
    assert {name: getattr(views, name) for name in strengths} == strengths


# --- a run ------------------------------------------------------------------------------------------------


def test_a_run_is_repeatable_to_the_bit(images):
    one, other, third = (fit(images, tiny(seed=seed)) for seed in (1, 1, 2))
    assert equal(weights(one.method), weights(other.method))
    losses = [[row.get("loss") for row in run.history] for run in (one, other)]
    assert losses[0] == losses[1]
    assert not equal(weights(one.encoder), weights(third.encoder))


def test_a_run_neither_reads_nor_moves_the_global_random_numbers(images):
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    one = fit(images, tiny())
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1]) and random.getstate() == before[2]
    torch.manual_seed(99)
    assert equal(weights(one.method), weights(fit(images, tiny()).method))


def test_watching_does_not_change_the_run(images):
    seen = []

    def monitor(encoder):
        features = evaluation.encode(encoder, images)
        return {"spread": features.std().item()}

    watched = fit(images, tiny(evaluations=4), monitor=monitor, on_row=seen.append)
    assert equal(weights(watched.method), weights(fit(images, tiny(evaluations=0)).method))
    assert seen == watched.history


def test_the_encoder_comes_back_changed_and_ready_to_use(images):
    config = tiny()
    run = fit(images, config)
    assert run.encoder is run.method.encoder and run.config is config and run.interrupted is False
    assert not any(module.training for module in run.method.modules())
    before, after = weights(new_encoder(config)), weights(run.encoder)
    assert before.keys() == after.keys()
    assert not any(torch.equal(before[name], after[name]) for name in before)  # running statistics, too
    assert run.encoder(images.float() / 255).shape == (20, 8 * config.width)


def test_new_encoder_is_the_encoder_before_the_first_step(images):
    first = []
    config = tiny(steps=1, seed=3)
    fit(images, config, monitor=lambda encoder: first.append(weights(encoder)) or {})
    fresh = new_encoder(config)
    assert equal(first[0], weights(fresh))
    assert not fresh.training
    assert not equal(first[0], weights(new_encoder(tiny(seed=4))))
    assert not equal(first[0], first[-1])


def test_uint8_and_float_pictures_train_alike(images):
    assert equal(weights(fit(images, tiny()).method), weights(fit(images.float() / 255, tiny()).method))


def test_labels_reach_supervised_methods_only(images):
    class Spy(SimCLR):
        def loss(self, *given):
            seen.append(given)
            return super().loss(given[0])

    for supervised in False, True:
        seen, Spy.supervised = [], supervised
        method = Spy(models.build("small", width=4))
        fit(images, tiny(steps=2), method=method, labels=torch.arange(len(images)))
        assert {len(given) for given in seen} == {1 + supervised}
    assert len(seen[0][1].unique()) == tiny().batch_size  # the labels of the batch's own rows


@pytest.mark.parametrize(
    ("labels", "error", "words"),
    [
        (None, ValueError, "SupCon learns from labels, and these pictures have none"),
        ([0] * 20, TypeError, "labels: expected a Tensor, got list"),
        (torch.zeros(19, dtype=torch.int64), ValueError, r"labels: expected 20 integers \[N\], got torch.int64 \[19\]"),
        (torch.zeros(20), ValueError, "labels: expected 20 integers"),
    ],
)
def test_labels_that_do_not_fit_are_refused(images, labels, error, words):
    with pytest.raises(error, match=words):
        fit(images, tiny(method="sup_con"), labels=labels)


def test_a_method_and_views_of_ones_own_train_as_the_built_in_ones_do(images):
    torch.manual_seed(tiny().seed)
    method = SimCLR(models.build("small", width=4), temperature=tiny().temperature)
    run = fit(images, tiny(), method=method, views=tiny().views())
    assert run.method is method and run.encoder is method.encoder and not method.training
    assert equal(weights(run.method), weights(fit(images, tiny()).method))


def test_a_method_is_told_of_each_step_once_the_weights_have_moved(images):
    class Watched(SimCLR):
        def after_step(self):
            seen.append(weights(self.encoder))

    seen, method = [], Watched(models.build("small", width=4))
    first = weights(method.encoder)
    run = fit(images, tiny(steps=3), method=method)
    assert len(seen) == 3 and not equal(first, seen[0]) and not equal(seen[0], seen[1])
    assert equal(seen[2], weights(run.encoder))


def test_what_needs_no_gradient_is_not_decayed(images):
    method = SimCLR(models.build("small", width=4))
    method.head.requires_grad_(False)
    before = [p.clone() for p in method.head.parameters()]
    fit(images, tiny(steps=2, weight_decay=1.0), method=method)
    assert all(torch.equal(p, q) for p, q in zip(before, method.head.parameters(), strict=True))


def test_views_of_ones_own_reach_the_loss(images):
    class Three(SimCLR):
        def loss(self, views):
            assert [v.shape for v in views] == [(8, 3, 16, 16)] * 3 and views[0].is_floating_point()
            return super().loss(views[:2])

    fit(images, tiny(steps=2), method=Three(models.build("small", width=4)), views=lambda x, g: (x / 255,) * 3)


class NoSteps(torch.nn.Module):
    encoder = None

    def loss(self, views):
        return views


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "simclr"}, "method: expected a Module, got str"),
        ({"method": NoSteps()}, r"method: expected .* loss\(views\) and .*, got a NoSteps without after_step"),
        ({"method": torch.nn.Linear(1, 1)}, "without encoder, loss, after_step"),
        ({"views": 3}, "views: expected a function or None, got int"),
    ],
)
def test_a_method_or_views_that_cant_serve_are_refused(images, options, message):
    with pytest.raises(TypeError, match=message):
        fit(images, tiny(), **options)


def test_the_loss_falls_where_it_is_easy():
    """Sixteen plain colours that the views leave alone."""
    colors = torch.rand(16, 3, 1, 1, generator=torch.Generator().manual_seed(0)).expand(-1, -1, 16, 16)
    config = tiny(steps=60, learning_rate=0.01, jitter=0.0, gray=0.0, evaluations=0)
    losses = [row["loss"] for row in fit(colors, config).history if "loss" in row]
    assert losses[0] < math.log(15)  # blind guessing
    assert losses[-1] < 0.7 * losses[0]


def test_weight_decay_temperature_and_width_reach_the_run(images):
    plain = fit(images, tiny())
    assert not equal(weights(plain.method), weights(fit(images, tiny(weight_decay=1.0)).method))
    assert not equal(weights(plain.method), weights(fit(images, tiny(temperature=0.5)).method))
    assert fit(images, tiny(temperature=0.5, steps=1)).method.temperature == 0.5
    assert fit(images, tiny(width=5, steps=1)).encoder(images.float()).shape == (20, 40)


@pytest.mark.parametrize(("model", "dim"), [("resnet18", 512), ("vgg11", 512)])
def test_every_kind_of_encoder_trains(images, model, dim):
    config = TrainConfig(model=model, batch_size=4, steps=1, image_size=32, device="cpu", precision="fp32")
    large = images.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert fit(large, config).encoder(large[:2].float() / 255).shape == (2, dim)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "resnet18", "width": 4}, r"resnet18: expected only the options it takes \(stem\), got width"),
        ({"model": "vgg11", "width": None, "image_size": 16}, r"at least 32 x 32 .* got \[1, 3, 16, 16\]"),
        ({"model": "vgg11", "width": None, "image_size": 32, "view_size": 16}, r"at least 32 x 32 .*, 16, 16\]"),
    ],
)
def test_an_encoder_that_will_not_do_is_found_before_training(images, changes, message):
    with pytest.raises(ValueError, match=message):
        training.check(images, tiny(**changes))


def test_bf16_trains_on_a_cpu(images):
    run = fit(images, tiny(precision="bf16", view_size=20, steps=3, evaluations=3))
    assert all(math.isfinite(row["loss"]) for row in run.history[1:])
    assert {parameter.dtype for parameter in run.method.parameters()} == {torch.float32}
    assert not equal(weights(run.method), weights(fit(images, tiny(precision="fp32", view_size=20, steps=3)).method))


# --- history ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "evaluations", "rows", "measured"),
    [
        (25, 0, [0, 10, 20, 25], [0]),
        (25, 1, [0, 10, 20, 25], [0, 25]),
        (20, 2, [0, 10, 20], [0, 10, 20]),
        (25, 5, [0, 5, 10, 15, 20, 25], [0, 5, 10, 15, 20, 25]),
        (12, 3, [0, 4, 8, 10, 12], [0, 4, 8, 12]),
        (3, 10, [0, 1, 2, 3], [0, 1, 2, 3]),
        (1, 0, [0, 1], [0]),
    ],
)
def test_rows_come_every_ten_steps_at_measurements_and_at_the_end(images, steps, evaluations, rows, measured):
    run = fit(images, tiny(steps=steps, evaluations=evaluations), monitor=lambda encoder: {"m": 1.0})
    assert [row["step"] for row in run.history] == rows
    assert [row["step"] for row in run.history if "m" in row] == measured


def test_rows_say_what_they_promise(images):
    run = fit(images, tiny(steps=10, evaluations=10))
    first, *others = run.history
    assert set(first) == {"step", "epoch", "seconds"} and first["step"] == 0
    assert all(set(row) == {"step", "epoch", "seconds", "learning_rate", "loss"} for row in others)
    assert all(type(row["step"]) is int and type(row["loss"]) is float for row in others)
    assert [row["epoch"] for row in run.history] == [row["step"] / 2 for row in run.history]  # 20 pictures, 8 a batch
    seconds = [row["seconds"] for row in run.history]
    assert seconds == sorted(seconds) and seconds[0] >= 0


def test_the_loss_of_a_row_is_the_mean_since_the_last(images):
    fine = [row["loss"] for row in fit(images, tiny(steps=12, evaluations=12)).history[1:]]
    coarse = [row["loss"] for row in fit(images, tiny(steps=12, evaluations=3)).history[1:]]
    expected = [fine[0:4], fine[4:8], fine[8:10], fine[10:12]]
    assert coarse == pytest.approx([sum(part) / len(part) for part in expected], rel=1e-5)


def test_a_progress_bar_is_shown_on_request(images, capsys):
    fit(images, tiny(steps=2))
    assert capsys.readouterr().err == ""
    fit(images, tiny(steps=2), progress=True)
    shown = capsys.readouterr().err
    assert "100%" in shown and "loss=" in shown


# --- learning rate, epochs, minutes -----------------------------------------------------------------------


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.25, 0.0004])
def test_the_learning_rate_rises_in_a_line_and_falls_as_a_cosine(images, warmup):
    steps, top = 40, 0.01
    run = fit(images, tiny(steps=steps, evaluations=steps, warmup=warmup, learning_rate=top))
    rates = np.array([row["learning_rate"] for row in run.history[1:]])
    done = np.arange(steps) / steps
    falling = done >= warmup
    angle = np.pi * (done[falling] - warmup) / (1 - warmup)
    assert rates[falling] == pytest.approx(top * np.cos(angle / 2) ** 2)
    assert rates[~falling][1:] == pytest.approx(top * done[~falling][1:] / warmup)
    assert (rates > 0).all() and (rates <= top).all() and rates.max() == pytest.approx(top, rel=0.01)
    assert rates[-1] < 0.01 * top


def test_the_learning_rate_is_what_the_optimizer_uses(images, monkeypatch):
    used = []
    step = torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: used.append(self.param_groups[0]["lr"]) or step(self))
    run = fit(images, tiny(steps=8, evaluations=8))
    assert used == [row["learning_rate"] for row in run.history[1:]]


class Spy:
    """Views that remember the batches they were asked for; each picture of these is one colour, its number."""

    def __init__(self, views):
        self.views, self.batches = views, []

    def __call__(self, batch, generator):
        self.batches.append(batch[:, 0, 0, 0].tolist())
        return self.views(batch, generator)


def batches_of(monkeypatch, count, **changes):
    config = tiny(**changes)
    spy = Spy(config.views())
    monkeypatch.setattr(TrainConfig, "views", lambda self: spy)
    numbered = torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 16, 16)
    fit(numbered, config)
    return spy.batches


def test_each_epoch_has_every_picture_once_in_a_new_order(monkeypatch):
    batches = batches_of(monkeypatch, 16, epochs=3)
    assert [len(batch) for batch in batches] == [8] * 6
    epochs = [batches[i] + batches[i + 1] for i in (0, 2, 4)]
    assert all(sorted(epoch) == list(range(16)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_a_batch_that_is_not_full_is_left_out(monkeypatch):
    batches = batches_of(monkeypatch, 23, epochs=4)
    assert [len(batch) for batch in batches] == [8] * 8
    for first, second in zip(batches[::2], batches[1::2], strict=True):
        assert len(set(first + second)) == 16
    assert {number for batch in batches for number in batch} == set(range(23))  # not always the same ones


def test_the_order_goes_with_the_seed(monkeypatch):
    assert batches_of(monkeypatch, 16, steps=2, seed=1) != batches_of(monkeypatch, 16, steps=2, seed=2)


def test_the_views_go_with_the_seed(images, monkeypatch):
    """One picture many times over: the order doesn't matter, so a difference comes from the views."""
    seen = []
    views = tiny().views()
    monkeypatch.setattr(TrainConfig, "views", lambda self: lambda *args: seen.append(views(*args)) or seen[-1])
    for seed in (1, 1, 2):
        fit(images[:1].expand(8, -1, -1, -1), tiny(steps=1, seed=seed))
    assert torch.equal(seen[0][0], seen[1][0]) and not torch.equal(seen[0][0], seen[2][0])
    assert not torch.equal(seen[0][0], seen[0][1])


def test_epochs_and_steps_are_two_ways_to_say_it(images):
    by_epochs, by_steps = fit(images, tiny(epochs=3)), fit(images, tiny(steps=6))  # 20 pictures, 8 a batch
    assert equal(weights(by_epochs.method), weights(by_steps.method))
    assert by_epochs.history[-1]["epoch"] == 3


class Clock:
    """Time that passes only when told."""

    def __init__(self, monkeypatch, seconds_a_step):
        self.now = 100.0
        batches = training._batches

        def slow(*arguments, **options):
            for batch in batches(*arguments, **options):
                self.now += seconds_a_step
                yield batch

        monkeypatch.setattr(training, "_batches", slow)
        monkeypatch.setattr(training, "time", SimpleNamespace(monotonic=lambda: self.now))


def test_minutes_stop_by_the_clock(images, monkeypatch):
    Clock(monkeypatch, seconds_a_step=2)
    run = fit(
        images, tiny(minutes=0.5, evaluations=3, warmup=0.2, learning_rate=0.01), monitor=lambda encoder: {"m": 1.0}
    )
    assert run.history[-1]["step"] == 15 and run.history[-1]["seconds"] == 30
    assert [row["step"] for row in run.history if "m" in row] == [0, 5, 10, 15]
    rates = [row["learning_rate"] for row in run.history[1:]]
    assert rates[0] == pytest.approx(0.01 * math.cos(math.pi * (10 / 30 - 0.2) / 0.8 / 2) ** 2)  # step 5's, at 10 s
    assert rates == sorted(rates, reverse=True)


def test_one_minute_is_what_nothing_said_means(images, monkeypatch):
    Clock(monkeypatch, seconds_a_step=5)
    assert fit(images, TrainConfig(**TINY)).history[-1]["step"] == 12


def test_a_limit_shorter_than_a_step_still_makes_one(images):
    run = fit(images, tiny(minutes=1e-9), monitor=lambda encoder: {"m": 1.0})
    assert [row["step"] for row in run.history if "m" in row] == [0, 1]


def test_the_last_step_is_measured_though_the_time_ran_out_while_a_row_was_written(images, monkeypatch):
    clock = Clock(monkeypatch, seconds_a_step=1)

    def slow(row):
        if row["step"] == 10:
            clock.now += 1000

    run = fit(images, tiny(minutes=1, evaluations=1), monitor=lambda encoder: {"m": 1.0}, on_row=slow)
    assert [row["step"] for row in run.history if "m" in row] == [0, run.history[-1]["step"]]
    assert "loss" in run.history[-1]


# --- stop and go on -----------------------------------------------------------------------------------------

LABELS = torch.arange(20) % 3
RESUMED = [
    {"method": "simclr"},
    {"method": "simclr", "epochs": 6, "warmup": 0.3},
    {"method": "moco", "queue_size": 24, "momentum": 0.7},
    {"method": "moco", "queue_size": 17, "symmetric": True},
    {"method": "sup_con"},
    {"method": "triplet", "mining": "hard", "margin": 0.5},
    {"method": "simclr", "precision": "bf16", "view_size": 20},
    {"method": "simclr", "precision": "fp16"},
]


def through_a_file(state, path):
    torch.save(state, path)
    return torch.load(path, weights_only=True)


def quiet(history):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


@pytest.mark.parametrize("changes", RESUMED, ids=str)
def test_a_run_goes_on_bit_for_bit_from_any_step(images, changes, tmp_path):
    config, states = tiny(**changes), []
    options = {"labels": LABELS, "monitor": lambda encoder: {"mean": encoder[0].weight.mean().item()}}

    def keep(state):
        states.append(through_a_file(state(), tmp_path / "state.pt"))

    whole = fit(images, config, on_step=keep, **options)
    assert len(states) == 11 and not whole.interrupted
    for state in states[::3]:
        torch.manual_seed(int(state["log"]["count"]))  # what happened in between must not matter
        rest = fit(images, config, state=state, **options)
        assert equal(weights(rest.method), weights(whole.method))
        assert quiet(rest.history) == quiet(whole.history)


def test_a_stopped_run_tells_of_its_last_step(images):
    counts = []
    run = fit(images, tiny(), on_step=lambda state: counts.append(state()["log"]["count"]) or len(counts) == 7)
    assert run.interrupted and run.history[-1]["step"] == counts[-1] == 7
    assert math.isfinite(run.history[-1]["loss"])


def test_a_run_may_be_stopped_again_and_again(images):
    kept, count = [None], 0

    def stop(state):
        kept.append(copy.deepcopy(state()))
        return True

    while (run := fit(images, tiny(), state=kept[-1], on_step=stop)).interrupted:
        count += 1
    assert count == 11
    assert equal(weights(run.encoder), weights(fit(images, tiny()).encoder))


def test_a_random_method_goes_on_too(images, tmp_path):
    """Batch-norm in shuffled halves takes torch's own random numbers."""

    def new():
        torch.manual_seed(0)
        method = Shuffled(models.build("small", width=4), queue_size=16)
        moco.split_batch_norm(method.key_encoder, 2)
        return method

    class Shuffled(methods.MoCo):
        def keys(self, view):
            return moco.encode_shuffled(self.key_encoder, view)

    states = []
    whole = fit(images, tiny(), method=new(), on_step=lambda s: states.append(copy.deepcopy(s())))
    rest = fit(images, tiny(), method=new(), state=states[4])
    assert equal(weights(rest.method), weights(whole.method))


def test_seconds_go_on_where_they_stopped(images, monkeypatch):
    clock, states = Clock(monkeypatch, seconds_a_step=2), []
    config = tiny(minutes=0.5)
    fit(images, config, on_step=lambda state: states.append(copy.deepcopy(state())))
    clock.now += 1000  # the night
    rest = fit(images, config, state=states[5])
    assert rest.history[-1]["step"] == 15 and rest.history[-1]["seconds"] == 30


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s | {"clbook": 99}, f"state: expected one that fit has made, of version {training.STATE_VERSION}"),
        (lambda s: {"model": 1}, "got model"),
        (lambda s: [1], "got list"),
        (lambda s: s | {"pictures": [21, 0]}, "a run on these 20 pictures, got one on 21 others; bring them back"),
        (lambda s: s | {"config": s["config"] | {"seed": 5}}, "got one with seed = 5 instead of 0; start a new run"),
        (
            lambda s: s | {"random": s["random"] | {"views": torch.zeros(16, dtype=torch.uint8)}},
            "a run on cpu, got one on another kind of device; go on where it began",
        ),
    ],
)
def test_a_state_of_another_run_is_refused(images, change, words):
    states = []
    fit(images, tiny(steps=2), on_step=lambda state: states.append(copy.deepcopy(state())))
    with pytest.raises(ValueError, match=words):
        fit(images, tiny(steps=2), state=change(states[0]))


def test_a_state_with_a_loss_that_is_not_finite_is_not_made(images):
    class Spoilt(SimCLR):
        def loss(self, views):
            return super().loss(views) * math.inf

    with pytest.raises(FloatingPointError, match=r"the loss is nan after step 1, .*standard deviation 0"):
        fit(images, tiny(), method=Spoilt(models.build("small", width=4)), on_step=lambda state: state())


def test_a_compiled_encoder_learns_the_same(images, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compiled.append(module))
    run = fit(images, tiny(compile=True))
    assert compiled == [run.encoder]
    assert "0.weight" in run.encoder.state_dict()  # no prefix: the file loads without this package


# --- interruptions and failures ---------------------------------------------------------------------------


def interrupt_at(step):
    def on_row(row):
        if row["step"] == step:
            raise KeyboardInterrupt

    return on_row


def test_an_interruption_keeps_what_was_learned(images):
    config = tiny(steps=100, evaluations=5)
    run = fit(images, config, on_row=interrupt_at(10))
    assert run.interrupted
    assert [row["step"] for row in run.history] == [0, 10]
    assert not any(module.training for module in run.method.modules())
    assert not equal(weights(run.encoder), weights(new_encoder(config)))
    assert evaluation.encode(run.encoder, images).isfinite().all()


def test_an_interruption_while_measuring_keeps_what_was_learned(images):
    calls = []

    def monitor(encoder):
        calls.append(weights(encoder))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return {"m": float(len(calls))}

    run = fit(images, tiny(steps=40, evaluations=4), monitor=monitor)
    assert run.interrupted and not run.encoder.training
    assert [row["m"] for row in run.history if "m" in row] == [1, 2]
    assert equal(weights(run.encoder), calls[-1]) and not equal(calls[0], calls[-1])


def test_gradients_are_switched_on_and_come_back_as_they_were(images):
    """Ctrl-C may come where a monitor has switched them off, before it could switch them on again."""

    def monitor(encoder):
        seen.append(torch.is_grad_enabled())
        if len(seen) == 2:
            torch.set_grad_enabled(False)
            raise KeyboardInterrupt
        return {}

    for before in (True, False):
        seen = []
        with torch.set_grad_enabled(before):
            run = fit(images, tiny(steps=4, evaluations=2), monitor=monitor)
            assert torch.is_grad_enabled() == before
        assert run.interrupted and seen == [True, True]


def test_other_errors_come_through_and_leave_the_encoder_ready(images):
    seen = []

    def monitor(encoder):
        seen.append(encoder)
        if len(seen) == 2:
            raise OSError("disk full")
        return {}

    with pytest.raises(OSError, match="disk full"):
        fit(images, tiny(), monitor=monitor)
    assert not seen[0].training


@pytest.mark.parametrize("evaluations", [0, 3])
def test_a_diverging_run_is_stopped(images, evaluations):
    config = tiny(steps=30, evaluations=evaluations, learning_rate=math.inf)
    with pytest.raises(FloatingPointError, match=r"the loss is nan after step \d+, learning rate inf.*temperature"):
        fit(images, config)


@pytest.mark.parametrize(("steps", "evaluations", "told", "measured"), [(30, 3, 10, 1), (30, 30, 7, 7), (8, 0, 8, 1)])
def test_a_loss_that_is_no_number_is_told_at_the_next_row(images, monkeypatch, steps, evaluations, told, measured):
    """As on a GPU, where the loss itself doesn't look for NaN. It isn't measured: what a monitor saved stays good."""
    calls, seen = [], []
    true_loss = training.SimCLR.loss

    def loss(self, views):
        calls.append(1)
        return true_loss(self, views) + (math.nan if len(calls) >= 7 else 0)

    monkeypatch.setattr(training.SimCLR, "loss", loss)
    with pytest.raises(FloatingPointError, match=f"the loss is nan after step {told},"):
        fit(images, tiny(steps=steps, evaluations=evaluations), monitor=lambda encoder: seen.append(encoder) or {})
    assert len(seen) == measured


@pytest.mark.parametrize("step", [1, 4])
def test_what_a_batch_is_refused_for_is_no_divergence(images, monkeypatch, step):
    calls, true_loss = [], training.SimCLR.loss

    def refuse(self, views):
        calls.append(1)
        if len(calls) == step:
            raise ValueError("views: these will not do")
        return true_loss(self, views)

    monkeypatch.setattr(training.SimCLR, "loss", refuse)
    with pytest.raises(ValueError, match="these will not do"):
        fit(images, tiny())
    assert len(calls) == step


def test_an_encoder_that_the_last_step_has_spoilt_is_not_measured(images):
    """No loss has seen it yet; and a monitor may save it."""
    seen = []

    def monitor(encoder):
        seen.append(all(tensor.isfinite().all() for tensor in encoder.state_dict().values()))
        return {}

    with pytest.raises(FloatingPointError, match="after step 1, learning rate inf"):
        fit(images, tiny(steps=30, evaluations=30, learning_rate=math.inf), monitor=monitor)
    assert seen == [True]


def test_ctrl_c_before_the_first_step_ends_all(images):
    """There is no run yet that could be reported, or gone on with."""

    def monitor(encoder):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(images, tiny(), monitor=monitor)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_pictures_that_are_no_numbers_are_counted_and_named(images, bad):
    broken = images.float() / 255
    broken[[4, 9], 0, 3, 3] = bad
    with pytest.raises(ValueError, match="NaN or infinity in 2 pictures, the first is picture 4; leave them out"):
        fit(broken, tiny())


def test_fewer_pictures_than_a_batch_are_refused(images):
    with pytest.raises(ValueError, match="at least one batch of 21 pictures, got 20; set a smaller batch_size"):
        fit(images, tiny(batch_size=21))
    assert len(fit(images, tiny(batch_size=20, steps=1)).history) == 2


@pytest.mark.parametrize("shape", [(20, 1, 16, 16), (3, 16, 16), (20, 16, 16, 3), (20, 3, 256)])
def test_pictures_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"images: expected \[N, 3, H, W\], got \[") as caught:
        fit(torch.zeros(shape), tiny())
    assert str(list(shape)) in str(caught.value)


def test_integers_that_are_not_bytes_are_refused(images):
    with pytest.raises(TypeError, match=r"expected uint8 in 0\.\.255 or float in \[0, 1\], got torch.int64"):
        fit(images.long(), tiny())


def test_an_unknown_model_is_told_the_nearest(images):
    with pytest.raises(ValueError, match=r"model: expected one of small.*got 'smal'\. Did you mean 'small'"):
        fit(images, tiny(model="smal"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"device": "tpu"}, "device: "), ({"precision": "fp8"}, "precision: "), ({"model": "x"}, "model: ")],
)
def test_check_finds_before_training_what_fit_would_refuse(images, changes, message):
    for refuse in (training.check, fit):
        with pytest.raises(ValueError, match=message):
            refuse(images, tiny(**changes))
    with pytest.raises(ValueError, match="at least one batch"):
        training.check(images[:7], tiny())
    training.check(images, tiny())


# --- device and precision ---------------------------------------------------------------------------------


@pytest.fixture
def machine(monkeypatch):
    def has(cuda=False, mps=False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return has


def test_auto_takes_the_best_device_there_is(machine):
    for there, best in (
        ({}, "cpu"),
        ({"mps": True}, "mps"),
        ({"cuda": True}, "cuda"),
        ({"cuda": True, "mps": True}, "cuda"),
    ):
        machine(**there)
        assert training.find_device().type == best


def test_a_device_that_is_not_there_is_refused(machine, monkeypatch):
    machine()
    assert training.find_device("cpu") == torch.device("cpu")
    for name in ("cuda", "cuda:1", "mps", "gpu", "", "cpu:1", "cpu:x"):
        with pytest.raises(ValueError, match=rf"device: expected auto or one of this machine's \(cpu\), got '{name}'"):
            training.find_device(name)
    machine(cuda=True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert training.find_device("cuda:1") == torch.device("cuda:1")
    for name in ("cuda:2", "cuda:-1", "cuda:x"):
        with pytest.raises(ValueError, match=r"\(cuda, cpu\)"):
            training.find_device(name)
    with pytest.raises(ValueError, match=r"\(cuda, cpu\)"):
        training.find_device("mps")


@pytest.mark.parametrize(
    ("capabilities", "found"),
    [({}, "fp32"), ({"avx512_bf16": False}, "fp32"), ({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16")],
)
def test_auto_is_bf16_where_the_processor_has_it(monkeypatch, capabilities, found):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert training.find_precision("auto", torch.device("cpu")) == found
    assert training.find_precision("fp32", torch.device("cpu")) == "fp32"
    assert training.find_precision("bf16", torch.device("cpu")) == "bf16"


def test_processes_of_a_group_need_a_gpu_each_and_no_mps(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(training.distributed, "world_size", lambda: 2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name in ("auto", "cuda", "cuda:0"):
        with pytest.raises(ValueError, match="a GPU for each of the 2 processes on this machine, got 1; start 1"):
            training.find_device(name)
    assert training.find_device("cpu") == torch.device("cpu")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")  # this process's own
    assert training.find_device("auto") == torch.device("cuda") and training.find_device("cuda:0").index == 0
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="no number where 2 processes take a GPU each, got 'cuda:0'; leave it out"):
        training.find_device("cuda:0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    with pytest.raises(ValueError, match="a GPU for each of the 4 processes on this machine, got 2; start 2"):
        training.find_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert training.find_device("auto") == torch.device("cpu")
    monkeypatch.setattr(training.distributed, "world_size", lambda: 1)
    assert training.find_device("auto") == torch.device("mps")


def test_small_views_are_for_fp32_on_a_cpu(monkeypatch, images):
    """Of a stride that meets one pixel oneDNN's bf16 gradient has whatever was in memory, where the kernel's weights
    see nothing but padding."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert [training.find_precision("auto", cpu, side) for side in (1, 16, 17, 32)] == ["fp32", "fp32", "bf16", "bf16"]
    assert training.find_precision("fp16", cpu, 16) == "fp16" and training.find_precision("bf16", cuda, 16) == "bf16"
    with pytest.raises(ValueError, match=r"expected fp32 for views of 16 px on a CPU, .*, got 'bf16'; take"):
        training.check(images, tiny(precision="bf16"))
    with pytest.raises(ValueError, match="views of 16 px"):
        fit(images, tiny(precision="bf16"))
    assert equal(*(weights(fit(images, tiny(precision=name)).method) for name in ("auto", "fp32")))


@pytest.mark.parametrize(("name", "stem"), [(name, stem) for name in models.ENCODERS for stem in models.STEMS
                                            if stem == "small" or name.startswith("resnet")])  # fmt: skip
def test_from_17_pixels_on_every_stride_meets_enough(name, stem):
    def look(conv, given):
        met.append(min(given[0].shape[-2:]) >= max(conv.stride))

    met, encoder = [], models.build(name, **({"stem": stem} if name.startswith("resnet") else {})).eval()
    for layer in encoder.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_pre_hook(look)
    models.feature_dim(encoder, 32 if name.startswith("vgg") else 17)
    assert met and all(met)


def test_auto_is_bf16_on_a_card_that_computes_in_it(monkeypatch):
    for there, found in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, there=there: there)
        assert training.find_precision("auto", torch.device("cuda")) == found
    assert training.find_precision("auto", torch.device("mps")) == "fp32"


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="precision: expected auto, fp32, bf16 or fp16, got 'fp8'"):
        training.find_precision("fp8", torch.device("cpu"))


# --- where a run starts, and what feeds it ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "changes", "options"),
    [("small", {}, {}), ("small", {"width": 4}, {"width": 4}), ("vgg11", {}, {}), ("resnet18", {}, {"stem": "small"}),
     ("resnet18", {"image_size": 64}, {"stem": "small"}), ("resnet50", {"image_size": 96}, {"stem": "imagenet"}),
     ("resnet50", {"image_size": 224, "stem": "small"}, {"stem": "small"})],
)  # fmt: skip
def test_the_stem_follows_the_size_of_the_pictures(model, changes, options):
    assert TrainConfig(model=model, **changes).options() == options


@pytest.mark.parametrize("method", ["simclr", "moco"])
def test_a_run_starts_from_the_encoder_of_another(method, images, tmp_path):
    first = fit(images, tiny())
    torch.save(first.encoder.state_dict(), tmp_path / "encoder.pt")
    starts = []
    config = tiny(init=str(tmp_path), method=method, queue_size=20, steps=1, learning_rate=1e-12, weight_decay=0.0)
    run = fit(images, config, monitor=lambda encoder: starts.append(weights(encoder)) or {})
    assert equal(starts[0], weights(first.encoder))
    if method == "moco":  # the slow copy starts there, too
        copied = run.method.key_encoder.encoder[0]
        assert (copied[0].weight - first.encoder[0].weight).abs().max() < 1e-6
    assert not equal(weights(new_encoder(config)), starts[0])  # the baseline has random weights


def test_a_run_goes_on_when_the_one_it_began_from_is_gone(images, tmp_path):
    torch.save(fit(images, tiny()).encoder.state_dict(), tmp_path / "encoder.pt")
    config, states = tiny(init=str(tmp_path), steps=6), []

    def stop(state):
        states.append(state())
        return len(states) == 3

    fit(images, config, on_step=stop)
    whole = fit(images, config)
    (tmp_path / "encoder.pt").unlink()
    assert equal(weights(fit(images, config, state=states[-1]).method), weights(whole.method))
    with pytest.raises(ValueError, match=r"expected in .*encoder.pt.* got .*No such file"):
        fit(images, config)


@pytest.mark.parametrize("name", training.PRESETS)
def test_each_preset_can_be_built(name):
    config = TrainConfig.preset(name, **({} if name != "pictures-gpu" else {"data": "folder:x"}))
    assert config.epochs or config.minutes
    assert training.models.feature_dim(new_encoder(config), config.image_size) in (256, 512, 2048)


def test_a_preset_unknown_or_without_pictures_says_so():
    with pytest.raises(ValueError, match=r"preset: expected one of laptop, .*; got 'huge'"):
        TrainConfig.preset("huge")
    with pytest.raises(ValueError, match="expected data with pictures-gpu"):
        TrainConfig.preset("pictures-gpu")


@pytest.mark.parametrize(("every", "steps", "measured"), [(1.0, 7, [0, 2, 4, 6, 7]), (2.0, 8, [0, 4, 8]),
                                                          (0.5, 3, [0, 1, 2, 3]), (100, 3, [0, 3])])  # fmt: skip
def test_knn_is_measured_every_so_many_epochs_and_at_the_end(every, steps, measured, images):
    config = tiny(knn_every=every, steps=steps, batch_size=10)  # two steps an epoch
    run = fit(images, config, monitor=lambda encoder: {"m": 1.0})
    assert [row["step"] for row in run.history if "m" in row] == measured


class Waiting:
    """A device that isn't the CPU, as far as the feed asks."""

    type = "meta"


def test_pictures_that_do_not_fit_are_taken_one_batch_ahead_by_a_thread(monkeypatch):
    images, labels = torch.arange(24.0).view(12, 2), torch.arange(12)
    asked, threads = [], set()

    def read(data, rows, pin):
        asked.append(rows.tolist())
        threads.add(threading.current_thread().name)
        return [tensor[rows] for tensor in data]

    monkeypatch.setattr(training, "_rows_of", read)
    monkeypatch.setattr(training, "_free_bytes", lambda device: 0)
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *_, **__: tensor)
    order = [torch.tensor([3, 1]), torch.tensor([0, 11]), torch.tensor([5, 5])]
    feed = training._feed((images, labels), iter(order), Waiting())
    for i, rows in enumerate(order):
        got = next(feed)
        assert torch.equal(got[0], images[rows]) and torch.equal(got[1], labels[rows])
        assert len(asked) <= i + 2  # this one and the next
    assert next(feed, None) is None and asked == [rows.tolist() for rows in order]
    assert all(name.startswith("clbook-batches") for name in threads)
    feed = training._feed((images, labels), itertools.cycle(order), Waiting())
    next(feed)
    feed.close()
    assert not any(thread.name.startswith("clbook-batches") for thread in threading.enumerate())


def test_an_error_of_the_thread_that_feeds_reaches_the_run(monkeypatch):
    def broken(data, rows, pin):
        raise OSError("the disk is gone")

    monkeypatch.setattr(training, "_rows_of", broken)
    monkeypatch.setattr(training, "_free_bytes", lambda device: 0)
    with pytest.raises(OSError, match="the disk is gone"):
        next(training._feed((torch.ones(4),), iter([torch.tensor([0])] * 3), Waiting()))


def test_pictures_that_fit_move_to_the_device_once(monkeypatch):
    moved, to = [], torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *a, **k: moved.append(tensor.shape) or to(tensor, "cpu"))
    monkeypatch.setattr(training, "_free_bytes", lambda device: 8 * 4 * 2 / training.RESIDENT_SHARE)
    images = torch.arange(16.0).view(8, 2)
    got = list(training._feed((images,), iter([torch.tensor([3, 1]), torch.tensor([7, 0])]), Waiting()))
    assert [batch[0].tolist() for batch in got] == [[[6, 7], [2, 3]], [[14, 15], [0, 1]]]
    assert moved.count(images.shape) == 1 and moved.count(torch.Size([2])) == 2  # the pictures, and each batch's rows


class Synchronizing(TorchDispatchMode):
    """Operations whose result the host must see before it can go on: a GPU's queue would run empty."""

    NAMES = ("local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique", "bincount", "allclose")

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.__name__.split(".")[0].lstrip("_")
        boolean = name in ("index", "index_put", "index_put_", "index_put_impl_") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])  # fmt: skip
        if boolean or any(name.startswith(word) for word in self.NAMES):
            lines = [f"{frame.name}: {frame.line}" for frame in traceback.extract_stack() if "clbook" in frame.filename]
            self.found.append((name, lines[-1]))
        return function(*args, **kwargs or {})


@pytest.mark.parametrize("method", ["simclr", "moco", "sup_con"])
def test_no_step_waits_for_the_device(method, images):
    """Steps 2 to 8 of a run: rows of the history, which do wait, come with step 10. Left out are the checks that only
    the CPU makes, and AdamW's step, which is fused on a GPU."""
    watch, steps = Synchronizing(), []

    def on_step(state):
        steps.append(len(watch.found))
        if len(steps) == 1:
            watch.__enter__()
        if len(steps) == 8:
            watch.__exit__(None, None, None)

    config = tiny(method=method, queue_size=20, steps=12, evaluations=0, temperature=0.2, rotation=10.0)
    fit(images, config, labels=torch.arange(20) % 3, on_step=on_step)
    assert len(watch.found) > 50  # those left out: it does watch
    assert not [told for told in watch.found if 'type == "cpu"' not in told[1] and "scaler.step(" not in told[1]]


def test_no_step_sends_the_device_numbers_one_by_one(images, monkeypatch):
    """The host waits for those, too: `torch.tensor(..., device=)` copies from memory that isn't pinned."""
    sent, true_tensor = [], torch.tensor

    def tensor(*args, **kwargs):
        caller = traceback.extract_stack()[-2]  # AdamW's counters, on the CPU, are its own affair
        sent.append(caller.line) if "device" in kwargs and "clbook" in caller.filename else None
        return true_tensor(*args, **kwargs)

    monkeypatch.setattr(torch, "tensor", tensor)
    fit(images, tiny(steps=3, evaluations=0, rotation=10.0))
    assert not sent


@pytest.mark.parametrize("labels", [None, torch.arange(20) % 3])
def test_a_state_is_of_its_own_pictures_and_labels(images, labels):
    """As many others are refused: a folder that has changed, or another draw of it."""
    config, states = tiny(method="simclr" if labels is None else "sup_con", steps=3), []
    fit(images, config, labels=labels, on_step=lambda state: states.append(state()))
    others = images.flip(0) if labels is None else images, labels if labels is None else labels.roll(1)
    with pytest.raises(ValueError, match="a run on these 20 pictures, got one on 20 others; bring them back"):
        fit(others[0], config, labels=others[1], state=states[0])
    assert fit(images, config, labels=labels, state=states[0]).history[-1]["step"] == 3


# --- half precision, on a CPU -----------------------------------------------------------------------------


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_half_precision_is_that_of_the_encoder_on_channels_last_pictures(images, precision, dtype):
    class Watched(SimCLR):
        def loss(self, views):
            loss = super().loss(views)
            seen["loss"] = loss.dtype
            return loss

    def look(conv, given, made):
        seen["pictures"] = given[0].is_contiguous(memory_format=torch.channels_last)
        seen["weights"] = conv.weight.is_contiguous(memory_format=torch.channels_last)
        seen["made"] = made.dtype, made.is_contiguous(memory_format=torch.channels_last)

    seen, method = {}, Watched(models.build("small", width=4))
    method.encoder[0].register_forward_hook(look)
    run = fit(images, tiny(precision=precision, view_size=20, steps=3), method=method)
    assert seen == {"pictures": True, "weights": True, "made": (dtype, True), "loss": torch.float32}
    assert {p.dtype for p in run.method.parameters()} == {torch.float32}


@pytest.mark.parametrize(("precision", "size"), [("bf16", 20), ("fp16", 16)])
def test_half_precision_learns_nearly_what_full_precision_does(images, precision, size):
    full, half = (
        fit(images, tiny(steps=10, evaluations=0, precision=p, view_size=size)).history[-1]["loss"]
        for p in ("fp32", precision)
    )
    assert half != full and half == pytest.approx(full, abs=0.02)


def test_fp16_leaves_out_a_step_whose_gradient_overflows(images):
    """One is made infinite, the first few are by themselves: the weights stay, the scale is halved, the run goes on."""
    finite, scales, kept = [], [65536.0], []

    def spoil(grad):
        grad = grad * math.inf if len(finite) == 7 else grad
        finite.append(grad.isfinite().all().item())
        return grad

    def keep(state):
        scales.append(state()["scaler"]["scale"])
        kept.append({name: p.detach().clone() for name, p in method.named_parameters()})

    torch.manual_seed(0)
    method = SimCLR(models.build("small", width=4))
    method.encoder[0].weight.register_hook(spoil)
    fit(images, tiny(precision="fp16", steps=11), method=method, on_step=keep)
    assert finite[5:] == [True, True, False, True, True, True]
    assert [after / before for before, after in itertools.pairwise(scales)] == [1 if f else 0.5 for f in finite[:-1]]
    assert [not equal(*pair) for pair in itertools.pairwise(kept)] == finite[1:-1]
