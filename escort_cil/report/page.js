"use strict";
// A click (or Enter, or Space) on a column's heading sorts its table; a second one reverses the order.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  const original = [...table.tBodies[0].rows];
  const value = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.sort === undefined ? cell.textContent.trim() : Number(cell.dataset.sort);
  };
  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), "en", { numeric: true });
  };
  headings.forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => {
      const order = heading.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
      for (const other of headings) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", order);
      const numeric = original.some((row) => typeof value(row, column) === "number");
      const rows = original.map((row) => [value(row, column), row]);
      // In a column of numbers, cells without one (a dash) come last in both orders.
      const missing = ([v]) => numeric && typeof v !== "number";
      rows.sort((a, b) => {
        if (missing(a) || missing(b)) return missing(a) - missing(b);
        return order === "ascending" ? compare(a[0], b[0]) : compare(b[0], a[0]);
      });
      table.tBodies[0].append(...rows.map(([, row]) => row));
    });
  });
}
// All runs at once, to read or to print: paper shows what is open.
for (const [id, open] of [["open-all", true], ["close-all", false]]) {
  document.getElementById(id)?.addEventListener("click", () => {
    for (const details of document.querySelectorAll("details.run")) details.open = open;
  });
}
let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not(.run, [open])")];
  for (const details of closed) details.open = true;
});
addEventListener("afterprint", () => {
  for (const details of closed) details.open = false;
});
