"use strict";
/* Notices, for every page. */

function notice(text, bad) {
  const line = document.createElement("p");
  line.textContent = text;
  if (bad) line.className = "bad";
  document.getElementById("notices").append(line);
  setTimeout(() => line.remove(), bad ? 9000 : 2500);
}

document.addEventListener("htmx:responseError", (event) => {
  const request = event.detail.xhr;
  if (event.detail.requestConfig.verb === "post" || request.status === 409) {
    notice(request.responseText.slice(0, 300) || request.status, true);
  }
});
document.addEventListener("htmx:sendError", (event) => {
  if (event.detail.requestConfig.verb === "post") notice(document.title + " ✕", true);
});
document.addEventListener("click", (event) => {
  if (event.target.closest("[data-print]")) window.print();
});
