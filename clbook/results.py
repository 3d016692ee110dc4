"""What is done with finished runs: judge an encoder, make vectors of pictures, set runs side by side."""

import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from clbook import datasets, evaluation, plots, runs, training
from clbook.datasets import ImageSet
from clbook.files import write_whole

KS = (1, 5, 20, 100)  # neighbours to choose from
BUDGETS = (1, 5, 20)  # labelled pictures a class
COLUMNS = ("data", "encoder", "measure", "labels_a_class", "labels", "accuracy", "low", "high", "chosen")
_NUMBERS = 2**25  # features that a probe is fitted on, at most: 256 MB as float64, and minutes


# --- evaluate ---------------------------------------------------------------------------------------------


def evaluate(path: str | Path, data: str | None = None, *, device: str = "auto", progress: bool = True) -> str:
    """How good a run's encoder is, beside an encoder that nothing has trained and the pixels: a table to print, which
    also stands in the run's `evaluation.csv`.

    All accuracies are on the test split. The validation split chooses k of kNN and C of the linear probe. With few
    labels a probe sees that many of each class, and no more of the validation split, over five seeds.

    Args:
        path: the run's folder.
        data: what to evaluate on, as for `datasets.load`; the run's own data unless told. Results on other data stay
            in `evaluation.csv`.
        device: as for `training.find_device`.

    Raises:
        ValueError: no run there; no such data or device, or pictures without labels.
    """
    config, encoder = runs.load_encoder(path)
    config = config if data is None else replace(config, data=data, n=None)
    sets = runs.load_splits(config)
    for s in sets.values():
        if s.labels is None:
            raise ValueError(f"evaluate: expected pictures with labels, got {config.data}, which has none; give "
                             "labelled pictures with --data")  # fmt: skip
    encoders = {"trained": encoder, "random encoder": training.new_encoder(config), "pixels": None}
    place, rows = training.find_device(device), []
    for name, judged in tqdm(encoders.items(), disable=not progress, leave=False):
        judged = judged and judged.to(place)
        features = {split: (evaluation.encode(judged, s.images), s.labels) for split, s in sets.items()}
        rows += [{"data": config.data, "encoder": name, **row} for row in (_knn(features), *_probes(features))]
    run = runs.RunFolder.reopen(path)
    _keep(run, config.data, rows)
    return (
        f"{_evaluation_table(rows)}\nAccuracy on {len(sets['test']):,} test pictures of {config.data}; k and C are "
        f"chosen on the validation split;\nbrackets: 95 % interval over 5 seeds; in {run.path / 'evaluation.csv'}"
    )


def _knn(features: dict[str, tuple[Tensor, Tensor]]) -> dict:
    bank, (h_val, y_val), (h_test, y_test) = features.values()
    ks = [k for k in KS if k <= len(bank[0])]
    best = max(ks, key=lambda k: evaluation.knn_accuracy(*bank, h_val, y_val, k=k))  # the smallest of equals
    accuracy = evaluation.knn_accuracy(*bank, h_test, y_test, k=best)
    return {"measure": "knn", "labels_a_class": "all", "labels": len(bank[0]), "accuracy": accuracy,
            "chosen": f"k={best}"}  # fmt: skip


