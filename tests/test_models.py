"""Encoders: plain torch modules that outlive this package."""

import copy
import io
import itertools

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from clbook import models
from clbook.moco import MomentumEncoder
from clbook.models import PredictionHead, ProjectionHead, build, conv4, evaluating, feature_dim, load_weights, small


@pytest.fixture(autouse=True)
def the_same_weights_every_time():
    torch.manual_seed(0)


def pictures(n=4, height=32, width=32):
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(0))


def by_hand(width):
    """`small` as someone without this package would write it down."""
    return nn.Sequential(
        nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, 2, 1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU(),
        nn.Conv2d(2 * width, 4 * width, 3, 2, 1, bias=False), nn.BatchNorm2d(4 * width), nn.ReLU(),
        nn.Conv2d(4 * width, 8 * width, 3, 2, 1, bias=False), nn.BatchNorm2d(8 * width), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip


@pytest.mark.parametrize("width", [1, 6, 32])
def test_small_loads_into_a_hand_written_network(width):
    encoder = small(width)
    encoder(pictures())  # running statistics that aren't the initial ones
    file = io.BytesIO()
    torch.save(encoder.state_dict(), file)
    file.seek(0)
    other = by_hand(width)
    other.load_state_dict(torch.load(file, weights_only=True), strict=True)
    for training in (True, False):
        assert torch.equal(encoder.train(training)(pictures()), other.train(training)(pictures()))
    assert type(encoder) is nn.Sequential
    assert all(type(part).__module__.startswith("torch.") for part in encoder.modules())


def conv4_by_hand(width):
    """`conv4` as someone without this package would write it down."""
    return nn.Sequential(
        nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, 1, 1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(2 * width, 4 * width, 3, 1, 1, bias=False), nn.BatchNorm2d(4 * width), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4 * width, 8 * width, 3, 1, 1, bias=False), nn.BatchNorm2d(8 * width), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip


@pytest.mark.parametrize("width", [1, 6])
def test_conv4_loads_into_a_hand_written_network(width):
    encoder = conv4(width)
    encoder(pictures())
    other = conv4_by_hand(width)
    other.load_state_dict(encoder.state_dict(), strict=True)
    for training in (True, False):
        assert torch.equal(encoder.train(training)(pictures()), other.train(training)(pictures()))
    assert all(type(part).__module__.startswith("torch.") for part in encoder.modules())


@pytest.mark.parametrize("encoder", [small, conv4])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (8, 8), (1, 1), (33, 20), (64, 96)])
def test_small_encoders_take_any_picture_size(encoder, height, width):
    features = encoder(4).eval()(pictures(2, height, width))
    assert features.shape == (2, 32) and features.isfinite().all() and (features >= 0).all()


@pytest.mark.parametrize("encoder", [small, conv4])
def test_features_tell_pictures_apart_and_gradients_arrive_everywhere(encoder):
    encoder = encoder(8)
    features = encoder(pictures())
    assert (torch.pdist(features) > 1e-3).all()
    features.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())


def test_build_makes_what_its_function_makes_anew_each_time():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first, second = build("small", width=4), build("small", width=4)
        torch.manual_seed(0)
        again = small(width=4)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first[0].weight, second[0].weight)
    assert build("small")[0].out_channels == 32


NAMES = ", ".join(("small", "conv4", "resnet18", "resnet34", "resnet50", "vgg11", "vgg16"))


@pytest.mark.parametrize(
    ("name", "nearest"), [("smal", "small"), ("Small", "small"), ("resnet81", "resnet18"), ("vgg1", "vgg1")]
)
def test_unknown_models_are_answered_with_the_nearest(name, nearest):
    with pytest.raises(ValueError, match=rf"expected one of {NAMES}; got '{name}'\. Did you mean '{nearest}"):
        build(name)


def test_a_name_like_no_other_gets_no_guess():
    with pytest.raises(ValueError, match=rf"expected one of {NAMES}; got 'transformer'$"):
        build("transformer")


# --- resnets and vggs: torchvision's, without the classifier ---

THEIRS = {"resnet18": ("resnet18", 512), "resnet34": ("resnet34", 512), "resnet50": ("resnet50", 2048),
          "vgg11": ("vgg11_bn", 512), "vgg16": ("vgg16_bn", 512)}  # fmt: skip
