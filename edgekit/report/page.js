"use strict";

const key = (row, index) => {
  const cell = row.cells[index];
  return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value);
};

// Figures before words, and what says nothing last, whichever way the column is sorted.
const rank = (value) => (typeof value === "number" ? 0 : value === "–" || value === "" ? 2 : 1);

const compare = (one, other, down) => {
  if (rank(one) !== rank(other)) return rank(one) - rank(other);
  const order = typeof one === "number" ? one - other : one.localeCompare(other, "en", { numeric: true });
  return down ? -order : order;
};

const sort = (heading) => {
  const down = heading.ariaSort === "ascending";
  for (const other of heading.parentElement.cells) other.ariaSort = "none";
  heading.ariaSort = down ? "descending" : "ascending";
  const body = heading.closest("table").tBodies[0];
  const keyed = [...body.rows].map((row) => [key(row, heading.cellIndex), row]);
  keyed.sort((one, other) => compare(one[0], other[0], down));
  body.append(...keyed.map((pair) => pair[1]));
};

document.addEventListener("click", (event) => {
  const heading = event.target.closest("thead th");
  if (heading) sort(heading);
});

const tip = document.getElementById("tip");

document.addEventListener("pointerover", (event) => {
  const mark = event.target.closest("svg [role='graphics-symbol'][aria-label]:not(.role-axis, .role-legend)");
  tip.hidden = !mark;
  if (!mark) return;
  tip.textContent = mark.getAttribute("aria-label");
  const box = mark.getBoundingClientRect();
  const left = Math.min(box.left + box.width / 2, window.innerWidth - tip.offsetWidth - 8);
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${Math.max(8, box.top - tip.offsetHeight - 8)}px`;
});

document.addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });
