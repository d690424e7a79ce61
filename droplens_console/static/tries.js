// Try it: photos and datasets that are dropped, or chosen. `send` and `report` are console.js's.
"use strict";

const FILES_AT_ONCE = 4;
const ASK_AGAIN = 500; // milliseconds
const at = (id) => document.getElementById(id);

function make(tag, text = "", attributes = {}) {
  const element = document.createElement(tag);
  element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function named(tag, name) {
  const element = make(tag);
  element.append(make("bdi", name));
  return element;
}

async function sendFile(address, file) {
  const response = await fetch(address, {
    method: "POST",
    headers: { Accept: "application/json", "Content-Type": "application/octet-stream" },
    body: file,
  });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) {
    throw new Error([answer.error ?? `status ${response.status}`, answer.next].filter(Boolean).join(". "));
  }
  return answer;
}

async function read(address) {
  const response = await fetch(address, { headers: { Accept: "application/json" } });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error ?? `status ${response.status}`);
  return answer;
}

function droppable(place, take) {
  if (!place) return;
  for (const kind of ["dragover", "dragleave", "drop"]) {
    place.addEventListener(kind, (event) => {
      event.preventDefault();
      place.classList.toggle("over", kind === "dragover");
      if (kind === "drop") take(event.dataTransfer);
    });
  }
}

// --- A photo

async function answer(file) {
  const place = at("answer");
  report("");
  if (file.size > Number(at("photo").dataset.most)) {
    place.replaceChildren(make("p", `${file.name} is larger than a picture may be.`));
    return;
  }
  place.replaceChildren(make("p", `Sending ${file.name} …`));
  try {
    const given = new URLSearchParams({ name: file.name, classifier: at("wanted").value });
    const dropped = await sendFile(`/try/photo?${given}`, file);
    place.replaceChildren(make("p", `Waiting for the answer of ${dropped.classifier} …`));
    const wanted = new URLSearchParams({ key: dropped.key, result: dropped.result });
    let found = await read(`/try/answer?${wanted}`);
    for (let tries = 0; !found.result && tries < 10; tries++) {
      place.replaceChildren(make("p", "No answer yet: an endpoint that was idle takes a minute to begin."));
      found = await read(`/try/answer?${wanted}`);
    }
    if (!found.result) throw new Error(`There is no answer yet; it will be at ${dropped.result}.`);
    showAnswer(place, found);
  } catch (error) {
    place.replaceChildren();
    report(error.message);
  }
}

function showAnswer(place, { result, image, page }) {
  const words = make("div");
  if (result.status === "rejected") {
    words.append(make("p", `Rejected: ${result.error.message}`));
  } else {
    const { label, probability, confident, familiar } = result.prediction;
    const best = make("p");
    best.append(named("strong", label), ` (${percent(probability)}), ${confident ? "confident" : "not confident"}`);
    if (familiar === false) best.append(", unlike the training pictures");
    const list = make("ol");
    for (const each of result.top.slice(1)) {
      const line = named("li", each.label);
      line.append(` (${percent(each.probability)})`);
      list.append(line);
    }
    words.append(best, make("p", "Next probable:"), list);
  }
  words.append(make("p"));
  words.lastChild.append(make("a", "The whole result", { href: page }));
  const shown = make("img", "", { src: image, alt: "The dropped photo" });
  place.replaceChildren(...(result.status === "rejected" ? [] : [shown]), words);
}

function percent(probability) {
  return `${(100 * probability).toFixed(1)} %`;
}

if (at("photo")) {
  at("photo").addEventListener("change", ({ target }) => target.files[0] && answer(target.files[0]));
  droppable(at("photo-drop"), (data) => data.files[0] && answer(data.files[0]));
}

// --- A dataset

let dataset = null; // its address
let busy = false;

