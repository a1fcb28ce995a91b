// The page: what is shown, and what the reader does.

const $ = (id) => document.getElementById(id);
const page = { playing: false, progress: 0, finished: false, drawn: null };

/** Take a set-up: from the address at the start, or one that follows a link on the page. */
function enter(setup) {
  page.landscape = landscapeOf(setup.on);
  Object.assign(page, { optimizers: setup.optimizers, shown: setup.shown, from: setup.from, t: setup.t, line: setup.line });
  page.steps = Math.max(page.landscape.steps, setup.t);
  page.finished = false;
  renew();
  drawTabs();
  drawPanel();
  drawChips($("chips"), page, choose, addOptimizer);
  draw();
}

/** Run all optimizers anew, from the start. */
function renew() {
  page.runs = page.optimizers.map((optimizer) => new Run(optimizer, page.landscape, page.from).to(page.steps));
}

const shownRun = () => page.runs[page.shown];

/** Draw whatever depends on the step, at the next frame. */
function draw() {
  page.drawn ??= requestAnimationFrame(() => {
    page.drawn = null;
    page.place = drawGround($("ground"), page);
    drawLosses($("losses"), page);
    drawSums($("chips"), page);
    drawRule();
    const [u, v] = page.place.to(page.from);
    Object.assign($("start").style, { left: `${u}px`, top: `${v}px` });
    $("start").setAttribute("aria-label", `Start: x ${number(page.from[0])}, y ${number(page.from[1])}`);
    $("time").max = page.steps;
    $("time").value = page.t;
    $("now").textContent = `${page.t} of ${page.steps}`;
    for (const [id, i] of [["start-x", 0], ["start-y", 1]]) {
      if (document.activeElement !== $(id)) $(id).value = shortest(page.from[i]);
    }
    if (!page.playing) remember();
  });
}

let remembering = 0;

/** Put the set-up into the address, when nothing has changed for a moment. */
function remember() {
  clearTimeout(remembering);
  remembering = setTimeout(() => {
    try { history.replaceState(null, "", written(asSetup())); } catch { /* some browsers refuse this for files */ }
  }, 200);
}

const asSetup = () => ({
  on: page.landscape.name, from: page.from, optimizers: page.optimizers, t: page.t, line: page.line, shown: page.shown,
});

/** The lines of the step that is under way, or of the last that was taken. */
function drawRule() {
  const run = shownRun(), underWay = page.line > 0 || page.t === 0;
  const t = Math.min(underWay ? page.t + 1 : page.t, run.places.length);
  const lines = run.lines(t) ?? [];
  const done = underWay && t === page.t + 1 ? Math.min(page.line, lines.length) : lines.length;
  const current = page.finished ? lines.length - 1 : done < lines.length ? done - 1 : -1;
  $("lines-title").textContent = `Step ${t}`;
  const { data } = run.places[t - 1].p, first = page.t === 0 && page.line === 0 && !page.playing;
  $("where").textContent = first ? "Press Line to run the first one." : `at θ = (${data.map(number).join(", ")})`;
  const items = drawLines($("lines"), lines, done, current);
  if (current >= 0 && page.follow) {
    page.follow = false;
    items[current].scrollIntoView({ block: "nearest" });
    $("said").textContent = `Step ${t}: ${spoken(lines[current])}`;
  }
}

function drawTabs() {
  $("landscapes").replaceChildren(...PAGE.landscapes.map(({ name }) => element("button", {
    type: "button", "aria-pressed": String(name === page.landscape.name), onclick: () => visit(name),
  }, name)));
  $("about").replaceChildren(element("span", { className: "function" }, `f = ${page.landscape.formula}`), ` ${page.landscape.about}`);
}

function drawPanel() {
  const optimizer = page.optimizers[page.shown], facts = PAGE.facts[optimizer.name];
  $("title").textContent = RULES[optimizer.name].title;
  $("remove").disabled = page.optimizers.length < 2;
  const link = facts.link ? element("a", { href: facts.link, rel: "noreferrer" }, facts.paper) : facts.paper;
  const evaluated = RULES[optimizer.name].evaluated === null ? [] : ["Its path is that of the weights it is evaluated at. "];
  const said = [facts.summary, facts.reason].filter(Boolean).map((sentence) => `${sentence} `);
  $("summary").replaceChildren(...said, ...evaluated, element("span", { className: "paper" }, link));
  drawSettings([$("choice"), $("settings")], optimizer, change, (name) => replace(page.shown, name), () => find([optimizer]));
  say(null);
}