RESNETS = [name for name in THEIRS if name.startswith("resnet")]


@pytest.fixture
def large(request):
    """An encoder by name, with the imagenet stem, and torchvision's model on the meta device: no time, no memory."""
    options = {"stem": "imagenet"} if request.param.startswith("resnet") else {}
    with torch.device("meta"):
        theirs = getattr(torchvision.models, THEIRS[request.param][0])(weights=None)
    return request.param, build(request.param, **options), theirs


@pytest.mark.parametrize("large", THEIRS, indirect=True)
def test_weights_load_into_torchvisions_class_and_only_the_classifier_is_missing(large):
    _, encoder, theirs = large
    outcome = theirs.load_state_dict(encoder.state_dict(), strict=False, assign=True)
    assert outcome.unexpected_keys == []
    assert outcome.missing_keys and all(key.startswith(("fc.", "classifier.")) for key in outcome.missing_keys)
    assert all(theirs.state_dict()[key].shape == value.shape for key, value in encoder.state_dict().items())


@pytest.mark.parametrize("large", THEIRS, indirect=True)
def test_features_are_those_that_torchvisions_class_computes(large):
    name, encoder, theirs = large
    theirs.load_state_dict(encoder.eval().state_dict(), strict=False, assign=True)
    theirs.eval().fc = theirs.classifier = nn.Identity()
    if name.startswith("vgg"):
        theirs.avgpool = nn.AdaptiveAvgPool2d(1)  # theirs are 7 x 7 places
    images = pictures(2, 64, 48)
    with torch.no_grad():
        assert torch.equal(encoder(images), theirs(images))
        assert encoder(images).shape == (2, THEIRS[name][1])
    assert feature_dim(encoder) == THEIRS[name][1]


@pytest.mark.parametrize("name", RESNETS)
def test_the_small_stem_keeps_all_pixels(name):
    """Chen et al. 2020, the appendix on CIFAR-10: 3x3, stride 1, no max-pool; torchvision's class takes it as told."""
    encoder = build(name).eval()
    before_blocks, last = [], []
    encoder.layer1.register_forward_pre_hook(lambda module, inputs: before_blocks.append(inputs[0].shape))
    encoder.layer4.register_forward_hook(lambda module, inputs, output: last.append(output.shape[2:]))
    features = encoder(pictures(2))
    assert before_blocks == [(2, 64, 32, 32)] and last == [(4, 4)] and features.shape == (2, THEIRS[name][1])
    with torch.device("meta"):
        theirs = getattr(torchvision.models, name)(weights=None)
    with pytest.raises(RuntimeError, match=r"size mismatch for conv1\.weight"):
        theirs.load_state_dict(encoder.state_dict(), strict=False, assign=True)
    theirs.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)  # as the docstring says
    theirs.maxpool = nn.Identity()
    assert theirs.load_state_dict(encoder.state_dict(), strict=False, assign=True).missing_keys == [
        "fc.weight", "fc.bias"]  # fmt: skip
    theirs.eval().fc = nn.Identity()
    assert torch.equal(theirs(pictures(2)), features)


def test_new_layers_start_as_torchvisions_do():
    """He et al. 2015, by fan-out: a variance of 2 / (k * k * c_out)."""
    for encoder, layer in ((build("resnet18"), "conv1"), (build("vgg11"), "features.8")):
        conv = encoder.get_submodule(layer)
        wanted = (2 / (9 * conv.out_channels)) ** 0.5
        assert conv.weight.std().item() == pytest.approx(wanted, rel=0.05)
    assert not encoder.features[8].bias.any()


@pytest.mark.parametrize("name", ["vgg11", "vgg16"])
def test_vgg_needs_32_pixels_and_no_more(name):
    encoder = build(name).eval()
    with torch.no_grad():
        assert encoder(pictures(1)).shape == encoder(pictures(1, 33, 70)).shape == (1, 512)
    for height, width in ((31, 32), (64, 16)):
        with pytest.raises(ValueError, match=rf"at least 32 x 32 pixels .*got \[1, 3, {height}, {width}\]; scale"):
            encoder(pictures(1, height, width))


def test_vgg_makes_no_classifier():
    assert sum(p.numel() for p in build("vgg11").parameters()) < 10e6  # torchvision's has 133 million
    assert all(key.startswith("features.") for key in build("vgg11").state_dict())


