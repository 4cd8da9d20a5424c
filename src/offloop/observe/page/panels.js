// Everything but the two canvases: numbers, histograms, tables, and the box beside the pointer.

function element(tag, content, className) {
  const made = document.createElement(tag);
  if (content != null) made.textContent = content;
  if (className) made.className = className;
  return made;
}

function drawing(tag, attributes, content) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (content != null) made.textContent = content;
  return made;
}

const tip = document.getElementById("tip");

function showTip(event, title, lines) {
  tip.replaceChildren(element("b", title), lines.filter(Boolean).join("\n"));
  tip.hidden = false;
  const left = event.clientX + 16, top = event.clientY + 16;
  tip.style.left = `${Math.max(4, Math.min(left, innerWidth - tip.offsetWidth - 8))}px`;
  tip.style.top = `${top + tip.offsetHeight > innerHeight ? event.clientY - tip.offsetHeight - 10 : top}px`;
}

const hideTip = () => { tip.hidden = true; };

function taskTip(event, at) {
  const attempt = ATTEMPT[at] > 1 ? `, attempt ${ATTEMPT[at]}` : "";
  showTip(event, text(TEXT[at]) || text(NAME[at]), [
    `${text(OUTCOME[at])}${ERROR[at] < 0 ? "" : `: ${text(ERROR[at])}`}`,
    `task ${ID[at]} on worker ${WORKER[at]}${attempt}`,
    `ran ${duration(TOOK[at])} from ${duration(START[at])}`,
    WAIT[at] == null ? "" : `waited ${duration(WAIT[at])}`,
    SENT[at] == null ? "" : `${bytes(SENT[at])} there, ${bytes(RECEIVED[at])} back`,
  ]);
}

function workerTip(event, row) {
  const [kind, lane, at, took, worker, more] = row;
  showTip(event, `worker ${worker} ${kind}`, [`at ${duration(at)}`, took ? `took ${duration(took)}` : "", more]);
}

// -- numbers ------------------------------------------------------------------

function outcomes() {
  const found = new Map();
  for (let at = 0; at < count; at++) found.set(OUTCOME[at], (found.get(OUTCOME[at]) || 0) + 1);
  for (const row of data.unrun) found.set(row[5], (found.get(row[5]) || 0) + 1);
  return new Map([...found].map(([word, many]) => [text(word), many]));
}

function showNumbers() {
  const numbers = document.getElementById("numbers");
  const add = (value, label, bad) => {
    const box = element("div", null, bad ? "bad" : "");
    box.append(element("b", value), element("span", label));
    numbers.append(box);
  };
  const span = end - begin, kinds = (kind) => data.workers.filter((row) => row[0] === kind).length;
  const busy = TOOK.reduce((sum, took) => sum + took, 0);
  add(whole(count + data.unrun.length), "tasks");
  add(duration(span), "in all");
  add(`${whole(+(count / (span / 1e6)).toPrecision(3))}/s`, "tasks a second");
  add(`${((100 * busy) / (span * capacity)).toFixed(0)} %`, "of the workers busy");
  for (const [word, many] of outcomes()) {
    if (word !== "succeeded") add(whole(many), word.replace("_", " "), BAD.has(word));
  }
  for (const kind of ["crashed", "killed", "restarted", "not started"]) {
    if (kinds(kind)) add(whole(kinds(kind)), `workers ${kind}`, kind !== "restarted");
  }
  if (data.footer.dropped) add(whole(data.footer.dropped), "events not recorded", true);
  const at = data.header.time ? new Date(data.header.time * 1000).toLocaleString() : "";
  const whether = "at" in data.footer ? "" : "cut off: its program ended before it did";
  const version = data.header.offloop ? `offloop ${data.header.offloop}` : "";
  document.getElementById("about").textContent = [at, version, whether].filter(Boolean).join(" · ");
}

// -- histograms -----------------------------------------------------------------

