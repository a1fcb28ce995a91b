// A step of a rule: the branch that holds is found in its tree, and what it names in the table of values is computed.

/** A function from places in the table to their values, each computed once, for what a step is given. */
function evaluator(given) {
  const known = new Map();
  const v = (place) => {
    if (!known.has(place)) known.set(place, VALUES[place](v, given));
    return known.get(place);
  };
  return v;
}

/** The same in memory that is used again and again, for values that are wanted at once. */
const atOnce = (() => {
  const known = new Array(VALUES.length), when = new Int32Array(VALUES.length);
  let given = null, now = 0;
  const v = (place) => {
    if (when[place] !== now) {
      known[place] = VALUES[place](v, given);
      when[place] = now;
    }
    return known[place];
  };
  return (x) => {
    given = x;
    now += 1;
    return v;
  };
})();

/** Follow a tree of questions to its leaf. */
function answered(tree, v) {
  while (Array.isArray(tree)) tree = tree[1][String(v(tree[0]))];
  if (tree === undefined || tree === null) throw new Error("these settings lead to a branch that is not in the tables");
  return tree;
}

const settingsOf = (name) => RULES[name].settings.map((place) => SETTINGS[place]);

/** A rule's settings at their defaults, with the form of weight decay. */
function defaultsOf(name) {
  const settings = Object.fromEntries(settingsOf(name).map((one) => [one.name, one.default]));
  return { ...settings, decay: RULES[name].decay };
}

/** The place of these flags among all their combinations, the last flag changing fastest. */
function combination(name, settings) {
  const byName = Object.fromEntries(settingsOf(name).map((one) => [one.name, one]));
  return RULES[name].flags.reduce((place, flag) => {
    const { options } = byName[flag];
    return place * options.length + options.indexOf(settings[flag]);
  }, 0);
}

/** What is wrong with settings, in a sentence; null where nothing is. */
function complaint(name, settings) {
  for (const { name: setting, range } of settingsOf(name)) {
    const value = settings[setting];
    if (!range || value === null) continue;
    const { low, high, open, whole } = range;
    const inside = Number.isFinite(value) && (low === null || value > low || (value === low && !open[0]))
      && (high === null || value < high || (value === high && !open[1])) && (!whole || Number.isInteger(value));
    if (!inside) return `${setting} must be ${interval(range)}, got ${number(value)}`;
  }
  const found = RULES[name].complaints[combination(name, settings)] || null;
  const said = Array.isArray(found) ? answered(found, evaluator(settings)) : found;
  return said ? said.replace(/\{(.+?)\}/g, (_, key) => number(settings[key])) : null;
}

/** A range of numbers in words. */
function interval({ low, high, open, whole }) {
  const ends = [];
  if (low !== null) ends.push(`${open[0] ? "above" : "at least"} ${number(low)}`);
  if (high !== null) ends.push(`${open[1] ? "below" : "at most"} ${number(high)}`);
  return `${whole ? "a whole number " : ends.length ? "" : "a number"}${ends.join(" and ")}`.trim();
}

/** Before the first step: the parameter (a list of numbers) and the states as they begin. */
function begin(name, settings, start) {
  const { shape, states } = RULES[name];
  const [rows, columns] = shape.length > 1 ? shape.slice(-2) : [1, shape[0]];
  const p = new Matrix(rows, columns, start.slice());
  const made = {};
  for (const place of states) {
    const { name: symbol, kind, init, setting } = STATES[place];
    const first = setting === null ? init : settings[setting];
    const full = { full: [rows, columns], row: [rows, 1], column: [1, columns] }[kind];
    if (first === "p") made[symbol] = p;
    else if (kind === "host" || kind === "shared") made[symbol] = first;
    else if (full) made[symbol] = Matrix.filled(...full, first);
    else made[symbol] = Matrix.diagonal(kind === "left" ? rows : columns, first === "identity" ? 1 : first);
  }
  return { t: 0, p, states: made };
}

/** What settings decide before any step: the trees of the structure, and weight decay in the form that is set. */
const prepared = (() => {
  const known = new WeakMap();
  return (name, settings) => {
    if (known.get(settings)?.name !== name) {
      const { structures, truths, forms, decay, inputs } = RULES[name];
      const frame = decay ? decayed(settings) : { structure: forms[0], given: {}, lines: [], v: null };
      let place = combination(name, settings);
      for (const truth of truths) place = place * 2 + (settings[truth] ? 0 : 1);
      place = place * forms.length + forms.indexOf(frame.structure);
      const trees = inputs.length ? [structures[2 * place], structures[2 * place + 1]] : [structures[place], structures[place]];
      known.set(settings, { name, frame, trees });
    }
    return known.get(settings);
  };
})();

/** Weight decay in the form that is set: what the rule is given of it in place of λ, and the lines that say so. */
function decayed(settings) {
  const v = evaluator({ "given.weight_decay": settings.weight_decay, lr: settings.lr, max_lr: settings.lr });
  const { structure, given, lines } = answered(DECAYS[settings.decay].given, v);
  return { structure, given: Object.fromEntries(Object.entries(given).map(([name, place]) => [name, v(place)])), lines, v };
}

/**
 * One step from `at`, with a gradient and what else the rule is given from outside: all of its inputs, or none.
 * Settings are not changed once they have been used. Returns the next state of affairs, and `lines()`: what every line
 * of the rule computed.
 */
function step(name, settings, at, gradient, inputs = {}) {
  const { states, inputs: wanted } = RULES[name], { frame, trees } = prepared(name, settings);
  const { rows, columns } = at.p, t = at.t + 1;
  const g = new Matrix(rows, columns, gradient.slice());
  const given = { ...settings, ...at.states, ...frame.given, t, rows, columns, p: at.p, g };
  for (const input of wanted) if (inputs[input]) given[input] = new Matrix(rows, columns, inputs[input].slice());
  const v = atOnce(given);
  const leaf = answered(trees[wanted.length && wanted.every((input) => inputs[input]) ? 1 : 0], v);
  const [news, lines] = LEAVES[leaf];
  const after = { ...at.states };
  states.forEach((state, i) => { if (news[i + 1] >= 0) after[STATES[state].name] = v(news[i + 1]); });
  const told = () => {
    const again = evaluator(given);
    return [...frame.lines.map((line) => toldLine(line, frame.v)), ...lines.map((line) => toldLine(line, again))];
  };
  return { t, p: news[0] >= 0 ? v(news[0]) : at.p, states: after, lines: told };
}

/** The weights at which the loss is looked at: the rule's own where it keeps such, else the parameter. */
function evaluatedAt(name, settings, at) {
  const place = RULES[name].evaluated;
  return place === null ? at.p : atOnce({ ...settings, ...at.states, p: at.p })(place);
}

/** A line in words and numbers: `substituted(i)` is its formula with the numbers of the i-th element. */
function toldLine(place, v) {
  const [text, section, result, ...slots] = LINES[place];
  const [symbol, formula, template, typeset] = TEXTS[text];
  return {
    symbol, formula, mathml: typeset, section: SECTIONS[section], value: v(result),
    substituted: (i) => filled(template, slots.map(v), i),
  };
}

/** The lines of a function's gradient at a point. */
function gradientLines(name, [x, y]) {
  const v = evaluator({ x, y });
  return FUNCTIONS[name].lines.map((line) => toldLine(line, v));
}
