// The timeline: a lane for each slot, with the attempts that ran in it, and the waits between attempts.

import { el, svg } from "./dom.js";
import { KINDS, time } from "./data.js";
import { address } from "./state.js";
import { visible } from "./text.js";
import { key } from "./list.js";

/** @typedef {import("./data.js").Report} Report */

const LANE = 24, LEFT = 68, TOP = 22;

/** @typedef {{ row: number, slot: number, from: number, to: number, kind: string, last: boolean }} Span */

/** All attempts, by slot. @param {Report} report @returns {Map<number, Span[]>} */
function lanes(report) {
  /** @type {Map<number, Span[]>} */
  const lanes = new Map();
  const add = (/** @type {Span} */ span) => {
    if (!lanes.has(span.slot)) lanes.set(span.slot, []);
    lanes.get(span.slot)?.push(span);
  };
  const { rows } = report;
  for (let row = 0; row < report.ran; row += 1) {
    if (!rows.attempts[row]) continue;
    const kind = KINDS[report.kind(row)].word;
    add({ row, slot: rows.slot[row], from: rows.start[row], to: rows.start[row] + rows.ms[row], kind, last: true });
  }
  for (const [row, slot, from, ms] of report.earlier) {
    add({ row, slot, from, to: from + ms, kind: "failed", last: false });
  }
  for (const spans of lanes.values()) spans.sort((a, b) => a.from - b.from);
  return new Map([...lanes].sort((a, b) => a[0] - b[0]));
}

/** A round step that leaves some 80 pixels between marks. @param {number} total @param {number} width */
function step(total, width) {
  const least = (total * 80) / width;
  let step = 10 ** Math.floor(Math.log10(Math.max(least, 0.001)));
  while (step < least) step *= step * 2 < least ? 5 : 2;
  return step;
}

/** @param {Report} report @param {number} width */
function drawing(report, width) {
  const all = lanes(report);
  const total = Math.max(report.index.elapsed, ...[...all.values()].map((spans) => spans[spans.length - 1]?.to ?? 0), 1);
  const scale = (width - LEFT - 10) / total;
  const height = TOP + all.size * LANE + 6;
  const picture = svg("svg", {
    width, height, viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": `Timeline of ${all.size} slots over ${time(total)}. The list of tests has the same facts.`,
  });
  for (let at = 0, by = step(total, width); at <= total; at += by) {
    const x = LEFT + at * scale;
    picture.append(svg("line", { x1: x, x2: x, y1: TOP - 6, y2: height }), svg("text", { x: x + 2, y: 12 }, time(at)));
  }
  let lane = 0;
  /** @type {Map<number, { x: number, y: number }>} */
  const ends = new Map();
  for (const [slot, spans] of all) {
    const y = TOP + lane * LANE;
    const far = spans.some((span) => report.elsewhere(span.row));
    picture.append(svg("text", { x: 4, y: y + 15 }, far ? `slot ${slot} ↗` : `slot ${slot}`));
    let edge = -1;
    for (const span of spans) {
      const x = LEFT + span.from * scale;
      const right = LEFT + span.to * scale;
      if (!span.last) ends.set(span.row, { x: right, y: y + 10 });
      // Many in one pixel are drawn once, unless one of them failed.
      if (right - edge < 0.7 && span.kind === "passed") continue;
      edge = Math.max(edge, right);
      const place = report.elsewhere(span.row);
      const title = `${visible(key(report, span.row))}: ${report.status(span.row)}, ${time(span.to - span.from)}`
        + (place && span.last ? `, on ${visible(place)}` : "");
      picture.append(svg("rect", {
        x, y: y + 2, width: Math.max(right - x, 1), height: LANE - 6, class: span.kind, "data-row": span.row,
      }, svg("title", null, title)));
    }
    lane += 1;
  }
  lane = 0;
  for (const spans of all.values()) {
    for (const span of spans) {
      const before = span.last && ends.get(span.row);
      if (before) {
        const y = TOP + lane * LANE + 10;
        picture.append(svg("line", { class: "wait", x1: before.x, y1: before.y, x2: LEFT + span.from * scale, y2: y }));
      }
    }
    lane += 1;
  }
  return picture;
}

/** The view. @param {Report} report @param {HTMLElement} main */
export function timelineView(report, main) {
  const holder = el("div", { class: "scroll", tabindex: 0, "aria-label": "Timeline" });
  const zoom = el("input", { type: "range", min: 0, max: 6, step: 0.5, value: 0, id: "zoom", oninput: () => draw() });
  const draw = () => {
    const width = Math.max(holder.clientWidth, 320) * 2 ** Number(zoom.value);
    holder.replaceChildren(drawing(report, Math.min(width, 60000)));
  };
  holder.addEventListener("click", (/** @type {MouseEvent} */ event) => {
    const rect = event.target instanceof Element && event.target.closest("rect[data-row]");
    if (rect) location.hash = address({ test: key(report, Number(rect.getAttribute("data-row"))), attempt: 0 });
  });
  main.replaceChildren(
    el("h2", null, "Timeline"),
    el("p", { class: "dim" }, "A lane for each slot; a dashed line is the wait for the next attempt. Select a test to open it.",
      Object.keys(report.rows.elsewhere).length > 0 && " Tests in slots with ↗ ran elsewhere."),
    el("div", { class: "bar" }, el("label", { for: "zoom" }, "Zoom"), zoom),
    holder);
  draw();
}
