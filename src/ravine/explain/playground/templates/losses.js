// The curves of the loss: height above the lowest point against steps, on a logarithmic scale.

function drawLosses(canvas, page) {
  const [pen, width, height] = sharp(canvas), { landscape, runs, steps } = page;
  const left = MARGIN.left, right = MARGIN.right, top = 8, bottom = 24, w = width - left - right, h = height - top - bottom;
  const above = (loss) => Math.max(loss - landscape.minimum, 1e-300);
  const all = runs.flatMap((run) => run.losses.slice(0, steps + 1).map(above)).filter((value) => value > 1e-16);
  const first = above(runs[0]?.losses[0] ?? 1);
  const high = Math.ceil(Math.log10(Math.min(Math.max(...all, first), first * 100)));
  const low = Math.max(Math.floor(Math.log10(Math.min(...all, first))), high - 14);
  const span = Math.max(1, high - low);
  const u = (t) => left + (t / steps) * w, v = (loss) => top + ((high - Math.log10(above(loss))) / span) * h;
  pen.clearRect(0, 0, width, height);
  pen.font = "12px system-ui, sans-serif";
  pen.lineWidth = 1;
  pen.textBaseline = "middle";
  pen.textAlign = "right";
  for (let k = low, every = Math.ceil(span / 5); k <= high; k += every) {
    pen.strokeStyle = css("--line");
    pen.beginPath();
    pen.moveTo(left, v(10 ** k + landscape.minimum));
    pen.lineTo(left + w, v(10 ** k + landscape.minimum));
    pen.stroke();
    pen.fillStyle = css("--quiet");
    pen.fillText(Math.abs(k) < 4 ? number(10 ** k) : `1e${String(k).replace("-", "−")}`, left - 7, v(10 ** k + landscape.minimum));
  }
  pen.textAlign = "center";
  pen.textBaseline = "top";
  for (const t of ticks(0, steps, Math.max(3, w / 90))) pen.fillText(number(t), u(t), top + h + 7);
  pen.save();
  pen.beginPath();
  pen.rect(left, 0, w + right, height - bottom + 1);
  pen.clip();
  runs.forEach((run, i) => {
    const now = run.last(page.t), end = run.last(steps);
    const stroke = (from, to) => {
      pen.beginPath();
      for (let t = from; t <= to; t++) pen.lineTo(u(t), v(run.losses[t]));
      pen.stroke();
    };
    pen.lineJoin = "round";
    pen.strokeStyle = pen.fillStyle = colour(i);
    pen.lineWidth = i === page.shown ? 2.6 : 1.8;
    pen.globalAlpha = 0.28;
    stroke(now, end);
    pen.globalAlpha = 1;
    pen.setLineDash(DASHES[i % DASHES.length]);
    stroke(0, now);
    pen.setLineDash([]);
    marker(pen, i, u(now), v(run.losses[now]), 4.5);
    pen.fill();
  });
  pen.restore();
  pen.strokeStyle = css("--quiet");
  pen.lineWidth = 1;
  pen.beginPath();
  pen.moveTo(u(page.t), top);
  pen.lineTo(u(page.t), top + h);
  pen.stroke();
}
