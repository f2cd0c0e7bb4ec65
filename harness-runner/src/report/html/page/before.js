// A test against its last result before this run.

import { el } from "./dom.js";
import { time } from "./data.js";
import { visible } from "./text.js";

/** @typedef {import("./data.js").Report} Report */
/** @typedef {import("./data.js").Traces} Traces */

/** A time against an earlier one. @param {number} now @param {number} was */
function against(now, was) {
  const part = was > 0 ? Math.round((100 * (now - was)) / was) : 0;
  return `${time(now)}${part ? `, ${part > 0 ? "+" : "−"}${Math.abs(part)} %` : ""}`;
}

/** What the traces say of each other, and what they do not. @param {Traces | null} traces @param {string[]} strings */
function tracesOfBoth(traces, strings) {
  const note = (/** @type {string} */ text) => el("p", { class: "dim" }, text);
  if (!traces) return note("No traces are compared: there are not two.");
  if ("level" in traces) return note(`The traces are not compared: the earlier one has level ${traces.level}.`);
  const [now, was] = traces.whole;
  const line = (/** @type {string} */ word) => (/** @type {[string, number]} */ [list, text]) => el("tr", null,
    el("td", null, word), el("td", null, list), el("td", { class: "name" }, visible(strings[text])));
  const rows = [...traces.new.map(line("new")), ...traces.gone.map(line("gone"))];
  return [
    rows.length > 0 && el("div", { class: "scroll" }, el("table", null,
      el("thead", null, el("tr", null, ["Trace", "Kind", "Name"].map((title) => el("th", { scope: "col" }, title)))),
      el("tbody", null, rows))),
    traces.more > 0 && note(`and ${traces.more} more`),
    !rows.length && now && was && note("No missing file, port, process or connection is new or gone."),
    !was && note("The earlier trace is not complete: what this one has alone may not be new."),
    !now && note("This trace is not complete: what the earlier one has alone may not be gone."),
  ];
}

/**
 * The last result of a test before this run; nothing, if none is known.
 * @param {Report} report
 * @param {number} row
 */
export function resultBefore(report, row) {
  const { before, strings } = report.details;
  const found = before.results[row];
  if (!found) return null;
  const [run, status, passed, ms, attempts, message, traces] = found;
  const { id, started } = before.runs[run];
  const { rows } = report;
  /** @type {[string, string, string][]} */
  const lines = [
    ["Result", before.statuses[status], report.status(row)],
    ["Time", time(ms), against(rows.ms[row], ms)],
    ["Attempts", String(attempts), String(rows.attempts[row])],
  ];
  const now = report.message(row);
  if (message || now) lines.push(["Message", message ?? "", now && [report.place(row), now].filter((it) => it).join(": ")]);
  const news = traces && "new" in traces && traces.new.length + traces.gone.length > 0;
  const changed = lines[0][1] !== lines[0][2] || news;
  return el("details", { class: "before", open: changed },
    el("summary", null, "Before: ", el("span", { class: `status ${passed ? "passed" : "failed"}` }, before.statuses[status]),
      ` in ${time(ms)}, run ${id.slice(0, 8)} of ${started}`),
    el("div", { class: "scroll" }, el("table", null,
      el("thead", null, el("tr", null, ["", "Before", "Now"].map((title, at) => (at ? el("th", { scope: "col" }, title) : el("td", null))))),
      el("tbody", null, lines.map(([title, was, now]) => el("tr", null,
        el("th", { scope: "row" }, title), el("td", { class: "name" }, visible(was)), el("td", { class: "name" }, visible(now))))))),
    tracesOfBoth(traces, strings));
}
