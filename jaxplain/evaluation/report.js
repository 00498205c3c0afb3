"use strict";
const root = document.documentElement;
const all = (selector) => [...document.querySelectorAll(selector)];
const on = (id, event, act) => document.getElementById(id)?.addEventListener(event, act);

// Opacity, class, methods, light or dark.
on("opacity", "input", (e) => root.style.setProperty("--share", e.target.value / 100));
on("class", "change", (e) => { root.dataset.shown = e.target.value; });
all(".switch").forEach((box) => box.addEventListener("change", () => {
  all(`[data-method="${box.value}"]`).forEach((card) => { card.hidden = !box.checked; });
}));
on("theme", "click", () => {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});

// One zoom for all pictures: `x` and `y` are the share of the picture to the left and above of what is shown.
const view = { zoom: 1, x: 0, y: 0 };
function show(zoom, x, y) {
  view.zoom = Math.min(16, Math.max(1, zoom));
  const most = 1 - 1 / view.zoom;
  view.x = Math.min(most, Math.max(0, x));
  view.y = Math.min(most, Math.max(0, y));
  Object.entries(view).forEach(([name, value]) => root.style.setProperty(`--${name}`, value));
}
// Keeps the point (u, v) of a picture's window, 0 to 1, where it is.
function zoomBy(factor, u = 0.5, v = 0.5) {
  const zoom = Math.min(16, Math.max(1, view.zoom * factor));
  show(zoom, view.x + u / view.zoom - u / zoom, view.y + v / view.zoom - v / zoom);
}
on("closer", "click", () => zoomBy(1.5));
on("farther", "click", () => zoomBy(1 / 1.5));
on("whole", "click", () => show(1, 0, 0));

all(".stage").forEach((stage) => {
  const share = (e) => {
    const box = stage.getBoundingClientRect();
    return [(e.clientX - box.left) / box.width, (e.clientY - box.top) / box.height];
  };
  stage.addEventListener("wheel", (e) => {
    if (!e.ctrlKey && !e.altKey) return; // the wheel alone scrolls the page
    e.preventDefault();
    zoomBy(Math.exp(-e.deltaY / 300), ...share(e));
  }, { passive: false });
  stage.addEventListener("dblclick", (e) => zoomBy(2, ...share(e)));
  let last = null;
  stage.addEventListener("pointerdown", (e) => { last = share(e); stage.setPointerCapture(e.pointerId); });
  stage.addEventListener("pointerup", () => { last = null; });
  stage.addEventListener("pointermove", (e) => {
    if (!last || view.zoom === 1) return;
    const [u, v] = share(e);
    show(view.zoom, view.x - (u - last[0]) / view.zoom, view.y - (v - last[1]) / view.zoom);
    last = [u, v];
  });
  stage.addEventListener("keydown", (e) => {
    const step = 0.1 / view.zoom;
    const acts = {
      "+": () => zoomBy(1.5), "-": () => zoomBy(1 / 1.5), "0": () => show(1, 0, 0),
      ArrowLeft: () => show(view.zoom, view.x - step, view.y), ArrowRight: () => show(view.zoom, view.x + step, view.y),
      ArrowUp: () => show(view.zoom, view.x, view.y - step), ArrowDown: () => show(view.zoom, view.x, view.y + step),
    };
    if (!acts[e.key] || (view.zoom === 1 && e.key.startsWith("Arrow"))) return;
    e.preventDefault();
    acts[e.key]();
  });
});

// A heading sorts the table, a second time the other way round; what has no number stands at the end.
all(".metrics thead th").forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
  const up = head.getAttribute("aria-sort") !== "ascending";
  all(".metrics thead th").forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const body = head.closest("table").tBodies[0];
  const value = (row) => {
    const cell = row.cells[column];
    return column === 0 ? cell.textContent : (cell.dataset.value === undefined ? NaN : Number(cell.dataset.value));
  };
  const order = (a, b) => (column === 0 ? a.localeCompare(b) : a - b) * (up ? 1 : -1);
  [...body.rows].sort((r, s) => {
    const [a, b] = [value(r), value(s)];
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
    return order(a, b);
  }).forEach((row) => body.append(row));
}));
