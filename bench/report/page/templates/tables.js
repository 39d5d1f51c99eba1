"use strict";
// Tables become sortable and filterable, and the points become a chart. Without scripts the page
// still shows every table.

const data = JSON.parse(document.getElementById("data").textContent);

// Theme: the system's until the button is pressed; the button says what it will do.
const theme = document.getElementById("theme");
let dark = window.matchMedia("(prefers-color-scheme: dark)").matches;
const nameTheme = () => { theme.textContent = dark ? "Light colours" : "Dark colours"; };
nameTheme();
theme.addEventListener("click", () => {
  dark = !dark;
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  nameTheme();
});

// The first number in a cell: "×1.03 (1.02–1.05)" is 1.03, "1,297.83" is 1297.83, "–" is none.
function numberIn(text) {
  const found = /[-−+×<>≥≤\s]*([\d,]*\.?\d+(?:e[-+]?\d+)?)/.exec(text);
  if (!found || !/^[-−+×<>≥≤\s\d]/.test(text)) return null;
  const value = Number(found[1].replaceAll(",", ""));
  return /^[\s<>]*[-−]/.test(text) ? -value : value;
}

function compareCells(a, b) {
  const [x, y] = [numberIn(a), numberIn(b)];
  if (x !== null && y !== null) return x - y || a.localeCompare(b);
  if (x !== null || y !== null) return x === null ? 1 : -1;
  return a.localeCompare(b);
}

function sortable(table) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = head.querySelector("button");
    button.addEventListener("click", () => {
      const next = { none: "ascending", ascending: "descending", descending: "none" };
      const order = next[head.getAttribute("aria-sort")];
      for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", order);
      const sign = order === "descending" ? -1 : 1;
      const rows = [...original];
      if (order !== "none") {
        const text = (row) => row.cells[column].textContent;
        rows.sort((a, b) => sign * compareCells(text(a), text(b)));
      }
      body.append(...rows);
    });
  });
}

function filterable(table, input, output) {
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of table.tBodies[0].rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += row.hidden ? 0 : 1;
    }
    output.textContent = `${shown} of ${table.tBodies[0].rows.length} rows`;
  });
}

// Of a table's heads one is reached by Tab, the others from it by the arrow keys.
function walkable(buttons) {
  buttons.forEach((button, i) => { button.tabIndex = i ? -1 : 0; });
  buttons.forEach((button) => button.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const seen = buttons.filter((b) => b.offsetParent);
    const next = seen[(seen.indexOf(button) + step + seen.length) % seen.length];
    button.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }));
}

function choosable(table, chooser) {
  const hidden = new Set(table.dataset.extra.split(",").map(Number));
  const show = () => {
    for (const row of table.rows)
      [...row.cells].forEach((cell, i) => { cell.classList.toggle("off", hidden.has(i)); });
    chooser.querySelector("summary").textContent =
      `Columns: ${table.rows[0].cells.length - hidden.size} of ${table.rows[0].cells.length}`;
    scrollable();
  };
  chooser.hidden = false;
  chooser.addEventListener("change", (event) => {
    const column = Number(event.target.value);
    if (event.target.checked) hidden.delete(column); else hidden.add(column);
    show();
  });
  show();
}

// Only what scrolls needs to be reached by Tab.
function scrollable() {
  for (const part of document.querySelectorAll(".scroll")) {
    const scrolls = part.scrollWidth > part.clientWidth + 1 || part.scrollHeight > part.clientHeight + 1;
    if (scrolls) part.tabIndex = 0; else part.removeAttribute("tabindex");
  }
}

for (const table of document.querySelectorAll("table")) {
  sortable(table);
  walkable([...table.tHead.querySelectorAll("button")]);
  const input = document.getElementById(`${table.id}-filter`);
  if (input) filterable(table, input, document.getElementById(`${table.id}-shown`));
  const chooser = table.closest(".scroll").previousElementSibling?.querySelector(".columns");
  if (chooser && table.dataset.extra) choosable(table, chooser);
}
scrollable();
window.addEventListener("resize", scrollable);
for (const part of document.querySelectorAll("details.part"))
  part.addEventListener("toggle", scrollable);

// A link to a section opens it.
function openTarget() {
  const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
  if (target && target.tagName === "DETAILS") target.open = true;
}
window.addEventListener("hashchange", openTarget);
openTarget();

