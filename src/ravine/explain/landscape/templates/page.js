"use strict";
(() => {
  const SECONDS = 8; // of the whole animation
  const { ground, arms, looks, lossName, lossRange, logLoss, movesRange, level, colours, themes, recolouring } = JSON.parse(
    document.getElementById("drawn").textContent,
  );
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const narrow = matchMedia("(max-width: 52rem)");
  const touch = matchMedia("(pointer: coarse)");
  const slider = document.getElementById("step"); // not there where nothing moves
  const play = document.getElementById("play");
  const now = document.getElementById("now");
  const steps = Number(slider?.max ?? 0);
  const shown = arms.map(() => true);
  const plain = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll("%{", "%&#123;");
  const colour = (i) => (prefersDark.matches ? recolouring[looks[i].colour] ?? looks[i].colour : looks[i].colour);
  const themed = (both) => both[prefersDark.matches ? "dark" : "light"];

  // How many points of an arm lie at or before a step.
  const reached = (arm, step) => {
    let count = arm.at.findIndex((at) => at > step);
    return count < 0 ? arm.at.length : count;
  };

  // What changes from step to step: for each arm its line, then for each arm the sign at its end.
  const lines = {
    ground: (arm, step) => ({ x: arm.x.slice(0, reached(arm, step)), y: arm.y.slice(0, reached(arm, step)) }),
    loss: (arm, step) => ({ x: arm.at.slice(0, reached(arm, step)), y: arm.loss.slice(0, reached(arm, step)) }),
    moves: (arm, step) => {
      const moves = arm.moves.slice(0, step);
      return { x: moves.map((_, i) => i + 1), y: moves };
    },
  };
  const hover = {
    ground: "step %{customdata[0]}: (%{x:.4g}, %{y:.4g})<br>loss %{customdata[1]:.4g}",
    loss: "step %{x}: %{y:.4g}",
    moves: "step %{x}: %{y:.4g}",
  };

  const traces = (chart, step) => {
    const made = arms.map((arm, i) => ({
      type: "scatter", mode: "lines", name: plain(arm.name), ...lines[chart](arm, step), visible: shown[i],
      line: { color: colour(i), width: chart === "ground" ? 1.8 : 2, dash: chart === "ground" ? "solid" : looks[i].dash },
      customdata: chart === "ground" ? arm.at.map((at, k) => [at, arm.loss[k]]) : undefined,
      hovertemplate: hover[chart],
    }));
    const ends = made.map((line, i) => ({
      type: "scatter", mode: "markers", x: line.x.slice(-1), y: line.y.slice(-1), visible: shown[i], hoverinfo: "skip",
      cliponaxis: false,
      marker: { color: colour(i), symbol: looks[i].symbol, size: 10, line: { width: 1, color: themed(colours.ground)[1] } },
    }));
    return [...made, ...ends];
  };

  const contours = () => ({
      type: "contour", x: ground.x, y: ground.y, z: ground.heights, showscale: false, hoverinfo: "skip",
      contours: { start: ground.from, end: ground.to, size: ground.every, coloring: "fill" },
      line: { color: themed(colours.contours), width: 0.7 },
      colorscale: themed(colours.ground).map((tone, i) => [i, tone]), zmin: ground.from, zmax: ground.to,
  });

  const SIGNS = { start: ["circle-open", 12], minimum: ["star", 13] };
  const marks = () => {
    const text = themed(themes).layout.font.color;
    const signOf = (mark) => SIGNS[mark.name] ?? ["x", 9];
    return ground.marks.map((mark) => ({
      type: "scatter", x: [mark.x], y: [mark.y], mode: SIGNS[mark.name] ? "markers" : "markers+text",
      text: [plain(mark.name)], textposition: "top right",
      hovertemplate: `${plain(mark.name)} (%{x:.4g}, %{y:.4g})<extra></extra>`,
      marker: { symbol: signOf(mark)[0], size: signOf(mark)[1], color: text, line: { width: 2 } },
    }));
  };

  const side = (title, log, range) => ({
    title: { text: plain(title) }, type: log ? "log" : "linear", range: log ? range.map(Math.log10) : range,
    exponentformat: "power", automargin: true,
  });
  const layout = (chart) => {
    const common = {
      template: themed(themes), showlegend: false, hovermode: "closest", margin: { l: 50, r: 12, t: 10, b: 44 },
      dragmode: touch.matches ? false : "zoom", uirevision: "kept",
    };
    if (chart === "ground") {
      const along = (name, axis) => ({
        title: { text: plain(name), font: { size: narrow.matches ? 10 : 14 } }, range: [axis[0], axis[axis.length - 1]],
        showgrid: false, zeroline: false, automargin: true, constrain: "domain",
      });
      const y = { ...along(ground.yName, ground.y), ...(ground.sameScale ? { scaleanchor: "x" } : {}) };
      const tall = narrow.matches ? 380 : 600;
      // Where both axes have one scale, the box has the ground's shape.
      const shaped = Math.round(0.75 * document.getElementById(chart).clientWidth) + 40;
      const height = ground.sameScale ? Math.min(tall, shaped) : tall;
      return { ...common, height, xaxis: along(ground.xName, ground.x), yaxis: y };
    }
    const x = { title: { text: "step" }, range: [0, 1.02 * steps], automargin: true };
    const made = { ...common, height: narrow.matches ? 240 : 270, xaxis: x };
    if (chart === "loss") {
      made.yaxis = side(lossName, logLoss, lossRange);
    } else {
      made.yaxis = side("‖Δ‖", true, movesRange);
    }
    if (chart === "loss" && level !== null) {
      const line = { color: "#808790", width: 1, dash: "dot" };
      made.shapes = [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: level, y1: level, line }];
      made.annotations = [{
        xref: "paper", x: 0, y: Math.log10(level), xanchor: "left", yanchor: "top", showarrow: false,
        text: "10⁻³ of the start", font: { size: 11, color: "#808790" }, bgcolor: themed(themes).layout.plot_bgcolor, borderpad: 1,
      }];
    }
    return made;
  };

  const CHARTS = arms.length ? ["ground", "loss", "moves"] : ["ground"];
  const config = { displaylogo: false, responsive: true, displayModeBar: false };
  const draw = () => Promise.all(CHARTS.map((chart) => {
    const data = traces(chart, Number(slider?.value ?? 0));
    if (chart === "ground") return Plotly.react(chart, [contours(), ...data, ...marks()], layout(chart), config);
    return Plotly.react(chart, data, layout(chart), config);
  }));

  const show = () => {
    const step = Number(slider.value);
    now.textContent = `${step} of ${steps}`;
    slider.setAttribute("aria-valuetext", `step ${step} of ${steps}`);
    for (const chart of CHARTS) {
      const data = traces(chart, step);
      const before = chart === "ground" ? 1 : 0;
      Plotly.restyle(chart, { x: data.map((t) => t.x), y: data.map((t) => t.y) }, data.map((_, i) => before + i));
    }
  };

  // Playing

  let playing = null;
  const stop = () => {
    cancelAnimationFrame(playing);
    playing = null;
    play.textContent = "Play";
    play.setAttribute("aria-pressed", "false");
  };
  const start = () => {
    if (Number(slider.value) >= steps) slider.value = 0;
    const first = Number(slider.value);
    const began = performance.now();
    play.textContent = "Pause";
    play.setAttribute("aria-pressed", "true");
    const frame = (time) => {
      const step = Math.min(steps, first + Math.floor((Math.max(0, time - began) / 1000) * (steps / SECONDS)));
      if (step !== Number(slider.value)) {
        slider.value = step;
        show();
      }
      if (step >= steps) stop();
      else playing = requestAnimationFrame(frame);
    };
    playing = requestAnimationFrame(frame);
  };
  play?.addEventListener("click", () => (playing === null ? start() : stop()));
  slider?.addEventListener("input", () => {
    stop();
    show();
  });

  document.querySelectorAll(".legend button").forEach((button) => {
    button.addEventListener("click", () => {
      const arm = Number(button.dataset.arm);
      shown[arm] = !shown[arm];
      button.setAttribute("aria-pressed", String(shown[arm]));
      draw();
    });
  });
  for (const query of [prefersDark, narrow]) query.addEventListener("change", draw);
  draw().then(() => {
    if (slider) show();
    document.querySelector("main").dataset.drawn = "true";
  });
})();
