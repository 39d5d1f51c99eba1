"use strict";
// Tables become sortable and filterable, and the points become a chart. Without scripts the page
// still shows every table.

const data = JSON.parse(document.getElementById("data").textContent);

// Theme: the system's until the button is pressed.
const theme = document.getElementById("theme");
const prefersDark = window.matchMedia("(prefers-color-scheme: dark)").matches;
theme.setAttribute("aria-pressed", String(prefersDark));
theme.addEventListener("click", () => {
  const dark = theme.getAttribute("aria-pressed") !== "true";
  theme.setAttribute("aria-pressed", String(dark));
  document.documentElement.dataset.theme = dark ? "dark" : "light";
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

for (const table of document.querySelectorAll("table")) {
  sortable(table);
  const input = document.getElementById(`${table.id}-filter`);
  if (input) filterable(table, input, document.getElementById(`${table.id}-shown`));
}

// ---- The chart ----

const HEIGHT = 520, LEFT = 70, RIGHT = 24, TOP = 18, BOTTOM = 52;
const LOG_RATIO = 8;
let WIDTH = 920; // the chart's own units are as wide as pixels, down to a small phone
const chart = document.getElementById("chart");
const tip = document.getElementById("tip");

function svg(name, attributes, parent) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (parent) parent.append(node);
  return node;
}

function short(value) {
  const size = Math.abs(value);
  if (size >= 100) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(3)));
}

function scaleOf(values, from, to) {
  let low = Math.min(...values), high = Math.max(...values);
  const log = low > 0 && high / low >= LOG_RATIO;
  const turn = log ? Math.log10 : (v) => v;
  const pad = (turn(high) - turn(low)) * 0.12 || Math.abs(turn(high)) * 0.02 || 1;
  const [a, b] = [turn(low) - pad, turn(high) + pad];
  const at = (v) => from + ((turn(v) - a) / (b - a)) * (to - from);
  return { at, ticks: log ? logTicks(10 ** a, 10 ** b) : linearTicks(a, b), log };
}

function linearTicks(low, high) {
  const raw = (high - low) / 6, base = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((s) => s * base).find((s) => s >= raw);
  const ticks = [];
  for (let k = Math.ceil(low / step); k * step <= high; k += 1) ticks.push(k * step);
  return ticks;
}

function logTicks(low, high) {
  const steps = high / low > 3000 ? [1] : [1, 2, 5];
  const ticks = [];
  for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e += 1)
    for (const s of steps) if (s * 10 ** e >= low && s * 10 ** e <= high) ticks.push(s * 10 ** e);
  return ticks;
}

function axisNamed(name) {
  return data.axes.find((axis) => axis.name === name);
}

function finite(value, fallback) {
  return value === null || value === undefined ? fallback : value;
}

function drawChart() {
  const xAxis = axisNamed(document.getElementById("x-axis").value);
  const yAxis = axisNamed(document.getElementById("y-axis").value);
  const set = document.getElementById("data-set").value;
  const words = document.getElementById("models").value.toLowerCase().split(/\s+/).filter(Boolean);
  const points = data.points.filter(
    (p) => p.data === set && p.values[xAxis.name] && p.values[yAxis.name] &&
      words.every((word) => p.label.toLowerCase().includes(word)));
  chart.replaceChildren();
  hideTip();
  WIDTH = Math.min(920, Math.max(320, chart.clientWidth));
  chart.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  document.getElementById("chart-note").textContent = points.length
    ? `${points.length} models. Circle: CIFAR stem, square: ImageNet stem; filled: with SE. ` +
      "The dashed line is the Pareto front. Arrow keys go from point to point."
    : "No model has both values.";
  if (!points.length) return;
  const spread = (axis) => points.flatMap((p) => {
    const v = p.values[axis.name];
    return [v.value, finite(v.low, v.value), finite(v.high, v.value)];
  });
  const x = scaleOf(spread(xAxis), LEFT, WIDTH - RIGHT);
  const y = scaleOf(spread(yAxis), HEIGHT - BOTTOM, TOP);
  drawAxes(x, y, xAxis, yAxis);
  const placed = points
    .map((p) => placedPoint(p, x, y, p.values[xAxis.name], p.values[yAxis.name]))
    .sort((a, b) => a.x - b.x || a.y - b.y);
  drawFront(placed, xAxis, yAxis);
  for (const p of placed) drawPoint(p, xAxis, yAxis);
  drawLabels(placed);
}

