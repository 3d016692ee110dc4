"""What every explorer stands on: a figure that is kept, sliders, a sentence, and a panel for pages without a kernel."""

import base64
import html
import io
import math
import struct
import textwrap
import threading
import zlib
from functools import cached_property, lru_cache

import ipywidgets as widgets
import numpy as np
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from PIL import Image

CSS_DPI = 96  # CSS pixels to the inch: with it, 12 pt text is 16 px high
PANEL_WIDTH = 1320  # CSS pixels: a wider panel would be shrunk on a page until its text can't be read
GAP = 28  # CSS pixels between the pictures of a panel
POSITIVE, NEGATIVE, THIRD = "#0072B2", "#D55E00", "#009E73"  # of plots.PALETTE; that would bring torch, and seconds
INK, MUTED, FAINT = "#333333", "#5f5f5f", "#e4e4e4"


def new_figure(width, height, *, density=2):
    """An empty figure of `width` x `height` CSS pixels; `density` pixels to each keep text crisp.

    Object-oriented on purpose: pyplot keeps global state, and JupyterLab moves sliders from a thread.
    """
    figure = Figure(figsize=(width / CSS_DPI, height / CSS_DPI), dpi=CSS_DPI * density, facecolor="white")
    _Canvas(figure)
    return figure


class _Canvas(FigureCanvasAgg):
    """A canvas of a fixed size, with the renderer below."""

    def get_renderer(self):
        if not hasattr(self, "renderer"):
            self.renderer = _Renderer(*self.get_width_height(physical=True), self.figure.dpi)
        return self.renderer


class _Renderer(RendererAgg):
    """Keeps lines of text as pictures: matplotlib makes each anew at every draw, which takes half of a redraw."""

    def draw_text(self, gc, x, y, s, prop, angle, ismath=False, mtext=None):
        if angle or ismath or gc.get_clip_rectangle() or gc.get_clip_path()[0]:
            return super().draw_text(gc, x, y, s, prop, angle, ismath, mtext)
        x, y = (round(64 * place) / 64 for place in (x, y))  # matplotlib's own grid: whole pixels then shift exactly
        column, row = math.floor(x), math.floor(y)
        line, left, top = _line(s, prop.copy(), self.dpi, x - column, y - row, gc.get_rgb(), gc.get_alpha())
        context = self.new_gc()
        self.draw_image(context, column + left, self.height - row - top - len(line), line[::-1])
        context.restore()


@lru_cache(2048)  # some 10 kB each
def _line(text, prop, dpi, x, y, color, alpha):
    """A line of text as RGBA [h, w, 4], and where its left and top are from the whole pixel it is written at."""
    sized = RendererAgg(1, 1, dpi)
    width, height, _ = (math.ceil(size) for size in sized.get_text_width_height_descent(text, prop, False))
    margin = height + 8  # some letters reach out of their box
    page = RendererAgg(width + 2 * margin, height + 2 * margin, dpi)
    context = page.new_gc()
    context.set_foreground(color, isRGBA=True)
    context.set_alpha(alpha)
    page.draw_text(context, margin + x, margin + height + y, text, prop, 0)
    pixels = np.asarray(page.buffer_rgba())
    rows, columns = (np.flatnonzero(pixels[..., 3].any(axis)) for axis in (1, 0))
    if not len(rows):  # blanks
        return pixels[:1, :1].copy(), 0, 0
    top, left = rows[0], columns[0]
    return pixels[top : rows[-1] + 1, left : columns[-1] + 1].copy(), left - margin, top - margin - height


class Montage(Artist):
    """An RGBA grid [rows, columns, 4], each of its pixels `zoom` x `zoom` of the figure's: matplotlib's own images are
    resampled at every draw, which takes longer than all the rest."""

    def __init__(self, grid, zoom, left, top):
        super().__init__()
        self.grid, self.zoom, self.left, self.top = grid, zoom, left, top

    def draw(self, renderer):
        pixels = self.grid.repeat(self.zoom, 0).repeat(self.zoom, 1)
        context = renderer.new_gc()
        renderer.draw_image(context, self.left, renderer.height - self.top - len(pixels), pixels[::-1])
        context.restore()


