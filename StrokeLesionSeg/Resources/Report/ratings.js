"use strict";
// The ratings of a study. This browser keeps them, under the study's identity and the scan's name.
var strokeLesionRatings = (function () {
  var VALUES = ["accepted", "correct", "rejected"];
  var COLUMNS = ["study", "scan", "rating", "comment", "rated"];

  function key(study, scan) { return "stroke-lesion-seg/" + study + "/" + scan; }

  function load(study, scan) {
    try {
      var kept = JSON.parse(localStorage.getItem(key(study, scan)));
      return kept && typeof kept === "object" ? kept : {};
    } catch (error) { return {}; }
  }

  // False if the browser keeps nothing. A rating that was taken back is kept as none, with its time:
  // a table that was saved before would bring it back.
  function save(study, scan, entry) {
    try {
      localStorage.setItem(key(study, scan), JSON.stringify(entry));
      return true;
    } catch (error) { return false; }
  }

  // On one line, also for readers to whom more than a line feed ends it. What begins with a quote is
  // quoted, or they would take what follows for a quoted cell.
  function cell(text) {
    text = String(text || "").replace(/[\u0000-\u001f\u0085\u2028\u2029]+/g, " ");
    return text.charAt(0) === '"' ? '"' + text.replace(/"/g, '""') + '"' : text;
  }

  function table(study, scans) {
    var lines = [COLUMNS.join("\t")];
    scans.forEach(function (scan) {
      var entry = load(study, scan);
      if (entry.rating || entry.comment || entry.rated) {
        lines.push([study, scan, entry.rating || "n/a", entry.comment, entry.rated].map(cell).join("\t"));
      }
    });
    return lines.join("\n") + "\n";
  }

  // Takes a table over; what was rated later counts. Returns a sentence for people.
  function take(study, scans, text) {
    var lines = text.replace(/^\uFEFF/, "").split(/\r?\n/).filter(function (line) { return line.trim(); });
    var head = (lines.shift() || "").split("\t").map(plain);
    var at = COLUMNS.map(function (name) { return head.indexOf(name); });
    if (at.slice(0, 4).indexOf(-1) >= 0) {
      return "This is no table of ratings (its first line has to name study, scan, rating and comment); nothing was changed.";
    }
    var rows = lines.map(function (line) {
      var cells = line.split("\t").map(plain), row = {};
      COLUMNS.forEach(function (name, n) { row[name] = at[n] < 0 ? "" : cells[at[n]] || ""; });
      return row;
    });
    var foreign = rows.filter(function (row) { return row.study !== study; });
    if (foreign.length) {
      return "These ratings are of another study (" + foreign[0].study + ", not " + study + "); nothing was changed.";
    }
    var known = {}, taken = 0, back = 0, older = 0, unknown = 0, senseless = 0, lost = false;
    scans.forEach(function (scan) { known[scan] = true; });
    rows.forEach(function (row) {
      var rating = row.rating === "n/a" ? "" : row.rating;
      if (!Object.prototype.hasOwnProperty.call(known, row.scan)) { unknown += 1; return; }
      if (rating && VALUES.indexOf(rating) < 0) { senseless += 1; return; }
      var kept = load(study, row.scan);
      if (kept.rated && kept.rated > row.rated) { older += 1; return; }
      if (rating || row.comment) { taken += 1; } else { back += 1; }
      lost = !save(study, row.scan, { rating: rating, comment: row.comment, rated: row.rated }) || lost;
    });
    var words = [taken === 1 ? "1 rating was loaded" : taken + " ratings were loaded"];
    if (back) { words.push(back + " taken back"); }
    if (older) { words.push(older + " older than those here left out"); }
    if (unknown) { words.push(unknown + " of scans that this study does not have left out"); }
    if (senseless) { words.push(senseless + " with another rating than " + VALUES.join(", ") + " left out"); }
    return words.join("; ") + "." + (lost ? " This browser keeps nothing: the ratings are lost when the page is closed." : "");
  }

  // Spreadsheets put cells with quotes in quotes.
  function plain(text) {
    text = text.trim();
    return /^".*"$/.test(text) ? text.slice(1, -1).replace(/""/g, '"') : text;
  }

  function offer(study, scans) {
    var link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([table(study, scans)], { type: "text/tab-separated-values" }));
    link.download = "ratings_study-" + study + ".tsv";
    document.body.appendChild(link);
    link.click();
    link.remove();
    setTimeout(function () { URL.revokeObjectURL(link.href); }, 10000);
  }

  return { load: load, save: save, take: take, offer: offer, table: table };
})();
