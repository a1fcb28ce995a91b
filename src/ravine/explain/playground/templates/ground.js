// The landscape: bands of height with contours between them, axes, and the paths.

const BANDS = 18;
const MARGIN = { left: 52, right: 18, top: 10, bottom: 28 };
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const colour = (i) => css(`--series-${i % PAGE.colours}`);
const DASHES = [[], [9, 4], [2, 3], [9, 3, 2, 3], [5, 5], [12, 3]];

/** A canvas of this element's size, sharp on any screen; drawn in CSS pixels. */
function sharp(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas, ratio = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  return [pen, width, height];
}

/** How the plane lies on the canvas. */
function mapping2d(landscape, width, height) {
  const { left, right, top, bottom } = MARGIN, [x0, x1] = landscape.x, [y0, y1] = landscape.y;
  const w = width - left - right, h = height - top - bottom;
  return {
    w, h,
    to: ([x, y]) => [left + ((x - x0) / (x1 - x0)) * w, top + ((y1 - y) / (y1 - y0)) * h],
    from: (u, v) => [x0 + ((u - left) / w) * (x1 - x0), y1 - ((v - top) / h) * (y1 - y0)],
  };
}

/** The height as a number from 0 to 1 that grows like a logarithm, at the points of a grid. */
function heights(landscape, columns, rows) {
  const made = new Float64Array(columns * rows), [x0, x1] = landscape.x, [y0, y1] = landscape.y;
  for (let j = 0; j < rows; j++) {
    for (let i = 0; i < columns; i++) {
      const point = [x0 + (i / (columns - 1)) * (x1 - x0), y1 - (j / (rows - 1)) * (y1 - y0)];
      made[j * columns + i] = FUNCTIONS[landscape.name].value(point) - landscape.minimum;
    }
  }
  const sorted = made.slice().sort(), middle = sorted[Math.floor(sorted.length / 2)] / 40 || 1;
  const scale = Math.log1p(sorted[sorted.length - 1] / middle);
  return made.map((height) => Math.log1p(Math.max(0, height) / middle) / scale);
}

let painted = { key: "", image: null };

/** The bands and contours, painted once for each landscape, size and theme. */
function backdrop(landscape, width, height) {
  const colours = ["--low", "--high", "--contour"].map(css);
  const key = [landscape.name, width, height, ...colours].join(" ");
  if (painted.key === key) return painted.image;
  const ratio = Math.min(2, window.devicePixelRatio || 1), w = Math.round(width * ratio), h = Math.round(height * ratio);
  const columns = 161, rows = 121, grid = heights(landscape, columns, rows);
  const image = document.createElement("canvas");
  [image.width, image.height] = [w, h];
  const pen = image.getContext("2d"), pixels = pen.createImageData(w, h), levels = new Float32Array(w * h);
  for (let v = 0; v < h; v++) {
    const b = (v / (h - 1)) * (rows - 1), j = Math.min(rows - 2, Math.floor(b)), q = b - j;
    for (let u = 0; u < w; u++) {
      const a = (u / (w - 1)) * (columns - 1), i = Math.min(columns - 2, Math.floor(a)), p = a - i, at = j * columns + i;
      levels[v * w + u] = BANDS * ((1 - q) * ((1 - p) * grid[at] + p * grid[at + 1])
        + q * ((1 - p) * grid[at + columns] + p * grid[at + columns + 1]));
    }
  }
  const [low, high, contour] = colours.map(rgb);
  for (let v = 0; v < h; v++) {
    for (let u = 0; u < w; u++) {
      const k = v * w + u, level = levels[k], band = Math.min(BANDS - 1, Math.floor(level));
      const right = u + 1 < w ? Math.floor(levels[k + 1]) : band, below = v + 1 < h ? Math.floor(levels[k + w]) : band;
      const onLine = Math.min(BANDS - 1, right) !== band || Math.min(BANDS - 1, below) !== band;
      const part = band / (BANDS - 1), shade = onLine ? contour : low.map((c, n) => c + part * (high[n] - c));
      for (let n = 0; n < 3; n++) pixels.data[4 * k + n] = shade[n];
      pixels.data[4 * k + 3] = 255;
    }
  }
  pen.putImageData(pixels, 0, 0);
  painted = { key, image };
  return image;
}

const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));