function say(complaint) {
  $("complaint").hidden = !complaint;
  $("complaint").textContent = complaint ? `${complaint}.` : "";
}

/** Go to another landscape, with learning rates that suit it. */
function visit(name) {
  const landscape = landscapeOf(name);
  pause();
  enter({ ...asSetup(), on: name, from: landscape.start.slice(), t: 0, line: 0 });
  find(page.optimizers);
}

/** Find learning rates, one optimizer after the other, so that the page stays alive. */
function find(optimizers) {
  const [first, ...others] = optimizers;
  const button = $("find");
  if (button) button.disabled = true;
  setTimeout(() => {
    if (!page.optimizers.includes(first)) return;
    const lr = bestRate(first, page.landscape, page.from);
    if (lr !== null) first.settings = { ...first.settings, lr };
    if (others.length) find(others);
    else drawPanel();
    renew();
    draw();
  });
}

/** A setting as the reader wants it; what is wrong with it is said and returned. */
function change(key, value) {
  const optimizer = page.optimizers[page.shown], settings = { ...optimizer.settings, [key]: value };
  const before = optimizer.settings;
  let said = complaint(optimizer.name, settings);
  if (!said) {
    Object.assign(page, { finished: false, line: 0 });
    optimizer.settings = settings;
    try {
      renew();
    } catch (error) {
      said = error.message;
      optimizer.settings = before;
      renew();
    }
    if (key === "decay") drawPanel();
    draw();
  }
  say(said);
  return said;
}

/** Another rule or wrapper in the place of one, with a learning rate that suits it. */
function replace(i, name) {
  const focused = document.activeElement?.id;
  page.optimizers[i] = readOptimizer(name, []);
  page.line = 0;
  renew();
  drawChips($("chips"), page, choose, addOptimizer);
  drawPanel();
  if (focused) $(focused)?.focus();
  find([page.optimizers[i]]);
}

function choose(i) {
  Object.assign(page, { shown: i, line: 0, finished: false });
  drawChips($("chips"), page, choose, addOptimizer);
  $("chips").children[i].focus();
  drawPanel();
  draw();
}

function addOptimizer() {
  const used = new Set(page.optimizers.map((one) => one.name));
  const next = PAGE.suggested.find((name) => !used.has(name)) ?? PAGE.bases[0].name;
  page.optimizers.push(readOptimizer(next, []));
  page.shown = page.optimizers.length - 1;
  replace(page.shown, next);
  $("rule").focus();
}

function remove() {
  page.optimizers.splice(page.shown, 1);
  page.shown = Math.min(page.shown, page.optimizers.length - 1);
  renew();
  choose(page.shown);
}

/** Go to a step. */
function go(t) {
  Object.assign(page, { t: Math.max(0, Math.min(page.steps, t)), line: 0, finished: false });
  draw();
}

/** The step as a sentence, for a screen reader. */
function tellStep() {
  const run = shownRun(), { data } = run.places[Math.min(page.t, run.places.length - 1)].p;
  $("said").textContent = `Step ${page.t}, ${RULES[run.optimizer.name].title}: x ${number(data[0])}, y ${number(data[1])}`;
}

function moveTo([x, y]) {
  const { landscape } = page, within = (value, [low, high]) => Math.min(high, Math.max(low, value));
  page.from = [within(x, landscape.x), within(y, landscape.y)].map((value) => Number(value.toPrecision(6)));
  page.line = 0;
  page.finished = false;
  renew();
  draw();
}

/** Run one line; after the last, the step is taken. */
function runLine() {
  pause();
  const lines = page.t < HIGHEST_STEP ? shownRun().lines(page.t + 1) : null;
  if (!lines) return;
  page.finished = page.line + 1 >= lines.length;
  if (page.finished) Object.assign(page, { t: page.t + 1, line: 0 });
  else page.line += 1;
  if (page.t > page.steps) {
    page.steps = page.t;
    page.runs.forEach((run) => run.to(page.t));
  }
  page.follow = true;
  draw();
}

