// The trace's columns, and how numbers are written. All times are microseconds.

const data = JSON.parse(document.getElementById("data").textContent);
const [LANE, START, TOOK, WAIT, NAME, OUTCOME, ID, WORKER, SENT, RECEIVED, TEXT, ERROR, ATTEMPT] =
  Array.from({ length: 13 }, (_, at) => data.tasks[at]);
const count = START.length;
const text = (at) => (at < 0 ? "" : data.texts[at]);

// Which outcomes are drawn how: the others are as they should be.
const BAD = new Set(["failed", "crashed", "killed", "retried"]);
const STOPPED = new Set(["cancelled", "timed_out"]);
const severity = data.texts.map((word) => (BAD.has(word) ? 2 : STOPPED.has(word) ? 1 : 0));

let begin = Math.min(0, count ? START[0] : 0), end = data.footer.at || 0;
for (let at = 0; at < count; at++) end = Math.max(end, START[at] + TOOK[at]);
for (const row of data.workers) {
  begin = Math.min(begin, row[2]);
  end = Math.max(end, row[2] + row[3]);
}
if (end <= begin) end = begin + 1;

// How many tasks could have run at a time.
const capacity = Math.max(1, (data.header.max_workers || data.lanes.length) * (data.header.concurrency || 1));

// The tasks of each lane, by start: their indices, and the ends, for the search of what is in sight.
const lanes = data.lanes.map(() => []);
for (let at = 0; at < count; at++) lanes[LANE[at]].push(at);

// How many durations take what share: names that take the most time get colours of their own.
const spent = new Map();
for (let at = 0; at < count; at++) {
  const row = spent.get(NAME[at]) || { name: NAME[at], count: 0, total: 0, longest: 0, bad: 0 };
  row.count++;
  row.total += TOOK[at];
  row.longest = Math.max(row.longest, TOOK[at]);
  row.bad += severity[OUTCOME[at]] === 2;
  spent.set(NAME[at], row);
}
const functions = [...spent.values()].sort((a, b) => b.total - a.total);
const HUES = [216, 168, 262, 48, 190, 300, 96, 235];
const rank = new Map(functions.map((row, at) => [row.name, at]));

const isDark = () => document.documentElement.dataset.theme === "dark";
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

function colour(name) {
  const at = rank.get(name);
  const [saturation, lightness] = isDark() ? [52, 60] : [54, 52];
  return at < HUES.length ? `hsl(${HUES[at]} ${saturation}% ${lightness}%)` : css("soft");
}

function duration(us) {
  if (us == null) return "–";
  const size = Math.abs(us);
  if (size >= 3600e6) return `${(us / 3600e6).toFixed(2)} h`;
  if (size >= 120e6) return `${(us / 60e6).toFixed(1)} min`;
  if (size >= 1e6) return `${(us / 1e6).toPrecision(4).replace(/\.?0+$/, "")} s`;
  if (size >= 1e3) return `${+(us / 1e3).toPrecision(3)} ms`;
  return `${+us.toPrecision(3)} µs`;
}

function bytes(size) {
  if (size == null) return "–";
  const units = ["B", "kB", "MB", "GB"];
  let at = 0;
  for (; size >= 1000 && at < 3; at++) size /= 1000;
  return `${at ? size.toPrecision(3) : size} ${units[at]}`;
}

const whole = (number) => number.toLocaleString("en-US");

// The first index of a sorted lane whose task ends after `time`: tasks of a lane do not overlap.
function firstAfter(indices, time) {
  let low = 0, high = indices.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (START[indices[middle]] + TOOK[indices[middle]] < time) low = middle + 1;
    else high = middle;
  }
  return low;
}

// Ticks at 1, 2 or 5 times a power of ten, with at most `most` of them.
function ticks(from, to, most) {
  const rough = (to - from) / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((times) => times * power).find((size) => size >= rough);
  const found = [];
  for (let at = Math.ceil(from / step); at * step <= to; at++) found.push(at * step);
  return found;
}
