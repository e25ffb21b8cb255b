"use strict";
// Sorting and filtering of the table. Without this script the page shows everything, in the order of the results.
(() => {
  const table = document.getElementById("results");
  if (!table) return;
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const heads = Array.from(table.tHead.rows[0].cells);
  const filter = document.getElementById("filter");
  const by = document.getElementById("by");
  const count = document.getElementById("count");

  const value = (row, column) => row.cells[column].dataset.v;

  function compare(a, b, column, sign) {
    const x = value(a, column), y = value(b, column);
    if (x === "" || y === "") return (x === "") - (y === ""); // what is missing stays last
    if (heads[column].dataset.kind === "number") return sign * (Number(x) - Number(y));
    return sign * x.localeCompare(y);
  }

  function sort(column, sign) {
    heads.forEach((head, k) => head.setAttribute("aria-sort", k !== column ? "none" : sign > 0 ? "ascending" : "descending"));
    const order = rows.map((row, k) => [row, k]);
    order.sort((a, b) => compare(a[0], b[0], column, sign) || a[1] - b[1]);
    body.append(...order.map((entry) => entry[0]));
    by.value = String(column);
  }

  function show() {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.dataset.text;
      row.hidden = !words.every((word) => text.includes(word));
      shown += !row.hidden;
    }
    count.textContent = `${shown} of ${rows.length} rows`;
  }

  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const first = head.dataset.first === "descending" ? -1 : 1;
      const now = head.getAttribute("aria-sort");
      sort(column, now === "none" ? first : now === "ascending" ? -1 : 1);
    });
  });
  by.addEventListener("change", () => {
    const column = Number(by.value);
    sort(column, heads[column].dataset.first === "descending" ? -1 : 1);
  });
  filter.addEventListener("input", show);
  document.getElementById("all").addEventListener("change", (event) => {
    table.classList.toggle("all", event.target.checked);
  });
  document.getElementById("tools").hidden = false;
  show();
})();
