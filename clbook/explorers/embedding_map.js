// The embedding map: a canvas that pans, zooms and shows pictures without asking the kernel. Python sends points, signs
// and one sheet of thumbnails once, and answers a query (one row: a click; several: a lasso) with rows and a sentence.
const WIDTH = 560, HEIGHT = 460, SIGN = 9, REACH = 12; // CSS pixels
const UNIT = 0.46 * Math.min(WIDTH, HEIGHT), FEW = 70; // so many points, or fewer, become pictures

const SHAPES = [ // one for each class, in a box from -1 to 1, as plots.MARKERS has them
  (p) => p.arc(0, 0, 0.85, 0, 7),
  (p) => p.rect(-0.75, -0.75, 1.5, 1.5),
  (p) => polygon(p, [[0, -0.95], [0.95, 0.8], [-0.95, 0.8]]),
  (p) => polygon(p, [[0, -1], [0.8, 0], [0, 1], [-0.8, 0]]),
  (p) => polygon(p, [[-0.33, -1], [0.33, -1], [0.33, -0.33], [1, -0.33], [1, 0.33], [0.33, 0.33], [0.33, 1], [-0.33, 1],
    [-0.33, 0.33], [-1, 0.33], [-1, -0.33], [-0.33, -0.33]]),
  (p) => polygon(p, [[-0.9, -0.9], [-0.3, -0.9], [0, -0.35], [0.3, -0.9], [0.9, -0.9], [0.35, 0], [0.9, 0.9],
    [0.3, 0.9], [0, 0.35], [-0.3, 0.9], [-0.9, 0.9], [-0.35, 0]]),
  (p) => polygon(p, [[0, 0.95], [0.95, -0.8], [-0.95, -0.8]]),
];

function polygon(path, corners) {
  corners.forEach(([x, y], i) => (i ? path.lineTo(x, y) : path.moveTo(x, y)));
  path.closePath();
}

function element(name, parent, style = "", text = "") {
  const made = parent.appendChild(document.createElement(name));
  made.style.cssText = style;
  made.textContent = text;
  return made;
}

function scaled(canvas, width, height, density) {
  Object.assign(canvas, { width: width * density, height: height * density });
  const g = canvas.getContext("2d");
  g.scale(density, density);
  return g;
}

function signs(colors, count, size, density) { // one sign for each class, drawn once: a point is then a copy
  const sheet = document.createElement("canvas"), g = scaled(sheet, 2 * SIGN * count, 2 * SIGN, density);
  for (let label = 0; label < count; label++) {
    const path = new Path2D(), placed = new Path2D();
    SHAPES[label % SHAPES.length](path);
    placed.addPath(path, new DOMMatrix([size, 0, 0, size, (2 * label + 1) * SIGN, SIGN]));
    g.fillStyle = colors[label % colors.length];
    g.fill(placed);
    g.strokeStyle = "white";
    g.lineWidth = 0.6;
    g.stroke(placed);
  }
  return sheet;
}

function stamps(atlas, count, width, density) { // a sign as pixels to write: ten times as fast as copying pictures
  const side = 2 * SIGN * density, sheet = atlas.getContext("2d").getImageData(0, 0, count * side, side);
  const colors = new Uint32Array(sheet.data.buffer);
  return Array.from({ length: count }, (_, label) => {
    const stamp = [];
    for (let y = 0; y < side; y++)
      for (let x = 0; x < side; x++) {
        const color = colors[y * sheet.width + label * side + x];
        if (color >>> 24 > 100) stamp.push([(y - side / 2) * width + x - side / 2, color]);
      }
    return { places: Int32Array.from(stamp, ([place]) => place), colors: Uint32Array.from(stamp, ([, color]) => color) };
  });
}

