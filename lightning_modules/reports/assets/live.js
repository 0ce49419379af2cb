// Reloads the page when the server has another one, and puts back what the reader had chosen.
(() => {
  "use strict";
  const KEY = "choices";
  const PERIOD = 1000; // ms
  const line = document.getElementById("live");
  const status = line.querySelector("[role=status]");
  const shown = line.querySelector("time").dateTime;
  let pressed = false;

  const plots = () => [...document.querySelectorAll(".plot")];
  const means = (plot) => plot.data.filter((trace) => trace.meta.role === "mean");
  const axes = (plot) => ({ xaxis: plot.layout.xaxis, yaxis: plot.layout.yaxis });

  // Sections, pictures and tables keep their place or name from one page to the next, and may be new or gone.
  const selects = () => [...document.querySelectorAll("select")].map((select) => [place(select), select]);
  const folds = () => [...document.querySelectorAll("details")].map((fold) => [place(fold), fold]);

  function place(element) {
    const match = element.closest(".match");
    const holder = match ? match.querySelector("h4").firstChild.textContent.trim() : "";
    const section = element.closest("section");
    const alike = [...(match || section).querySelectorAll(element.tagName)];
    return [section.id, holder, element.tagName, alike.indexOf(element)].join(" ");
  }

  function choices() {
    const curves = {};
    for (const section of document.querySelectorAll("[data-curves]")) {
      const drawn = [...section.querySelectorAll(".plot")].flatMap(means);
      const singles = section.querySelector("input[data-per-image]");
      curves[section.closest("section").id] = {
        hidden: drawn.filter((trace) => trace.visible === "legendonly").map((trace) => trace.meta.curve),
        rate: section.querySelector("button[data-rate][aria-pressed=true]").dataset.rate,
        singles: Boolean(singles && singles.checked),
      };
    }
    const zooms = {};
    for (const plot of plots()) {
      for (const [name, axis] of Object.entries(axes(plot))) {
        if (axis.autorange === false) (zooms[plot.id] ||= {})[`${name}.range`] = axis.range;
      }
    }
    return {
      curves,
      zooms,
      selected: Object.fromEntries(selects().map(([key, select]) => [key, select.value])),
      open: folds().filter(([, fold]) => fold.open).map(([key]) => key),
      scroll: window.scrollY,
    };
  }

  // By the same events as the reader's own, so that all that hangs on a choice follows.
  function restore(kept) {
    for (const section of document.querySelectorAll("[data-curves]")) {
      const of = kept.curves[section.closest("section").id];
      if (!of) continue;
      const rate = section.querySelector(`button[data-rate=${of.rate}]`);
      if (rate.getAttribute("aria-pressed") !== "true") rate.click();
      const singles = section.querySelector("input[data-per-image]");
      if (singles && singles.checked !== of.singles) singles.click();
      const own = [...section.querySelectorAll(".plot")];
      for (const curve of new Set(of.hidden)) {
        const plot = own.find((candidate) => means(candidate).some((trace) => trace.meta.curve === curve));
        if (!plot) continue;
        const curveNumber = plot.data.findIndex((trace) => trace.meta.curve === curve);
        plot.emit("plotly_legendclick", { data: plot.data, curveNumber });
      }
    }
    for (const plot of plots()) if (kept.zooms[plot.id]) Plotly.relayout(plot, kept.zooms[plot.id]);
    for (const [key, select] of selects()) {
      if (![...select.options].some((option) => option.value === kept.selected[key])) continue;
      select.value = kept.selected[key];
      select.dispatchEvent(new Event("change"));
    }
    for (const [key, fold] of folds()) fold.open = kept.open.includes(key);
    // Pictures take their room only now.
    window.addEventListener("load", () => window.scrollTo({ top: kept.scroll, behavior: "instant" }));
  }

  async function ask() {
    let page = null;
    try {
      page = (await (await fetch("state", { cache: "no-store" })).json()).page;
    } catch {
      // No server, or another program on its port.
    }
    const lost = !page;
    if (lost !== line.classList.contains("lost")) {
      line.classList.toggle("lost", lost);
      status.textContent = lost ? `Not live: no answer since ${new Date().toLocaleTimeString()}` : "Live report";
    }
    // Not under the reader's hand.
    if (!lost && page !== shown && !pressed) {
      sessionStorage.setItem(KEY, JSON.stringify(choices()));
      location.reload();
      return;
    }
    setTimeout(ask, PERIOD);
  }

  for (const type of ["pointerdown", "pointermove", "pointerup"]) {
    window.addEventListener(type, (event) => (pressed = event.buttons > 0), true);
  }
  history.scrollRestoration = "manual";
  const kept = sessionStorage.getItem(KEY);
  sessionStorage.removeItem(KEY);
  if (kept) restore(JSON.parse(kept));
  ask();
})();
