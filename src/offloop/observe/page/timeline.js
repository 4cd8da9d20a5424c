// The timeline: a lane for each worker. What is narrower than a pixel is drawn as how full the pixel is,
// so that a hundred thousand tasks cost no more than there are pixels.

const timeline = {
  canvas: document.getElementById("timeline"),
  box: document.getElementById("timeline-box"),
  from: begin,
  to: end,
  labels: 132,
  axis: 24,
  laneHeight: lanes.length <= 24 ? 26 : lanes.length <= 200 ? 18 : 10,
  marked: -1,
  crowded: [],
};
const PLANNED = new Set(["restarted", "exited"]);

const byLane = lanes.map(() => []);
for (const row of data.workers) byLane[row[1]].push(row);
for (const rows of byLane) rows.sort((a, b) => a[2] - b[2]);

timeline.x = (time) =>
  timeline.labels + ((time - timeline.from) / (timeline.to - timeline.from)) * (timeline.width - timeline.labels);
timeline.time = (x) =>
  timeline.from + ((x - timeline.labels) / (timeline.width - timeline.labels)) * (timeline.to - timeline.from);

function fit(canvas, height) {
  const ratio = devicePixelRatio || 1, width = canvas.parentElement.clientWidth;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.height = `${height}px`;
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.font = "11.5px system-ui, sans-serif";
  return [context, width];
}

function drawTimeline() {
  const t = timeline, height = t.axis + lanes.length * t.laneHeight + 6;
  const [context, width] = fit(t.canvas, Math.min(height, 16000));
  t.width = width;
  t.colours = new Map(functions.map((row) => [row.name, colour(row.name)]));
  t.severe = ["", css("stopped"), css("bad")];
  const tones = { line: css("line"), soft: css("soft"), empty: css("empty"), start: css("start"), text: css("text") };
  const top = t.box.scrollTop - t.laneHeight, bottom = t.box.scrollTop + t.box.clientHeight;
  for (let lane = 0; lane < lanes.length; lane++) {
    const y = t.axis + lane * t.laneHeight;
    if (y < top || y > bottom) continue;
    drawLane(context, lane, y, tones);
  }
  context.clearRect(0, 0, t.labels - 4, height);
  context.fillStyle = tones.soft;
  context.textBaseline = "middle";
  for (let lane = 0; lane < lanes.length; lane++) {
    const y = t.axis + (lane + 0.5) * t.laneHeight;
    if (y >= top && y <= bottom) context.fillText(data.lanes[lane], 0, y, t.labels - 12);
  }
  drawAxis(context, t.box.scrollTop, tones);
}

function drawAxis(context, y, tones) {
  const t = timeline;
  context.fillStyle = css("card");
  context.fillRect(0, y, t.width, t.axis - 2);
  context.fillStyle = tones.soft;
  for (const time of ticks(t.from, t.to, Math.max(2, t.width / 130))) {
    context.fillRect(t.x(time), y + t.axis - 7, 1, 5);
    context.fillText(duration(time), t.x(time) + 4, y + 9);
  }
}

function drawLane(context, lane, y, tones) {
  const t = timeline, height = t.laneHeight - (t.laneHeight > 12 ? 4 : 1);
  context.fillStyle = tones.empty;
  context.fillRect(t.labels, y, t.width - t.labels, height);
  context.fillStyle = tones.start;
  let drawn = -Infinity;
  for (const [, , at, took] of byLane[lane]) {
    if (!took || at + took < t.from || at > t.to) continue;
    const x = Math.max(t.labels, t.x(at)), stop = t.x(at + took);
    if (stop - drawn < 1) continue;
    context.fillRect(x, y, Math.max(1, stop - x), height);
    drawn = Math.max(stop, x + 1);
  }
  drawTasks(context, lane, y, height);
  drawMarks(context, lane, y, height);
}

// Crashes and the like are always marked, once where there are several. Where workers come and go
// all the time, as planned, marks of that would hide the tasks.
function drawMarks(context, lane, y, height) {
  const t = timeline, last = {};
  const place = ([kind, , at, took]) => t.x(kind === "restarted" ? at + took : at);
  const isSeen = (row) => row[0] !== "starting" && place(row) >= t.labels - 1 && place(row) <= t.width + 1;
  const rows = byLane[lane].filter(isSeen), isCrowded = rows.length > t.width / 30;
  t.crowded[lane] = isCrowded;
  for (const row of rows) {
    const [kind] = row, x = place(row);
    if ((isCrowded && PLANNED.has(kind)) || x - last[kind] < 2) continue;
    last[kind] = x;
    drawMark(context, kind, x, y, height);
  }
}

