// The review page: keys decide, the next images are loaded already, and each decision is sent while
// the next image is looked at. A decision counts as saved once the server has written it.

import { at, notSaved, onSingleKeys, percent, picture, post, remember, say, shown } from "./decisions.js";

const AHEAD = 12; // images claimed at a time
const REFILL = 6; // with fewer left, more are claimed
const AGAIN = 5000; // milliseconds until an empty queue is asked again
const COUNT_AGAIN = 15000; // milliseconds until the queue is counted again
const FOUND = 8; // classes shown of a search

const panel = document.querySelector("#review");
const photo = at("photo");
const find = at("find");
const found = at("found");
const { classifier, none } = panel.dataset;
const most = Number(at("left").dataset.most); // images that are counted
const page = crypto.randomUUID();

const waiting = []; // items not shown yet, with their images
const decided = []; // entries, the last decision last
let current = null; // the item that is seen, null while none is
let claiming = false;
let saved = 0;
let left = NaN; // images that wait, once they are counted
let classes = [];
let again = 0;

function send(action, fields) {
  return post(`/review/${action}`, { page, classifier, ...fields });
}

// So many decisions more are saved.
function count(more) {
  saved += more;
  panel.dataset.saved = saved;
  at("count").textContent = saved;
  if (left < most) showLeft(Math.max(0, left - more));
}

// `most` stands for so many or more.
function showLeft(count) {
  left = count;
  at("left").textContent = left.toLocaleString("en") + (left < most ? "" : " or more");
}

async function countQueue() {
  try {
    if (!document.hidden) {
      const response = await fetch(`/review/${classifier}/waiting`);
      if (response.ok) showLeft((await response.json()).waiting);
    }
  } catch {
    // The console does not respond, which the next claim says.
  }
  setTimeout(countQueue, COUNT_AGAIN);
}

function withImage(item) {
  return { ...item, loaded: picture(item.image, `Image to review: ${item.key}`) };
}

async function claim() {
  if (claiming || waiting.length >= REFILL) return;
  claiming = true;
  clearTimeout(again);
  try {
    const answer = await send("claim", { count: String(AHEAD - waiting.length) });
    waiting.push(...answer.items.map(withImage));
    if (!current && !waiting.length) {
      say("Nothing waits for review now.");
      again = setTimeout(claim, AGAIN);
    }
  } catch (error) {
    say(`The queue cannot be read: ${error.message}`);
    again = setTimeout(claim, AGAIN);
  } finally {
    claiming = false;
  }
  if (!current && !showing) show();
}

let showing = false;

// Show the next item; decisions are taken once its image is seen.
async function show() {
  if (showing) return;
  const item = waiting.shift();
  if (!item) {
    blank();
    claim();
    return;
  }
  showing = true;
  const image = await item.loaded;
  photo.replaceChildren(image ?? notShown(item));
  at("caption").textContent = item.key;
  at("reason").textContent = item.reason;
  at("candidates").replaceChildren(...item.candidates.map(candidate));
  panel.dataset.item = item.name;
  panel.classList.remove("empty");
  current = item;
  showing = false;
  enable();
  claim();
}

function blank() {
  current = null;
  delete panel.dataset.item;
  panel.classList.add("empty");
  photo.replaceChildren();
  at("caption").textContent = "";
  at("reason").textContent = "";
  at("candidates").replaceChildren();
  enable();
}

function enable() {
  at("none").disabled = at("skip").disabled = find.disabled = !current;
  at("undo").disabled = !decided.length;
}

function notShown(item) {
  const text = document.createElement("p");
  text.textContent = `${item.key} cannot be shown: it is gone, or no picture`;
  return text;
}

function candidate({ label, probability }, index) {
  const button = document.createElement("button");
  button.type = "button";
  const key = document.createElement("kbd");
  key.textContent = index + 1;
  const name = document.createElement("bdi");
  name.textContent = label;
  const share = document.createElement("span");
  share.className = "share-of";
  share.textContent = probability === null ? "" : percent(probability);
  button.append(key, name, share);
  button.addEventListener("click", () => decide(label));
  const item = document.createElement("li");
  item.append(button);
  return item;
}

function decide(label) {
  if (!current) return;
  const entry = { item: current, label, line: document.createElement("li") };
  entry.line.textContent = `${shown(label, none)}: ${entry.item.key}, being saved`;
  entry.saved = save(entry);
  remember(decided, entry);
  current = null;
  show();
}

