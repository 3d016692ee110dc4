"""Ours beside other libraries, on the same work in one run; writes benchmarks/RESULTS.md.

    python benchmarks/peers.py [views] [nt_xent] [large] [step] [knn] [--threads 2] [--skip-large] [--tiny]

Contenders take turns (A B C, A B C, ...), figures are medians over the rounds with the extremes beside them, a ratio
is the median of the rounds' ratios. Peers run in the fast form that their documentation shows. Only the sections that
ran are written anew. --tiny tries every row on very little and writes nothing.
"""

import argparse
import json
import math
import statistics
import sys
import time
import warnings
from pathlib import Path

import measure
import numpy as np
import threadpoolctl
import torch
from measure import absent, by_turns, claim, peer, per_second, ratio, time_row
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from clbook import datasets, evaluation, models, training
from clbook.augmentations import TwoViews
from clbook.losses import nt_xent

RESULTS = Path(__file__).with_name("RESULTS.md")
ABOUT = """# Measured beside other libraries

By `make bench` (`benchmarks/peers.py`, which says how); fixed_budget by `benchmarks/fixed_budget.py`. Every
section names its machine, versions and date; ratios are what to look at. An aim that isn't met says so.
"""
JITTER = (0.4, 0.4, 0.4, 0.1)  # brightness, contrast, saturation, hue
CROP, FLIP, JITTERED, GRAY = (0.2, 1.0), 0.5, 0.8, 0.2


# --- views ----------------------------------------------------------------------------------------------


def views(tiny: bool) -> list[dict]:
    """Two views of 32-px pictures: crop, flip, colour jitter, grayscale. A picture with both its views counts once."""
    n = 8 if tiny else 512
    images = datasets.load("shapes", n=n).images  # [n, 3, 32, 32] uint8
    contenders = {
        "ours, exact": lambda: TwoViews(32, CROP, FLIP)(images),
        "ours, linear colours (fast=True)": lambda: TwoViews(32, CROP, FLIP, fast=True)(images),
        "torchvision v2, a uint8 tensor at a time": lambda: torchvision_views(images),
        "torchvision v2, a PIL picture at a time": lambda: torchvision_views(images, pil=True),
    }
    if peer("lightly.transforms"):
        contenders["lightly, a PIL picture at a time"] = lambda: lightly_views(images)
    if peer("kornia.augmentation"):
        contenders["kornia, batched"] = kornia_views(images)
    seconds = by_turns(contenders, 1 if tiny else 15)
    rows = [per_second(name, taken, n, "img/s") for name, taken in seconds.items()]
    exact, fast, *_ = contenders
    return [
        *rows,
        *(absent(name) for name in ("lightly", "kornia") if not peer(name)),
        claim("exact beside kornia", ratio(seconds, "kornia, batched", exact), 4),
        claim("fast beside kornia", ratio(seconds, "kornia, batched", fast), 8),
        claim("fast beside lightly", ratio(seconds, "lightly, a PIL picture at a time", fast), 50),
    ]


def torchvision_views(images: Tensor, pil: bool = False) -> list[Tensor]:
    from torchvision.transforms import v2

    transform = v2.Compose([
        v2.ToImage(),
        v2.RandomResizedCrop(32, scale=CROP, antialias=True),
        v2.RandomHorizontalFlip(FLIP),
        v2.RandomApply([v2.ColorJitter(*JITTER)], p=JITTERED),
        v2.RandomGrayscale(GRAY),
        v2.ToDtype(torch.float32, scale=True),
    ])  # fmt: skip
    if pil:  # work on the PIL picture, as tutorials do; a tensor at the end
        transform = v2.Compose([*transform.transforms[1:-1], v2.ToImage(), transform.transforms[-1]])
    pairs = [(transform(image), transform(image)) for image in (to_pil(images) if pil else images)]
    return [torch.stack(view) for view in zip(*pairs, strict=True)]


def lightly_views(images: Tensor) -> list[Tensor]:
    transform = lightly_transform()
    return [torch.stack(view) for view in zip(*map(transform, to_pil(images)), strict=True)]