@pytest.mark.parametrize("name", ["resnet18", "vgg11"])
def test_gradients_arrive_everywhere_in_the_larger_ones(name):
    encoder = build(name)
    encoder(pictures(3)).square().sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())


# --- evaluating, feature_dim ---


def frozen_in_part():
    """A module in training mode with one batch-norm in evaluation mode, as fine-tuning may leave it."""
    encoder = small(2).train()
    encoder[1].eval()
    return encoder


def modes(module):
    return [part.training for part in module.modules()]


def test_evaluating_gives_every_part_its_mode_back():
    encoder = frozen_in_part()
    before = modes(encoder)
    with evaluating(encoder) as same:
        assert same is encoder and not any(modes(encoder))
    assert modes(encoder) == before
    with pytest.raises(KeyError), evaluating(encoder):
        raise KeyError
    assert modes(encoder) == before


@pytest.mark.parametrize("encoder", [small(1), small(5), nn.Flatten(), nn.Sequential(nn.Flatten(), nn.Linear(3072, 7))])
def test_feature_dim_is_the_width_of_the_features(encoder):
    assert feature_dim(encoder) == encoder.eval()(pictures()).shape[1]


def test_feature_dim_leaves_no_trace():
    encoder = frozen_in_part()
    before, state, random = modes(encoder), copy.deepcopy(encoder.state_dict()), torch.get_rng_state()
    assert feature_dim(encoder) == 16
    assert feature_dim(nn.Flatten(), image_size=8) == 3 * 8 * 8
    assert modes(encoder) == before
    assert all(torch.equal(v, state[k]) for k, v in encoder.state_dict().items())  # batch statistics included
    assert torch.equal(random, torch.get_rng_state())
    assert not modes(small(1).eval())[0] and feature_dim(small(1).double()) == 8


def test_feature_dim_restores_the_mode_when_the_encoder_fails():
    encoder = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(5, 5)).train()
    with pytest.raises(RuntimeError):
        feature_dim(encoder)
    assert all(modes(encoder))


# --- the head ---


@pytest.mark.parametrize("made", [lambda: ProjectionHead(6), lambda: PredictionHead(6), models.vgg11])
def test_layers_can_be_sliced(made):
    layers = made()
    first = layers[:2]
    assert type(first) is nn.Sequential and list(first.state_dict()) == [
        name for name in layers.state_dict() if name.split(".")[0] in list(first._modules)]  # fmt: skip
    assert first[0] is layers[0] and layers[-1] is list(layers)[-1]


def test_projection_head_is_linear_norm_relu_linear():
    head = ProjectionHead(6, hidden_dim=5, out_dim=3)
    h = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    (w1, scale, shift, w2, b2) = head.parameters()
    assert [p.shape for p in (w1, scale, shift, w2, b2)] == [(5, 6), (5,), (5,), (3, 5), (3,)]
    hidden = h @ w1.T
    hidden = (hidden - hidden.mean(0)) / (hidden.var(0, correction=0) + 1e-5).sqrt() * scale + shift
    torch.testing.assert_close(head(h), F.relu(hidden) @ w2.T + b2)


def test_projection_head_has_simclrs_sizes():
    assert ProjectionHead(16)(torch.rand(4, 16)).shape == (4, 128)
    assert ProjectionHead(16)[0].out_features == 256


def layers(head):
    return [type(layer).__name__ for layer in head]


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        ({}, "Linear BatchNorm1d ReLU Linear"),  # SimCLR's code, BYOL
        ({"batch_norm": "none"}, "Linear ReLU Linear"),  # MoCo v2
        ({"depth": 3}, "Linear BatchNorm1d ReLU Linear BatchNorm1d ReLU Linear"),  # Barlow Twins, VICReg
        ({"depth": 3, "batch_norm": "all"},  # SimSiam
         "Linear BatchNorm1d ReLU Linear BatchNorm1d ReLU Linear BatchNorm1d"),
    ],
)  # fmt: skip
def test_projection_heads_of_the_papers(options, kinds):
    head = ProjectionHead(6, 5, 3, **options)
    assert " ".join(layers(head)) == kinds
    modules = list(head)
    linear = [layer for layer in modules if isinstance(layer, nn.Linear)]
    widths = [6] + [5] * (len(linear) - 1) + [3]
    assert [(layer.in_features, layer.out_features) for layer in linear] == list(itertools.pairwise(widths))
    followed = [isinstance(after, nn.BatchNorm1d) for layer, after in zip(modules, [*modules[1:], None], strict=True)
                if isinstance(layer, nn.Linear)]  # fmt: skip
    assert [layer.bias is None for layer in linear] == followed  # batch-norm would take a bias out again
    assert len(set(map(id, modules))) == len(modules)  # none is there twice
    assert head(torch.rand(4, 6)).shape == (4, 3)


