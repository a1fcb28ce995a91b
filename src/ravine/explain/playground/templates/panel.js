// The chosen optimizer: its rule, wrapper and settings, each setting as a number and a slider.

const SLIDER = 1000;
const NOT_HERE = "not on this page; ravine playground makes one with the rules that it is given";

/** A slider for a range of numbers: what it says at a place from 0 to 1, and the place of a value; null for none. */
function scale({ low, high, whole }, standard) {
  const clamp = (part) => Math.min(1, Math.max(0, part));
  const three = (value) => Number(value.toPrecision(3));
  if (whole && low !== null) {
    const last = high ?? Math.max(20, 4 * standard);
    return { at: (part) => Math.round(low + part * (last - low)), place: (value) => clamp((value - low) / (last - low)) };
  }
  if (low === 0 && high === 1) {
    return { at: (part) => three(1 - 10 ** (-4 * part)), place: (value) => clamp(-Math.log10(1 - value) / 4) };
  }
  if (low !== null && high !== null) {
    return { at: (part) => three(low + part * (high - low)), place: (value) => clamp((value - low) / (high - low)) };
  }
  if (low !== 0) return null;
  const [least, decades] = standard > 0 ? [standard * 1e-4, 8] : [1e-5, 6];
  return {
    at: (part) => (part === 0 && standard === 0 ? 0 : three(least * 10 ** (decades * part))),
    place: (value) => (value > 0 ? clamp(Math.log10(value / least) / decades) : 0),
  };
}

/** The fields: rule, wrapper and learning rate in one box, all others in another. `change(key, value)` hears of each. */
function drawSettings([choice, box], optimizer, change, choose, find) {
  const { name, settings } = optimizer;
  const field = (one) => (one.range ? numberField(one, optimizer, change, find) : choiceField(one, settings, change));
  const others = settingsOf(name).filter((one) => one.name !== "lr"), rates = settingsOf(name).filter((one) => one.name === "lr");
  choice.replaceChildren(ruleField(name, choose), wrapperField(name, choose), ...rates.map(field));
  box.replaceChildren(...others.flatMap((one) =>
    (one.name === "weight_decay" && RULES[name].decay ? [field(one), decayField(settings, change)] : [field(one)])));
}

/** The rule inside of a name, and the wrapper around it. */
function parted(name) {
  const base = PAGE.bases.find((one) => one.name === name);
  if (base) return { base: name, wrapper: "" };
  return { wrapper: name.slice(0, name.indexOf("(")), base: name.slice(name.indexOf("(") + 1, -1) };
}

function picker(id, label, options, value, onchange) {
  const select = element("select", { id, onchange: (event) => onchange(event.target.value) });
  select.append(...options.map(({ value: one, text, disabled = false, title = "" }) =>
    element("option", { value: one, disabled, title }, text)));
  select.value = value;
  return element("div", { className: "field choice" }, element("label", { htmlFor: id }, label), select);
}

function ruleField(name, choose) {
  const { base, wrapper } = parted(name);
  const options = PAGE.bases.map((one) => ({ value: one.name, text: one.title }));
  return picker("rule", "rule", options, base, (chosen) => choose(`${wrapper}(${chosen})` in RULES ? `${wrapper}(${chosen})` : chosen));
}

function wrapperField(name, choose) {
  const { base, wrapper } = parted(name);
  const options = PAGE.wrappers.map((one) => {
    const there = `${one.name}(${base})` in RULES;
    return { value: one.name, text: one.title, disabled: !there, title: there ? "" : PAGE.refused[one.name]?.[base] ?? NOT_HERE };
  });
  const field = picker("wrapper", "wrapped in", [{ value: "", text: "nothing" }, ...options], wrapper,
    (chosen) => choose(chosen ? `${chosen}(${base})` : base));
  return field;
}

function decayField(settings, change) {
  const options = Object.keys(DECAYS).map((form) => ({ value: form, text: form, title: DECAYS[form].meaning }));
  const field = picker("decay", "λ means", options, settings.decay, (value) => change("decay", value));
  field.append(element("small", {}, DECAYS[settings.decay].meaning));
  return field;
}

