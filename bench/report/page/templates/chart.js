// ---- The chart ----

const HEIGHT = 520, LEFT = 70, RIGHT = 24, TOP = 18, BOTTOM = 52;
const LOG_RATIO = 8;
let WIDTH = 920; // the chart's own units are as wide as pixels, down to a small phone
const chart = document.getElementById("chart");
const tip = document.getElementById("tip");
const CONTROLS = { x: "x-axis", y: "y-axis", data: "data-set", models: "models" };
const control = (name) => document.getElementById(name);
let chosenRow = null; // the label that a link names

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

// Runtimes have a shape each; colours stay those of the models.
const SHAPES = ["circle", "square", "triangle", "diamond", "down", "cross", "plus", "bar"];
const SIGNS = { circle: "●", square: "■", triangle: "▲", diamond: "◆", down: "▼", cross: "✕", plus: "✚", bar: "▬" };

function shapesOf(points) {
  const names = [...new Set(points.map((p) => p.runtime))].sort();
  return new Map(names.map((name, i) => [name, SHAPES[i % SHAPES.length]]));
}

function noteOf(points, every, shapes) {
  if (!points.length) return "No model has both values.";
  const what = every
    ? `${points.length} deployments, the accuracy that of the trained model. Colour: model; ` +
      `${[...shapes].map(([name, shape]) => `${SIGNS[shape]} ${name}`).join(", ")}. Hollow: without SE. `
    : `${points.length} models. Circle: CIFAR stem, square: ImageNet stem; filled: with SE. `;
  return `${what}Bars: 95 %, of an accuracy for its images alone. The dashed line is the Pareto front. Arrow keys go from point to point, Enter links to one.`;
}

function drawChart() {
  const xAxis = axisNamed(control("x-axis").value);
  const yAxis = axisNamed(control("y-axis").value);
  const set = control("data-set").value;
  const words = control("models").value.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = (p) => p.data === set && p.values[xAxis.name] && p.values[yAxis.name] &&
    words.every((word) => `${p.label} ${p.runtime || ""}`.toLowerCase().includes(word));
  const deployed = data.deployments.filter(fits);
  // Only where there is more than one way to run a model on these axes.
  const canEvery = deployed.length > data.points.filter(fits).length;
  control("every-label").hidden = !canEvery;
  const every = canEvery && control("every").checked;
  const points = every ? deployed : data.points.filter(fits);
  const shapes = every ? shapesOf(points) : new Map();
  chart.replaceChildren();
  hideTip();
  WIDTH = Math.max(320, chart.clientWidth);
  chart.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  control("chart-note").textContent = noteOf(points, every, shapes);
  if (!points.length) return;
  // An interval reaches at most half as far again as the outermost points, which it would hide.
  const spread = (axis) => {
    const values = points.map((p) => p.values[axis.name].value);
    const [low, high] = [Math.min(...values) / 1.5, Math.max(...values) * 1.5];
    return points.flatMap((p) => {
      const v = p.values[axis.name];
      return [v.value, ...[v.low, v.high].map((end) => clamp(finite(end, v.value), low, high))];
    });
  };
  const x = scaleOf(spread(xAxis), LEFT, WIDTH - RIGHT);
  const y = scaleOf(spread(yAxis), HEIGHT - BOTTOM, TOP);
  drawAxes(x, y, xAxis, yAxis);
  const placed = points
    .map((p) => placedPoint(p, x, y, p.values[xAxis.name], p.values[yAxis.name], shapes))
    .sort((a, b) => a.x - b.x || a.y - b.y);
  const front = drawFront(placed, xAxis, yAxis);
  for (const p of placed) drawPoint(p, xAxis, yAxis);
  drawLabels(placed, front, every);
  const first = chart.querySelector("g.point");
  if (first) first.setAttribute("tabindex", 0);
}