function drawTasks(context, lane, y, height) {
  const t = timeline, indices = lanes[lane];
  const columns = new Float32Array(Math.ceil(t.width) + 2), worst = new Int8Array(columns.length);
  const whose = new Int32Array(columns.length).fill(-1);
  for (let place = firstAfter(indices, t.from); place < indices.length; place++) {
    const at = indices[place], start = START[at];
    if (start > t.to) break;
    const left = Math.max(t.labels, t.x(start)), right = Math.min(t.width, t.x(start + TOOK[at]));
    if (right - left < 1.5) {
      const column = Math.floor(left);
      columns[column] += Math.max(right - left, 0.02);
      if (severity[OUTCOME[at]] >= worst[column]) {
        worst[column] = severity[OUTCOME[at]];
        whose[column] = at;
      }
      continue;
    }
    drawTask(context, at, left, right, y, height);
  }
  for (let column = 0; column < columns.length; column++) {
    if (whose[column] < 0) continue;
    context.globalAlpha = worst[column] ? 1 : 0.25 + 0.75 * Math.min(1, columns[column]);
    context.fillStyle = worst[column] ? t.severe[worst[column]] : t.colours.get(NAME[whose[column]]);
    context.fillRect(column, y, 1, height);
  }
  context.globalAlpha = 1;
}

function drawTask(context, at, left, right, y, height) {
  const t = timeline, severe = severity[OUTCOME[at]], room = right - left;
  context.fillStyle = severe ? t.severe[severe] : t.colours.get(NAME[at]);
  context.fillRect(left, y, room > 3 ? room - 1 : room, height);
  if (at === t.marked) {
    context.strokeStyle = css("text");
    context.lineWidth = 2;
    context.strokeRect(left + 1, y + 1, Math.max(2, room - 3), height - 2);
  }
  if (room > 44 && height > 12) {
    context.save();
    context.beginPath();
    context.rect(left, y, room - 4, height);
    context.clip();
    context.fillStyle = isDark() ? "#0b0d11" : "#ffffff";
    context.textBaseline = "middle";
    context.fillText(text(TEXT[at]) || text(NAME[at]), left + 5, y + height / 2 + 0.5);
    context.restore();
  }
}

// A crash is a cross, being killed a cross too, a restart a triangle, a good end a small bar.
function drawMark(context, kind, x, y, height) {
  const size = Math.min(6, height / 2 - 1), middle = y + height / 2;
  context.beginPath();
  if (kind === "restarted") {
    context.fillStyle = css("good");
    context.moveTo(x - size * 0.7, middle - size);
    context.lineTo(x + size, middle);
    context.lineTo(x - size * 0.7, middle + size);
    context.fill();
  } else if (kind === "exited") {
    context.fillStyle = css("soft");
    context.fillRect(x - 1, y, 2, height);
  } else {
    context.fillStyle = css("card");
    context.arc(x, middle, size + 2, 0, 7);
    context.fill();
    context.strokeStyle = kind === "killed" ? css("stopped") : css("bad");
    context.lineWidth = 2.5;
    context.beginPath();
    context.moveTo(x - size + 1, middle - size + 1);
    context.lineTo(x + size - 1, middle + size - 1);
    context.moveTo(x + size - 1, middle - size + 1);
    context.lineTo(x - size + 1, middle + size - 1);
    context.stroke();
  }
}

// What is below the pointer: a mark first, else the task that is nearest within two pixels.
function findAt(x, y) {
  const t = timeline, lane = Math.floor((y - t.axis) / t.laneHeight);
  if (lane < 0 || lane >= lanes.length || x < t.labels) return null;
  for (const row of byLane[lane]) {
    const [kind, , at, took] = row, mark = t.x(kind === "restarted" ? at + took : at);
    if (kind === "starting" || (t.crowded[lane] && PLANNED.has(kind))) continue;
    if (Math.abs(mark - x) <= 6) return { row };
  }
  const indices = lanes[lane], reach = Math.abs(t.time(x + 2) - t.time(x)), time = t.time(x);
  let best = null, distance = reach;
  for (let place = firstAfter(indices, time - reach); place < indices.length; place++) {
    const at = indices[place];
    if (START[at] > time + reach) break;
    const off = Math.max(0, START[at] - time, time - START[at] - TOOK[at]);
    if (off < distance || (best == null && off <= distance)) [best, distance] = [at, off];
    if (off === 0) break;
  }
  if (best != null) return { at: best };
  const row = byLane[lane].find((each) => each[3] && each[2] <= time && time <= each[2] + each[3]);
  return row ? { row } : null;
}
