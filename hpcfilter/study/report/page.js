// Draws the charts that stand in #specs as data. A colour "var(--name)" is one of the style sheet, so that charts follow dark mode.
"use strict";
(() => {
  const specs = JSON.parse(document.getElementById("specs").textContent);
  const shown = new Map(Object.entries(specs).map(([key, spec]) => [key, spec.shown]));
  const out = new Set();  // numbers of the runs that the reader has switched off
  const touch = matchMedia("(pointer: coarse)").matches;
  const config = { displayModeBar: false, responsive: true, showTips: false };  // a double click brings the whole chart back

  function base() {
    const style = getComputedStyle(document.documentElement);
    const axis = { gridcolor: "var(--grid)", linecolor: "var(--line)", zerolinecolor: "var(--line)", zeroline: false, automargin: true,
      ticks: "", title: { standoff: 8, font: { size: 12, color: "var(--muted)" } }, tickfont: { color: "var(--muted)" } };
    return { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { family: style.fontFamily, size: 12, color: "var(--ink)" },
      margin: { l: 8, r: 8, t: 22, b: 8 }, xaxis: axis, yaxis: axis, showlegend: false, hovermode: "closest", dragmode: touch ? false : "zoom",  // a finger scrolls the page
      legend: { orientation: "h", x: 0, y: 1.02, xanchor: "left", yanchor: "bottom", traceorder: "normal", font: { color: "var(--muted)" } },
      hoverlabel: { bgcolor: "var(--raised)", bordercolor: "var(--line)", font: { color: "var(--ink)" }, align: "left" } };
  }

  const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

  function merged(...layers) {
    const result = {};
    for (const layer of layers) {
      for (const [key, value] of Object.entries(layer)) {
        result[key] = isObject(value) ? merged(isObject(result[key]) ? result[key] : {}, value) : value;
      }
    }
    return result;
  }

  function coloured(value) {
    const style = getComputedStyle(document.documentElement);
    const name = /^var\((--[a-z0-9]+)\)$/;
    const text = JSON.stringify(value, (_, part) => {
      const match = typeof part === "string" && name.exec(part);
      return match ? style.getPropertyValue(match[1]).trim() || part : part;
    });
    return JSON.parse(text);
  }

  function filled({ rows, ...trace }, columns) {  // a trace with its rows of the columns that all views share
    const picked = rows ? Object.entries(columns).map(([name, values]) => [name, rows.map((row) => values[row])]) : [];
    return { ...trace, ...Object.fromEntries(picked), visible: !(trace.meta && out.has(trace.meta.run)) };
  }

  function draw(key) {
    const spec = specs[key], view = spec.views[shown.get(key)];
    const data = view.data.map((trace) => filled(trace, spec.columns));
    return Plotly.react(document.getElementById(key), coloured(data), coloured(merged(base(), spec.layout, view.layout)), config);
  }

  const drawAll = async () => {
    for (const key of Object.keys(specs)) await draw(key);
    document.documentElement.dataset.drawn = "all";
  };

  for (const button of document.querySelectorAll("button[data-view]")) {
    button.addEventListener("click", () => {
      for (const other of button.parentElement.children) other.setAttribute("aria-pressed", String(other === button));
      shown.set(button.dataset.chart, Number(button.dataset.view));
      draw(button.dataset.chart);
    });
  }
  for (const slider of document.querySelectorAll("input[type=range]")) {
    slider.addEventListener("input", () => {
      const key = slider.dataset.chart;
      shown.set(key, Number(slider.value));
      slider.parentElement.querySelector("output").textContent = specs[key].views[shown.get(key)].name;
      draw(key);
    });
  }
  for (const box of document.querySelectorAll("input[data-run]")) {
    box.addEventListener("change", () => {
      box.checked ? out.delete(Number(box.dataset.run)) : out.add(Number(box.dataset.run));
      for (const [key, spec] of Object.entries(specs)) {
        if (spec.views.some((view) => view.data.some((trace) => trace.meta))) draw(key);
      }
    });
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  drawAll();
})();