const labelled = ({ name, symbol }) => {
  const last = name.slice(name.lastIndexOf(".") + 1);
  return symbol === last ? [name] : [element("i", {}, symbol), ` ${name}`];
};

function choiceField(one, settings, change) {
  const id = `setting-${one.name}`;
  if (!one.options) return element("div", { className: "field fixed" }, element("span", {}, one.name), element("span", {}, String(one.default ?? "by itself")));
  if (typeof one.default === "boolean") {
    const input = element("input", { type: "checkbox", id, checked: settings[one.name], onchange: () => change(one.name, input.checked) });
    return element("div", { className: "field flag" }, element("label", { htmlFor: id }, input, ...labelled(one)));
  }
  const options = one.options.map((option) => ({ value: option, text: option }));
  return picker(id, one.name, options, settings[one.name], (value) => change(one.name, value));
}

function numberField(one, { settings }, change, find) {
  const id = `setting-${one.name}`, value = settings[one.name];
  const sliding = scale(one.range, one.default);
  const input = element("input", { type: "number", step: "any", id, value: shortest(value), inputMode: "decimal" });
  const slider = sliding && element("input", {
    type: "range", min: 0, max: SLIDER, "aria-label": `${one.name}, slider`, value: SLIDER * sliding.place(value),
  });
  input.addEventListener("input", () => {
    if (input.value.trim() === "") return;
    const said = change(one.name, Number(input.value));
    input.setAttribute("aria-invalid", String(Boolean(said)));
    if (slider && !said) slider.value = SLIDER * sliding.place(Number(input.value));
  });
  slider?.addEventListener("input", () => {
    const asked = sliding.at(slider.value / SLIDER);
    input.value = shortest(asked);
    input.setAttribute("aria-invalid", String(Boolean(change(one.name, asked))));
  });
  const button = one.name === "lr" ? element("button", { type: "button", id: "find", title: "Find the best for this landscape and start", onclick: find }, "Find") : null;
  return element("div", { className: `field number${button ? " wide" : ""}` }, element("label", { htmlFor: id }, ...labelled(one)), input, slider, button);
}

/** The buttons that choose an optimizer, each with its mark, its title and its loss now. */
function drawChips(box, page, choose, extend) {
  const buttons = page.optimizers.map((optimizer, i) => element("button", {
    type: "button", className: "chip", "aria-pressed": String(i === page.shown), onclick: () => choose(i),
  }, swatch(i), element("span", { className: "name" }, RULES[optimizer.name].title), element("span", { className: "loss" })));
  box.replaceChildren(...buttons, element("button", {
    type: "button", className: "chip add", id: "add", onclick: extend, disabled: page.optimizers.length >= MOST_OPTIMIZERS,
  }, "+ Add"));
}

function swatch(i) {
  const canvas = element("canvas", { className: "swatch", "aria-hidden": "true" });
  requestAnimationFrame(() => drawSwatch(canvas, i));
  return canvas;
}

function drawSwatch(canvas, i) {
  const [pen, width, height] = sharp(canvas);
  pen.clearRect(0, 0, width, height);
  pen.strokeStyle = pen.fillStyle = colour(i);
  pen.lineWidth = 2;
  pen.setLineDash(DASHES[i % DASHES.length]);
  pen.beginPath();
  pen.moveTo(0, height / 2);
  pen.lineTo(width, height / 2);
  pen.stroke();
  pen.setLineDash([]);
  marker(pen, i, width / 2, height / 2, 5);
  pen.fill();
}

function drawSums(box, page) {
  const chips = box.querySelectorAll(".chip:not(.add)");
  page.runs.forEach((run, i) => {
    const now = run.last(page.t), gone = run.divergedAt !== null && page.t >= run.divergedAt;
    const text = gone ? `diverged at ${run.divergedAt}` : `f = ${briefly(run.losses[now])}`;
    const place = chips[i].querySelector(".loss");
    if (place.textContent !== text) place.textContent = text;
  });
}

const briefly = (value) => number(Number(value.toPrecision(3)));
