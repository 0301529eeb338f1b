"use strict";
/* One stream a page; it ends when nobody looks, so that the camera is not sent for nothing. */
(() => {
  const stream = document.getElementById("stream");
  const banner = document.getElementById("banner");
  const empty = "/static/empty.gif";
  let show = "maps";
  let answered = Date.now();

  const start = () => { stream.src = `/live/stream?show=${show}`; };
  const stop = () => { stream.src = empty; };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-show]");
    if (!button) return;
    show = button.dataset.show;
    for (const b of document.querySelectorAll("[data-show]")) b.setAttribute("aria-pressed", String(b === button));
    start();
  });
  document.addEventListener("visibilitychange", () => (document.hidden ? stop() : start()));
  addEventListener("pagehide", stop);
  stream.addEventListener("error", () => setTimeout(() => document.hidden || start(), 2000));

  function tell(stale, text) {
    stream.classList.toggle("stale", stale);
    banner.hidden = !text;
    if (text && banner.textContent !== text) banner.textContent = text;
  }
  const read = () => {
    const state = document.getElementById("state");
    tell(Boolean(state.dataset.stale), state.dataset.lost);
  };
  document.addEventListener("htmx:afterSettle", () => { answered = Date.now(); read(); });
  setInterval(() => {
    const silent = Math.round((Date.now() - answered) / 1000);
    if (silent > 4) tell(true, `${banner.dataset.silent ?? "No answer"} (${silent} s)`);
  }, 1000);
  read();
})();
