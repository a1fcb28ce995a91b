// Runs: each optimizer's way over the landscape, computed as far as it is looked at, and its learning rate.

const ESTIMATE_EVERY = PAGE.estimateEvery;

/** One optimizer's way from a start, as long as is asked for. */
class Run {
  constructor(optimizer, landscape, from) {
    this.optimizer = optimizer;
    this.landscape = landscape;
    this.far = PAGE.farthest * Math.max(landscape.x[1] - landscape.x[0], landscape.y[1] - landscape.y[0]);
    this.places = [begin(optimizer.name, optimizer.settings, from)];
    this.points = [from.slice()];
    this.losses = [FUNCTIONS[landscape.name].value(from)];
    this.divergedAt = null;
  }
  /** Walk on to step t; a run that is too far away, or whose loss is no number, stops. */
  to(t) {
    while (this.places.length <= t && this.divergedAt === null) {
      const { name, settings } = this.optimizer;
      const next = this.stepped(this.places.length);
      const point = evaluatedAt(name, settings, next).data;
      const loss = FUNCTIONS[this.landscape.name].value(point);
      if (!Number.isFinite(loss) || !(Math.max(...point.map(Math.abs)) < this.far)) {
        this.divergedAt = this.places.length;
      } else {
        this.places.push(next);
        this.points.push(point);
        this.losses.push(loss);
      }
    }
    return this;
  }
  /** What step t makes of the place before it. */
  stepped(t) {
    const { name, settings } = this.optimizer;
    const before = this.places[t - 1];
    const f = FUNCTIONS[this.landscape.name], { data } = before.p, inputs = {};
    if (t % ESTIMATE_EVERY === 1) for (const input of RULES[name].inputs) inputs[input] = f.curvature(data);
    return step(name, settings, before, f.gradient(data), inputs);
  }
  /** The lines of step t, the gradient's first. */
  lines(t) {
    if (this.to(t - 1).places.length < t) return null;
    const slopes = gradientLines(this.landscape.name, this.places[t - 1].p.data);
    const gradient = {
      symbol: "g", formula: "∇f(θ)", mathml: PAGE.gradient, section: [],
      value: new Matrix(1, 2, slopes.map((line) => line.value)),
      formulas: slopes.map((line) => line.formula),
      substituted: (i) => slopes[i].substituted(0),
    };
    return [gradient, ...this.stepped(t).lines()];
  }
  last(t) {
    return Math.min(t, this.points.length - 1);
  }
}

/** The first step from which on the loss stays at or below a level; Infinity where it does not end there. */
function stepsTo(losses, level) {
  let arrived = losses.length;
  while (arrived > 0 && losses[arrived - 1] <= level) arrived--;
  return arrived < losses.length ? arrived : Infinity;
}

/** How good a run is, less being better: whether it leaves the ground, its steps to the target, its loss at the end. */
function score(run, steps, target) {
  run.to(steps);
  if (run.divergedAt !== null) return [1, Infinity, Infinity];
  const { x, y } = run.landscape;
  const leaves = run.points.some(([a, b]) => a < x[0] || a > x[1] || b < y[0] || b > y[1]);
  const tail = run.losses.slice(-Math.max(1, Math.round(PAGE.tuning.tail * run.losses.length)));
  return [Number(leaves), stepsTo(run.losses, target), tail.reduce((a, b) => a + b, 0) / tail.length];
}

/** The best learning rate of a grid, and of a finer one around the best; null where the rule takes none. */
function bestRate(optimizer, landscape, from) {
  const rates = settingsOf(optimizer.name).find((one) => one.name === "lr");
  if (!rates?.range) return null;
  const start = FUNCTIONS[landscape.name].value(from);
  const target = landscape.minimum + PAGE.tuning.part * (start - landscape.minimum);
  const tried = [];
  const tryRate = (lr) => {
    const settings = { ...optimizer.settings, lr };
    if (complaint(optimizer.name, settings)) return;
    tried.push([...score(new Run({ ...optimizer, settings }, landscape, from), landscape.steps, target), lr]);
  };
  const better = (a, b) => { const i = a.findIndex((value, k) => value !== b[k]); return i < 0 ? 0 : a[i] - b[i]; };
  const { coarse, finer } = PAGE.tuning;
  coarse.forEach(tryRate);
  if (!tried.length) return null;
  const place = coarse.indexOf(tried.slice().sort(better)[0].at(-1));
  const [low, high] = [coarse[Math.max(0, place - 1)], coarse[Math.min(coarse.length - 1, place + 1)]];
  for (let i = 1; i <= finer + 1; i++) tryRate(Number((low * (high / low) ** (i / (finer + 2))).toPrecision(3)));
  return tried.sort(better)[0].at(-1);
}