class Explorer:
    """Sliders, below them one picture that never changes size, and below it one sentence.

    title:    what this is, in a few words; it opens the alt text.
    figure:   from `new_figure`, with every artist in place. It is kept and redrawn, never replaced.
    update:   called as `update(name=value, ...)` with the value of each control. It places the artists
              from these values alone, with no memory of earlier calls, and returns the sentence.
    controls: name -> any ipywidgets control that has a `value`.
    settings: three or four telling settings (dicts of values) for the static panel.
    moving:   the artists that `update` changes: only they are redrawn, over a stored background.
              Whatever else it touches makes the figure stale: seen too, at the price of a full redraw.

    After an `update` that failed on a slider's move, `error` holds the exception; otherwise None.
    """

    def __init__(self, title, figure, update, *, controls, settings, moving=()):
        self.title, self.controls, self.error = title, dict(controls), None
        self._figure, self._update, self._settings = figure, update, [dict(s) for s in settings]
        self._initial = self.values
        self._lock = threading.RLock()
        self._background = None
        self._moving = sorted(moving, key=lambda artist: artist.get_zorder())
        for artist in self._moving:
            artist.set_animated(True)  # left out of the background
        self._build_widget()
        self._show(*self.draw())  # a mistake in `update` is its author's: let it out here
        for control in self.controls.values():
            control.observe(self._refresh, "value")

    def _build_widget(self):
        width, height = (round(inches * CSS_DPI) for inches in self._figure.get_size_inches())
        fixed = {"width": f"{width}px", "max_width": "100%"}
        for control in self.controls.values():
            control.layout = widgets.Layout(**fixed)
            control.style.description_width = "180px"
            control.tooltip = control.description  # without one, ipywidgets 8.1 shows "null" on hovering
        # widgets.Image has no alt text, and a tooltip breaks its view in ipywidgets 8.1: the sentence serves.
        self._image = widgets.Image(
            format="png",
            layout=widgets.Layout(**fixed, height=f"{height}px", object_fit="contain", object_position="top"),
        )
        self._text = widgets.HTML(layout=widgets.Layout(**fixed))
        self.widget = widgets.VBox([*self.controls.values(), self._image, self._text])

    @property
    def values(self):
        """The value of each control, by name. Assign a dict, whole or part, to move the sliders."""
        return {name: control.value for name, control in self.controls.items()}

    @values.setter
    def values(self, values):
        self._check_names(values)
        for name, value in values.items():
            self.controls[name].value = value

    def draw(self, **parameters):
        """The sentence and the pixels (uint8 [H, W, 4]); a parameter left out keeps its first value.

        The same parameters give the same pixels, whatever was drawn before. The live picture stays as it is.
        """
        self._check_names(parameters)
        with self._lock:
            sentence = self._update(**self._initial | parameters)
            if not isinstance(sentence, str):
                raise TypeError(f"expected `update` to return the sentence, a str; got {type(sentence).__name__}")
            return sentence, self._pixels()

    def _check_names(self, parameters):
        if unknown := [name for name in parameters if name not in self.controls]:
            known = ", ".join(self.controls)
            raise ValueError(f"expected parameters of this explorer ({known}); got {', '.join(unknown)}")

    def _pixels(self):
        canvas = self._figure.canvas
        if self._background is None or self._figure.stale:  # moving artists never make a figure stale
            canvas.draw()
            self._background = canvas.copy_from_bbox(self._figure.bbox)
        canvas.restore_region(self._background)
        for artist in self._moving:
            self._figure.draw_artist(artist)
        return np.array(canvas.buffer_rgba())

    def _refresh(self, change=None):
        with self._lock:  # the values are read inside: whichever thread comes last draws the last ones
            try:
                self._show(*self.draw(**self.values))
            except Exception as error:  # raised in a callback it would vanish into a log: tell the learner
                self.error = error
                problem = f"This setting could not be drawn. {type(error).__name__}: {error}"
                self._say(f"{problem} (The picture still shows the setting before it.)", role="alert")

    def _show(self, sentence, pixels):
        self.error = None
        self._image.value = _png(pixels)
        self._say(sentence, role="status")

    def _say(self, sentence, role):
        self.sentence = sentence
        look = "line-height: 1.4; padding: 0 16px; min-height: 2.8em"  # two lines: what follows mustn't jump
        self._text.value = f'<div role="{role}" style="{look}">{html.escape(sentence)}</div>'

    @cached_property
    def panel(self):
        """The static panel: its PNG (bytes), and the sentence of each of its settings."""
        sentences, frames = zip(*(self.draw(**setting) for setting in self._settings), strict=True)
        return _side_by_side(frames, sentences, density=self._figure.dpi / CSS_DPI), sentences

    def _repr_mimebundle_(self, include=None, exclude=None):
        png, sentences = self.panel
        data = self.widget._repr_mimebundle_() | {
            "image/png": base64.b64encode(png).decode(),
            "text/plain": "\n".join(sentences),
        }
        alt = f"{self.title}, {len(sentences)} settings side by side. " + " ".join(sentences)
        return data, {"image/png": {"alt": alt}}

    def __repr__(self):
        return f"{self.title}: {self.sentence}"