def test_simsiams_last_norm_has_no_scale_of_its_own():
    z = ProjectionHead(6, 5, 3, depth=3, batch_norm="all")(torch.rand(64, 6))
    torch.testing.assert_close(z.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.var(0, correction=0), torch.ones(3), atol=1e-2, rtol=0)
    assert not ProjectionHead(6, 5, 3, depth=3, batch_norm="all")[-1].affine


def test_prediction_head_is_linear_norm_relu_linear_back_to_the_same_size():
    head = PredictionHead(8, hidden_dim=5)
    z = torch.randn(9, 8, generator=torch.Generator().manual_seed(0))
    (w1, scale, shift, w2, b2) = head.parameters()
    assert [p.shape for p in (w1, scale, shift, w2, b2)] == [(5, 8), (5,), (5,), (8, 5), (8,)]
    hidden = z @ w1.T
    hidden = (hidden - hidden.mean(0)) / (hidden.var(0, correction=0) + 1e-5).sqrt() * scale + shift
    torch.testing.assert_close(head(z), F.relu(hidden) @ w2.T + b2)


@pytest.mark.parametrize(("dim", "hidden"), [(2048, 512), (10, 2), (1, 1)])
def test_prediction_head_is_a_bottleneck_of_a_quarter(dim, hidden):
    assert PredictionHead(dim)[0].out_features == hidden


# --- weights of an earlier training ---


class Download:
    """torchvision's weights, without a network."""

    def __init__(self, monkeypatch):
        monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", self)

    def __call__(self, url, **options):
        assert options["check_hash"] and options["weights_only"]
        name = next(name for name in ("resnet18", "vgg11_bn") if name in url)
        self.model = getattr(torchvision.models, name)()
        self.model(pictures())  # running statistics that aren't the initial ones
        return self.model.state_dict()


@pytest.mark.parametrize(("name", "first", "border"), [("resnet18", "bn1", 2), ("vgg11", "features.1", 1)])
def test_imagenet_weights_see_our_pictures_as_theirs_see_normalized_ones(name, first, border, monkeypatch):
    download, seen = Download(monkeypatch), []
    encoder = build(name, **({"stem": "imagenet"} if name == "resnet18" else {})).eval()
    load_weights(encoder, "torchvision", name)
    for model in (encoder, download.model.eval()):
        model.get_submodule(first).register_forward_hook(lambda module, inputs, output: seen.append(output))
    shown = pictures(2, 64, 64)
    normalized = torchvision.transforms.functional.normalize(shown, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    with torch.no_grad():
        ours, theirs = encoder(shown), download.model(normalized)
    assert ours.shape == (2, 512) and theirs.shape == (2, 1000)
    inside = (..., slice(border, -border), slice(border, -border))  # where no padding is seen
    torch.testing.assert_close(seen[0][inside], seen[1][inside], atol=2e-5, rtol=1e-4)
    assert not torch.allclose(seen[0], seen[1], atol=1e-2)  # the border: black there, the mean colour here


def test_weights_of_a_run_are_taken_as_they_are(tmp_path):
    torch.save(small(4).state_dict(), tmp_path / "encoder.pt")
    encoder = small(4)
    load_weights(encoder, str(tmp_path), "small")
    state = torch.load(tmp_path / "encoder.pt", weights_only=True)
    assert all(torch.equal(tensor, state[name]) for name, tensor in encoder.state_dict().items())


@pytest.mark.parametrize("reason", [OSError("no route"), RuntimeError('invalid hash value (expected "a", got "b")')])
def test_a_broken_download_says_so(reason, monkeypatch):
    def fails(url, **options):
        raise reason

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fails)
    with pytest.raises(ConnectionError, match="can't download torchvision's weights"):
        load_weights(build("vgg11"), "torchvision", "vgg11")


