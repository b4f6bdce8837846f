"use strict";
// Sorts the table of scans by the column whose heading is pressed; pressed again, the other way.
(function () {
  var table = document.getElementById("scans");
  if (!table) { return; }
  var heads = Array.prototype.slice.call(table.tHead.rows[0].cells);
  var body = table.tBodies[0];

  function key(row, column, numeric) {
    var cell = row.cells[column];
    var text = cell.hasAttribute("data-key") ? cell.getAttribute("data-key") : cell.textContent;
    if (!numeric) { return text.toLowerCase(); }
    var value = parseFloat(text);
    return isNaN(value) ? null : value;
  }

  function sort(column, descending) {
    var numeric = heads[column].classList.contains("num");
    var rows = Array.prototype.map.call(body.rows, function (row, place) {
      return { row: row, key: key(row, column, numeric), place: place };
    });
    rows.sort(function (a, b) {
      // What is not known comes last, whichever way.
      if (a.key === null || b.key === null) {
        return (a.key === null) - (b.key === null) || a.place - b.place;
      }
      var order = numeric ? a.key - b.key : a.key.localeCompare(b.key, "en", { numeric: true });
      return (descending ? -order : order) || a.place - b.place;
    });
    var fragment = document.createDocumentFragment();
    rows.forEach(function (entry) { fragment.appendChild(entry.row); });
    body.appendChild(fragment);
    heads.forEach(function (head, n) {
      head.setAttribute("aria-sort", n !== column ? "none" : descending ? "descending" : "ascending");
    });
  }

  heads.forEach(function (head, column) {
    head.querySelector("button").addEventListener("click", function () {
      // Numbers are mostly wanted largest first.
      var before = head.getAttribute("aria-sort");
      var numeric = head.classList.contains("num");
      sort(column, before === "none" ? numeric : before === "ascending");
    });
  });
})();

// Shows the groups of the column that is chosen.
(function () {
  var choice = document.getElementById("by-column");
  if (!choice) { return; }
  function show() {
    document.querySelectorAll("[data-by]").forEach(function (part) {
      part.hidden = part.getAttribute("data-by") !== choice.value;
    });
  }
  choice.addEventListener("change", show);
  show();
})();

// Tells how far the ratings are; saves them as a table, and takes one back.
(function () {
  var part = document.getElementById("ratings");
  if (!part) { return; }
  var study = part.getAttribute("data-study"), ratings = strokeLesionRatings;
  var list = window.strokeLesionStudy;
  var scans = list && list.study === study ? list.scans : [];
  var names = scans.map(function (entry) { return entry[0]; });
  var cells = Array.prototype.slice.call(document.querySelectorAll("[data-rated]"));
  var note = document.getElementById("ratings-note"), start = document.getElementById("ratings-start");
  var words = { accepted: "accepted", correct: "to be corrected", rejected: "rejected" };

  function show() {
    var counts = { accepted: 0, correct: 0, rejected: 0 }, next = null;
    scans.forEach(function (entry) {
      var rating = ratings.load(study, entry[0]).rating;
      if (rating in counts) { counts[rating] += 1; } else if (!next) { next = entry; }
    });
    var done = counts.accepted + counts.correct + counts.rejected;
    document.getElementById("ratings-state").textContent = scans.length
      ? done + " of " + scans.length + " scans are rated: " + counts.accepted + " accepted, " +
        counts.correct + " to be corrected, " + counts.rejected + " rejected."
      : "No scan of this study has a page to rate it on.";
    start.hidden = !next;
    if (next) { start.href = next[1]; }
    cells.forEach(function (cell) {
      var entry = ratings.load(study, cell.getAttribute("data-rated"));
      cell.textContent = words[entry.rating] || "";
      cell.title = entry.comment || "";
      cell.className = { accepted: "done", rejected: "failed" }[entry.rating] || "";
    });
  }

  document.getElementById("ratings-save").addEventListener("click", function () {
    ratings.offer(study, names);
  });
  document.getElementById("ratings-file").addEventListener("change", function (event) {
    var file = event.target.files[0];
    if (!file) { return; }
    file.text().then(function (text) {
      note.textContent = ratings.take(study, names, text);
      note.hidden = false;
      event.target.value = "";
      show();
    });
  });
  window.addEventListener("storage", show);
  window.addEventListener("pageshow", show);
  show();
})();
