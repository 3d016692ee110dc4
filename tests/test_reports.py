import html
import math
import re
from html.parser import HTMLParser

import pytest
import torch
from torch import nn

from clbook import reports, training
from clbook.datasets import ImageSet
from clbook.training import TrainConfig

EVIL = "\"><script>alert(1)</script>&amp;'"


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def a_set(images, labels=None, classes=("a", "b")):
    return ImageSet("bars", (255 * images).byte(), labels, classes if labels is not None else ())


# --- what a run ran on, and with what -----------------------------------------------------------------------


def test_the_environment_is_this_one():
    about = reports.environment(TrainConfig(device="cpu", precision="bf16"))
    assert about["torch"] == torch.__version__.split("+")[0] and about["threads"] == torch.get_num_threads()
    assert (about["device"], about["precision"]) == ("cpu", "bf16")
    assert all(about.values())


def test_what_is_changed_is_told_beside_the_default():
    assert reports.changed(TrainConfig()) == {}
    assert reports.changed(TrainConfig(hue=0.3, steps=7)) == {"steps": (7, None), "hue": (0.3, 0.1)}


# --- neighbours -----------------------------------------------------------------------------------------------


def test_the_nearest_are_those_of_a_sort_by_cosine(monkeypatch):
    bank, queries = a_set(rand(20, 3, 4, 4), torch.arange(20) % 2), a_set(rand(3, 3, 4, 4, seed=1), torch.arange(3) % 2)
    drawn = {}
    monkeypatch.setattr(reports.plots, "neighbours", lambda *args, **kwargs: drawn.update(args=args, **kwargs))
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(48, 5))
    reports.neighbours(encoder, bank, queries, k=4)
    with torch.no_grad():
        h_bank, h = (encoder(s.images.float() / 255) for s in (bank, queries))
    same = 0
    for i in range(3):
        cosine = [(h[i] @ other / h[i].norm() / other.norm()).item() for other in h_bank]
        nearest = sorted(range(20), key=lambda j: -cosine[j])[:4]
        assert torch.equal(drawn["args"][1][i], bank.images[nearest])
        assert drawn["titles"][i] == [f"query {'ab'[i % 2]}", *(f"{cosine[j]:.2f} {'ab'[j % 2]}" for j in nearest)]
        same += sum(j % 2 == i % 2 for j in nearest)
    assert "3 test pictures, and beside each the 4 training pictures that" in drawn["alt"]
    assert drawn["alt"].endswith(f"; {same} of 12 are of the query's class.")


def test_a_small_bank_without_labels_is_shown_whole():
    picture = reports.neighbours(None, a_set(rand(2, 3, 4, 4)), a_set(rand(1, 3, 4, 4, seed=1)))
    assert re.match(r"1 test pictures, and beside each the 2 training pictures .*, 0\.\d\d to 0\.\d\d\.$", picture.alt)
    with pytest.raises(ValueError, match="k: expected an integer of at least 1, got 0"):
        reports.neighbours(None, a_set(rand(2, 3, 4, 4)), a_set(rand(1, 3, 4, 4)), k=0)


# --- collapse -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fit():
    config = TrainConfig(n=8, image_size=8, width=2, batch_size=4, steps=1, device="cpu", precision="fp32")
    return training.fit(rand(8, 3, 8, 8), config)


def test_collapse_is_told_of_features_and_of_the_heads_output(fit):
    said = reports.collapse(fit, a_set(rand(8, 3, 8, 8)))
    assert list(said) == ["features h", "the head's z"]
    for said_of, dim in zip(said.values(), (16, 128), strict=True):
        assert said_of.endswith(f"of 1/√{dim}")
    assert "collapsed to a point" in reports.collapse(fit, a_set(rand(1, 3, 8, 8).repeat(8, 1, 1, 1)))["features h"]
    with pytest.raises(TypeError, match=r"fit: expected what training\.fit returns, got int"):
        reports.collapse(5, a_set(rand(8, 3, 8, 8)))


def test_vectors_that_are_no_numbers_are_told(fit):
    broken = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    nn.init.constant_(broken[1].bias, math.nan)
    said = reports.collapse(training.Fit(fit.config, broken, nn.Identity(), []), a_set(rand(8, 3, 8, 8)))
    assert list(said) == ["features h"] and said["features h"].startswith("not a number: 8 of 8 vectors")


# --- the page -------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Every start tag with its attributes, all text, and whether each tag is closed in its turn."""

    VOID = ("meta", "link", "img")

    def __init__(self, text):
        super().__init__()
        self.tags, self.said, self.open = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.said.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


DEFAULT = TrainConfig()


def a_page(config=DEFAULT, evil=""):
    shown = [reports.Shown(f"title{evil}", f"caption{evil}", b"\x89PNG", f"what it shows{evil}")]
    return reports.page(config, f"summary{evil}", {f"torch{evil}": f"2{evil}"}, shown, {f"h{evil}": f"healthy{evil}"})


def test_the_page_holds_all_it_was_given():
    page = Page(a_page(TrainConfig(data="folder:cats", hue=0.3)))
    assert page.all("html") == [{"lang": "en"}]
    assert page.all("img") == [{"src": "data:image/png;base64,iVBORw==", "alt": "what it shows"}]
    for text in ("simclr on folder:cats", "summary", "title", "caption", "torch", "2", "h", "healthy", "hue", "0.3",
                 "0.1", "strength: shifts by -x .. x turns of the colour circle, at most 0.5"):  # fmt: skip
        assert text in page.said
    assert "saturation" not in page.said


def test_the_page_asks_for_nothing_outside_itself():
    page = Page(a_page())
    policy = [a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    places = [value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href")]
    assert places and all(place.startswith("data:") for place in places)
    assert not re.search(r"https?:|url\(|@import|<script", a_page())


def test_whatever_it_is_given_stays_text():
    """Names of folders and classes are other people's."""
    plain, page = Page(a_page()), Page(a_page(TrainConfig(data=f"folder:{EVIL}"), EVIL))
    extra = [tag for tag, _ in page.tags if tag in ("tr", "th", "td")]
    assert [t for t, _ in page.tags if t not in ("tr", "th", "td")] == [
        t for t, _ in plain.tags if t not in ("tr", "th", "td")
    ]
    assert len(extra) == len([t for t, _ in plain.tags if t in ("tr", "th", "td")]) + 5  # a row of four: the data
    assert page.all("img")[0]["alt"] == f"what it shows{EVIL}"
    assert html.escape(EVIL) in a_page(evil=EVIL) and "<script" not in a_page(TrainConfig(data=EVIL), EVIL)
    assert f"summary{EVIL}" in page.said


@pytest.mark.parametrize("function", [reports.environment, reports.changed])
def test_no_config_is_refused(function):
    with pytest.raises(TypeError, match="config: expected a TrainConfig, got dict"):
        function({})