def lightly_transform():
    """Its SimCLR, with our steps and strengths: no blur, no normalization."""
    from lightly.transforms import SimCLRTransform

    names = ("cj_bright", "cj_contrast", "cj_sat", "cj_hue")
    return SimCLRTransform(input_size=32, cj_prob=JITTERED, **dict(zip(names, JITTER, strict=True)), min_scale=CROP[0],
                           random_gray_scale=GRAY, gaussian_blur=0.0, hf_prob=FLIP, normalize=None)  # fmt: skip


def kornia_views(images: Tensor):
    from kornia import augmentation as K

    steps = (  # slice: "use slice for efficiency"
        K.RandomResizedCrop((32, 32), scale=CROP, cropping_mode="slice"),
        K.RandomHorizontalFlip(p=FLIP),
        K.ColorJitter(*JITTER, p=JITTERED),
        K.RandomGrayscale(p=GRAY),
    )
    transform = K.AugmentationSequential(*steps, data_keys=["input"], transformation_matrix_mode="skip")

    def both():
        floats = images.float() / 255
        return transform(floats), transform(floats)

    return torch.no_grad()(both)


def to_pil(images: Tensor) -> list[Image.Image]:
    return [Image.fromarray(image) for image in images.permute(0, 2, 3, 1).numpy()]


# --- the loss -------------------------------------------------------------------------------------------

DIM = 128


def nt_xent_rows(tiny: bool) -> list[dict]:
    """NT-Xent's value and gradient, D = 128, float32."""
    sizes = {4: 1} if tiny else {128: 40, 1024: 30, 4096: 7}  # N -> rounds
    return [row for t in (0.1, 0.01) for n, rounds in sizes.items() for row in nt_xent_at(n, t, rounds)]


def nt_xent_at(n: int, temperature: float, rounds: int) -> list[dict]:
    pair = random_pair(n)
    contenders = {"ours": lambda a, b: nt_xent(a, b, temperature=temperature)}
    contenders["dense"] = lambda a, b: dense(a, b, temperature)
    if peer("lightly.loss"):
        contenders["lightly"] = peer("lightly.loss").NTXentLoss(temperature)
    if peer("pytorch_metric_learning.losses") and n <= 128:  # it needs N^3 numbers
        theirs, labels = peer("pytorch_metric_learning.losses").NTXentLoss(temperature), torch.arange(n).repeat(2)
        contenders["pytorch-metric-learning"] = lambda a, b: theirs(torch.cat([a, b]), labels)
    calls = {name: lambda loss=loss: torch.autograd.grad(loss(*pair), pair) for name, loss in contenders.items()}
    z = F.normalize(torch.cat(pair)).detach()  # [2N, D]
    calls |= {"one product": lambda: z @ z.T, "two products and exp": lambda: (z @ z.T).exp_() @ z}
    seconds = by_turns(calls, rounds)
    at = f"N = {n:,}, τ = {temperature}: "
    rows = [time_row(at + name, taken) for name, taken in seconds.items()]
    rows += [absent(at + "lightly")] * ("lightly" not in seconds)
    rows.append(claim(at + "ours beside dense", ratio(seconds, "dense", "ours"), 1))
    if n >= 1024:
        rows.append(claim(at + "ours beside lightly", ratio(seconds, "lightly", "ours"), 2.5 if n == 1024 else 3.5))
    floor = ratio(seconds, "ours", "two products and exp")
    return [*rows, claim(at + "ours / two products and exp", floor, 1.6, at_most=True)]


def dense(view1: Tensor, view2: Tensor, temperature: float) -> Tensor:
    """The plain form: cross-entropy over the whole matrix with its diagonal masked."""
    z = F.normalize(torch.cat([view1, view2]))  # [2N, D]
    logits = (z @ z.T / temperature).masked_fill(torch.eye(len(z), dtype=torch.bool), -torch.inf)  # [2N, 2N]
    return F.cross_entropy(logits, torch.arange(len(z)).roll(len(view1)))


