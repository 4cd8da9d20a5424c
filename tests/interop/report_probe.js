// Run in the report of a small made-up trace by test_report_in_browser.py: what a user sees and does there.

drawTimeline();
drawOverview();
const seen = {}, canvas = timeline.canvas, box = canvas.getBoundingClientRect(), ratio = devicePixelRatio;

function at(kind, time, lane, more) {
  const clientY = box.top + timeline.axis + (lane + 0.5) * timeline.laneHeight;
  const place = { clientX: box.left + timeline.x(time), clientY, bubbles: true, cancelable: true, ...more };
  canvas.dispatchEvent(kind === "wheel" ? new WheelEvent(kind, place) : new PointerEvent(kind, place));
}

function pixel(from, x, y) {
  const { data } = from.getContext("2d").getImageData(x * ratio, y * ratio, 1, 1);
  return [...data].slice(0, 3).join();
}

seen.hostile = document.querySelector("#wrong td.wide").textContent;
seen.scripts = document.querySelectorAll("#wrong script, #slowest script, #wrong b").length;
seen.tips = {};
for (const [what, time, lane] of [["task", 300, 0], ["crash", 900, 0], ["restart", 950, 1], ["start", 30, 0]]) {
  at("pointermove", time, lane);
  seen.tips[what] = tip.innerText.split("\n");
}
at("pointermove", 550, 0);
seen.hidden = tip.hidden;

at("wheel", 300, 0, { deltaY: -300 });
seen.zoomed = [timeline.from, timeline.to];
drawTimeline();
at("pointermove", 300, 0);
seen.still = tip.innerText.split("\n")[0];
canvas.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
seen.moved = timeline.from;
canvas.dispatchEvent(new MouseEvent("dblclick"));
seen.all = [timeline.from, timeline.to];
document.querySelector("#slowest tr.goes").click();
seen.gone = [timeline.from, timeline.to];
look(begin, end);

seen.drawn = {};
for (const theme of ["light", "dark"]) {
  setTheme(theme);
  drawTimeline();
  drawOverview();
  const lane = (time, number) =>
    pixel(canvas, timeline.x(time), timeline.axis + number * timeline.laneHeight + 3);
  seen.drawn[theme] = {
    task: lane(300, 0), failed: lane(700, 0), empty: lane(550, 0), other: lane(980, 1),
    busy: pixel(overview.canvas, overview.x(300), 80), idle: pixel(overview.canvas, overview.x(550), 80),
  };
}
return seen;
