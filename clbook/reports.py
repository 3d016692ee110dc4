"""The report of a run: one page that opens offline, with its pictures inside and words beside each."""

import base64
import html
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import metadata

import torch
from torch import nn
from torch.nn import functional as F

import clbook
from clbook import evaluation, plots, training
from clbook.datasets import ImageSet
from clbook.training import Fit, TrainConfig

PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn", "pillow", "matplotlib")
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 62rem; margin: 2rem auto;
       padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
img { max-width: 100%; height: auto; } figure { margin: 0; } figcaption { color: #555; }
caption { text-align: left; color: #555; }
table { border-collapse: collapse; } th, td { text-align: left; padding: .2rem 1rem .2rem 0; vertical-align: top;
       border-bottom: 1px solid #ddd; overflow-wrap: anywhere; } th { font-weight: 600; }
"""


@dataclass(frozen=True)
class Shown:
    """A picture of the page: its title, the line below it, a PNG, and the sentence for whoever can't see it."""

    title: str
    caption: str
    png: bytes
    alt: str


def environment(config: TrainConfig) -> dict[str, str | int]:
    """What a run ran on, for `environment.json`: versions, system, device, precision, threads.

    Raises:
        TypeError: no `TrainConfig`.
    """
    _check_config(config)
    device = training.find_device(config.device)
    name = f"{device}: {torch.cuda.get_device_name(device)}" if device.type == "cuda" else str(device)
    return {
        "clbook": clbook.__version__,
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in PACKAGES},
        "system": platform.platform(),
        "machine": platform.machine(),
        "device": name,
        "precision": training.find_precision(config.precision, device, config.side()),
        "threads": torch.get_num_threads(),
    }


def changed(config: TrainConfig) -> dict[str, tuple]:
    """The fields that aren't as a bare `TrainConfig()` has them: name -> (value, default)."""
    _check_config(config)
    values = {field.name: (getattr(config, field.name), field.default) for field in fields(config)}
    return {name: pair for name, pair in values.items() if pair[0] != pair[1]}


def neighbours(encoder: nn.Module, bank: ImageSet, queries: ImageSet, *, k: int = 6) -> plots.Picture:
    """The k pictures of the bank that are nearest to each query, by cosine similarity of the features.

    Raises:
        TypeError, ValueError: as `evaluation.encode`; k < 1. A bank of fewer than k is shown whole.
    """
    if not isinstance(k, int) or isinstance(k, bool) or k < 1:
        raise ValueError(f"k: expected an integer of at least 1, got {k!r}")
    h_bank, h = (F.normalize(evaluation.encode(encoder, s.images), dim=1) for s in (bank, queries))
    cosines, rows = (h @ h_bank.T).topk(min(k, len(bank)), dim=1)  # [M, k] both
    k = rows.shape[1]
    alt = (f"{len(queries)} test pictures, and beside each the {k} training pictures that are nearest to it by cosine "
           f"similarity of the features, {cosines.min():z.2f} to {cosines.max():z.2f}")  # fmt: skip
    names = [["query", *(f"{cosine:z.2f}" for cosine in row)] for row in cosines.tolist()]
    if bank.labels is not None and queries.labels is not None:
        same = int((bank.labels[rows] == queries.labels[:, None]).sum())
        alt += f"; {same} of {rows.numel()} are of the query's class"
        labels = torch.cat([queries.labels[:, None], bank.labels[rows]], 1).tolist()
        names = [
            [f"{name} {bank.classes[label]}" for name, label in zip(*row, strict=True)]
            for row in zip(names, labels, strict=True)
        ]
    return plots.neighbours(queries.images, bank.images[rows], titles=names, alt=f"{alt}.")


def collapse(fit: Fit, images: ImageSet) -> dict[str, str]:
    """Do the vectors still tell pictures apart? `evaluation.collapse` in words: of the features h, which are kept, and
    of the head's z, which only the loss sees."""
    if not isinstance(fit, Fit):
        raise TypeError(f"fit: expected what training.fit returns, got {type(fit).__name__}")
    looked_at = {"features h": fit.encoder}
    if isinstance(getattr(fit.method, "head", None), nn.Module):
        looked_at["the head's z"] = nn.Sequential(fit.encoder, fit.method.head)
    return {name: str(evaluation.collapse(evaluation.encode(part, images.images))) for name, part in looked_at.items()}


def page(config: TrainConfig, summary: str, about: Mapping[str, str | int], shown: Sequence[Shown],
         meters: Mapping[str, str]) -> str:  # fmt: skip
    """The page: HTML that asks for nothing beside itself.

    Args:
        config: of the run; what is as ever is left out.
        summary: one line.
        about: what `environment` says.
        shown: the pictures.
        meters: what `collapse` says.
    """
    helped = {field.name: field.metadata["help"] for field in fields(config)}
    differs = [(name, value, default, helped[name]) for name, (value, default) in changed(config).items()]
    parts = [
        f"<h1>{_text(config.method)} on {_text(config.data)}</h1>",
        f"<p>{_text(summary)}</p>",
        *map(_figure, shown),
        "<h2>Collapse</h2>",
        _table("Do the vectors of training pictures still tell them apart?", ("vectors", "what was found"),
               meters.items()),
        "<h2>Configuration</h2>",
        _table("What differs from the defaults; all of it is in config.json.", ("field", "value", "default", "meaning"),
               differs),
        "<h2>Environment</h2>",
        _table("What it ran on; also in environment.json.", ("what", "which"), about.items()),
    ]  # fmt: skip
    body = "\n".join(parts)
    # The policy is a second lock: even if a name found a way past the escaping, the page could load or run nothing.
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
            f'<meta name="viewport" content="width=device-width">\n<link rel="icon" href="data:,">\n'
            f"<title>{_text(config.method)} on {_text(config.data)}: clbook's report</title>\n"
            f"<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n")  # fmt: skip


def _text(value) -> str:
    return html.escape(str(value))


def _figure(shown: Shown) -> str:
    source = f"data:image/png;base64,{base64.b64encode(shown.png).decode()}"
    return (f"<h2>{_text(shown.title)}</h2>\n"
            f'<figure><img src="{source}" alt="{_text(shown.alt)}">\n'
            f"<figcaption>{_text(shown.caption)}</figcaption></figure>")  # fmt: skip


def _table(caption: str, header: Sequence[str], rows) -> str:
    head = "".join(f'<th scope="col">{_text(name)}</th>' for name in header)
    body = "\n".join(
        f'<tr><th scope="row">{_text(first)}</th>{"".join(f"<td>{_text(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    head = f"<caption>{_text(caption)}</caption>\n<thead><tr>{head}</tr></thead>"
    return f"<table>\n{head}\n<tbody>\n{body}\n</tbody>\n</table>"


def _check_config(config: TrainConfig) -> None:
    if not isinstance(config, TrainConfig):
        raise TypeError(f"config: expected a TrainConfig, got {type(config).__name__}")