def random_pair(n: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    view1, noise = torch.randn(2, n, DIM, generator=generator)
    return view1.requires_grad_(), (view1.detach() + noise).requires_grad_()


def large(tiny: bool) -> list[dict]:
    """NT-Xent of N = 65,536 pairs with `chunk_size`, against float64 in blocks; the dense form would need 64 GiB for
    one matrix. One run, in a process of its own."""
    n, chunk = (64, 16) if tiny else (65_536, 256)
    found = measure.in_a_process(__file__, "--child", "large", str(n), str(chunk), str(torch.get_num_threads()))
    if "failed" in found:
        return [{"what": f"N = {n:,}", "measured": found["failed"], "met": "no"}]
    at = f"N = {n:,}, chunk_size = {chunk}: "
    return [
        {"what": at + "value and gradient", "measured": f"{found['seconds']:.1f} s"},
        claim(at + "peak of the whole process", found["peak"], 2, "GiB", at_most=True),
        claim(at + "value off by, relative", found["value"], 1e-5, "", at_most=True),
        claim(at + "gradient off by, of its largest entry", found["gradient"], 1e-5, "", at_most=True),
    ]


def child_large(n: int, chunk: int) -> dict:
    pair = random_pair(n)
    started = time.perf_counter()
    loss = nt_xent(*pair, temperature=0.1, chunk_size=chunk)
    loss.backward()
    found = {"seconds": time.perf_counter() - started, "peak": measure.peak_memory()}
    value, rows, gradient = in_float64(*pair, 0.1)
    got = torch.cat([view.grad for view in pair])[rows]
    off = (got - gradient).abs().max() / gradient.abs().max()
    return found | {"value": abs(loss.item() - value) / value, "gradient": off.item()}


def in_float64(view1: Tensor, view2: Tensor, temperature: float, block: int = 256) -> tuple[float, Tensor, Tensor]:
    """The loss, and its gradient for 512 rows taken evenly, by the printed sums, a block of rows at a time."""
    x = torch.cat([view1, view2]).detach().double()
    length = x.norm(dim=1, keepdim=True)
    z = x / length  # [M, D]
    partner = z.roll(len(view1), 0)
    total = torch.cat([others(z, rows, temperature).sum(1) for rows in torch.arange(len(z)).split(block)])  # [M]
    value = (total.log() - (z * partner).sum(1) / temperature).mean().item()
    rows = torch.arange(0, len(z), math.ceil(len(z) / 512))
    pushes = [(e / total + e / total[r, None]) @ z for r in rows.split(block) for e in [others(z, r, temperature)]]
    g = (torch.cat(pushes) - 2 * partner[rows]) / (temperature * len(z))  # [R, D], with respect to z
    g = (g - (g * z[rows]).sum(1, keepdim=True) * z[rows]) / length[rows]
    return value, rows, g


def others(z: Tensor, rows: Tensor, temperature: float) -> Tensor:
    """exp(z_i . z_k / t) of some rows i, 0 where k = i: [B, M]."""
    e = (z[rows] @ z.T / temperature).exp_()
    e[torch.arange(len(rows)), rows] = 0
    return e


# --- a training step ------------------------------------------------------------------------------------

BATCH, WIDTH, TEMPERATURE = 256, 32, 0.2


def step(tiny: bool) -> list[dict]:
    """Training from stored pictures, B = 256: views, the four-layer encoder 32 wide, head, NT-Xent, AdamW."""
    batch, steps, rounds = (8, 2, 1) if tiny else (BATCH, 30, 5)
    images = datasets.load("shapes", n=batch * steps).images
    best = training.find_precision("auto", torch.device("cpu"))
    precisions = dict.fromkeys(["fp32", best])
    contenders = {}
    for p in precisions:
        contenders[f"ours, {p}"] = lambda p=p: fit(images, batch, steps, p)
        contenders[f"the encoder alone, {p}"] = encoder_alone(batch, steps, p)
    contenders[f"ours with conv4, {best}"] = lambda: fit(images, batch, steps, best, "conv4")
    if peer("lightly.loss"):
        contenders["lightly, two workers"] = lightly_loop(images, batch)
    seconds = by_turns(contenders, rounds)
    rows = [per_second(name, taken, 2 * batch * steps, "views/s") for name, taken in seconds.items()]
    rows += [absent("lightly")] * (not peer("lightly"))
    theirs = "lightly, two workers"
    rows.append(claim("ours in fp32 beside lightly", ratio(seconds, theirs, "ours, fp32"), 2))
    rows.append(claim(f"ours at best ({best}) beside lightly", ratio(seconds, theirs, f"ours, {best}"), 3))
    return rows + [claim(f"ours beside the encoder alone, {p}", ratio(seconds, f"the encoder alone, {p}", f"ours, {p}"),
                         0.92) for p in precisions]  # fmt: skip


def fit(images: Tensor, batch: int, steps: int, precision: str, model: str = "small") -> None:
    config = training.TrainConfig(batch_size=batch, steps=steps, precision=precision, model=model, width=WIDTH,
                                  device="cpu", temperature=TEMPERATURE)  # fmt: skip
    training.fit(images, config)


def encoder_alone(batch: int, steps: int, precision: str):
    """Forward, backward and optimizer on views that are ready: no views, no head, no loss."""
    encoder = models.build("small", width=WIDTH).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(encoder.parameters(), 2e-3)
    ready = torch.rand(2 * batch, 3, 32, 32).to(memory_format=torch.channels_last)  # [2B, 3, 32, 32]

    def run():
        for _ in range(steps):
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                h = encoder(ready)  # [2B, D]
            optimizer.zero_grad()
            h.float().sum().backward()
            optimizer.step()

    return run


class Pictures(torch.utils.data.Dataset):
    """PIL pictures through a transform, as lightly's tutorials have them."""

    def __init__(self, images: Tensor, transform):
        self.images, self.transform = to_pil(images), transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int):
        return self.transform(self.images[i]), 0