// Four bins for each power of ten, of what is above a tenth of a microsecond.
function bins(values) {
  const found = new Map();
  for (const value of values) {
    const bin = Math.floor(4 * Math.log10(Math.max(value, 0.1)));
    found.set(bin, (found.get(bin) || 0) + 1);
  }
  const keys = [...found.keys()], first = Math.min(...keys), last = Math.max(...keys);
  return Array.from({ length: last - first + 1 }, (_, at) => [first + at, found.get(first + at) || 0]);
}

function histogram(box, values) {
  if (!values.length) return box.replaceChildren(element("div", "none", "none"));
  const sorted = Float64Array.from(values).sort(), found = bins(values);
  const width = 560, height = 190, floor = height - 34, left = 6, top = 22;
  const step = (width - 2 * left) / found.length, most = Math.max(...found.map(([, many]) => many));
  const svg = drawing("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  found.forEach(([bin, many], at) => {
    const tall = many && Math.max(2, ((floor - top) * many) / most), x = left + at * step;
    const hit = { x, y: top, width: step, height: floor - top, class: "hit" };
    svg.append(drawing("rect", { x: x + 0.5, y: floor - tall, width: Math.max(1, step - 1), height: tall, class: "bin" }));
    const over = drawing("rect", hit);
    const range = `${duration(10 ** (bin / 4))} to ${duration(10 ** ((bin + 1) / 4))}`;
    over.addEventListener("mousemove", (event) => showTip(event, range, [`${whole(many)} tasks`]));
    over.addEventListener("mouseleave", hideTip);
    svg.append(over);
    if (bin % 4 === 0 && x < width - 40) svg.append(drawing("text", { x, y: floor + 14 }, duration(10 ** (bin / 4))));
  });
  svg.append(drawing("line", { x1: left, x2: width - left, y1: floor, y2: floor }));
  const quantile = (q) => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))];
  const words = [0.5, 0.9, 0.99].map((q) => `p${q * 100} ${duration(quantile(q))}`);
  svg.append(drawing("text", { x: left, y: 12 }, [...words, `max ${duration(sorted[sorted.length - 1])}`].join("   ")));
  box.replaceChildren(svg);
}

// -- tables -----------------------------------------------------------------------

// Columns: [title, cell text of a row, class]. `go` is called with a row that is clicked.
function table(id, columns, rows, go) {
  const box = document.getElementById(id);
  if (!rows.length) return box.replaceWith(element("div", "nothing", "none"));
  const head = element("tr");
  for (const [title, , kind] of columns) head.append(element("th", title, kind));
  const lines = rows.map((row) => {
    const line = element("tr", null, go ? "goes" : "");
    for (const [, cell, kind] of columns) line.append(element("td", cell(row), kind));
    if (go) line.addEventListener("click", () => go(row));
    return line;
  });
  box.replaceChildren(head, ...lines);
}

function slowest(most) {
  const indices = Uint32Array.from(START.keys()).sort((a, b) => TOOK[b] - TOOK[a]);
  return [...indices.subarray(0, most)];
}

function showTables(goTo) {
  const visit = (at) => goTo(START[at], TOOK[at], LANE[at]);
  table("functions", [
    ["function", (row) => text(row.name), "wide"],
    ["tasks", (row) => whole(row.count), "number"],
    ["total", (row) => duration(row.total), "number"],
    ["mean", (row) => duration(row.total / row.count), "number"],
    ["longest", (row) => duration(row.longest), "number"],
    ["went wrong", (row) => whole(row.bad), "number"],
  ], functions.slice(0, 100));
  table("slowest", [
    ["ran", (at) => duration(TOOK[at]), "number"],
    ["at", (at) => duration(START[at]), "number"],
    ["worker", (at) => WORKER[at], "number"],
    ["task", (at) => text(TEXT[at]) || text(NAME[at]), "wide"],
  ], slowest(20), visit);
  const wrong = [];
  for (let at = 0; at < count && wrong.length < 200; at++) if (severity[OUTCOME[at]]) wrong.push(at);
  table("wrong", [
    ["how", (at) => text(OUTCOME[at]).replace("_", " ")],
    ["at", (at) => duration(START[at]), "number"],
    ["error", (at) => text(ERROR[at])],
    ["task", (at) => text(TEXT[at]) || text(NAME[at]), "wide"],
  ], wrong, visit);
}
