"use strict";
// Tables sort by a click on a heading; a row with an answer opens by a click on it; a field filters the rows.
for (const table of document.querySelectorAll("table.sorts")) {
  table.tHead.querySelectorAll("th").forEach((heading, column) => {
    const button = heading.querySelector("button");
    if (!button) return;
    button.addEventListener("click", () => {
      const down = heading.getAttribute("aria-sort") === "ascending";
      table.querySelectorAll("th[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (body) => {
        const cell = body.rows[0].cells[column];
        const value = cell.dataset.v ?? cell.textContent.trim();
        return value === "" ? null : isNaN(value) ? value : Number(value);
      };
      const order = (a, b) => {
        const [x, y] = [key(a), key(b)];
        if (x === null || y === null) return (x === null) - (y === null);
        const compared = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y));
        return down ? -compared : compared;
      };
      table.append(...[...table.tBodies].sort(order));
    });
  });
}
for (const button of document.querySelectorAll("button.opens")) {
  button.closest("tr").addEventListener("click", () => {
    const answer = button.closest("tbody").rows[1];
    answer.hidden = !answer.hidden;
    button.setAttribute("aria-expanded", String(!answer.hidden));
  });
}
for (const field of document.querySelectorAll("input.filters")) {
  const bodies = [...document.getElementById(field.dataset.table).tBodies];
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/);
    for (const body of bodies) {
      const text = body.textContent.toLowerCase();
      body.hidden = !words.every((word) => text.includes(word));
    }
  });
}