def _png(pixels):
    """RGBA pixels, all opaque, as PNG in a hurry: Pillow tries five filters on every row; flat graphics need none."""
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + 3 * width), dtype=np.uint8)  # each row opens with its filter; 0 is none
    for channel in range(3):  # zlib's time goes by the bytes: without alpha they are fewer
        rows[:, 1 + channel :: 3] = pixels[..., channel]
    header = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)  # 8 bits a channel, RGB
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def _small_png(pixels):
    """RGBA pixels as the PNG that a notebook stores: time doesn't matter, bytes do."""
    image = Image.fromarray(pixels).convert("RGB")
    if image.getcolors(4096):  # flat graphics fit a palette; photographs keep all their colours
        image = image.quantize(256, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    image.save(buffer, "png", compress_level=9)
    return buffer.getvalue()


def _side_by_side(frames, sentences, density):
    """One PNG of small multiples, each with its sentence below it, as many to a row as stay legible."""
    height, width = (round(pixels / density) for pixels in frames[0].shape[:2])
    columns = max(1, min(len(frames), (PANEL_WIDTH + GAP) // (width + GAP)))
    captions = [textwrap.fill(sentence, int(width / 7.7)) for sentence in sentences]
    lines = 1 + max(caption.count("\n") for caption in captions)
    cell = height + 19 * lines + 2 * GAP
    total_width = columns * (width + GAP) - GAP
    total_height = math.ceil(len(frames) / columns) * cell - GAP
    panel = new_figure(total_width, total_height, density=density)
    for i, (frame, caption) in enumerate(zip(frames, captions, strict=True)):
        left = i % columns * (width + GAP)
        bottom = total_height - i // columns * cell - height
        panel.figimage(frame, left * density, bottom * density, origin="upper")
        place = (left + 16) / total_width, (bottom - 8) / total_height
        panel.text(*place, caption, va="top", size=10.5, color=MUTED, linespacing=1.35)
    panel.canvas.draw()
    return _small_png(np.asarray(panel.canvas.buffer_rgba()))


def percent(share):
    """A share of 1 in words that fit a sentence: "83 %"."""
    return "under 1 %" if share < 0.01 else "over 99 %" if share > 0.99 else f"{100 * share:.0f} %"


def signed(similarity):
    """Two decimals and a true minus sign."""
    return f"{similarity:z.2f}".replace("-", "−")
