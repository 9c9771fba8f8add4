// Sorting by a click on a heading. The buttons are made here, so that a page without scripts shows no dead ones.
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const body = table.tBodies[0];
  const headings = [...table.tHead.rows[0].cells];
  const key = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? cell.textContent.trim() : parseFloat(cell.dataset.value);
  };
  const compare = (a, b) => {
    if (typeof a === "string") return a.localeCompare(b, "en", { numeric: true });
    if (Number.isNaN(a) || Number.isNaN(b)) return 0;
    return a - b;
  };
  const sort = (column, ascending) => {
    const unmeasured = (row) => Number(Number.isNaN(key(row, column)));
    const rows = [...body.rows].sort(
      (a, b) =>
        unmeasured(a) - unmeasured(b) || (ascending ? 1 : -1) * compare(key(a, column), key(b, column))
    );
    body.append(...rows);
    for (const heading of headings) heading.removeAttribute("aria-sort");
    headings[column].setAttribute("aria-sort", ascending ? "ascending" : "descending");
  };
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const now = heading.getAttribute("aria-sort");
      // More is better for accuracy and worse for every cost: the first click brings the good ones to the top.
      const first = heading.dataset.first !== "descending";
      sort(column, now === null ? first : now !== "ascending");
    });
  });
}
for (const hint of document.querySelectorAll("[data-needs-script]")) hint.hidden = false;
