// The page of suspects: keys decide, the next pictures are loaded already, and each decision is sent
// while the next pair is looked at.

import { at, notSaved, onSingleKeys, percent, picture, post, remember, say, shown } from "./decisions.js";

const AHEAD = 5; // pairs whose pictures are loaded

const panel = document.querySelector("#review");
const { address, none } = panel.dataset;

let waiting = []; // items not shown yet
let left = 0; // all that are to be decided
let total = Number(at("count").textContent.replaceAll(",", ""));
const decided = []; // entries, the last decision last
const skipped = new Set();
let current = null; // the item that is seen, null while none is
let showing = false;
let loading = false;
let saved = 0;

function load(item) {
  item.loaded ??= Promise.all([
    picture(item.image, `Training picture ${item.file}`),
    picture(item.typical, `A typical picture of ${item.likely}`),
  ]);
  return item.loaded;
}

async function more() {
  if (loading) return;
  loading = true;
  try {
    const response = await fetch(`${address}/undecided`, { headers: { Accept: "application/json" } });
    if (!response.ok) throw new Error(`status ${response.status}`);
    const answer = await response.json();
    const busy = new Set(decided.filter((entry) => !entry.done).map((entry) => entry.item.name));
    waiting = answer.items.filter((item) => !skipped.has(item.name) && !busy.has(item.name));
    left = answer.left;
    if (at("class").options.length === 1) {
      at("class").append(...answer.classes.map((name) => new Option(name, name)));
    }
    if (!waiting.length) say("Nothing is left to decide on this page.");
  } catch (error) {
    say(`The list cannot be read: ${error.message}`);
  }
  loading = false;
  if (waiting.length) show();
}

async function show() {
  if (showing || current) return;
  const item = waiting.shift();
  if (!item) {
    blank();
    return;
  }
  showing = true;
  const [image, typical] = await load(item);
  at("photo").replaceChildren(image ?? "cannot be shown");
  at("typical").replaceChildren(typical ?? "no picture of it was predicted correctly");
  for (const name of ["label", "likely", "file"]) at(name).textContent = item[name];
  at("probability").textContent = `(${percent(item.probability)})`;
  at("likely-probability").textContent = `(${percent(item.likely_probability)})`;
  panel.dataset.item = item.name;
  panel.classList.remove("empty");
  current = item;
  showing = false;
  enable();
  waiting.slice(0, AHEAD).forEach(load);
}

function blank() {
  delete panel.dataset.item;
  panel.classList.add("empty");
  for (const name of ["photo", "typical", "label", "likely", "file", "probability"]) {
    at(name).replaceChildren();
  }
  at("likely-probability").replaceChildren();
  enable();
  if (left > decided.filter((entry) => !entry.done).length + skipped.size) more();
}

function enable() {
  for (const name of ["keep", "relabel", "drop", "skip", "class"]) at(name).disabled = !current;
  at("undo").disabled = !decided.length;
}

function count(more) {
  saved += more;
  total += more;
  left -= more;
  panel.dataset.saved = saved;
  at("count").textContent = total.toLocaleString("en");
  at("left").textContent = left.toLocaleString("en");
}

function decide(label) {
  if (!current || !label) return;
  const entry = { item: current, label, done: false, line: document.createElement("li") };
  entry.line.textContent = `${shown(label, none)}: ${current.file}, being saved`;
  entry.saved = save(entry);
  remember(decided, entry);
  current = null;
  show();
}

async function save(entry) {
  try {
    await post(`${address}/decide`, { item: entry.item.name, label: entry.label });
  } catch (error) {
    notSaved(decided, entry, entry.item.file, error);
    skipped.add(entry.item.name);
    enable();
    return false;
  }
  entry.done = true;
  entry.line.textContent = `${shown(entry.label, none)}: ${entry.item.file}`;
  count(1);
  say(`Saved: ${shown(entry.label, none)}.`);
  return true;
}

async function undo() {
  if (showing || !decided.length) return;
  const entry = decided.pop();
  const before = current;
  current = null; // no key decides the pair that is about to leave
  enable();
  let undone = await entry.saved;
  try {
    if (undone) await post(`${address}/undo`, { item: entry.item.name });
  } catch (error) {
    undone = false;
    say(`Not undone: ${error.message}`);
  }
  if (before) waiting.unshift(before);
  if (undone) {
    entry.line.remove();
    waiting.unshift(entry.item);
    count(-1);
    say(`Undone: ${shown(entry.label, none)}.`);
  }
  show();
}

function skip() {
  if (!current) return;
  skipped.add(current.name);
  current = null;
  say("Skipped until the page is loaded again.");
  show();
}

const actions = {
  k: ["keep", () => decide(current?.label)],
  r: ["relabel", () => decide(current?.likely)],
  d: ["drop", () => decide(none)],
  s: ["skip", skip],
  u: ["undo", undo],
};
for (const [name, act] of Object.values(actions)) at(name).addEventListener("click", act);
at("class").addEventListener("change", (event) => {
  decide(event.target.value);
  event.target.value = "";
  panel.focus();
});

onSingleKeys(({ key }) => {
  if (!(key in actions)) return false;
  actions[key][1]();
  return true;
});
addEventListener("beforeunload", (event) => {
  if (decided.some((entry) => !entry.done)) event.preventDefault();
});

blank();
more();
