"""The embedding map: thousands of pictures as points; pan, zoom, point at one, click for its neighbours."""

import base64
import io
import math
from collections import Counter
from pathlib import Path

import anywidget
import numpy as np
import traitlets
from PIL import Image

TILE = 32  # pixels a side of a thumbnail, at most
NEIGHBOURS = 10
MEASURED = 2000  # circled pictures whose neighbours are looked up, at most: of more, some
MOST = 65_536  # thumbnails of 32 pixels fill a sheet of 8,192 by 8,192, as large as browsers take everywhere
DRAWN = 600  # points on the static picture, at most


class _Canvas(anywidget.AnyWidget):
    """What the browser gets. Binary traits go as buffers, not as text."""

    _esm = Path(__file__).with_suffix(".js")
    points = traitlets.Bytes().tag(sync=True)  # float32 [N, 2] in [-1, 1]
    labels = traitlets.Bytes().tag(sync=True)  # uint8 [N], or empty
    sheet = traitlets.Bytes().tag(sync=True)  # JPEG of all thumbnails, row by row
    tile = traitlets.Int().tag(sync=True)
    columns = traitlets.Int().tag(sync=True)
    classes = traitlets.List().tag(sync=True)
    colors = traitlets.List().tag(sync=True)
    query = traitlets.List().tag(sync=True)  # from the browser: one row clicked, or all rows circled
    answer = traitlets.Dict().tag(sync=True)  # to the browser: rows and a sentence