def _probes(features: dict[str, tuple[Tensor, Tensor]]) -> list[dict]:
    """With few labels, as intervals, and with all: at most as many as make `_NUMBERS` features."""
    (h, y), val, test = features.values()
    least = int(y.bincount()[y.unique()].min())
    budgets = [budget for budget in BUDGETS if budget <= least]
    found = evaluation.label_efficiency({"probe": _few(features)}, y, budgets=budgets)["probe"]
    classes = len(y.unique())
    rows = [{"measure": "linear probe", "labels_a_class": few.budget, "labels": few.budget * classes,
             "accuracy": few.mean, "low": few.low, "high": few.high} for few in found]  # fmt: skip
    some = torch.randperm(len(h), generator=torch.Generator().manual_seed(0))[: _NUMBERS // h.shape[1]]
    probe = evaluation.linear_probe((h[some], y[some]), val, test)
    return [*rows, {"measure": "linear probe", "labels_a_class": "all", "labels": len(some),
                    "accuracy": probe.accuracy, "chosen": f"C={probe.strength:g}"}]  # fmt: skip


def _few(features: dict[str, tuple[Tensor, Tensor]]) -> Callable[[Tensor, int], float]:
    """A method for `label_efficiency`: labels that choose are seen too, so the validation split is as small."""
    (h, y), (h_val, y_val), test = features.values()
    classes, most = len(y.unique()), int(y_val.bincount()[y_val.unique()].min())

    def probe(rows: Tensor, seed: int) -> float:
        watched = evaluation.balanced_subset(y_val, min(len(rows) // classes, most), seed=seed)
        return evaluation.linear_probe_accuracy((h[rows], y[rows]), (h_val[watched], y_val[watched]), test)

    return probe


def _keep(run: runs.RunFolder, data: str, rows: list[dict]) -> None:
    """Write `evaluation.csv`; what it holds of other data stays."""
    try:
        with (run.path / "evaluation.csv").open(newline="", encoding="utf-8") as file:
            before = [row for row in csv.DictReader(file) if row.keys() == set(COLUMNS) and row["data"] != data]
    except FileNotFoundError:
        before = []
    shown = [{k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows]
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, COLUMNS, restval="")
    writer.writeheader()
    writer.writerows(before + shown)
    run.write("evaluation.csv", file.getvalue().encode())


def _evaluation_table(rows: list[dict]) -> str:
    """A line for each encoder, a column for each measure."""
    lines, most = {}, max(row["labels"] for row in rows)
    for row in rows:
        labels = row["labels_a_class"]
        label = "all labels" if labels == "all" else f"{labels} a class"
        name = "kNN" if row["measure"] == "knn" else f"probe, {label}"
        fewer = f", {row['labels']:,} labels" if labels == "all" and row["labels"] < most else ""
        beside = f"({row['low']:.2f}-{row['high']:.2f})" if "low" in row else f"({row['chosen']}{fewer})"
        lines.setdefault(row["encoder"], {})[name] = f"{row['accuracy']:.3f} {beside}"
    columns = list(dict.fromkeys(column for line in lines.values() for column in line))
    return table(["", *columns], [[name, *(line[c] for c in columns)] for name, line in lines.items()])


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Text in columns as wide as they must be, the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True)))
        for row in (header, *rows)
    )


# --- embed ------------------------------------------------------------------------------------------------


def embed(path: str | Path, data: str, out: str | Path | None = None, *, split: str | None = None,
          device: str = "auto") -> str:  # fmt: skip
    """Write the vectors that a run's encoder makes of pictures, and say so in a line.

    The file holds `vectors` [N, D] float32; `files` [N], below the folder that was given, or `rows` [N] of a data set
    without files; where there are classes `labels` [N] int64 and their names `classes`; the files that were `skipped`;
    and `preprocessing`, JSON: what a picture needs before this encoder. `numpy.load(file)` reads a `.npz`.
    A `.parquet` has a row for each picture, and the rest in the metadata of its schema; it needs pyarrow.

    Args:
        path: the run's folder.
        data: `folder:PATH`, of which all pictures are taken, or another name that `datasets.load` takes.
        out: the file, which is replaced if it is there; `vectors-<data>.npz` in the run's folder unless told.
        split: "train", "val" or "test" of the data; unless told all of a folder, and "train" of other data.
        device: as for `training.find_device`.

    Raises:
        ValueError: no run there, no such data or device; a file of another kind or in no folder; parquet without
            pyarrow.
    """
    if not isinstance(data, str):
        raise TypeError(f"data: expected a name such as folder:PATH, got {type(data).__name__}")
    config, encoder = runs.load_encoder(path)
    name = Path(data.removeprefix("folder:")).name or "folder"
    out = Path(path) / f"vectors-{name}.npz" if out is None else Path(out)
    if out.suffix not in _FORMATS or not out.parent.is_dir():
        raise ValueError(f"out: expected a file that ends in {' or '.join(_FORMATS)}, in a folder that is there, got "
                         f"{str(out)!r}; choose another with --out")  # fmt: skip
    pack = _FORMATS[out.suffix]()  # before the work: pyarrow may be missing
    place = training.find_device(device)
    whole = data.startswith("folder:") and split is None
    pictures = (datasets.load_folder(data.removeprefix("folder:"), image_size=config.image_size) if whole else
                datasets.load(data, split or "train", image_size=config.image_size))  # fmt: skip
    vectors = evaluation.encode(encoder.to(place), pictures.images).numpy()
    write_whole(out, pack(_arrays(pictures, vectors, config)))
    bad = "".join(f"; skipped {file}: {why}" for file, why in pictures.skipped[:3])
    more = f"; {len(pictures.skipped)} files skipped in all" if len(pictures.skipped) > 3 else ""
    return f"{len(vectors):,} vectors of {vectors.shape[1]} numbers in {out}{bad}{more}"


