// What is on the page: landscape, start, optimizers, step and line. All of it stands in the address.

const landscapeOf = (name) => PAGE.landscapes.find((one) => one.name === name);
const HIGHEST_STEP = 2000;
const MOST_OPTIMIZERS = 8;

/** A set-up from an address's hash, and what could not be understood of it, in sentences. */
function understood(hash) {
  const wrong = [];
  const given = new URLSearchParams(hash.replace(/^#/, ""));
  const landscape = landscapeOf(given.get("on")) ?? PAGE.landscapes[0];
  if (given.has("on") && landscape.name !== given.get("on")) wrong.push(`There is no landscape “${given.get("on")}”.`);
  const numbers = (given.get("from") ?? "").split(",").map(Number);
  const here = given.has("from") && numbers.length === 2 && numbers.every(Number.isFinite);
  if (given.has("from") && !here) wrong.push(`The start “${given.get("from")}” is not two numbers.`);
  const optimizers = given.getAll("use").map((text) => readOptimizer(text, wrong)).filter(Boolean).slice(0, MOST_OPTIMIZERS);
  const whole = (key, most) => {
    const value = Number(given.get(key) ?? 0);
    return Number.isInteger(value) && value >= 0 ? Math.min(value, most) : 0;
  };
  const setup = {
    on: landscape.name, from: here ? numbers : landscape.start.slice(), optimizers,
    t: whole("t", HIGHEST_STEP), line: whole("line", 999), shown: 0,
  };
  if (!optimizers.length) setup.optimizers = PAGE.optimizers.map((text) => readOptimizer(text, wrong));
  const last = setup.optimizers.length - 1;
  setup.shown = given.has("show") || optimizers.length ? whole("show", last) : Math.min(PAGE.shown, last);
  return [setup, wrong];
}

/** `adamw;lr=0.3;decay=l2`: a rule and its settings that are not at their defaults; without an lr, one is to be found. */
function readOptimizer(text, wrong) {
  const [name, ...pairs] = text.split(";");
  if (!(name in RULES)) {
    wrong.push(`There is no optimizer “${name}” on this page.`);
    return null;
  }
  const settings = { ...defaultsOf(name), ...PAGE.instead };
  for (const key of Object.keys(settings)) if (!(key in defaultsOf(name))) delete settings[key];
  const known = Object.fromEntries(settingsOf(name).map((one) => [one.name, one]));
  for (const pair of pairs) {
    const at = pair.indexOf("="), key = pair.slice(0, at), value = pair.slice(at + 1);
    const options = key === "decay" ? Object.keys(DECAYS) : known[key]?.options;
    const read = options ? options.find((option) => String(option) === value) : known[key] ? Number(value) : undefined;
    if (read === undefined || Number.isNaN(read)) wrong.push(`${RULES[name].title} has no setting ${pair}.`);
    else settings[key] = read;
  }
  const said = complaint(name, settings);
  if (said) wrong.push(`${RULES[name].title}: ${said}.`);
  return { name, settings: said ? { ...defaultsOf(name) } : settings, rated: pairs.some((pair) => pair.startsWith("lr=")) };
}

/** The address's hash of a set-up. */
function written(setup) {
  const parts = [["on", setup.on], ["from", setup.from.map(shortest).join(",")]];
  for (const one of setup.optimizers) parts.push(["use", [one.name, ...changed(one)].join(";")]);
  parts.push(["show", setup.shown]);
  parts.push(["t", setup.t]);
  if (setup.line) parts.push(["line", setup.line]);
  const text = parts.map(([key, value]) => `${key}=${encodeURIComponent(value)}`).join("&");
  return `#${text.replace(/%(2C|3B|3D|28|29)/g, (code) => decodeURIComponent(code))}`;
}

const shortest = (value) => String(Number(value.toPrecision(12)));

function changed({ name, settings }) {
  const defaults = { ...defaultsOf(name), ...PAGE.instead };
  return Object.keys(settings).filter((key) => key === "lr" || settings[key] !== defaults[key])
    .map((key) => `${key}=${settings[key]}`);
}