def lightly_loop(images: Tensor, batch: int):
    """One epoch of its tutorial's loop, with our encoder and head; the workers stay alive between epochs."""
    encoder = models.build("small", width=WIDTH)
    model = nn.Sequential(encoder, models.ProjectionHead(models.feature_dim(encoder))).train()
    criterion = peer("lightly.loss").NTXentLoss(TEMPERATURE)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    loader = torch.utils.data.DataLoader(Pictures(images, lightly_transform()), batch_size=batch, shuffle=True,
                                         drop_last=True, num_workers=2, persistent_workers=True)  # fmt: skip

    def run():
        for (x0, x1), _ in loader:
            loss = criterion(model(x0), model(x1))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    return run


# --- neighbours -----------------------------------------------------------------------------------------

K = 20


def knn(tiny: bool) -> list[dict]:
    """kNN of 10,000 queries in a bank of 50,000, D = 256, k = 20, cosine; each one's memory in a process of its own."""
    sizes = (500, 100) if tiny else (50_000, 10_000)
    data = knn_data(*sizes)
    seconds = by_turns({name: lambda call=call: call(*data) for name, call in KNN.items()}, 1 if tiny else 5)
    threads = str(torch.get_num_threads())
    rows = [time_row(WORDS[name], taken) for name, taken in seconds.items()]
    for name in ("data", *KNN):
        found = measure.in_a_process(__file__, "--child", "knn", name, *map(str, sizes), threads)
        measured = found.get("failed") or f"{found['peak']:.2f} GiB"
        rows.append({"what": f"{WORDS[name]}: peak of the whole process", "measured": measured})
    ours, plain, sklearn = (statistics.median(seconds[name]) for name in KNN)
    agree = (KNN["ours"](*data) == KNN["matrix"](*data)).float().mean().item()
    return [
        *rows,
        {"what": "ours beside the whole matrix", "measured": f"{plain / ours:.3g} ×"},
        {"what": "ours beside scikit-learn", "measured": f"{sklearn / ours:.3g} ×"},
        {"what": "ours and the whole matrix say the same of", "measured": f"{agree:.2%} of the queries"},
    ]


