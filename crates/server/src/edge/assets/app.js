// The one script of the pages. Everything works without it; it adds copy buttons, the check of a
// confirmed name, a guard against sending a form twice, pages that wait, and threads that grow while they
// are read.
// It writes no HTML from strings: fragments come from this origin, rendered and escaped by the server.
"use strict";

document.documentElement.classList.add("js");

// Copy buttons: <button data-copy="text"><svg><span>Copy</span></button>
document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy]");
  if (!button) return;
  const word = button.querySelector("span");
  const before = word.textContent;
  if (button.dataset.busy) return;
  button.dataset.busy = "1";
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    word.textContent = "Copied";
  } catch {
    word.textContent = "Select and copy by hand";
  }
  announce(word.textContent);
  setTimeout(() => {
    word.textContent = before;
    delete button.dataset.busy;
  }, 1600);
});

// A destructive form waits until the name is typed. The server compares it too.
for (const input of document.querySelectorAll("input[data-confirm]")) {
  const button = input.form.querySelector("button");
  const settle = () => { button.disabled = input.value.trim() !== input.dataset.confirm; };
  input.addEventListener("input", settle);
  settle();
}

// A form is sent once. Coming back to the page opens it again.
const sent = new Set();
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post") return;
  if (sent.has(form)) {
    event.preventDefault();
    return;
  }
  sent.add(form);
  if (event.submitter) event.submitter.setAttribute("aria-busy", "true");
});
window.addEventListener("pageshow", () => {
  sent.clear();
  for (const busy of document.querySelectorAll("button[aria-busy]")) busy.removeAttribute("aria-busy");
});

// In a composer, Ctrl or Command and Enter sends.
document.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
  const form = event.target.closest("form.composer");
  if (form) form.requestSubmit();
});

// A page that waits for something (<span data-waits>) is asked again now and then, and shown anew once that has come.
const WAIT_PAUSE_MS = 3000;
if (document.querySelector("[data-waits]")) waits();

function waits() {
  setTimeout(async () => {
    try {
      const answer = await fetch(location.href, { credentials: "same-origin" });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (answer.redirected || (answer.ok && !page.querySelector("[data-waits]"))) {
        location.reload();
        return;
      }
    } catch {
      // The server does not answer now; the next time it may.
    }
    waits();
  }, WAIT_PAUSE_MS);
}

let voice;
function announce(text) {
  if (!voice) {
    voice = document.createElement("p");
    voice.className = "unseen";
    voice.setAttribute("role", "status");
    document.body.append(voice);
  }
  voice.textContent = text;
}

// Live threads. <div data-stream="/v1/threads/…/stream" data-fragment="/me/threads/…">: its children carry
// data-key. At each event the fragment is fetched again (header X-Fragment) and merged: new children
// are put in their place, changed ones replaced, what is read does not move. `data-events` names the
// stream's event names when they are not these.
const EVENTS = "message turn step thread approval";
const FETCH_PAUSE_MS = 200;
const RECONNECT_PAUSE_MS = 5000;
const NEAR_END_PX = 160;

for (const root of document.querySelectorAll("[data-stream][data-fragment]")) follow(root);

function follow(root) {
  const known = new Map();
  for (const child of keyed(root)) known.set(child.dataset.key, stamp(child));
  let source;
  let timer = 0;
  let loading = false;
  let again = false;
  let over = false;

  const refresh = () => {
    if (timer || over) return;
    timer = setTimeout(async () => {
      timer = 0;
      if (loading) {
        again = true;
        return;
      }
      loading = true;
      try {
        await load();
      } catch {
        state(root, "waiting");
      }
      loading = false;
      if (again) {
        again = false;
        refresh();
      }
    }, FETCH_PAUSE_MS);
  };

  const load = async () => {
    const answer = await fetch(root.dataset.fragment, { headers: { "X-Fragment": "1" }, credentials: "same-origin" });
    if ([401, 403, 404].includes(answer.status) || answer.redirected) {
      over = true;
      source.close();
      state(root, "over");
      return;
    }
    if (!answer.ok) throw new Error("the fragment was not answered");
    merge(root, new DOMParser().parseFromString(await answer.text(), "text/html"), known);
  };

  const open = () => {
    if (over) return;
    source = new EventSource(root.dataset.stream);
    source.onopen = () => {
      state(root, "live");
      refresh();
    };
    source.onmessage = refresh;
    for (const name of (root.dataset.events || EVENTS).split(" ")) source.addEventListener(name, refresh);
    source.onerror = () => {
      state(root, "waiting");
      // The browser tries again by itself unless the server refused; then we do, and the fetch tells why.
      if (source.readyState === EventSource.CLOSED && !over) {
        refresh();
        setTimeout(open, RECONNECT_PAUSE_MS);
      }
    };
  };
  document.documentElement.classList.add("live");
  open();
  window.addEventListener("pagehide", () => source.close());
  window.addEventListener("pageshow", (event) => { if (event.persisted) open(); });
}