function placedPoint(p, x, y, vx, vy, shapes) {
  return {
    ...p, x: x.at(vx.value), y: y.at(vy.value),
    shape: shapes.get(p.runtime) || (p.stem === "cifar" ? "circle" : "square"),
    left: Math.max(LEFT, x.at(finite(vx.low, vx.value))),
    right: Math.min(WIDTH - RIGHT, x.at(finite(vx.high, vx.value))),
    top: Math.max(TOP, y.at(finite(vy.high, vy.value))),
    bottom: Math.min(HEIGHT - BOTTOM, y.at(finite(vy.low, vy.value))),
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
  if (front.length < 2) return front;
  const d = front.map((p, i) => `${i ? "L" : "M"}${p.x} ${p.y}`).join("");
  svg("path", { class: "front", d }, chart);
  return front;
}

function shown(value, axis) {
  const ends = value.low !== null && value.high !== null && value.high > value.low
    ? ` (95 %: ${short(value.low)} to ${short(value.high)})` : "";
  return `${axis.label}: ${short(value.value)}${ends}`;
}

function outline(shape, x, y) {
  const r = 6.5;
  const corners = {
    square: [[-5.5, -5.5], [5.5, -5.5], [5.5, 5.5], [-5.5, 5.5]], triangle: [[0, -r], [r, r - 1], [-r, r - 1]],
    diamond: [[0, -r - 1], [r + 1, 0], [0, r + 1], [-r - 1, 0]], down: [[0, r], [r, 1 - r], [-r, 1 - r]],
    bar: [[-7, -3], [7, -3], [7, 3], [-7, 3]],
    plus: [[-2, -r], [2, -r], [2, -2], [r, -2], [r, 2], [2, 2], [2, r], [-2, r], [-2, 2], [-r, 2], [-r, -2], [-2, -2]],
    cross: [[0, -3], [4, -7], [7, -4], [3, 0], [7, 4], [4, 7], [0, 3], [-4, 7], [-7, 4], [-3, 0], [-7, -4], [-4, -7]],
  }[shape];
  return `M${corners.map(([dx, dy]) => `${x + dx} ${y + dy}`).join("L")}Z`;
}

function drawPoint(p, xAxis, yAxis) {
  const [vx, vy] = [p.values[xAxis.name], p.values[yAxis.name]];
  const where = [...new Set([p.where[yAxis.name], p.where[xAxis.name]].filter(Boolean))];
  const text = [p.label, shown(vy, yAxis), shown(vx, xAxis), ...where.map((w) => `on ${w}`), p.note].join("\n");
  const marked = chosenRow === p.label ? " chosen" : "";
  const group = svg("g", { class: "point" + marked, tabindex: -1, role: "img", "aria-label": text.replaceAll("\n", "; ") }, chart);
  const bar = { stroke: p.colour, "stroke-width": 1.3 };
  svg("line", { ...bar, x1: p.left, x2: p.right, y1: p.y, y2: p.y }, group);
  svg("line", { ...bar, x1: p.x, x2: p.x, y1: p.top, y2: p.bottom }, group);
  svg("circle", { class: "ring", cx: p.x, cy: p.y, r: 11 }, group);
  const fill = p.attention ? { fill: p.colour, class: "mark" } : { class: "mark hollow" };
  if (p.shape === "circle") svg("circle", { ...fill, stroke: p.colour, cx: p.x, cy: p.y, r: 6 }, group);
  else svg("path", { ...fill, stroke: p.colour, d: outline(p.shape, p.x, p.y) }, group);
  group.addEventListener("mouseenter", () => showTip(text, p));
  group.addEventListener("mouseleave", hideTip);
  group.addEventListener("focus", () => showTip(text, p));
  group.addEventListener("blur", hideTip);
  group.addEventListener("click", () => choose(p.label));
}

function showTip(text, p) {
  tip.textContent = text;
  tip.hidden = false;
  const scale = chart.getBoundingClientRect().width / WIDTH;
  const right = p.x > WIDTH * 0.5;
  tip.style.left = right ? "auto" : `${p.x * scale + 14}px`;
  tip.style.right = right ? `${(WIDTH - p.x) * scale + 14}px` : "auto";
  tip.style.top = `${p.y * scale + 10}px`;
}

function hideTip() {
  tip.hidden = true;
}

// Labels take the first free place around their point; one without a place is in the tooltip only.
function drawLabels(points, front, every) {
  const taken = points.flatMap((p) => [
    [p.x - 8, p.y - 8, p.x + 8, p.y + 8],
    [p.x - 1, p.top, p.x + 1, p.bottom],
    [p.left, p.y - 1, p.right, p.y + 1],
  ]);
  for (let i = 1; i < front.length; i += 1) taken.push(...along(front[i - 1], front[i]));
  // Of many deployments only those on the front are named.
  for (const p of every ? front : points) {
    const node = svg("text", { class: "label", "aria-hidden": "true" }, chart);
    const name = every ? `${p.label}, ${p.runtime}` : p.label;
    node.textContent = name.length > 46 ? `${name.slice(0, 45)}…` : name;
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

// Small boxes along a line, which no label may cover.
function along(a, b) {
  const steps = Math.ceil(Math.hypot(b.x - a.x, b.y - a.y) / 6);
  return Array.from({ length: steps + 1 }, (_, i) => {
    const [x, y] = [a.x + ((b.x - a.x) * i) / steps, a.y + ((b.y - a.y) * i) / steps];
    return [x - 3, y - 3, x + 3, y + 3];
  });
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
  if (here < 0) return;
  if (event.key === "Enter") points[here].dispatchEvent(new Event("click"));
  if (!step) return;
  event.preventDefault();
  const next = points[(here + step + points.length) % points.length];
  points[here].setAttribute("tabindex", -1);
  next.setAttribute("tabindex", 0);
  next.focus();
}

// The address holds the choice, so that a link shows what its sender saw: #x=latency&y=top1.
function choose(label) {
  chosenRow = label;
  for (const point of chart.querySelectorAll("g.point"))
    point.classList.toggle("chosen", point.getAttribute("aria-label").startsWith(`${label};`));
  keepChoice();
}

function keepChoice() {
  const told = new URLSearchParams();
  for (const [key, id] of Object.entries(CONTROLS)) if (control(id).value) told.set(key, control(id).value);
  if (control("every").checked) told.set("every", "1");
  if (chosenRow) told.set("row", chosenRow);
  history.replaceState(null, "", `#${told}`);
}

function takeChoice() {
  if (!location.hash.includes("=")) return;
  const told = new URLSearchParams(location.hash.slice(1));
  for (const [key, id] of Object.entries(CONTROLS)) {
    const node = control(id), value = told.get(key);
    const known = !node.options || [...node.options].some((option) => option.value === value);
    if (value !== null && known) node.value = value;
  }
  control("every").checked = told.get("every") === "1";
  chosenRow = told.get("row");
}

if (chart) {
  chart.addEventListener("keydown", keys);
  const changed = () => { drawChart(); keepChoice(); };
  for (const id of ["x-axis", "y-axis", "data-set", "every"]) control(id).addEventListener("change", changed);
  control("models").addEventListener("input", changed);
  let width = chart.clientWidth;
  window.addEventListener("resize", () => {
    if (chart.clientWidth !== width) drawChart();
    width = chart.clientWidth;
  });
  window.addEventListener("hashchange", () => { takeChoice(); drawChart(); });
  takeChoice();
  drawChart();
}