async function save(entry) {
  const { item, label, line } = entry;
  try {
    await send("decide", { item: item.name, label });
    line.textContent = `${shown(label, none)}: ${item.key}`;
    count(1);
    say(`Saved: ${shown(label, none)}.`);
    return true;
  } catch (error) {
    notSaved(decided, entry, item.key, error);
    // 409: another person has decided it. Anything else is for the reviewer to do once more.
    if (error.status !== 409) waiting.unshift(item);
    if (!current && !showing) show();
    enable();
    return false;
  }
}

async function undo() {
  if (showing || !decided.length) return;
  const entry = decided.pop();
  const before = current;
  current = null; // no key decides the image that is about to leave
  enable();
  if (!(await entry.saved)) return restore(before);
  try {
    await send("undo", { item: entry.item.name });
  } catch (error) {
    say(`Not undone: ${error.message}`);
    return restore(before);
  }
  entry.line.remove();
  count(-1);
  if (current) waiting.unshift(current); // shown while the request was under way
  if (before) waiting.unshift(before);
  waiting.unshift(entry.item);
  say(`Undone: ${shown(entry.label, none)}.`);
  show();
}

function restore(before) {
  if (before) waiting.unshift(before);
  if (!current) show();
}

async function skip() {
  if (!current) return;
  const item = current;
  current = null;
  show();
  try {
    await send("skip", { item: item.name });
    say("Skipped.");
  } catch (error) {
    say(`Not skipped: ${error.message}`);
    waiting.unshift(item);
    if (!current && !showing) show();
  }
}

// The search for another class: a combobox with a list below (WAI-ARIA Authoring Practices).

let marked = -1;

async function readClasses() {
  try {
    const response = await fetch(`/review/${classifier}/classes`, { headers: { Accept: "application/json" } });
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.error);
    classes = answer.classes;
  } catch (error) {
    say(`The classes cannot be read: ${error.message}`);
  }
}

function search() {
  const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
  const first = words[0];
  const hits = words.length
    ? classes.filter((name) => words.every((word) => name.toLowerCase().includes(word)))
    : [];
  hits.sort((a, b) => b.toLowerCase().startsWith(first) - a.toLowerCase().startsWith(first));
  const options = hits.slice(0, FOUND).map((name, index) => {
    const option = document.createElement("li");
    option.id = `found-${index}`;
    option.role = "option";
    option.textContent = name;
    option.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      choose(name);
    });
    return option;
  });
  found.replaceChildren(...options);
  found.hidden = !options.length;
  find.setAttribute("aria-expanded", String(options.length > 0));
  at("hits").textContent = words.length ? `${hits.length} classes` : "";
  mark(options.length ? 0 : -1);
}

function mark(index) {
  marked = index;
  [...found.children].forEach((option, number) => {
    option.setAttribute("aria-selected", String(number === index));
  });
  if (index < 0) find.removeAttribute("aria-activedescendant");
  else find.setAttribute("aria-activedescendant", `found-${index}`);
}

function choose(label) {
  closeSearch();
  decide(label);
}

function closeSearch() {
  find.value = "";
  search();
  panel.focus();
}

find.addEventListener("input", search);
find.addEventListener("keydown", (event) => {
  const count = found.children.length;
  if (event.key === "ArrowDown" && count) mark((marked + 1) % count);
  else if (event.key === "ArrowUp" && count) mark((marked - 1 + count) % count);
  else if (event.key === "Enter" && marked >= 0) choose(found.children[marked].textContent);
  else if (event.key === "Escape") closeSearch();
  else return;
  event.preventDefault();
});

onSingleKeys(({ key, target }) => {
  if (target === find) return false;
  if (key >= "1" && key <= "9") {
    const button = at("candidates").children[Number(key) - 1]?.querySelector("button");
    if (button) button.click();
  } else if (key === "0") decide(none);
  else if (key === "s") skip();
  else if (key === "u") undo();
  else if ((key === "/" || /^\p{L}$/u.test(key)) && current) {
    find.focus();
    if (key !== "/") return false; // the letter goes into the search
    find.value = "";
  } else return false;
  return true;
});

at("none").addEventListener("click", () => decide(none));
at("skip").addEventListener("click", skip);
at("undo").addEventListener("click", undo);
addEventListener("beforeunload", (event) => {
  if (at("decided").textContent.includes("being saved")) event.preventDefault();
});
addEventListener("pagehide", () => send("leave", {}).catch(() => {}));

blank();
claim();
countQueue();
readClasses();
