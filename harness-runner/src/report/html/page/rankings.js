// The tests that stand out: the slowest, the flakiest, those that leak, and those that use the most.

import { el } from "./dom.js";
import { FLAKY, LEAKY, time, size } from "./data.js";
import { link } from "./list.js";

/** @typedef {import("./data.js").Report} Report */

const LISTED = 20;

/**
 * @param {Report} report
 * @param {string} title
 * @param {(row: number) => number} by rows with 0 are left out
 * @param {(row: number) => string} shown
 */
function ranking(report, title, by, shown) {
  const rows = [];
  for (let row = 0; row < report.ran; row += 1) if (by(row) > 0) rows.push(row);
  const keys = new Map(rows.map((row) => [row, by(row)]));
  rows.sort((a, b) => (keys.get(b) ?? 0) - (keys.get(a) ?? 0) || a - b);
  const lines = rows.slice(0, LISTED).map((row) => el("tr", null,
    el("td", { class: "number" }, shown(row)), el("td", { class: "name" }, link(report, row))));
  return el("section", null,
    el("h3", null, title),
    lines.length ? el("table", null,
      el("thead", { class: "hidden" }, el("tr", null, el("th", { scope: "col" }, "Amount"), el("th", { scope: "col" }, "Test"))),
      el("tbody", null, lines)) : el("p", { class: "dim" }, "None."),
    rows.length > LISTED && el("p", { class: "dim" }, `and ${rows.length - LISTED} more`));
}

/** The view. @param {Report} report @param {HTMLElement} main */
export function rankingsView(report, main) {
  const { rows } = report;
  /** The time of all attempts. @type {number[]} */
  const all = rows.ms.slice();
  for (const [row, , , ms] of report.earlier) all[row] += ms;
  const flag = (/** @type {number} */ bit) => (/** @type {number} */ row) => (rows.flags[row] & bit ? rows.attempts[row] : 0);
  main.replaceChildren(
    el("h2", null, "Rankings"),
    el("div", { class: "grid" },
      ranking(report, "Slowest, all attempts together", (row) => all[row], (row) => time(all[row])),
      ranking(report, "Flakiest", flag(FLAKY), (row) => `${rows.attempts[row]} attempts`),
      ranking(report, "Leaking", flag(LEAKY), (row) => report.status(row)),
      ranking(report, "Most CPU time", (row) => rows.cpu[row], (row) => time(rows.cpu[row])),
      ranking(report, "Most memory", (row) => rows.memory[row], (row) => size(rows.memory[row])),
      ranking(report, "Most processes", (row) => (rows.processes[row] > 1 ? rows.processes[row] : 0), (row) => String(rows.processes[row])),
      ranking(report, "Most disk input and output", (row) => rows.disk[row], (row) => size(rows.disk[row]))));
}
