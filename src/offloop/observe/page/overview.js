// The overview: of the whole trace, how many tasks ran, how many workers there were, how many tasks waited.

const overview = { canvas: document.getElementById("overview"), height: 110, left: 132, right: 0 };

overview.x = (time) => overview.left + ((time - begin) / (end - begin)) * overview.room;
overview.time = (x) => begin + ((x - overview.left) / overview.room) * (end - begin);

// Adds to each pixel's sum the part of it that a span covers: whole pixels by a sum of differences.
function cover(sums, steps, scale, start, stop) {
  const last = sums.length - 1;
  const from = Math.min(last, Math.max(0, (start - begin) * scale)), to = Math.min(last, Math.max(0, (stop - begin) * scale));
  const first = Math.floor(from), final = Math.floor(to);
  if (first === final) {
    sums[first] += to - from;
    return;
  }
  sums[first] += first + 1 - from;
  sums[final] += to - final;
  steps[first + 1] += 1;
  steps[final] -= 1;
}

function measured(pixels, spans) {
  const sums = new Float64Array(pixels + 1), steps = new Float64Array(pixels + 2), scale = pixels / (end - begin);
  spans((start, stop) => cover(sums, steps, scale, start, stop));
  for (let at = 0, level = 0; at < pixels; at++) sums[at] += level += steps[at];
  return sums.subarray(0, pixels);
}

function lives() {
  const since = new Map(), spans = [];
  for (const [kind, , at, took, worker] of [...data.workers].sort((a, b) => a[2] - b[2])) {
    if (kind === "starting" || kind === "restarted") since.set(worker, at + took);
    else {
      spans.push([since.has(worker) ? since.get(worker) : begin, at]);
      since.set(worker, null);
    }
  }
  for (const start of since.values()) if (start != null) spans.push([start, end]);
  for (const worker of new Set(WORKER)) if (!since.has(worker)) spans.push([begin, end]);
  return spans;
}

function measureOverview(pixels) {
  overview.measured = pixels;
  overview.busy = measured(pixels, (add) => {
    for (let at = 0; at < count; at++) add(START[at], START[at] + TOOK[at]);
  });
  overview.waiting = measured(pixels, (add) => {
    for (let at = 0; at < count; at++) if (WAIT[at]) add(START[at] - WAIT[at], START[at]);
    for (const row of data.unrun) if (row[3]) add(row[1] - row[3], row[1]);
  });
  overview.workers = measured(pixels, (add) => lives().forEach(([start, stop]) => add(start, stop)));
}

function drawOverview() {
  const o = overview, [context, width] = fit(o.canvas, o.height);
  o.room = width - o.left - o.right;
  const pixels = Math.max(1, Math.floor(o.room));
  if (o.measured !== pixels) measureOverview(pixels);
  const floor = o.height - 20, top = 10;
  const most = Math.max(capacity, ...o.workers, ...o.busy);
  const longest = Math.max(1, ...o.waiting);
  document.getElementById("longest").textContent = whole(Math.round(Math.max(0, ...o.waiting)));
  const y = (value, scale) => floor - ((floor - top) * value) / scale;
  context.fillStyle = css("busy");
  for (let at = 0; at < pixels; at++) context.fillRect(o.left + at, y(o.busy[at], most), 1, floor - y(o.busy[at], most));
  line(context, o.workers, css("workers"), (value) => y(value, most));
  line(context, o.waiting, css("waiting"), (value) => y(value, longest));
  context.fillStyle = css("soft");
  context.textBaseline = "middle";
  context.textAlign = "right";
  context.fillText(`${+most.toPrecision(3)}`, o.left - 8, top);
  context.fillText("0", o.left - 8, floor - 4);
  context.textAlign = "left";
  context.fillStyle = css("soft");
  for (const time of ticks(begin, end, Math.max(2, width / 150))) context.fillText(duration(time), o.x(time) + 3, o.height - 8);
  marks(context, floor);
  const left = o.x(timeline.from), right = o.x(timeline.to);
  context.fillStyle = css("select");
  if (right - left < o.room - 0.5) {
    context.fillRect(left, 0, Math.max(2, right - left), floor);
    context.fillStyle = css("busy");
    context.fillRect(left, 0, 1, floor);
    context.fillRect(Math.max(left + 2, right - 1), 0, 1, floor);
  }
}

function line(context, values, tone, y) {
  context.strokeStyle = tone;
  context.lineWidth = 1.25;
  context.beginPath();
  values.forEach((value, at) => context.lineTo(overview.left + at + 0.5, y(value)));
  context.stroke();
}

function marks(context, floor) {
  const seen = new Set(), tones = { killed: css("stopped"), crashed: css("bad"), "not started": css("bad") };
  for (const [kind, , at] of data.workers) {
    const x = Math.round(overview.x(at));
    if (!tones[kind] || seen.has(x)) continue;
    seen.add(x);
    context.fillStyle = tones[kind];
    context.fillRect(x - 1, floor, 2, 5);
  }
}
