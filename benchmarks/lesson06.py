"""What one run can't tell, for lesson 06: seeds, false negatives and batch sizes, each over several runs.

    python benchmarks/lesson06.py        writes benchmarks/lesson06.csv, about five minutes of one core

The scenes are the same in every run; a run's seed decides its weights, its views and the order of the pictures.
"""

import csv
import json
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from clbook import datasets, evaluation, methods, models, training

FILE = Path(__file__).with_suffix(".csv")
DATA = {"n": 2000, "image_size": 16}  # the scenes, of seed 0; judged by kNN on val
RUN = {"image_size": 16, "width": 16, "evaluations": 0, "precision": "fp32"}
ALL, LEFT_OUT, RANDOM = "all negatives", "same-shape negatives left out", "as many left out at random"
ARMS = (  # arm, batch size, steps, seeds
    *((arm, 64, 300, seeds) for arm, seeds in ((ALL, 10), (LEFT_OUT, 10), (RANDOM, 5))),
    *((ALL, batch_size, 19_200 // batch_size, 3) for batch_size in (16, 32, 128, 256)),  # the same pictures seen
    *((ALL, batch_size, 300, 3) for batch_size in (16, 32, 128)),  # the same number of steps
)
SETTINGS = {"data": DATA, "run": RUN, "arms": [list(arm) for arm in ARMS]}


def loss_without(z: Tensor, groups: Tensor, temperature: float) -> Tensor:
    """NT-Xent of z [2N, D] in which negatives of an anchor's own group [N] stand in no denominator."""
    n = len(groups)
    groups, pictures = groups.repeat(2), torch.arange(n).repeat(2)  # [2N], both views
    own = torch.eye(2 * n, dtype=torch.bool)
    positive = (pictures[:, None] == pictures) & ~own  # [2N, 2N], one in each row
    out = own | ((groups[:, None] == groups) & ~positive)
    z = F.normalize(z)
    logits = z @ z.T / temperature
    return (logits.masked_fill(out, -torch.inf).logsumexp(1) - logits[positive]).mean()


def groups_of(arm: str, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Which pictures of a batch are left out of whose denominator: those of one group."""
    if arm == ALL:
        return torch.arange(len(labels))
    return labels if arm == LEFT_OUT else labels[torch.randperm(len(labels), generator=generator)]


def train(arm: str, config: training.TrainConfig, data: datasets.ImageSet) -> tuple[torch.nn.Module, float]:
    """The loop of the lesson, with labels at hand: the encoder, and the mean loss of the last ten steps."""
    torch.manual_seed(config.seed)
    model = methods.SimCLR(models.build(config.model, width=config.width), temperature=config.temperature)
    model = model.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    order, generator, shuffle = (torch.Generator().manual_seed(config.seed) for _ in range(3))
    make_views, losses = config.views(), []
    while True:
        for rows in torch.randperm(len(data), generator=order).split(config.batch_size):
            if len(rows) < config.batch_size:
                continue
            for group in optimizer.param_groups:
                group["lr"] = training._learning_rate(config, len(losses) / config.steps)
            views = torch.cat(make_views(data.images[rows], generator)).to(memory_format=torch.channels_last)
            groups = groups_of(arm, data.labels[rows], shuffle)
            loss = loss_without(model.head(model.encoder(views)), groups, config.temperature)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if len(losses) == config.steps:
                return model.encoder, sum(losses[-10:]) / len(losses[-10:])


def main() -> None:
    data = datasets.load("shapes", **DATA)
    val = datasets.load("shapes", "val", image_size=DATA["image_size"])
    with FILE.open("w", newline="") as file:
        file.write(f"# {json.dumps(SETTINGS)}\n")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["arm", "batch_size", "steps", "seed", "loss", "knn"])
        for arm, batch_size, steps, seeds in ARMS:
            for seed in range(seeds):
                changes = RUN | {"batch_size": batch_size, "steps": steps, "seed": seed}
                encoder, loss = train(arm, training.TrainConfig.for_data("shapes", **changes), data)
                knn = evaluation.knn_score(encoder, data, val)
                row = [arm, batch_size, steps, seed, f"{loss:.3f}", f"{knn:.3f}"]
                writer.writerow(row)
                file.flush()
                print(*row, flush=True)


if __name__ == "__main__":
    main()
