// Parts of pages that follow the cloud, and forms that change something.
"use strict";

const problem = document.getElementById("problem");

function report(text) {
  problem.textContent = text;
  problem.hidden = !text;
}

// --- Parts with data-live: the address of their server-sent events.

// Elements with an id are replaced one by one, and only where they have changed, so that what a
// person reads or has focused stays.
function show(place, html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  const focused = document.activeElement && document.activeElement.id;
  const opened = [...place.querySelectorAll("details[id][open]")].map((each) => each.id);
  const coming = [...template.content.children];
  for (const old of [...place.children]) {
    if (!coming.some((each) => each.id === old.id)) old.remove();
  }
  coming.forEach((fresh, index) => {
    const old = fresh.id && document.getElementById(fresh.id);
    if (old && old.parentElement === place) {
      if (old.outerHTML !== fresh.outerHTML) old.replaceWith(fresh);
    } else {
      place.insertBefore(fresh, place.children[index] || null);
    }
  });
  for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
}

function follow(place) {
  let source = null;
  // A browser has few connections for each host: a tab that is not seen gives its own back.
  const connect = () => {
    if (document.hidden) {
      source?.close();
      source = null;
      return;
    }
    if (source) return;
    source = new EventSource(place.dataset.live);
    source.addEventListener("message", (event) => {
      report("");
      show(place, event.data);
    });
    source.addEventListener("problem", (event) => report(event.data));
    source.addEventListener("error", () => {
      report(
        source?.readyState === EventSource.CLOSED
          ? "The console does not respond any more: start it again, and open its new address."
          : "The console does not respond; trying again.",
      );
    });
  };
  document.addEventListener("visibilitychange", connect);
  connect();
}

document.querySelectorAll("[data-live]").forEach(follow);

// --- Requests that change something.

// The fields of `body` as JSON; resolves to the response's JSON. Throws an Error with a sentence.
async function send(address, body = {}) {
  let response;
  try {
    response = await fetch(address, {
      method: "POST",
      headers: { Accept: "application/json", "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
  } catch {
    throw new Error("The console does not respond.");
  }
  const text = await response.text();
  let found;
  try {
    found = JSON.parse(text);
  } catch {
    throw new Error(text || response.statusText);
  }
  if (!response.ok) throw new Error([found.error, found.next].filter(Boolean).join(". "));
  return found;
}

// A form with method="post": its fields and those of the button that was pressed are sent by
// `send`, since the browser's own request would have no origin (Referrer-Policy: no-referrer).
document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (form.method !== "post") return;
  event.preventDefault();
  const fields = Object.fromEntries(new FormData(form, event.submitter));
  const buttons = form.querySelectorAll("button");
  buttons.forEach((button) => (button.disabled = true));
  report("");
  try {
    const { location } = await send(form.action, fields);
    window.location.assign(location);
  } catch (error) {
    report(error.message);
    problem.scrollIntoView({ block: "nearest" });
    buttons.forEach((button) => (button.disabled = false));
  }
});