def test_weights_that_would_run_code_are_not_read(tmp_path):
    torch.save({"0.weight": print}, tmp_path / "encoder.pt")
    with pytest.raises(ValueError, match="Weights only load failed"):
        load_weights(small(4), str(tmp_path), "small")


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "No such file"), (b"nonsense", "Weights only load failed"), ({"a": torch.ones(1)}, "Missing key"),
     ([1], "dict-like"), (small(5).state_dict(), "size mismatch.*; give the folder of a run with that model, width")],
)  # fmt: skip
def test_files_that_hold_no_weights_of_it_say_so(content, words, tmp_path):
    if isinstance(content, bytes):
        (tmp_path / "encoder.pt").write_bytes(content)
    elif content is not None:
        torch.save(content, tmp_path / "encoder.pt")
    with pytest.raises(ValueError, match=words):
        load_weights(small(4), str(tmp_path), "small")


def test_imagenet_weights_and_the_small_stem_do_not_fit(monkeypatch):
    Download(monkeypatch)
    with pytest.raises(ValueError, match=r"size mismatch for conv1.*; torchvision's resnets have --stem imagenet"):
        load_weights(build("resnet18"), "torchvision", "resnet18")


def test_torchvision_has_no_weights_of_small():
    with pytest.raises(ValueError, match="expected an encoder of torchvision's for its weights, got small"):
        load_weights(small(4), "torchvision", "small")


# --- bad input ---

TAKE_NOTHING = {"evaluating", "first_weight", "vgg11", "vgg16", "load_weights", "read_weights"}  # or a module; for
# the last two see above
BAD = {
    **{
        name: [((width,), {}, f"width: expected an integer of at least 1, got {width!r}")
               for width in (0, -1, 2.0, "", True)]
        for name in ("small", "conv4")
    },
    **{
        name: [(("large",), {}, "stem: expected one of small, imagenet, got 'large'"), ((None,), {}, "got None")]
        for name in ("resnet18", "resnet34", "resnet50")
    },
    "build": [
        (("big",), {}, f"model: expected one of {NAMES}; got 'big'"),
        ((None,), {}, "got None"),
        (("small",), {"width": 0}, "width: expected an integer of at least 1, got 0"),
        (("resnet18",), {"width": 32}, "resnet18: expected only the options it takes (stem), got width; leave it out"),
        (("vgg11",), {"stem": "small"}, "vgg11: expected only the options it takes (none), got stem; leave it out"),
    ],
    "feature_dim": [((nn.Identity(),), {}, "encoder: expected features [N, D], got [1, 3, 32, 32] for one picture")],
    "ProjectionHead": [
        ((0,), {}, "in_dim: expected an integer of at least 1, got 0"),
        ((4, -1), {}, "hidden_dim: expected an integer of at least 1, got -1"),
        ((4, 4, 2.5), {}, "out_dim: expected an integer of at least 1, got 2.5"),
        *[((4,), {"depth": depth}, f"depth: expected 2 or 3 linear layers, got {depth}") for depth in (1, 4, True)],
        ((4,), {"batch_norm": True}, "batch_norm: expected hidden, all or none, got True"),
    ],
    "PredictionHead": [
        ((0,), {}, "dim: expected an integer of at least 1, got 0"),
        ((True,), {}, "dim: expected an integer of at least 1, got True"),
        ((4, 0), {}, "hidden_dim: expected an integer of at least 1, got 0"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("name", "case"), [(name, case) for name in BAD for case in BAD[name]])
def test_bad_input_says_what_was_expected_and_what_came(name, case):
    arguments, options, words = case
    with pytest.raises(ValueError, match=r"expected[\s\S]*got") as error:
        getattr(models, name)(*arguments, **options)
    assert words in str(error.value)


def test_every_public_function_is_in_the_table_of_bad_input():
    ours = {n for n, f in vars(models).items() if getattr(f, "__module__", "") == models.__name__}
    assert set(BAD) == {name for name in ours if not name.startswith("_")} - TAKE_NOTHING


def test_the_weights_of_a_momentum_encoder_are_buffers():
    encoder = MomentumEncoder(small(2).double(), 0.9)
    assert models.first_weight(encoder).dtype == torch.float64 and not list(encoder.parameters())
    assert feature_dim(encoder, image_size=16) == 16
    assert models.first_weight(nn.Flatten()).numel() == 0