def _arrays(pictures: ImageSet, vectors: np.ndarray, config: training.TrainConfig) -> dict[str, np.ndarray]:
    arrays = {"vectors": vectors}
    if pictures.name.startswith("folder:"):
        folder = Path(pictures.name.removeprefix("folder:"))
        arrays["files"] = np.array([_below(file, folder) for file in pictures.files], str)
        arrays["skipped"] = np.array([_below(file, folder) for file, _ in pictures.skipped], str)
    else:
        arrays["rows"] = np.arange(len(vectors))
    if pictures.labels is not None:
        arrays |= {"labels": pictures.labels.numpy(), "classes": np.array(pictures.classes, str)}
    needs = {
        "image_size": config.image_size,
        "channels": "RGB",
        "range": [0, 1],
        "layout": "float32 [N, 3, image_size, image_size]; bytes divided by 255, no other normalization",
        "crop": "turned as EXIF says, alpha on white, gray to RGB; the shorter side scaled to image_size (bicubic, "
        "with antialiasing), then the centre square",
        "encoder": {"model": config.model, **config.options()},
    }
    return arrays | {"preprocessing": np.array(json.dumps(needs))}


def _below(file: str, folder: Path) -> str:
    return Path(file).relative_to(folder).as_posix()


def _npz() -> Callable[[dict[str, np.ndarray]], bytes]:
    def pack(arrays: dict[str, np.ndarray]) -> bytes:
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # plain arrays, no pickles: numpy.load reads it as it is
        return buffer.getvalue()

    return pack


def _parquet() -> Callable[[dict[str, np.ndarray]], bytes]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ValueError("out: expected pyarrow to be installed for a .parquet, got no such package; install it, or "
                         "choose a file that ends in .npz") from error  # fmt: skip

    def pack(arrays: dict[str, np.ndarray]) -> bytes:
        dim = arrays["vectors"].shape[1]
        columns = {name: pyarrow.array(arrays[name]) for name in ("files", "rows", "labels") if name in arrays}
        columns["vectors"] = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(arrays["vectors"].ravel()), dim)
        about = {name: json.dumps(arrays[name].tolist()) for name in ("classes", "skipped") if name in arrays}
        about["preprocessing"] = str(arrays["preprocessing"])
        buffer = io.BytesIO()
        parquet.write_table(pyarrow.table(columns).replace_schema_metadata(about), buffer)
        return buffer.getvalue()

    return pack


_FORMATS = {".npz": _npz, ".parquet": _parquet}


# --- compare ----------------------------------------------------------------------------------------------


def compare(paths: Sequence[str | Path], out: str | Path | None = None) -> str:
    """Runs side by side: a table of the settings that differ, the last loss, the last kNN on the validation split,
    steps and minutes; with `out` also one picture of all their curves, in words below the table.

    Raises:
        ValueError: fewer than two runs, one that is none, an `out` that is no .png in a folder that is there.
    """
    if isinstance(paths, str | Path) or len(paths) < 2:
        raise ValueError(f"compare: expected at least two run folders, got {paths!r}; name another")
    if out is not None and (Path(out).suffix != ".png" or not Path(out).parent.is_dir()):
        raise ValueError(f"out: expected a .png in a folder that is there, got {str(out)!r}; choose another with --out")
    names = _names([Path(path) for path in paths])
    configs = [asdict(runs.read_config(Path(path) / "config.json")) for path in paths]
    histories = [runs.read_metrics(Path(path) / "metrics.csv") for path in paths]
    differs = [name for name in configs[0] if len({config[name] for config in configs}) > 1]
    rows = []
    for name, config, history in zip(names, configs, histories, strict=True):
        last = {key: value for row in history for key, value in row.items()}  # of each column, where it was measured
        rows.append([name, *("-" if config[field] is None else str(config[field]) for field in differs),
                     *(_number(last, key) for key in ("loss", "knn")), f"{last.get('step', 0):,}",
                     f"{last.get('seconds', 0) / 60:.1f}"])  # fmt: skip
    said = table(["run", *differs, "loss", "kNN (val)", "at step", "after minutes"], rows)
    if out is None:
        return said
    picture = plots.curves_of_runs(dict(zip(names, histories, strict=True)))
    write_whole(Path(out), picture.png())
    return f"{said}\n\n{out}: {picture.alt}"


def _names(paths: list[Path]) -> list[str]:
    """The folders' names where these tell them apart, else the whole paths.

    Raises:
        ValueError: the same run twice.
    """
    if len({path.resolve() for path in paths}) < len(paths):
        raise ValueError(f"compare: expected different runs, got one twice in {', '.join(map(str, paths))}; leave it "
                         "out")  # fmt: skip
    short = [path.resolve().name for path in paths]
    return short if len(set(short)) == len(short) else [str(path) for path in paths]


def _number(values: dict[str, float], key: str) -> str:
    return f"{values[key]:.3f}" if math.isfinite(values.get(key, math.nan)) else "-"