/** Whole, round numbers between two ends, about as many as wanted. */
function ticks(low, high, wanted) {
  const raw = (high - low) / wanted, power = 10 ** Math.floor(Math.log10(raw));
  const size = [1, 2, 2.5, 5, 10].map((k) => k * power).find((k) => k >= raw);
  const made = [];
  for (let k = Math.ceil(low / size); k * size <= high * (1 + 1e-12) + 1e-12; k++) made.push(k * size + 0);
  return made;
}

/** Everything on the landscape's canvas. */
function drawGround(canvas, page) {
  const [pen, width, height] = sharp(canvas), { landscape } = page, place = mapping2d(landscape, width, height);
  const { left, top } = MARGIN;
  pen.clearRect(0, 0, width, height);
  pen.drawImage(backdrop(landscape, place.w, place.h), left, top, place.w, place.h);
  pen.font = "12px system-ui, sans-serif";
  pen.fillStyle = css("--quiet");
  pen.textAlign = "center";
  pen.textBaseline = "top";
  for (const x of ticks(...landscape.x, Math.max(4, place.w / 90))) pen.fillText(number(x), place.to([x, 0])[0], top + place.h + 7);
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  for (const y of ticks(...landscape.y, Math.max(4, place.h / 60))) pen.fillText(number(y), left - 7, place.to([0, y])[1]);
  pen.fillText("x", left + place.w + 14, top + place.h);
  pen.fillText("y", left - 4, top - 4);
  pen.save();
  pen.beginPath();
  pen.rect(left, top, place.w, place.h);
  pen.clip();
  for (const minimum of landscape.minima) cross(pen, place.to(minimum));
  const order = page.runs.map((_, i) => i).sort((a, b) => Number(a === page.shown) - Number(b === page.shown));
  for (const i of order) drawPath(pen, place, page.runs[i], i, page, i === page.shown);
  pen.restore();
  return place;
}

function cross(pen, [u, v]) {
  for (const [style, thick] of [[css("--surface"), 5], [css("--text"), 2]]) {
    pen.strokeStyle = style;
    pen.lineWidth = thick;
    pen.beginPath();
    for (const [a, b] of [[-5, -5], [-5, 5]]) { pen.moveTo(u + a, v + b); pen.lineTo(u - a, v - b); }
    pen.stroke();
  }
}

/** One path: what is behind it bold, what is to come faint, and a mark where it is. */
function drawPath(pen, place, run, i, page, selected) {
  const now = run.last(page.t), points = run.points.map(place.to), line = colour(i);
  const stroke = (from, to) => {
    pen.beginPath();
    for (let k = from; k <= to; k++) pen.lineTo(...points[k]);
    pen.stroke();
  };
  pen.lineJoin = pen.lineCap = "round";
  pen.setLineDash([]);
  pen.strokeStyle = pen.fillStyle = line;
  pen.globalAlpha = 0.28;
  pen.lineWidth = 1.5;
  stroke(now, points.length - 1);
  pen.globalAlpha = 1;
  pen.strokeStyle = css("--halo");
  pen.lineWidth = selected ? 5.5 : 4;
  stroke(0, now);
  pen.strokeStyle = line;
  pen.lineWidth = selected ? 3 : 2;
  pen.setLineDash(DASHES[i % DASHES.length]);
  stroke(0, now);
  pen.setLineDash([]);
  if (selected) {
    for (let k = 1; k < now; k++) {
      if (Math.hypot(points[k][0] - points[k - 1][0], points[k][1] - points[k - 1][1]) < 4) continue;
      pen.beginPath();
      pen.arc(...points[k], 2.6, 0, 2 * Math.PI);
      pen.fill();
    }
  }
  pen.strokeStyle = css("--surface");
  pen.lineWidth = 2;
  marker(pen, i, ...points[now], selected ? 8 : 6.5);
  pen.fill();
  pen.stroke();
}

/** The i-th mark: circle, square, triangle, diamond, and so on. */
function marker(pen, i, u, v, r) {
  const corners = [0, 4, 3, 4, 3, 6][i % 6], turn = [0, Math.PI / 4, -Math.PI / 2, 0, Math.PI / 2, 0][i % 6];
  pen.beginPath();
  if (!corners) pen.arc(u, v, r, 0, 2 * Math.PI);
  for (let k = 0; k < corners; k++) {
    const angle = turn + (2 * Math.PI * k) / corners;
    pen.lineTo(u + 1.15 * r * Math.cos(angle), v + 1.15 * r * Math.sin(angle));
  }
  pen.closePath();
}