def knn_data(n: int, m: int) -> tuple[Tensor, Tensor, Tensor]:
    """Bank, its labels, queries: ten classes that overlap."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(10, 256, generator=generator)
    labels = torch.randint(10, (n + m,), generator=generator)
    features = centres[labels] + 4 * torch.randn(n + m, 256, generator=generator)
    return features[:n], labels[:n], features[n:]


def knn_ours(bank: Tensor, labels: Tensor, queries: Tensor) -> Tensor:
    return evaluation.knn_predict(bank, labels, queries, k=K)


def knn_matrix(bank: Tensor, labels: Tensor, queries: Tensor) -> Tensor:
    """All similarities at once, then the same vote."""
    similar, rows = (F.normalize(queries) @ F.normalize(bank).T).topk(K, dim=1)  # [M, k]
    return torch.zeros(len(queries), 10).scatter_add_(1, labels[rows], (similar / 0.07).exp()).argmax(1)


def knn_sklearn(bank: Tensor, labels: Tensor, queries: Tensor) -> Tensor:
    from sklearn.neighbors import KNeighborsClassifier

    model = KNeighborsClassifier(K, algorithm="brute", metric="cosine", weights=votes)
    return torch.from_numpy(model.fit(bank.numpy(), labels.numpy()).predict(queries.numpy()))


def votes(distance: np.ndarray) -> np.ndarray:
    """As `knn_predict` weighs them, from cosine distances."""
    return np.exp((1 - distance) / 0.07)


KNN = {"ours": knn_ours, "matrix": knn_matrix, "sklearn": knn_sklearn}
WORDS = {"data": "the data alone", "ours": "ours", "matrix": "the whole matrix, in torch", "sklearn": "scikit-learn"}


def child_knn(name: str, n: int, m: int) -> dict:
    data = knn_data(n, m)
    if name in KNN:
        KNN[name](*data)
    return {"peak": measure.peak_memory()}


# --- the command ----------------------------------------------------------------------------------------

SECTIONS = {"views": views, "nt_xent": nt_xent_rows, "large": large, "step": step, "knn": knn}


def pin(threads: int) -> None:
    torch.set_num_threads(threads)
    threadpoolctl.threadpool_limits(threads)  # numpy's and scikit-learn's


def child(what: str, *arguments: str) -> None:
    """What runs in a process of its own; the last line that it prints is for the one that started it."""
    *arguments, threads = arguments
    pin(int(threads))
    if what == "knn":
        name, *sizes = arguments
        print(json.dumps(child_knn(name, *map(int, sizes))))
    else:
        print(json.dumps(child_large(*map(int, arguments))))


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["--child"]:
        return child(*arguments[1:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"{', '.join(SECTIONS)}; all unless told")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--skip-large", action="store_true", help="leave out NT-Xent at N = 65,536: some minutes")
    parser.add_argument("--tiny", action="store_true", help="try every row on very little; write nothing")
    options = parser.parse_args(arguments)
    unknown = set(options.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"expected sections among {', '.join(SECTIONS)}, got {', '.join(sorted(unknown))}")
    pin(options.threads)
    warnings.filterwarnings("ignore")  # of peers about their own dependencies
    for name in options.sections or SECTIONS:
        if name == "large" and options.skip_large:
            continue
        torch.manual_seed(0)
        rows = SECTIONS[name](options.tiny)
        about = " ".join(SECTIONS[name].__doc__.split())
        text = f"{about}\n\n{measure.table(rows)}\n\n{measure.machine(options.threads)}"
        print(f"\n## {name}\n\n{text}", flush=True)
        if not options.tiny:
            measure.write(RESULTS, {name: text}, ABOUT)


if __name__ == "__main__":
    main(sys.argv[1:])