async function render({ model, el }) {
  const floats = model.get("points"), bytes = model.get("labels");
  const points = new Float32Array(floats.buffer.slice(floats.byteOffset, floats.byteOffset + floats.byteLength));
  const labels = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const n = points.length / 2, classes = model.get("classes"), colors = model.get("colors");
  const tile = model.get("tile"), columns = model.get("columns"), density = Math.ceil(window.devicePixelRatio || 1);
  const kinds = Math.max(1, classes.length), atlas = signs(colors, kinds, n > 2000 ? 3.5 : 5, density);
  const pad = SIGN * density, buffer = new ImageData(WIDTH * density + 2 * pad, HEIGHT * density + 2 * pad);
  const ink = new Uint32Array(buffer.data.buffer), signed = stamps(atlas, kinds, buffer.width, density);
  const sheet = await createImageBitmap(new Blob([model.get("sheet")]));
  const x = new Float32Array(n), y = new Float32Array(n); // where each point stands on the screen
  const view = { x: 0, y: 0, zoom: 1 };
  let hover = -1, chosen = [], found = [], path = null, grip = null, waiting = false, moved = true, half = 0;

  el.replaceChildren();
  el.className += " clbook-map";
  const look = "display:flex; flex-wrap:wrap; gap:14px; padding:4px; ";
  const page = element("div", el, look + "font:13px/1.4 sans-serif; color:#333; background:white");
  const left = element("div", page, `width:${WIDTH}px`), right = element("div", page, "width:250px");
  const frame = element("div", left, `position:relative; width:${WIDTH}px; height:${HEIGHT}px; border:1px solid #ddd`);
  const whole = `position:absolute; inset:0; width:${WIDTH}px; height:${HEIGHT}px; `;
  const canvas = element("canvas", frame, whole + "cursor:crosshair; touch-action:none");
  const over = element("canvas", frame, whole + "pointer-events:none"); // rings, lines, the lasso: points stay as they are
  const ariaLabel = `Map of ${n} pictures. Arrow keys move it, plus and minus zoom, 0 shows all.`;
  Object.assign(canvas, { tabIndex: 0, role: "img", ariaLabel });
  const g = scaled(canvas, WIDTH, HEIGHT, density), marks = scaled(over, WIDTH, HEIGHT, density);
  const legend = element("div", left, "display:flex; flex-wrap:wrap; gap:2px 14px; padding:4px 0");
  classes.forEach((name, label) => {
    const side = 2 * SIGN, d = side * density, item = element("span", legend);
    const sign = element("canvas", item, `width:${side}px; height:${side}px; vertical-align:middle`);
    scaled(sign, side, side, density).drawImage(atlas, label * d, 0, d, d, 0, 0, side, side);
    item.append(name);
  });
  const keys = "drag: move · wheel: zoom · point: picture · click: neighbours · Shift + drag: circle some";
  element("div", left, "color:#5f5f5f", keys);
  const crisp = "image-rendering:pixelated; display:block; ";
  const large = element("canvas", right, crisp + "width:112px; height:112px; background:#f2f2f2");
  const caption = element("div", right, "min-height:1.5em; font-weight:bold");
  const told = element("div", right, "min-height:6em; padding:6px 0");
  told.setAttribute("role", "status");
  told.textContent = "Point at the map to see pictures; click one to see its neighbours.";
  const list = element("div", right, "display:flex; flex-wrap:wrap; gap:6px");

  const name = (i) => (labels.length ? classes[labels[i]] : `picture ${i}`);
  const thumbnail = (i) => [sheet, (i % columns) * tile, Math.floor(i / columns) * tile, tile, tile];

  function draw() {
    const started = performance.now();
    if (moved) place_all();
    mark();
    waiting = moved = false;
    el.dataset.frame = (performance.now() - started).toFixed(2);
  }

  function place_all() {
    const scale = view.zoom * UNIT, inside = [], d = 2 * SIGN * density;
    for (let i = 0; i < n; i++) {
      x[i] = WIDTH / 2 + (points[2 * i] - view.x) * scale;
      y[i] = HEIGHT / 2 - (points[2 * i + 1] - view.y) * scale;
      if (x[i] >= 0 && x[i] <= WIDTH && y[i] >= 0 && y[i] <= HEIGHT) inside.push(i);
    }
    half = inside.length <= FEW ? 15 : 0;
    ink.fill(0);
    if (!half)
      for (const i of inside) {
        const { places, colors: dots } = signed[labels.length ? labels[i] : 0];
        const centre = (Math.round(y[i] * density) + pad) * buffer.width + Math.round(x[i] * density) + pad;
        for (let j = 0; j < places.length; j++) ink[centre + places[j]] = dots[j];
      }
    g.putImageData(buffer, -pad, -pad);
    for (const i of half ? inside : []) {
      const label = labels.length ? labels[i] : 0;
      g.fillStyle = colors[label % colors.length];
      g.fillRect(x[i] - half - 2, y[i] - half - 2, 2 * half + 4, 2 * half + 4);
      g.drawImage(...thumbnail(i), x[i] - half, y[i] - half, 2 * half, 2 * half);
      g.drawImage(atlas, label * d, 0, d, d, x[i] + half - SIGN, y[i] + half - SIGN, 2 * SIGN, 2 * SIGN);
    }
    const centre = `${view.x.toFixed(4)} ${view.y.toFixed(4)}`;
    Object.assign(el.dataset, { zoom: view.zoom.toFixed(3), centre, inside: inside.length });
  }

  function mark() { // lines to the neighbours, rings around what is chosen, the lasso
    const one = chosen.length === 1;
    marks.clearRect(0, 0, WIDTH, HEIGHT);
    marks.lineWidth = 1;
    for (const i of one ? found : []) trace([[x[chosen[0]], y[chosen[0]]], [x[i], y[i]]]);
    for (const [rows, width] of [[one ? found : [], 1.5], [chosen, one ? 3 : 1], [hover < 0 ? [] : [hover], 2]]) {
      marks.lineWidth = width;
      for (const i of rows) {
        marks.beginPath();
        marks.arc(x[i], y[i], half ? half + 8 : 8, 0, 7);
        marks.stroke();
      }
    }
    marks.setLineDash([4, 3]);
    trace(path || []);
    marks.setLineDash([]);
  }

  function trace(corners) {
    marks.beginPath();
    corners.forEach(([px, py], i) => (i ? marks.lineTo(px, py) : marks.moveTo(px, py)));
    marks.stroke();
  }

  function soon(everything = false) { // one frame, however many events
    if (!waiting) requestAnimationFrame(draw);
    waiting = true;
    moved ||= everything;
  }

  function nearest(px, py) {
    let best = -1, least = REACH * REACH;
    for (let i = 0; i < n; i++) {
      const distance = (x[i] - px) ** 2 + (y[i] - py) ** 2;
      if (distance < least) [best, least] = [i, distance];
    }
    return best;
  }

  function show(i) {
    if (i === hover) return;
    hover = i;
    const brush = scaled(large, 112, 112, density);
    brush.imageSmoothingEnabled = false;
    if (i >= 0) brush.drawImage(...thumbnail(i), 0, 0, 112, 112);
    caption.textContent = i < 0 ? "" : `${name(i)} (no. ${i})`;
    el.dataset.hover = i;
    soon();
  }

  function ask(rows) {
    chosen = rows;
    if (String(rows) !== String(model.get("query"))) found = []; // else no new answer will come
    model.set("query", rows);
    model.save_changes();
    soon();
  }

  function answered() {
    const answer = model.get("answer");
    found = answer.rows || [];
    told.textContent = answer.text || "";
    list.replaceChildren();
    for (const i of found.slice(0, 20)) {
      const item = element("div", list, "width:42px; font-size:10px; line-height:1.15; overflow-wrap:anywhere");
      const small = element("canvas", item, crisp + "width:42px; height:42px");
      const brush = scaled(small, 42, 42, density);
      brush.imageSmoothingEnabled = false;
      brush.drawImage(...thumbnail(i), 0, 0, 42, 42);
      item.append(name(i));
    }
    soon();
  }

  function zoom(factor, px = WIDTH / 2, py = HEIGHT / 2) { // what is under the pointer stays there
    const before = view.zoom, after = Math.min(400, Math.max(0.5, before * factor));
    view.x += ((px - WIDTH / 2) / UNIT) * (1 / before - 1 / after);
    view.y -= ((py - HEIGHT / 2) / UNIT) * (1 / before - 1 / after);
    view.zoom = after;
    soon(true);
  }

  function move(dx, dy) {
    view.x -= dx / (view.zoom * UNIT);
    view.y += dy / (view.zoom * UNIT);
    soon(true);
  }

  function circled() {
    const lasso = new Path2D();
    polygon(lasso, path);
    g.setTransform(1, 0, 0, 1, 0, 0); // isPointInPath counts in pixels of the path's own space
    const rows = [...points.keys()].slice(0, n).filter((i) => g.isPointInPath(lasso, x[i], y[i]));
    g.setTransform(density, 0, 0, density, 0, 0);
    return rows;
  }

  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    grip = { at: place(event), moved: 0 };
    if (event.shiftKey) path = [grip.at];
  });
  canvas.addEventListener("pointermove", (event) => {
    const at = place(event);
    if (!grip) return show(nearest(...at));
    const [dx, dy] = [at[0] - grip.at[0], at[1] - grip.at[1]];
    grip = { at, moved: grip.moved + Math.abs(dx) + Math.abs(dy) };
    if (path) path.push(at), soon();
    else if (grip.moved > 3) move(dx, dy);
  });
  canvas.addEventListener("pointerup", (event) => {
    const at = place(event);
    if (path) {
      const rows = path.length > 2 ? circled() : [];
      path = null;
      ask(rows);
    } else if (grip && grip.moved <= 3) {
      const row = nearest(...at);
      ask(row < 0 ? [] : [row]);
    }
    grip = null;
  });
  canvas.addEventListener("pointerleave", () => grip || show(-1));
  canvas.addEventListener("pointercancel", () => ([grip, path] = [null, null]));
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(-0.0015 * event.deltaY), ...place(event));
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] };
    if (steps[event.key]) move(...steps[event.key]);
    else if (event.key === "+" || event.key === "=") zoom(1.4);
    else if (event.key === "-") zoom(1 / 1.4);
    else if (event.key === "0") Object.assign(view, { x: 0, y: 0, zoom: 1 }), soon(true);
    else return;
    event.preventDefault();
    event.stopPropagation(); // or JupyterLab takes it for a command of its own
  });
  model.on("change:answer", answered);
  draw();
  return () => model.off("change:answer", answered);
}

export default { render };
