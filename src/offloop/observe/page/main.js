// What the pointer and the keys do, and when things are drawn.

let due = false;

function draw() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    drawTimeline();
    drawOverview();
  });
}

function look(from, to) {
  const least = Math.max((end - begin) * 1e-7, 0.5), size = Math.min(Math.max(to - from, least), end - begin);
  const start = Math.min(Math.max(from, begin), end - size);
  [timeline.from, timeline.to] = [start, start + size];
  hideTip();
  draw();
}

function zoom(factor, around) {
  look(around - (around - timeline.from) * factor, around + (timeline.to - around) * factor);
}

const move = (part) => {
  const by = (timeline.to - timeline.from) * part;
  look(timeline.from + by, timeline.to + by);
};

function goTo(start, took, lane) {
  const margin = Math.max(took * 0.6, (end - begin) * 1e-5);
  timeline.marked = lanes[lane].find((at) => START[at] === start) ?? -1;
  look(start - margin, start + took + margin);
  timeline.box.scrollTop = timeline.axis + lane * timeline.laneHeight - timeline.box.clientHeight / 2;
  timeline.box.scrollIntoView({ block: "center" });
}

// Calls `during(event)` while the pointer is held down, from `begun(event)` on.
function dragging(canvas, begun, during) {
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    begun(event);
    const stop = () => canvas.removeEventListener("pointermove", during);
    canvas.addEventListener("pointermove", during);
    canvas.addEventListener("pointerup", stop, { once: true });
    canvas.addEventListener("pointercancel", stop, { once: true });
  });
}

function listen() {
  const canvas = timeline.canvas;
  canvas.addEventListener("wheel", (event) => {
    if (event.ctrlKey || Math.abs(event.deltaY) > Math.abs(event.deltaX)) {
      if (timeline.box.scrollHeight > timeline.box.clientHeight && event.shiftKey) return;
      zoom(Math.exp(Math.sign(event.deltaY) * Math.min(0.4, Math.abs(event.deltaY) / 300)), timeline.time(event.offsetX));
    } else move(event.deltaX / timeline.width);
    event.preventDefault();
  }, { passive: false });
  let last = 0;
  dragging(canvas, (event) => { last = event.clientX; }, (event) => {
    move((last - event.clientX) / (timeline.width - timeline.labels));
    last = event.clientX;
  });
  canvas.addEventListener("dblclick", () => look(begin, end));
  canvas.addEventListener("pointermove", (event) => {
    const found = event.buttons ? null : findAt(event.offsetX, event.offsetY);
    if (!found) hideTip();
    else if (found.row) workerTip(event, found.row);
    else taskTip(event, found.at);
  });
  canvas.addEventListener("pointerleave", hideTip);
  canvas.addEventListener("keydown", (event) => {
    const middle = (timeline.from + timeline.to) / 2;
    const keys = {
      ArrowLeft: () => move(-0.2), ArrowRight: () => move(0.2), "+": () => zoom(0.6, middle), "=": () => zoom(0.6, middle),
      "-": () => zoom(1 / 0.6, middle), 0: () => look(begin, end), Escape: () => look(begin, end),
    };
    if (keys[event.key]) {
      keys[event.key]();
      event.preventDefault();
    }
  });
  let from = 0;
  dragging(overview.canvas, (event) => { from = overview.time(event.offsetX); }, (event) => {
    const to = overview.time(event.offsetX);
    if (Math.abs(overview.x(to) - overview.x(from)) > 2) look(Math.min(from, to), Math.max(from, to));
  });
  overview.canvas.addEventListener("dblclick", () => look(begin, end));
  timeline.box.addEventListener("scroll", draw);
  addEventListener("resize", draw);
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  draw();
}

function showNames() {
  const box = document.getElementById("names");
  const add = (tone, word) => {
    const swatch = element("i");
    swatch.style.background = tone;
    box.append(swatch, word);
  };
  box.replaceChildren();
  for (const row of functions.slice(0, 6)) add(colour(row.name), text(row.name).slice(0, 40));
  add(css("bad"), "went wrong");
  add(css("stopped"), "stopped");
}

const wanted = matchMedia("(prefers-color-scheme: dark)");
setTheme(location.hash === "#dark" || location.hash === "#light" ? location.hash.slice(1) : wanted.matches ? "dark" : "light");
wanted.addEventListener("change", (event) => { setTheme(event.matches ? "dark" : "light"); showNames(); });
document.getElementById("theme").addEventListener("click", () => { setTheme(isDark() ? "light" : "dark"); showNames(); });
showNames();
showNumbers();
histogram(document.getElementById("runs"), TOOK);
histogram(document.getElementById("waits"), WAIT.filter((wait) => wait != null));
showTables(goTo);
listen();
draw();
document.documentElement.dataset.ready = count;
