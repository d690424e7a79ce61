// The gallery: a page that was opened before any result was read is loaded again once some are.
"use strict";

const read = () => Number(document.getElementById("progress").dataset.read);

if (read() === 0) {
  const observer = new MutationObserver(() => {
    if (read() === 0) return;
    observer.disconnect();
    window.location.reload();
  });
  observer.observe(document.querySelector("[data-live]"), { childList: true, subtree: true });
}
