"use strict";
(() => {
  const { charts, themes, recolouring } = JSON.parse(document.getElementById("drawn").textContent);
  const root = document.documentElement;
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const narrow = matchMedia("(max-width: 40rem)");
  const touch = matchMedia("(pointer: coarse)");
  const hidden = new Set(); // arms, in all charts
  const chosen = new Map(charts.map((chart) => [chart.id, 0]));

  // Charts

  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : prefersDark.matches);

  // A figure of its own for Plotly, which writes into what it is given.
  const figureOf = (chart) => {
    const recoloured = (key, value) =>
      typeof value === "string" && key.endsWith("color") && isDark() ? recolouring[value] ?? value : value;
    const figure = JSON.parse(JSON.stringify(chart.views[chosen.get(chart.id)]), recoloured);
    for (const trace of figure.data) {
      if (trace.meta && hidden.has(trace.meta.arm)) trace.visible = false;
    }
    const { layout } = figure;
    layout.template = themes[isDark() ? "dark" : "light"];
    layout.uirevision = chosen.get(chart.id);
    layout.showlegend = false; // the page has its own, which a keyboard reaches
    const spans = Object.entries(layout.meta?.spans ?? {}).filter(([arm]) => !hidden.has(Number(arm)));
    if (spans.length) {
      const low = Math.min(...spans.map(([, span]) => span[0]));
      const high = Math.max(...spans.map(([, span]) => span[1]));
      const margin = 0.06 * (high - low) || 1e-9;
      layout.yaxis.range = [low - margin, high + margin];
    }
    if (touch.matches) layout.dragmode = false; // a finger scrolls the page
    if (narrow.matches) {
      Object.assign(layout.margin, { l: 44, r: 8 });
      layout.font = { size: 11 };
    }
    return figure;
  };

  const draw = (chart) => {
    const { data, layout } = figureOf(chart);
    const config = { displaylogo: false, responsive: true, displayModeBar: touch.matches ? false : "hover" };
    return Plotly.react(chart.id, data, layout, config);
  };

  const drawAll = async () => {
    for (const chart of charts) await draw(chart);
  };

  document.querySelectorAll(".choices button").forEach((button) => {
    button.addEventListener("click", () => {
      chosen.set(button.dataset.chart, Number(button.dataset.view));
      for (const other of button.parentElement.children) other.setAttribute("aria-pressed", String(other === button));
      draw(charts.find((chart) => chart.id === button.dataset.chart));
    });
  });

  document.querySelectorAll(".legend button").forEach((button) => {
    button.addEventListener("click", () => {
      const arm = Number(button.dataset.arm);
      hidden.has(arm) ? hidden.delete(arm) : hidden.add(arm);
      for (const same of document.querySelectorAll(`.legend [data-arm="${arm}"]`)) {
        same.setAttribute("aria-pressed", String(!hidden.has(arm)));
      }
      drawAll();
    });
  });

  // Light and dark

  const themeButton = document.getElementById("theme");
  const showTheme = () => themeButton.setAttribute("aria-pressed", String(isDark()));
  themeButton.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try {
      localStorage.setItem("theme", root.dataset.theme);
    } catch {
      // Some browsers keep nothing for files: the choice then holds for this visit.
    }
    showTheme();
    drawAll();
  });
  for (const query of [prefersDark, narrow]) {
    query.addEventListener("change", () => {
      showTheme();
      drawAll();
    });
  }

  // Tables

  const orderOf = (row, column) => {
    const text = row.cells[column].dataset.order;
    return text === undefined ? null : text !== "" && Number.isFinite(Number(text)) ? Number(text) : text;
  };

  const compared = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));

  document.querySelectorAll("table.sortable thead button").forEach((button) => {
    button.addEventListener("click", () => {
      const heading = button.closest("th");
      const table = button.closest("table");
      const descending = heading.getAttribute("aria-sort") === "ascending";
      for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows].sort((one, other) => {
        const [a, b] = [orderOf(one, heading.cellIndex), orderOf(other, heading.cellIndex)];
        if (a === null || b === null) return (a === null) - (b === null); // what is not known stays last
        return descending ? compared(b, a) : compared(a, b);
      });
      table.tBodies[0].append(...rows);
    });
  });

  // Copying

  const copy = async (element) => {
    try {
      await navigator.clipboard.writeText(element.textContent);
      return true;
    } catch {
      // Where a file may not use the clipboard, the older way: select it, and copy the selection.
      getSelection().selectAllChildren(element);
      return document.execCommand("copy");
    }
  };

  document.querySelectorAll("[data-copy]").forEach((button) => {
    button.addEventListener("click", async () => {
      const done = await copy(document.getElementById(button.dataset.copy));
      document.getElementById("copied").textContent = done ? "Copied." : "Selected; copy it with Ctrl+C.";
    });
  });

  showTheme();
  document.querySelector("main").setAttribute("aria-busy", "true");
  drawAll().then(() => document.querySelector("main").removeAttribute("aria-busy"));
})();
