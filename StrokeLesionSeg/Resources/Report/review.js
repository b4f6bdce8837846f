"use strict";
// Rates the scan of this page and leads to the others of the study.
(function () {
  function find(id) { return document.getElementById(id); }
  var bar = find("review");
  var study = bar.getAttribute("data-study"), scan = bar.getAttribute("data-scan");
  var root = bar.getAttribute("data-root");
  var comment = find("review-comment"), state = find("review-state");
  var buttons = Array.prototype.slice.call(bar.querySelectorAll("[data-rating]"));
  var ratings = strokeLesionRatings, links = {};
  var parts = /^(\S+) (\S+) \(UTC(...)(..)\)$/.exec(bar.getAttribute("data-made"));
  var made = parts ? Date.parse(parts[1] + "T" + parts[2] + parts[3] + ":" + parts[4]) : NaN;

  function show() {
    var entry = ratings.load(study, scan);
    buttons.forEach(function (button) {
      button.setAttribute("aria-pressed", String(button.getAttribute("data-rating") === entry.rating));
    });
    comment.value = entry.comment || "";
    // Of another mask, maybe: of another threshold or model, or before it was corrected.
    if (entry.rating && Date.parse(entry.rated) < made) {
      state.textContent = "Rated before this page was made anew";
    }
    // The lines for the reader's hand, which are printed, say the same.
    document.querySelectorAll("[data-printed]").forEach(function (box) {
      box.textContent = box.getAttribute("data-printed") === entry.rating ? "\u2611" : "\u2610";
    });
    var said = find("printed-comment");
    if (said) { said.textContent = entry.comment || ""; }
  }

  function keep(change) {
    var entry = ratings.load(study, scan);
    Object.keys(change).forEach(function (name) { entry[name] = change[name]; });
    entry.rated = new Date().toISOString();
    state.textContent = ratings.save(study, scan, entry) ? "Saved in this browser" : "Not saved: this browser keeps nothing";
    show();
    lead();
  }

  function rate(value) {
    // The same again takes it back.
    keep({ rating: ratings.load(study, scan).rating === value ? "" : value });
  }

  function point(id, entry) {
    links[id] = entry ? root + entry[1] : "";
    find(id).hidden = !entry;
    if (entry) { find(id).href = links[id]; }
  }

  function lead() {
    var list = window.strokeLesionStudy;
    if (!list || list.study !== study) { return; }
    var names = list.scans.map(function (entry) { return entry[0]; }), here = names.indexOf(scan);
    point("review-previous", list.scans[here - 1]);
    point("review-next", here < 0 ? undefined : list.scans[here + 1]);
    var after = list.scans.slice(here + 1).concat(list.scans.slice(0, Math.max(here, 0)));
    var open = after.filter(function (entry) { return !ratings.load(study, entry[0]).rating; });
    point("review-unrated", open[0]);
    var rated = names.filter(function (name) { return ratings.load(study, name).rating; }).length;
    find("review-place").textContent = (here + 1) + " of " + names.length + ", " + rated + " rated";
  }

  buttons.forEach(function (button) {
    button.addEventListener("click", function () { rate(button.getAttribute("data-rating")); });
  });
  comment.addEventListener("change", function () { keep({ comment: comment.value.trim() }); });
  comment.addEventListener("keydown", function (event) {
    if (event.key === "Enter" || event.key === "Escape") { comment.blur(); }
  });
  document.addEventListener("keydown", function (event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target === comment) { return; }
    var ids = { p: "review-previous", n: "review-next", u: "review-unrated" };
    var number = ["1", "2", "3"].indexOf(event.key);
    if (number >= 0) { rate(buttons[number].getAttribute("data-rating")); }
    else if (event.key === "m") { comment.focus(); }
    else if (event.key === "g") { find("review-group").click(); }
    else if (links[ids[event.key]]) { location.href = links[ids[event.key]]; }
    else { return; }
    event.preventDefault();
  });
  window.addEventListener("storage", function () { show(); lead(); });
  window.addEventListener("pageshow", function () { show(); lead(); });
  find("review-rate").hidden = false;
  show();
  lead();
})();