function keyed(root) {
  return [...root.children].filter((child) => child.dataset.key);
}

// What the server said of a child, without what the reader or the clock changed.
function stamp(child) {
  const copy = child.cloneNode(true);
  copy.removeAttribute("data-fresh");
  for (const opened of copy.querySelectorAll("details[open]")) opened.removeAttribute("open");
  for (const time of copy.querySelectorAll("time")) time.textContent = "";
  for (const token of copy.querySelectorAll("input[name=csrf]")) token.removeAttribute("value");
  return copy.outerHTML;
}

function merge(root, page, known) {
  const from = page.querySelector("[data-fragment]") || page.body;
  const atEnd = window.innerHeight + window.scrollY >= document.documentElement.scrollHeight - NEAR_END_PX;
  const anchor = readingAt(root);
  const anchorTop = anchor ? anchor.getBoundingClientRect().top : 0;
  const anchorKey = anchor ? anchor.dataset.key : "";
  const present = new Map(keyed(root).map((child) => [child.dataset.key, child]));
  let last = null;
  let fresh = 0;

  for (const next of keyed(from)) {
    const key = next.dataset.key;
    const mark = stamp(next);
    let here = present.get(key);
    present.delete(key);
    if (!here) {
      here = document.importNode(next, true);
      here.dataset.fresh = "";
      fresh += 1;
      if (last) last.after(here);
      else root.prepend(here);
    } else if (known.get(key) !== mark && !here.contains(document.activeElement)) {
      const made = document.importNode(next, true);
      keepOpen(here, made);
      here.replaceWith(made);
      here = made;
    } else if (known.get(key) !== mark) {
      // Someone is using this child; it is replaced by a later refresh.
      last = here;
      continue;
    }
    known.set(key, mark);
    last = here;
  }
  for (const gone of present.values()) {
    known.delete(gone.dataset.key);
    gone.remove();
  }

  const kept = keyed(root).find((child) => child.dataset.key === anchorKey);
  if (fresh && atEnd) {
    const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    root.lastElementChild.scrollIntoView({ block: "end", behavior: calm ? "auto" : "smooth" });
  } else if (kept) {
    window.scrollBy(0, kept.getBoundingClientRect().top - anchorTop);
  }
  if (fresh) {
    announce(fresh === 1 ? "One new entry" : `${fresh} new entries`);
    if (!atEnd) offer(root);
  }
}

// The child that must stay where it is: the first that begins below the bar, else the one that fills the view.
function readingAt(root) {
  const bar = document.querySelector(".bar");
  const edge = bar ? bar.getBoundingClientRect().bottom : 0;
  const boxes = keyed(root).map((child) => [child, child.getBoundingClientRect()]);
  const found = boxes.find(([, box]) => box.top >= edge && box.top < window.innerHeight)
    || boxes.find(([, box]) => box.bottom > edge);
  return found ? found[0] : null;
}

function keepOpen(old, made) {
  const was = old.querySelectorAll("details");
  made.querySelectorAll("details").forEach((detail, index) => {
    if (was[index]) detail.open = was[index].open;
  });
}

// A button that leads to what is new, instead of moving the page under the reader.
function offer(root) {
  if (document.querySelector(".new-below")) return;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "button new-below";
  button.textContent = "New below";
  const leave = () => {
    button.remove();
    window.removeEventListener("scroll", seen);
  };
  const seen = () => {
    if (root.getBoundingClientRect().bottom < window.innerHeight + NEAR_END_PX) leave();
  };
  button.addEventListener("click", () => {
    leave();
    root.lastElementChild.scrollIntoView({ block: "end" });
  });
  window.addEventListener("scroll", seen, { passive: true });
  document.body.append(button);
}

// The words of <span class="live-state" data-live></span>, if the page has one.
function state(root, name) {
  const words = { live: "Live", waiting: "Reconnecting…", over: "No longer live. Reload the page." };
  for (const place of document.querySelectorAll("[data-live]")) {
    if (place.dataset.state === name) continue;
    place.dataset.state = name;
    place.textContent = words[name];
  }
}
