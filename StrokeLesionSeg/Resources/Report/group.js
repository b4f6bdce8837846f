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