class EmbeddingMap:
    """Made by `embedding_map`. Live, `widget` moves; where there is no kernel the same output shows a picture."""

    def __init__(self, points, images, labels, classes, features):
        from torch.nn import functional as F

        self._points, self._images, self._labels, self._classes = points, images, labels, classes
        self._space = points if features is None else F.normalize(features.detach().cpu().double(), dim=1)
        self._by = "on the map" if features is None else "by features"
        self.widget = _canvas(points, images, labels, classes)
        self.widget.observe(self._reply, "query")

    def neighbours(self, row, k=NEIGHBOURS):
        """The k rows nearest to one, nearest first: by the cosine of the features, or on the map if there are none."""
        return _nearest(self._space, [row], k)[0].tolist()

    def tell(self, rows):
        """The sentence about one picture that was clicked, or about several that were circled."""
        if not rows:
            return "Nothing chosen."
        near = _nearest(self._space, rows[:: -(-len(rows) // MEASURED)], self._k)
        if len(rows) == 1:
            shared = len({*near[0].tolist()} & {*_nearest(self._points, rows, self._k)[0].tolist()})
            also = f"; {shared} of them are among its {self._k} nearest on the map" if self._by == "by features" else ""
            named = "" if self._labels is None else f", {self._classes[self._labels[rows[0]]]}"
            return f"Picture {rows[0]}{named}. Its {self._k} nearest {self._by}{self._count(near[0].tolist())}{also}."
        inside = np.isin(near.numpy(), rows).mean()
        return (
            f"{len(rows)} pictures circled{self._count(rows)}. Of their {self._k} nearest neighbours {self._by}, "
            f"{100 * inside:.0f} % are circled too."
        )

    @property
    def _k(self):
        return min(NEIGHBOURS, len(self._points) - 1)

    def _count(self, rows):
        if self._labels is None:
            return ""
        names = Counter(self._classes[label] for label in self._labels[rows].tolist())
        return ": " + ", ".join(f"{count} {name}" for name, count in names.most_common())

    def _reply(self, change):
        rows = change["new"]
        shown = self.neighbours(rows[0], self._k) if len(rows) == 1 else rows
        self.widget.answer = {"rows": shown, "text": self.tell(rows)}

    def _repr_mimebundle_(self, include=None, exclude=None):
        picture = self.picture()
        data = self.widget._repr_mimebundle_()[0]
        data |= {"image/png": base64.b64encode(picture.png()).decode(), "text/plain": repr(self)}
        return data, {"image/png": {"alt": picture.alt}}

    def picture(self):
        """The static map: points, and thumbnails in place of some."""
        from clbook import plots

        some = np.linspace(0, len(self._points) - 1, min(DRAWN, len(self._points))).astype(int)
        labels = None if self._labels is None else self._labels[some]
        alt = f"{self!r} A static picture of it: {len(some)} of the points, thumbnails in place of some."
        return plots.embedding_maps(
            {"embedding map": self._points[some].numpy()}, labels, self._classes, images=self._images[some], alt=alt
        )

    def __repr__(self):
        inside = f" in {len(self._classes)} classes ({', '.join(self._classes)})" if self._classes else ""
        return f"Embedding map of {len(self._points):,} pictures{inside}."


def embedding_map(points=None, images=None, labels=None, classes=(), *, features=None):
    """Walk about a map of pictures: drag and zoom, point at one to see it, click it for its neighbours.

    Shift and drag circles some: it says which classes they are, and how many of their neighbours were left out.

    points:   [N, 2], an array or a tensor, as `plots.tsne` and `plots.pca` give them; N from 3 to 65,536.
    images:   [N, C, H, W], uint8 or float in [0, 1]; shown at 32 pixels a side or less.
    labels:   [N] int64, 0 to len(classes) - 1, at most 255; with `classes`, their names.
    features: [N, D], to find neighbours by their cosine similarity; without them neighbours are the map's own,
              which is what the map claims, not what is so.
    With nothing given, 300 scenes of `shapes` are mapped by their pixels. ValueError or TypeError for anything else.
    """
    import torch

    from clbook import datasets, evaluation, plots

    if points is None:
        scenes = datasets.load("shapes", "val", n=300)
        features = evaluation.encode(None, scenes.images)
        points, images, labels, classes = plots.tsne(features), scenes.images, scenes.labels, scenes.classes
    points = torch.as_tensor(np.asarray(points), dtype=torch.float64)
    if points.ndim != 2 or points.shape[1] != 2 or not 3 <= len(points) <= MOST or not points.isfinite().all():
        raise ValueError(f"points: expected finite numbers [N, 2], N from 3 to {MOST:,}, got {list(points.shape)}"
                         f"{'' if points.isfinite().all() else ' with NaN or infinity'}")  # fmt: skip
    if images is None:
        raise ValueError(f"images: expected one for each of {len(points)} points, got None")
    plots._check_maps({"points": points.numpy()}, labels, classes, images)
    if (labels is None) != (not len(classes)):
        raise ValueError("expected labels and classes, or neither; got only one of them")
    if len(classes) > 255:
        raise ValueError(f"classes: expected at most 255, got {len(classes)}; leave labels and classes out")
    if features is not None:
        evaluation._check_features("features", features, least=3)
        if len(features) != len(points):
            raise ValueError(f"features: expected one for each of {len(points)} points, got {len(features)}")
    return EmbeddingMap(points, images, labels, list(classes), features)


def _canvas(points, images, labels, classes):
    from clbook import plots

    centred = points - (points.amax(0) + points.amin(0)) / 2
    columns = math.ceil(math.sqrt(len(points)))
    sheet, tile = _sheet(images, columns)
    return _Canvas(
        points=(centred / centred.abs().max().clamp_min(1e-30)).float().numpy().tobytes(),
        labels=b"" if labels is None else labels.byte().numpy().tobytes(),
        sheet=sheet,
        tile=tile,
        columns=columns,
        classes=classes,
        colors=list(plots.PALETTE),
    )


def _sheet(images, columns):
    """All pictures on one JPEG, `columns` to a row, and the side of a tile: one message, one decoding."""
    from torch.nn import functional as F

    from clbook import plots

    side = min(TILE, -(-max(images.shape[2:]) // 8) * 8)  # JPEG's blocks are 8 pixels: tiles must not share one
    rows = -(-len(images) // columns)
    sheet = np.full((rows * columns, side, side, 3), 255, np.uint8)
    for start in range(0, len(images), 1000):
        some = images[start : start + 1000]
        if tuple(some.shape[2:]) != (side, side):
            some = some.float() if some.is_floating_point() else some / 255
            some = F.interpolate(some, (side, side), mode="bilinear", antialias=True)
        sheet[start : start + len(some)] = plots.to_numpy(some)
    sheet = sheet.reshape(rows, columns, side, side, 3).swapaxes(1, 2).reshape(rows * side, columns * side, 3)
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "jpeg", quality=95, subsampling=0)
    return buffer.getvalue(), side


def _nearest(space, rows, k):
    """The k rows nearest to each of some, themselves left out: [m, k], nearest first."""
    import torch

    nearest = []
    for some in torch.as_tensor(rows).split(500):  # whoever circles everything should not fill the memory
        distances = torch.cdist(space[some], space)  # [m, N]; on unit vectors it ranks as the cosine does
        distances[torch.arange(len(some)), some] = torch.inf
        nearest.append(distances.topk(k, dim=1, largest=False).indices)
    return torch.cat(nearest)