// Every file of dropped folders, as [path, file].
async function filesOf(data) {
  const roots = [...data.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
  const found = [];
  const walk = async (entry) => {
    if (entry.isFile) {
      const file = await new Promise((done, failed) => entry.file(done, failed));
      found.push([entry.fullPath.replace(/^\//, ""), file]);
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      const entries = await new Promise((done, failed) => reader.readEntries(done, failed));
      if (!entries.length) return;
      for (const each of entries) await walk(each);
    }
  };
  for (const root of roots) await walk(root);
  return found;
}

// The dataset is what the one dropped folder has.
function within(files) {
  const tops = new Set(files.map(([path]) => path.split("/")[0]));
  const nested = files.every(([path]) => path.includes("/"));
  return tops.size === 1 && nested
    ? files.map(([path, file]) => [path.slice(path.indexOf("/") + 1), file])
    : files;
}

function progress(done, total) {
  const bar = at("bar");
  bar.hidden = total === undefined;
  if (bar.hidden) return;
  if (total === null) bar.removeAttribute("value");
  else Object.assign(bar, { max: total || 1, value: done });
}

async function receive(files) {
  if (busy || !files.length) return;
  busy = true;
  report("");
  at("check").hidden = at("upload").hidden = true;
  at("outcome").replaceChildren();
  const classifier = at("name");
  if (!classifier.value) classifier.value = suggested(files[0][0]);
  try {
    const { name } = await send("/try/dataset");
    dataset = `/try/dataset/${name}`;
    const left = within(files);
    const total = left.length;
    let done = 0;
    const one = async () => {
      for (let next = left.pop(); next; next = left.pop()) {
        const [path, file] = next;
        await sendFile(`${dataset}/file?${new URLSearchParams({ path })}`, file);
        progress(++done, total);
        at("dataset").textContent = `Reading the folder: ${done.toLocaleString("en")} of ${total.toLocaleString("en")} files`;
      }
    };
    await Promise.all(Array.from({ length: FILES_AT_ONCE }, one));
    busy = false;
    await check();
  } catch (error) {
    failed(error);
  }
  busy = false;
}

function suggested(path) {
  const top = path.split("/")[0].toLowerCase().replace(/[^a-z0-9-]+/g, "-").replace(/^-+/, "");
  return top.slice(0, 31);
}

async function check() {
  if (!dataset) return;
  if (!at("name").reportValidity() || !at("name").value) {
    at("check").hidden = false;
    report("Name the classifier, then check it.");
    return;
  }
  report("");
  at("check").hidden = at("upload").hidden = true;
  await send(`${dataset}/check`, { classifier: at("name").value });
  const found = await follow("Checking");
  showCheck(found);
  at("check").hidden = false;
  at("upload").hidden = false;
}

async function upload() {
  at("check").hidden = at("upload").hidden = true;
  await send(`${dataset}/upload`);
  const found = await follow("Uploading");
  const outcome = make("p", found.is_new ? "Uploaded: a run begins. " : "This dataset was complete already. ");
  outcome.append(make("a", "Its run", { href: found.run }));
  at("outcome").append(outcome);
  at("dataset").textContent = "";
}

// Resolves to the state after the current step.
async function follow(words) {
  for (;;) {
    const found = await read(`${dataset}/state`);
    const { step, done, total } = found;
    if (step === "failed") throw new Error([found.error, found.next].filter(Boolean).join(". "));
    if (step === "checked" || step === "uploaded") {
      progress();
      return found;
    }
    progress(done, total);
    at("dataset").textContent = `${words}: ${done.toLocaleString("en")}${total ? ` of ${total.toLocaleString("en")}` : ""}`;
    await new Promise((later) => setTimeout(later, ASK_AGAIN));
  }
}

function showCheck({ check: found, others }) {
  at("dataset").textContent = `${found.pictures.toLocaleString("en")} pictures of ${found.classes.length.toLocaleString("en")} classes; ${found.read_as}`;
  const table = make("table");
  table.append(make("caption", "Classes, the smallest first"), make("thead"), make("tbody"));
  const head = make("tr");
  for (const title of ["Class", "Files", "Train", "Validation", "Not used"]) {
    head.append(make("th", title, { scope: "col" }));
  }
  table.tHead.append(head);
  for (const one of found.classes) {
    const row = named("th", one.name);
    row.setAttribute("scope", "row");
    const line = make("tr");
    line.append(row, ...["files", "train", "validation", "skipped"].map((name) => make("td", one[name], { class: "number" })));
    table.tBodies[0].append(line);
  }
  const notes = make("ul");
  const counts = [
    [found.unreadable_count, "unreadable, which stay here"],
    [found.duplicates, "twice in a class, used once"],
    [found.conflicts, "in several classes, not used"],
    [others, "further objects in the bucket's dataset, which this folder does not have"],
  ];
  for (const [count, words] of counts) {
    if (count) notes.append(make("li", `${count.toLocaleString("en")} ${words}`));
  }
  for (const text of [...found.unreadable, ...found.warnings]) notes.append(make("li", text));
  const scroll = make("div", "", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Classes" });
  scroll.append(table);
  at("outcome").replaceChildren(notes, scroll);
}

function failed(error) {
  progress();
  at("dataset").textContent = "";
  at("check").hidden = !dataset;
  report(error.message);
}

at("folder").addEventListener("change", ({ target }) => {
  receive([...target.files].map((file) => [file.webkitRelativePath || file.name, file]));
});
droppable(at("folder-drop"), async (data) => receive(await filesOf(data)));
at("check").addEventListener("click", () => check().catch(failed));
at("upload").addEventListener("click", () => upload().catch(failed));
