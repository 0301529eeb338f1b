"use strict";
/* Keys, selection and naming on the review page. The server draws the cells: what a card
   shows as named is on the disk. */
(() => {
  const page = document.getElementById("review");
  const base = page.dataset.base;
  const keys = JSON.parse(page.dataset.keys);
  const mayName = Boolean(page.dataset.may);
  const actions = Object.fromEntries(Object.entries(keys).map(([a, k]) => [k, a]));
  const notLabels = ["comment", "opinion", "map", "explain"];
  const selected = new Set();
  const detail = document.getElementById("detail");
  let here = null;
  let anchor = null;
  let many = false;
  let waiting = 0;
  let typed = null; // what is typed while the comment of the cell is on its way
  let unsent = new Set();

  const cells = () => [...document.querySelectorAll(".cell")];
  const card = (n) => document.getElementById("c" + n);
  const picked = () => (selected.size ? [...selected] : here ? [here] : []);

  function mark() {
    for (const cell of document.querySelectorAll('.cell[aria-selected="true"], .cell.here')) {
      cell.setAttribute("aria-selected", "false");
      cell.classList.remove("here");
      cell.tabIndex = -1;
    }
    for (const n of selected) card(n)?.setAttribute("aria-selected", "true");
    const cell = here && card(here);
    if (cell) { cell.classList.add("here"); cell.tabIndex = 0; }
  }

  function go(n, { focus = true, now = false } = {}) {
    if (!n) return;
    here = n;
    mark();
    const cell = card(n);
    if (focus && cell) {
      cell.focus({ preventScroll: true });
      cell.scrollIntoView({ block: "nearest" });
    }
    clearTimeout(waiting);
    waiting = setTimeout(() => look(n), now ? 0 : 130);
  }

  function look(n) {
    if (detail.querySelector("article")?.dataset.n === n && !detail.dataset.old) return;
    delete detail.dataset.old;
    htmx.ajax("GET", `${base}/cell/${n}`, { target: "#detail", swap: "innerHTML" });
    unsent.add(n);
    card(n)?.classList.remove("unseen");
  }

  function step(by, select) {
    const all = cells();
    const at = all.findIndex((c) => c.dataset.n === here);
    const to = all[Math.max(0, Math.min(all.length - 1, at + by))];
    if (!to) return;
    if (select) { if (here) selected.add(here); selected.add(to.dataset.n); }
    go(to.dataset.n);
  }

  function row(down, select) {
    const from = here && card(here);
    if (!from) return step(1);
    const box = from.getBoundingClientRect();
    const x = box.left + box.width / 2;
    let best = null, least = Infinity;
    for (const c of cells()) {
      const b = c.getBoundingClientRect();
      const dy = down ? b.top - box.bottom : box.top - b.bottom;
      if (dy < -4) continue;
      const far = dy * 4 + Math.abs(b.left + b.width / 2 - x);
      if (far < least) { least = far; best = c; }
    }
    if (!best) return;
    if (select) { selected.add(here); selected.add(best.dataset.n); }
    go(best.dataset.n);
  }

  function range(to) {
    const all = cells().map((c) => c.dataset.n);
    const [a, b] = [all.indexOf(anchor ?? here), all.indexOf(to)].sort((x, y) => x - y);
    for (const n of all.slice(Math.max(a, 0), b + 1)) selected.add(n);
  }

  function post(path, values) {
    return htmx.ajax("POST", base + path, { source: page, target: page, swap: "none", values });
  }

  function name(label, comment = "") {
    const targets = picked();
    if (!mayName || !targets.length) return;
    const all = cells().map((c) => c.dataset.n);
    const last = Math.max(...targets.map((n) => all.indexOf(n)));
    post("/name", { cells: targets.join(","), label, comment });
    selected.clear();
    detail.dataset.old = "1";
    go(all[last + 1] ?? here);
  }

  function act(action) {
    if (action === "map") return toggleMaps();
    if (action === "comment") { typed = ""; return toComment(); }
    if (!mayName) return;
    if (action === "opinion" && picked().length) return post("/ask", { cells: picked().join(",") });
    if (action === "explain") return explain("lime");
    if (!notLabels.includes(action)) name(action);
  }

  // Letters that are meant for a comment must not name cells while it is loaded.
  function toComment() {
    const comment = document.getElementById("comment");
    if (typed === null || !comment || detail.querySelector("article").dataset.n !== here) return;
    comment.focus();
    const [words, ...entered] = typed.split("\n");
    comment.value += words;
    typed = null;
    if (entered.length) name(comment.dataset.label, comment.value);
  }

  function explain(method) {
    if (!here) return;
    const n = here;
    detail.dataset.old = "1";
    post("/explain", { cells: n, method }).then(() => here === n && look(n));
  }

  // The stage takes seconds; its button waits for it.
  function drive(button) {
    const n = here;
    button.disabled = true;
    post(`/show/${n}`, { cell: n }).finally(() => { button.disabled = false; });
  }

  function toggleMaps() {
    const on = document.body.classList.toggle("maps");
    document.getElementById("map").setAttribute("aria-pressed", String(on));
    if (on) cells().forEach(heat);
    else document.querySelectorAll(".cell .heat").forEach((i) => i.remove());
  }

  function heat(cell) {
    if (!cell.dataset.s || cell.querySelector(".heat")) return;
    const image = new Image();
    image.className = "heat";
    image.loading = "lazy";
    image.alt = "";
    image.addEventListener("error", () => image.remove());
    image.src = `${base}/map/${cell.dataset.s}.png`;
    cell.append(image);
  }

  document.addEventListener("keydown", (event) => {
    const open = document.querySelector("dialog[open]");
    const field = event.target.closest("input, select, textarea");
    if (field?.id === "comment" && event.key === "Enter") {
      event.preventDefault();
      return name(field.dataset.label, field.value);
    }
    if (field?.id === "comment" && event.key === "Escape") return go(here);
    if (open || field) return;
    const key = event.key;
    if (typed !== null && !event.ctrlKey && !event.metaKey) {
      if (key === "Escape") typed = null;
      else if (key === "Enter") typed += "\n";
      else if (key.length === 1) typed += key;
      return event.preventDefault();
    }
    if ((event.ctrlKey || event.metaKey) && key.toLowerCase() === "a") {
      const strip = (here && card(here)?.closest(".strip")) ?? document.querySelector(".strip");
      strip?.querySelectorAll(".cell").forEach((c) => selected.add(c.dataset.n));
      mark();
    } else if (event.ctrlKey || event.metaKey || event.altKey) return;
    else if (key === "ArrowRight") step(1, event.shiftKey);
    else if (key === "ArrowLeft") step(-1, event.shiftKey);
    else if (key === "ArrowDown") row(true, event.shiftKey);
    else if (key === "ArrowUp") row(false, event.shiftKey);
    else if (key === "Enter" && !event.target.closest("button, a")) name("=");
    else if (key === "Backspace") undo();
    else if (key === "Escape") { selected.clear(); mark(); }
    else if (key === "?") document.getElementById("keys").showModal();
    else if (actions[key.toLowerCase()]) act(actions[key.toLowerCase()]);
    else return;
    event.preventDefault();
  });

  function undo() {
    if (!mayName) return;
    detail.dataset.old = "1";
    post("/undo", {}).then(() => here && look(here));
  }

  let lastMove = 0;
  document.addEventListener("pointermove", (event) => {
    if (event.pointerType !== "mouse" || event.timeStamp - lastMove < 40) return;
    lastMove = event.timeStamp;
    const cell = event.target.closest?.(".cell");
    if (cell && cell.dataset.n !== here && !selected.size) go(cell.dataset.n, { focus: false });
  });

  document.addEventListener("click", (event) => {
    const target = event.target;
    const cell = target.closest(".cell");
    if (cell) {
      const n = cell.dataset.n;
      if (event.shiftKey) range(n);
      else if (event.ctrlKey || event.metaKey || many) {
        selected.has(n) ? selected.delete(n) : selected.add(n);
        anchor = n;
      } else { selected.clear(); anchor = n; }
      return go(n, { now: true });
    }
    const label = target.closest("[data-label]:is(button)");
    if (label) return name(label.dataset.label, document.getElementById("comment")?.value ?? "");
    if (target.closest("#opinion")) return act("opinion");
    const stage = target.closest("#drive");
    if (stage) return drive(stage);
    const method = target.closest(".explain");
    if (method?.dataset.method) return explain(method.dataset.method);
    const all = target.closest(".all");
    if (all) {
      all.closest(".strip").querySelectorAll(".cell").forEach((c) => selected.add(c.dataset.n));
      return mark();
    }
    if (target.closest("#map")) toggleMaps();
    else if (target.closest("#undo")) undo();
    else if (target.closest("#help")) document.getElementById("keys").showModal();
    else if (target.closest("#close")) document.getElementById("keys").close();
    else if (target.closest("#many")) {
      many = !many;
      target.closest("#many").setAttribute("aria-pressed", String(many));
    }
  });

  // A comment that is being written stays, whatever arrives.
  document.addEventListener("htmx:beforeSwap", (event) => {
    const writing = document.activeElement?.id === "comment";
    if (event.detail.target.id === "detail" && writing) event.detail.shouldSwap = false;
  });

  document.addEventListener("htmx:afterRequest", (event) => {
    const { xhr, pathInfo, successful } = event.detail;
    if (successful && pathInfo.requestPath.startsWith(`${base}/show/`)) notice(xhr.responseText);
  });

  // What the server has drawn anew gets its marks back.
  document.addEventListener("htmx:oobAfterSwap", (event) => {
    const fresh = event.detail.elt ?? event.target;
    if (fresh.id === "pulse" && fresh.dataset.said) notice(fresh.dataset.said);
  });
  document.addEventListener("htmx:afterSettle", () => {
    const lost = document.activeElement === document.body;
    mark();
    toComment();
    if (document.body.classList.contains("maps")) cells().forEach(heat);
    if (lost && here && !document.querySelector("dialog[open]")) card(here)?.focus({ preventScroll: true });
  });

  function flush() {
    if (!unsent.size) return;
    const body = new URLSearchParams({ cells: [...unsent].join(",") });
    unsent = new Set();
    navigator.sendBeacon(`${base}/seen`, body);
  }
  setInterval(flush, 4000);
  document.addEventListener("visibilitychange", flush);

  const first = document.querySelector(".cell");
  if (first) go(first.dataset.n);
})();
