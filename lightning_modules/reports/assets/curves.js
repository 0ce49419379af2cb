// Curves: one legend for all figures of a dataset, linear or logarithmic rate, points of single images on demand.
// BD tables: the chosen anchor's.
(() => {
  "use strict";
  const config = JSON.parse(document.getElementById("plotly-config").textContent);

  function setUpCurves(section) {
    const plots = [...section.querySelectorAll(".plot")];
    const hidden = new Set();
    const singles = section.querySelector("input[data-per-image]");
    const rates = [...section.querySelectorAll("button[data-rate]")];

    function visibility(trace) {
      const off = hidden.has(trace.meta.curve);
      if (trace.meta.role === "mean") return off ? "legendonly" : true;
      return Boolean(singles && singles.checked && !off);
    }

    function show() {
      for (const plot of plots) Plotly.restyle(plot, { visible: plot.data.map(visibility) });
    }

    function toggle(curve) {
      if (!hidden.delete(curve)) hidden.add(curve);
      show();
    }

    // As in Plotly's own legend, a double click shows one curve alone, and a second one all of them.
    function isolate(curve) {
      const all = new Set(plots.flatMap((plot) => plot.data.map((trace) => trace.meta.curve)));
      const alone = [...all].every((other) => hidden.has(other) === (other !== curve));
      hidden.clear();
      if (!alone) for (const other of all) if (other !== curve) hidden.add(other);
      show();
    }

    function setRate(type) {
      for (const button of rates) button.setAttribute("aria-pressed", String(button.dataset.rate === type));
      for (const plot of plots) {
        const ticks = type === "log" ? plot.layout.meta.log_ticks : null;
        Plotly.relayout(plot, {
          "xaxis.type": type,
          "xaxis.tickmode": type === "log" ? "array" : "auto",
          "xaxis.tickvals": ticks,
          "xaxis.autorange": true,
          "yaxis.autorange": true,
        });
      }
    }

    // Plotly's legend is for the mouse only, and a part of it may be drawn anew after any change.
    let focused = null;
    function openLegendToKeyboard(plot) {
      for (const entry of plot.querySelectorAll(".legend .traces")) {
        const target = entry.querySelector(".legendtoggle");
        const label = entry.querySelector(".legendtext");
        const trace = plot.data.find((candidate) => label && candidate.name === label.dataset.unformatted);
        if (!target || !trace) continue;
        if (!target.hasAttribute("tabindex")) {
          target.setAttribute("tabindex", "0");
          target.setAttribute("role", "switch");
          target.setAttribute("aria-label", trace.name);
          target.addEventListener("keydown", (event) => {
            if (event.key !== "Enter" && event.key !== " ") return;
            event.preventDefault();
            focused = { plot, name: trace.name };
            toggle(trace.meta.curve);
          });
        }
        target.setAttribute("aria-checked", String(!hidden.has(trace.meta.curve)));
        if (focused && focused.plot === plot && focused.name === trace.name) {
          focused = null;
          target.focus({ preventScroll: true });
        }
      }
    }

    for (const plot of plots) {
      const { data, layout } = JSON.parse(document.getElementById(plot.dataset.source).textContent);
      const image = { ...config.toImageButtonOptions, filename: plot.dataset.file };
      Plotly.newPlot(plot, data, layout, { ...config, toImageButtonOptions: image });
      plot.on("plotly_legendclick", (event) => {
        toggle(event.data[event.curveNumber].meta.curve);
        return false;
      });
      plot.on("plotly_legenddoubleclick", (event) => {
        isolate(event.data[event.curveNumber].meta.curve);
        return false;
      });
      plot.on("plotly_afterplot", () => openLegendToKeyboard(plot));
      openLegendToKeyboard(plot);
    }
    if (singles) singles.addEventListener("change", show);
    for (const button of rates) button.addEventListener("click", () => setRate(button.dataset.rate));
    // A browser that reloads the page may keep the box ticked.
    if (singles && singles.checked) show();
  }

  function setUpAnchors(section) {
    const select = section.querySelector("select[data-anchor]");
    function show() {
      for (const group of section.querySelectorAll("[data-against]")) {
        group.hidden = group.dataset.against !== select.value;
      }
    }
    if (select) {
      select.addEventListener("change", show);
      show();
    }
  }

  for (const section of document.querySelectorAll("[data-curves]")) setUpCurves(section);
  for (const section of document.querySelectorAll("[data-bd]")) setUpAnchors(section);
})();
