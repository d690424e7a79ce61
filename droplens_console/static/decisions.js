// What the pages share on which a person decides one picture after another: requests, the list of
// decisions so far, and single keys.

const REMEMBERED = 20; // decisions that can be undone

export const at = (id) => document.getElementById(id);

export function say(text) {
  at("said").textContent = text;
}

export function percent(probability) {
  return `${(100 * probability).toFixed(probability < 0.1 ? 1 : 0)} %`;
}

// A refusal of the server, or a failure of it.
class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export async function post(address, fields) {
  const response = await fetch(address, {
    method: "POST",
    headers: { Accept: "application/json", "Content-Type": "application/json" },
    body: JSON.stringify(fields),
    keepalive: true, // a request goes on where the page is left
  });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(response.status, answer.error ?? `status ${response.status}`);
  return answer;
}

// Resolves to the element once it can be shown, or to null.
export function picture(source, alt) {
  const image = new Image();
  image.alt = alt;
  image.src = source;
  return image.decode().then(
    () => image,
    () => null,
  );
}

// The label as a person reads it; none: the reserved class.
export function shown(label, none) {
  return label === none ? "none of these" : label;
}

// Add an entry with its `line` to `decided`, the last decision last, and to the list that is seen.
export function remember(decided, entry) {
  decided.push(entry);
  if (decided.length > REMEMBERED) decided.shift();
  at("decided").prepend(entry.line);
  while (at("decided").children.length > REMEMBERED) at("decided").lastChild.remove();
}

export function notSaved(decided, entry, name, error) {
  entry.line.textContent = `Not saved: ${name}: ${error.message}`;
  entry.line.classList.add("is-wrong");
  const place = decided.indexOf(entry);
  if (place >= 0) decided.splice(place, 1); // it is not there while it is being undone
  say(`Not saved: ${error.message}`);
}

// Single keys, which can be switched off (WCAG 2.2, success criterion 2.1.4). take: called with
// each key's event; returns whether the key has done something.
export function onSingleKeys(take) {
  const keys = at("keys");
  keys.checked = localStorage.getItem("single-keys") !== "off";
  keys.addEventListener("change", () => {
    localStorage.setItem("single-keys", keys.checked ? "on" : "off");
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.repeat || !keys.checked) return;
    if (/^(SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    if (take(event)) event.preventDefault();
  });
}
