"use strict";

// --- Tables are sorted by their headings; the sort is stable ---

for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => {
      const up = heading.getAttribute("aria-sort") !== "ascending";
      headings.forEach((each) => each.setAttribute("aria-sort", "none"));
      heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...table.tBodies[0].rows].map((row) => [key(row.cells[column]), row]);
      rows.sort(([a], [b]) => compare(a, b) * (up ? 1 : -1));
      table.tBodies[0].append(...rows.map(([, row]) => row));
    });
  });
}

function key(cell) {
  const data = cell.querySelector("data");
  const text = cell.textContent.trim();
  const number = Number(data ? data.value : text);
  if (text === "–") return -1;
  return text === "" || Number.isNaN(number) ? text : number;
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), undefined, { numeric: true });
}

// --- The slider selects a point of the precision-coverage curve ---

const slider = document.getElementById("from");
if (slider) {
  const points = read("coverage");
  const dot = document.querySelector("#sure .dot.chosen");
  const line = document.querySelector("#sure .line.curve").getAttribute("points").split(" ");
  const percent = (share) => (100 * share).toFixed(1) + "\u00a0%";
  slider.addEventListener("input", () => {
    const [threshold, share, precision] = points[slider.value];
    const [x, y] = line[slider.value].split(",");
    dot.setAttribute("cx", x);
    dot.setAttribute("cy", y);
    slider.setAttribute("aria-valuetext", percent(threshold));
    document.getElementById("taken").textContent =
      `From ${percent(threshold)} up: ${percent(share)} of the predictions are accepted without ` +
      `review, ${percent(precision)} of them correct; ${percent(1 - share)} are left for review.`;
  });
}

function read(id) {
  return JSON.parse(document.getElementById(id).textContent);
}

// --- The confusion matrix: magnified, scrolled, described cell by cell ---

const matrix = document.querySelector(".matrix");
if (matrix) {
  const { names, cells } = read("confusion");
  const drawing = matrix.querySelector("svg");
  const cursor = matrix.querySelector(".cursor");
  const rows = [...matrix.querySelectorAll(".rows li")];
  const columns = [...matrix.querySelectorAll(".columns li")];
  const asked = names.map(() => 0);
  const counts = new Map();
  for (const [row, column, count] of cells) {
    asked[row] += count;
    counts.set(row * names.length + column, count);
  }
  const READABLE = 11, LARGEST = 40;
  let size = 0, at = -1;

  // The cell size at which the whole matrix fits, with its names where they are legible.
  function whole() {
    const room = Math.min(matrix.parentElement.clientWidth - 2, 0.85 * window.innerHeight);
    const gutter = Math.min(192, 0.3 * window.innerWidth);
    const named = (room - gutter) / names.length;
    return named >= READABLE ? Math.min(named, 36) : room / names.length;
  }
  function magnify(to) {
    let next = Math.max(whole(), Math.min(LARGEST, to));
    // With a fractional cell size the names would drift from their rows.
    if (next >= READABLE) next = Math.floor(next);
    const grown = size ? next / size : 0;
    const across = (matrix.scrollLeft + matrix.clientWidth / 2) * grown;
    const down = (matrix.scrollTop + matrix.clientHeight / 2) * grown;
    size = next;
    matrix.style.setProperty("--cell", size + "px");
    matrix.classList.toggle("named", size >= READABLE);
    matrix.scrollLeft = across - matrix.clientWidth / 2;
    matrix.scrollTop = down - matrix.clientHeight / 2;
    if (at >= 0) show(...cells[at]);
  }
  function point(row, column) {
    for (const here of matrix.querySelectorAll(".here")) here.classList.remove("here");
    rows[row].classList.add("here");
    columns[column].classList.add("here");
    cursor.setAttribute("x", column);
    cursor.setAttribute("y", row);
    const count = counts.get(row * names.length + column) || 0;
    const said = row === column
      ? `${isolated(names[row])}: ${count} of ${asked[row]} correct`
      : `Actual ${isolated(names[row])}, predicted ${isolated(names[column])}: ${count} of ${asked[row]}`;
    document.getElementById("cell").textContent = said;
  }
  function show(row, column) {
    const gutter = matrix.classList.contains("named") ? rows[0].clientWidth : 0;
    const seen = (offset, room) => [offset * size, offset * size - (room - gutter) + size];
    const fit = (now, [most, least]) => Math.max(least, Math.min(most, now));
    matrix.scrollLeft = fit(matrix.scrollLeft, seen(column, matrix.clientWidth));
    matrix.scrollTop = fit(matrix.scrollTop, seen(row, matrix.clientHeight));
    point(row, column);
  }
  function isolated(name) {
    return "\u2068" + name + "\u2069";
  }
  function go(step) {
    at = (at + step + cells.length) % cells.length;
    show(...cells[at]);
  }
  function goRow(step) {
    const row = at < 0 ? -1 : cells[at][0];
    const nearest = Math.max(...cells.map((cell) => cell[0]).filter((each) => each < row));
    const found = cells.findIndex((cell) => (step > 0 ? cell[0] > row : cell[0] === nearest));
    at = Math.max(0, found < 0 ? at : found);
    show(...cells[at]);
  }
  const keys = {
    ArrowRight: () => go(1), ArrowLeft: () => go(at < 0 ? 0 : -1),
    ArrowDown: () => goRow(1), ArrowUp: () => goRow(-1),
    "+": () => magnify(size * 1.5), "=": () => magnify(size * 1.5),
    "-": () => magnify(size / 1.5), "0": () => magnify(0),
  };
  matrix.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in keys)) return;
    event.preventDefault();
    keys[event.key]();
  });
  drawing.addEventListener("pointermove", (event) => {
    const box = drawing.getBoundingClientRect();
    const place = (offset) => Math.max(0, Math.min(names.length - 1, Math.floor(offset / size)));
    point(place(event.clientY - box.top), place(event.clientX - box.left));
  });
  const steps = { in: () => magnify(size * 1.5), out: () => magnify(size / 1.5), fit: () => magnify(0) };
  for (const button of document.querySelectorAll("[data-zoom]")) {
    button.addEventListener("click", steps[button.dataset.zoom]);
  }
  document.querySelector(".controls").hidden = false;
  magnify(0);
  window.addEventListener("resize", () => magnify(size));
}