const stepsPerSecond = () => 2 * 10 ** (2.3 * ($("speed").value / 100));

function play() {
  if (page.t >= page.steps) page.t = 0;
  Object.assign(page, { playing: true, progress: page.t, line: 0, finished: false });
  $("run").textContent = "Pause";
  const turn = (page.turn = {});
  let before = null;
  const frame = (now) => {
    if (!page.playing || page.turn !== turn) return;
    page.progress += ((now - (before ?? now)) / 1000) * stepsPerSecond();
    before = now;
    page.t = Math.min(page.steps, Math.floor(page.progress));
    if (page.t >= page.steps) pause();
    draw();
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
}

function pause() {
  page.playing = false;
  $("run").textContent = "Run";
}

/** The start follows pointer, touch and arrow keys. */
function listenToStart() {
  const handle = $("start"), plot = $("plot");
  const at = (event) => {
    const box = plot.getBoundingClientRect();
    return page.place.from(event.clientX - box.left, event.clientY - box.top);
  };
  handle.addEventListener("pointerdown", (event) => {
    handle.setPointerCapture(event.pointerId);
    handle.focus();
    event.preventDefault();
  });
  handle.addEventListener("pointermove", (event) => { if (handle.hasPointerCapture(event.pointerId)) moveTo(at(event)); });
  $("ground").addEventListener("click", (event) => moveTo(at(event)));
  handle.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (!way) return;
    event.preventDefault();
    const { x, y } = page.landscape, size = event.shiftKey ? 0.002 : 0.02;
    moveTo([page.from[0] + way[0] * size * (x[1] - x[0]), page.from[1] + way[1] * size * (y[1] - y[0])]);
  });
  for (const [id, i] of [["start-x", 0], ["start-y", 1]]) {
    $(id).addEventListener("input", () => {
      const value = Number($(id).value);
      if ($(id).value.trim() !== "" && Number.isFinite(value)) moveTo(page.from.map((old, k) => (k === i ? value : old)));
    });
  }
}

function listen() {
  const buttons = {
    run: () => (page.playing ? pause() : play()), line: runLine,
    forward: () => { pause(); go(page.t + 1); tellStep(); },
    back: () => { pause(); go(page.line ? page.t : page.t - 1); tellStep(); },
    reset: () => { pause(); go(0); }, remove, copy,
  };
  for (const [id, act] of Object.entries(buttons)) $(id).addEventListener("click", act);
  $("time").addEventListener("input", () => { pause(); go(Number($("time").value)); });
  $("stage").addEventListener("keydown", (event) => {
    const act = { p: "run", l: "line", s: "forward", b: "back", r: "reset" }[event.key.toLowerCase()];
    if (!act || event.ctrlKey || event.metaKey || event.altKey || event.target.type === "number") return;
    event.preventDefault();
    buttons[act]();
  });
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme || (dark.matches ? "dark" : "light")) === "dark";
  const redraw = () => {
    $("theme").setAttribute("aria-pressed", String(isDark()));
    document.querySelectorAll("#chips .swatch").forEach(drawSwatch);
    draw();
  };
  $("theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("theme", document.documentElement.dataset.theme); } catch { /* not kept, then */ }
    redraw();
  });
  dark.addEventListener("change", redraw);
  new ResizeObserver(draw).observe($("plot"));
  window.addEventListener("hashchange", open);
  listenToStart();
  redraw();
}

async function copy() {
  history.replaceState(null, "", written(asSetup()));
  try {
    await navigator.clipboard.writeText(location.href);
    tell("The link to this set-up is copied.");
  } catch {
    tell(`The link to this set-up: ${location.href}`);
  }
}

function tell(text) {
  $("note").hidden = !text;
  $("note").textContent = text;
}

/** Show what the address says. */
function open() {
  if (page.landscape && location.hash === written(asSetup())) return;
  const [setup, wrong] = understood(location.hash);
  pause();
  enter(setup);
  const unrated = page.optimizers.filter((one) => !one.rated);
  if (unrated.length) find(unrated);
  tell(wrong.join(" "));
}

open();
listen();
$("main").dataset.ready = "true";
if (!location.hash.includes("t=") && !matchMedia("(prefers-reduced-motion: reduce)").matches) play();
