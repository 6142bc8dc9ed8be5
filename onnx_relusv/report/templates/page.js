"use strict";
// Tables can be sorted, by pointer and keyboard, and what is folded is printed. Without this script
// the page says the same.
const scales = { "": 1, B: 1, k: 1e3, kB: 1e3, M: 1e6, MB: 1e6, G: 1e9, GB: 1e9, T: 1e12, TB: 1e12 };

function amount(text) {
  const found = /(-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?)(?:\s([kMGT]?B?)(?![A-Za-z]))?/.exec(text);
  return found ? Number(found[1].replaceAll(",", "")) * scales[found[2] || ""] : NaN;
}

function sorted(rows, column, numeric, ascending) {
  const keyed = rows.map((row) => {
    const text = row.cells[column].textContent.trim();
    return { row, text, number: amount(text), none: text === "-" || text === "" };
  });
  keyed.sort((one, other) => {
    // What has no value stays at the end, whichever way it goes.
    if (one.none || other.none) return one.none - other.none;
    const order = numeric && !Number.isNaN(one.number - other.number)
      ? one.number - other.number
      : one.text.localeCompare(other.text, undefined, { numeric: true });
    return ascending ? order : -order;
  });
  return keyed.map((one) => one.row);
}

for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  if (body.rows.length < 2) continue;
  table.classList.remove("plain");
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    const numeric = heading.classList.contains("number");
    button.addEventListener("click", () => {
      const now = heading.getAttribute("aria-sort");
      const ascending = now ? now === "descending" : !numeric;
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      body.append(...sorted([...body.rows], column, numeric, ascending));
    });
  });
}

let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  folded.forEach((one) => { one.open = true; });
});
addEventListener("afterprint", () => folded.forEach((one) => { one.open = false; }));