function placedPoint(p, x, y, vx, vy) {
  return {
    ...p, x: x.at(vx.value), y: y.at(vy.value),
    left: x.at(finite(vx.low, vx.value)), right: x.at(finite(vx.high, vx.value)),
    top: y.at(finite(vy.high, vy.value)), bottom: y.at(finite(vy.low, vy.value)),
  };
}

function drawAxes(x, y, xAxis, yAxis) {
  const every = Math.ceil(x.ticks.length / ((WIDTH - LEFT - RIGHT) / 52));
  for (const tick of x.ticks.filter((_, i) => i % every === 0)) {
    svg("line", { class: "grid", x1: x.at(tick), x2: x.at(tick), y1: TOP, y2: HEIGHT - BOTTOM }, chart);
    svg("text", { x: x.at(tick), y: HEIGHT - BOTTOM + 18, "text-anchor": "middle" }, chart)
      .textContent = short(tick);
  }
  for (const tick of y.ticks) {
    svg("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y.at(tick), y2: y.at(tick) }, chart);
    svg("text", { x: LEFT - 8, y: y.at(tick) + 4, "text-anchor": "end" }, chart)
      .textContent = short(tick);
  }
  svg("path", { class: "axis", fill: "none", d: `M${LEFT} ${TOP}V${HEIGHT - BOTTOM}H${WIDTH - RIGHT}` }, chart);
  const title = svg("text", { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 10, "text-anchor": "middle" }, chart);
  title.textContent = xAxis.label + (x.log ? ", logarithmic" : "");
  if (title.getComputedTextLength() > WIDTH - 12)
    for (const [name, value] of [["textLength", WIDTH - 12], ["lengthAdjust", "spacingAndGlyphs"], ["x", WIDTH / 2]])
      title.setAttribute(name, value);
  svg("text", { transform: `translate(16 ${(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)`, "text-anchor": "middle" }, chart)
    .textContent = yAxis.label + (y.log ? ", logarithmic" : "");
}

// A point is on the front when no other is at least as good on both axes and better on one.
function onFront(p, points, xAxis, yAxis) {
  const gain = (q, axis) => (axis.less ? -1 : 1) * (q.values[axis.name].value - p.values[axis.name].value);
  return !points.some((q) => {
    const [dx, dy] = [gain(q, xAxis), gain(q, yAxis)];
    return dx >= 0 && dy >= 0 && (dx > 0 || dy > 0);
  });
}

function drawFront(points, xAxis, yAxis) {
  const front = points.filter((p) => onFront(p, points, xAxis, yAxis));
  if (front.length < 2) return;
  const d = front.map((p, i) => `${i ? "L" : "M"}${p.x} ${p.y}`).join("");
  svg("path", { class: "front", d }, chart);
}

function shown(value, axis) {
  const ends = value.low !== null && value.high !== null && value.high > value.low
    ? ` (${short(value.low)} to ${short(value.high)})` : "";
  return `${axis.label}: ${short(value.value)}${ends}`;
}

function drawPoint(p, xAxis, yAxis) {
  const [vx, vy] = [p.values[xAxis.name], p.values[yAxis.name]];
  const text = `${p.label}\n${shown(vy, yAxis)}\n${shown(vx, xAxis)}\n${p.note}`;
  const group = svg("g", { class: "point", tabindex: 0, role: "img", "aria-label": text.replaceAll("\n", "; ") }, chart);
  const bar = { stroke: p.colour, "stroke-width": 1.3 };
  svg("line", { ...bar, x1: p.left, x2: p.right, y1: p.y, y2: p.y }, group);
  svg("line", { ...bar, x1: p.x, x2: p.x, y1: p.top, y2: p.bottom }, group);
  svg("circle", { class: "ring", cx: p.x, cy: p.y, r: 11 }, group);
  const fill = p.se ? { fill: p.colour, class: "mark" } : { class: "mark hollow" };
  if (p.stem === "cifar") svg("circle", { ...fill, stroke: p.colour, cx: p.x, cy: p.y, r: 6 }, group);
  else svg("rect", { ...fill, stroke: p.colour, x: p.x - 5.5, y: p.y - 5.5, width: 11, height: 11 }, group);
  group.addEventListener("mouseenter", () => showTip(text, p));
  group.addEventListener("mouseleave", hideTip);
  group.addEventListener("focus", () => showTip(text, p));
  group.addEventListener("blur", hideTip);
}

function showTip(text, p) {
  tip.textContent = text;
  tip.hidden = false;
  const scale = chart.getBoundingClientRect().width / WIDTH;
  const right = p.x > WIDTH * 0.62;
  tip.style.left = right ? "auto" : `${p.x * scale + 14}px`;
  tip.style.right = right ? `${(WIDTH - p.x) * scale + 14}px` : "auto";
  tip.style.top = `${p.y * scale + 10}px`;
}

function hideTip() {
  tip.hidden = true;
}

// Labels take the first free place around their point; one without a place is in the tooltip only.
function drawLabels(points) {
  const taken = points.flatMap((p) => [
    [p.x - 8, p.y - 8, p.x + 8, p.y + 8],
    [p.x - 1, p.top, p.x + 1, p.bottom],
    [p.left, p.y - 1, p.right, p.y + 1],
  ]);
  for (const p of points) {
    const node = svg("text", { class: "label", "aria-hidden": "true" }, chart);
    node.textContent = p.label.length > 40 ? `${p.label.slice(0, 39)}…` : p.label;
    const width = node.getComputedTextLength(), height = 14;
    const box = candidates(p, width, height).find((b) =>
      b[0] >= LEFT && b[2] <= WIDTH - 2 && b[1] >= 2 && b[3] <= HEIGHT - BOTTOM &&
      !taken.some((t) => b[0] < t[2] && b[2] > t[0] && b[1] < t[3] && b[3] > t[1]));
    if (!box) { node.remove(); continue; }
    taken.push(box);
    node.setAttribute("x", box[0]);
    node.setAttribute("y", box[3] - 3);
    const [nx, ny] = [clamp(p.x, box[0], box[2]), clamp(p.y, box[1], box[3])];
    if (Math.hypot(nx - p.x, ny - p.y) > 24)
      svg("line", { class: "leader", stroke: p.colour, x1: p.x, y1: p.y, x2: nx, y2: ny }, chart);
  }
}

function clamp(value, low, high) {
  return Math.min(Math.max(value, low), high);
}

function candidates(p, width, height) {
  const beside = [10, 18].flatMap((gap) => around(p, gap, width, height));
  const beyondBars = [p.top - height - 4, p.bottom + 4].flatMap((top) =>
    [p.x - width / 2, p.x - width + 8, p.x - 8].map((left) => [left, top, left + width, top + height]));
  const apart = [28, 40, 56, 76, 100, 130].flatMap((gap) => around(p, gap, width, height));
  return [...beside, ...beyondBars, ...apart];
}

function around(p, gap, width, height) {
  return [[1, 0], [-1, 0], [0, -1], [0, 1], [1, -1], [1, 1], [-1, -1], [-1, 1]].map(([dx, dy]) => {
    const left = dx > 0 ? p.x + gap : dx < 0 ? p.x - gap - width : p.x - width / 2;
    const top = dy > 0 ? p.y + gap * 0.9 : dy < 0 ? p.y - gap * 0.9 - height : p.y - height / 2;
    return [left, top, left + width, top + height];
  });
}

function keys(event) {
  const points = [...chart.querySelectorAll("g.point")];
  const here = points.indexOf(document.activeElement);
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (event.key === "Escape") hideTip();
  if (here < 0 || !step) return;
  event.preventDefault();
  points[(here + step + points.length) % points.length].focus();
}

if (chart) {
  chart.addEventListener("keydown", keys);
  for (const id of ["x-axis", "y-axis", "data-set"])
    document.getElementById(id).addEventListener("change", drawChart);
  document.getElementById("models").addEventListener("input", drawChart);
  let width = chart.clientWidth;
  window.addEventListener("resize", () => {
    if (chart.clientWidth !== width) drawChart();
    width = chart.clientWidth;
  });
  drawChart();
}
