// The review page: keys decide, the next images are loaded already, and each decision is sent while
// the next image is looked at. A decision counts as saved once the server has written it.

const AHEAD = 12; // images claimed at a time
const REFILL = 6; // with fewer left, more are claimed
const AGAIN = 5000; // milliseconds until an empty queue is asked again
const FOUND = 8; // classes shown of a search
const REMEMBERED = 20; // decisions that can be undone

const panel = document.querySelector("#review");
const at = (id) => document.getElementById(id);
const photo = at("photo");
const find = at("find");
const found = at("found");
const { classifier, none } = panel.dataset;
const page = crypto.randomUUID();

const waiting = []; // items not shown yet, with their images
const decided = []; // entries, the last decision last
let current = null; // the item that is seen, null while none is
let claiming = false;
let saved = 0;
let left = 0;
let classes = [];
let again = 0;

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function post(action, body) {
  const response = await fetch(`/review/${action}`, {
    method: "POST",
    headers: { Accept: "application/json", "Content-Type": "application/json" },
    body: JSON.stringify({ page, classifier, ...body }),
    keepalive: true, // a request goes on where the page is left
  });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(response.status, answer.error ?? `status ${response.status}`);
  return answer;
}

function say(text) {
  at("said").textContent = text;
}

// So many decisions more are saved.
function count(more) {
  saved += more;
  left = Math.max(0, left - more);
  panel.dataset.saved = saved;
  at("count").textContent = saved;
  at("left").textContent = left.toLocaleString("en");
}

function percent(probability) {
  return probability === null ? "" : `${(100 * probability).toFixed(probability < 0.1 ? 1 : 0)} %`;
}

function withImage(item) {
  const image = new Image();
  image.alt = `Image to review: ${item.key}`;
  image.src = item.image;
  const loaded = image.decode().then(
    () => image,
    () => null,
  );
  return { ...item, loaded };
}

async function claim() {
  if (claiming || waiting.length >= REFILL) return;
  claiming = true;
  clearTimeout(again);
  try {
    const answer = await post("claim", { count: String(AHEAD - waiting.length) });
    waiting.push(...answer.items.map(withImage));
    left = answer.waiting;
    count(0);
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
  share.textContent = percent(probability);
  button.append(key, name, share);
  button.addEventListener("click", () => decide(label));
  const item = document.createElement("li");
  item.append(button);
  return item;
}

function decide(label) {
  if (!current) return;
  const entry = { item: current, label, line: document.createElement("li") };
  entry.saved = save(entry);
  decided.push(entry);
  if (decided.length > REMEMBERED) decided.shift();
  const line = entry.line;
  line.textContent = `${shown(label)}: ${entry.item.key}, being saved`;
  at("decided").prepend(line);
  while (at("decided").children.length > REMEMBERED) at("decided").lastChild.remove();
  current = null;
  show();
}

function shown(label) {
  return label === none ? "none of these" : label;
}

async function save(entry) {
  const { item, label, line } = entry;
  try {
    await post("decide", { item: item.name, label });
    line.textContent = `${shown(label)}: ${item.key}`;
    count(1);
    say(`Saved: ${shown(label)}.`);
    return true;
  } catch (error) {
    line.textContent = `Not saved: ${item.key}: ${error.message}`;
    line.classList.add("is-wrong");
    decided.splice(decided.indexOf(entry), 1);
    say(`Not saved: ${error.message}`);
    // 409: another person has decided it. Anything else is for the reviewer to do once more.
    if (error.status !== 409) waiting.unshift(item);
    if (!current && !showing) show();
    enable();
    return false;
  }
}

async function undo() {
  const entry = decided.pop();
  if (!entry || showing) return;
  const before = current;
  current = null; // no key decides the image that is about to leave
  enable();
  if (!(await entry.saved)) return restore(before);
  try {
    await post("undo", { item: entry.item.name });
  } catch (error) {
    say(`Not undone: ${error.message}`);
    return restore(before);
  }
  entry.line.remove();
  count(-1);
  if (before) waiting.unshift(before);
  waiting.unshift(entry.item);
  say(`Undone: ${shown(entry.label)}.`);
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
    await post("skip", { item: item.name });
    say("Skipped.");
  } catch (error) {
    say(`Not skipped: ${error.message}`);
  }
}

// The search for another class: a combobox with a list below (WAI-ARIA Authoring Practices).

let marked = -1;

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

// Single keys, which can be switched off (WCAG 2.2, success criterion 2.1.4).

const keys = at("keys");
keys.checked = localStorage.getItem("single-keys") !== "off";
keys.addEventListener("change", () => {
  localStorage.setItem("single-keys", keys.checked ? "on" : "off");
});

document.addEventListener("keydown", (event) => {
  const { key, target } = event;
  if (event.ctrlKey || event.altKey || event.metaKey || event.repeat || !keys.checked) return;
  if (target === find || /^(SELECT|TEXTAREA)$/.test(target.tagName)) return;
  if (key >= "1" && key <= "9") {
    const button = at("candidates").children[Number(key) - 1]?.querySelector("button");
    if (button) button.click();
  } else if (key === "0") decide(none);
  else if (key === "s") skip();
  else if (key === "u") undo();
  else if ((key === "/" || /^\p{L}$/u.test(key)) && current) {
    find.focus();
    if (key === "/") find.value = "";
    else return; // the letter goes into the search
  } else return;
  event.preventDefault();
});

at("none").addEventListener("click", () => decide(none));
at("skip").addEventListener("click", skip);
at("undo").addEventListener("click", undo);
addEventListener("beforeunload", (event) => {
  if (at("decided").textContent.includes("being saved")) event.preventDefault();
});
addEventListener("pagehide", () => post("leave", {}).catch(() => {}));

blank();
claim();
fetch(`/review/${classifier}/classes`)
  .then((response) => response.json())
  .then((answer) => {
    classes = answer.classes;
  });
