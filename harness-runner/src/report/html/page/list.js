// The list of tests: counts that filter, a search, and a table that can be sorted.

import { el } from "./dom.js";
import { KINDS, time, size } from "./data.js";
import { readState, address, replaceState } from "./state.js";
import { visible } from "./text.js";

/** @typedef {import("./data.js").Report} Report */

/** Rows that are drawn first, so that typing in the search is answered at once, and then. */
const FIRST = 50;
const BATCH = 250;

/** @type {Record<string, { title: string, by: (report: Report, row: number) => number, number?: boolean, wide?: boolean }>} */
const SORTS = {
  result: { title: "Result", by: (report, row) => report.kind(row) },
  time: { title: "Time", by: (report, row) => -report.rows.ms[row], number: true },
  cpu: { title: "CPU", by: (report, row) => -report.rows.cpu[row], number: true, wide: true },
  memory: { title: "Memory", by: (report, row) => -report.rows.memory[row], number: true, wide: true },
  processes: { title: "Processes", by: (report, row) => -report.rows.processes[row], number: true, wide: true },
  disk: { title: "Disk", by: (report, row) => -report.rows.disk[row], number: true, wide: true },
  attempts: { title: "Attempts", by: (report, row) => -report.rows.attempts[row], number: true, wide: true },
};

/**
 * The rows that a state shows, in its order.
 * @param {Report} report
 * @param {import("./state.js").State} state
 * @returns {number[]}
 */
export function chosen(report, state) {
  const show = new Set(state.show.map((word) => KINDS.findIndex((kind) => kind.word === word)));
  const words = state.q.toLowerCase().split(/\s+/).filter((word) => word);
  const texts = words.length ? report.texts() : [];
  const plain = words.filter((word) => !word.startsWith("path:"));
  const paths = words.filter((word) => word.startsWith("path:"));
  const using = report.details ? paths.map((word) => report.using(word.slice(5))) : [];
  const rows = [];
  for (const row of order(report, state.sort || "result")) {
    if (show.size && !matches(report, row, show)) continue;
    if (!plain.every((word) => texts[row].includes(word))) continue;
    if (!using.every((/** @type {Set<number>} */ set) => set.has(row))) continue;
    rows.push(row);
  }
  return rows;
}

/** All rows in an order, which is made once. @param {Report} report @param {string} name @returns {number[]} */
function order(report, name) {
  const known = report.orders.get(name);
  if (known) return known;
  const sort = SORTS[name] ?? SORTS.result;
  const rows = Array.from({ length: report.length }, (_, row) => row);
  const keys = rows.map((row) => sort.by(report, row));
  rows.sort((a, b) => keys[a] - keys[b] || a - b);
  report.orders.set(name, rows);
  return rows;
}

/** Whether a row is of one of the kinds. @param {Report} report @param {number} row @param {Set<number>} show */
function matches(report, row, show) {
  const flags = report.rows.flags[row];
  for (const kind of show) {
    const flag = KINDS[kind]?.flag;
    if (flag ? flags & flag : flags === 0) return true;
  }
  return false;
}

/** The identity of a test, for links. @param {Report} report @param {number} row */
export function key(report, row) {
  return `${report.binary(row)} ${report.name(row)}`;
}

/** A link to a test, with its binary. @param {Report} report @param {number} row */
export function link(report, row) {
  const href = address({ test: key(report, row), attempt: 0 });
  return el("a", { href }, el("span", { class: "binary" }, visible(report.binary(row)), " "), visible(report.name(row)));
}

/** @param {Report} report @param {number} row */
function line(report, row) {
  const { rows } = report;
  const kind = KINDS[report.kind(row)].word;
  const reason = [report.rows.place[row], report.message(row)].filter((part) => part).join(": ");
  const ran = rows.attempts[row] > 0;
  const number = (/** @type {string} */ text, wide = true) => el("td", { class: `number${wide ? " wide" : ""}` }, ran && text);
  return el("tr", { "data-row": row },
    el("td", { class: `status ${kind}` }, report.status(row)),
    el("td", { class: "name" }, link(report, row), reason && el("div", { class: "reason" }, visible(reason)),
      report.disturbed(row) && el("div", { class: "reason" }, visible(report.disturbed(row)))),
    number(time(rows.ms[row]), false),
    number(time(rows.cpu[row])),
    number(rows.memory[row] ? size(rows.memory[row]) : ""),
    number(rows.processes[row] ? String(rows.processes[row]) : ""),
    number(rows.disk[row] ? size(rows.disk[row]) : ""),
    number(String(rows.attempts[row])));
}

/** @param {Report} report */
function counts(report) {
  const totals = KINDS.map(() => 0);
  for (let row = 0; row < report.length; row += 1) {
    const flags = report.rows.flags[row];
    KINDS.forEach((kind, at) => {
      if (kind.flag ? flags & kind.flag : flags === 0) totals[at] += 1;
    });
  }
  return totals;
}

/** The view. @param {Report} report @param {HTMLElement} main */
export function listView(report, main) {
  const state = readState();
  const status = el("p", { role: "status", class: "dim" });
  const body = el("tbody", null);
  const more = el("button", { type: "button", class: "more" });
  let rows = /** @type {number[]} */ ([]);
  let drawn = 0;

  const draw = (/** @type {number} */ until) => {
    const fragment = document.createDocumentFragment();
    const end = Math.min(until, rows.length);
    for (; drawn < end; drawn += 1) fragment.appendChild(line(report, rows[drawn]));
    body.appendChild(fragment);
    more.hidden = drawn === rows.length;
    more.textContent = `Show ${Math.min(BATCH, rows.length - drawn)} more of ${rows.length - drawn}`;
  };
  const update = () => {
    rows = chosen(report, readState());
    body.replaceChildren();
    drawn = 0;
    draw(FIRST);
    status.textContent = `${rows.length} of ${report.length} tests`;
  };
  more.addEventListener("click", () => draw(drawn + BATCH));
  new IntersectionObserver((seen) => {
    if (seen.some((entry) => entry.isIntersecting) && drawn < rows.length) draw(drawn + BATCH);
  }, { rootMargin: "600px" }).observe(more);
  addEventListener("beforeprint", () => draw(rows.length));

  const search = el("input", {
    type: "search", id: "search", value: state.q, placeholder: "Search names, messages, places; path:TEXT for files",
    "aria-label": "Search names, messages and places; path: and a text searches files, addresses and commands",
    oninput: async () => {
      replaceState({ q: search.value });
      if (search.value.includes("path:")) await report.readDetails();
      update();
    },
  });
  const buttons = counts(report).map((count, at) => {
    const { word } = KINDS[at];
    if (!count) return null;
    const button = el("button", {
      type: "button", "aria-pressed": String(state.show.includes(word)),
      onclick: () => {
        const show = readState().show;
        const shown = show.includes(word);
        replaceState({ show: shown ? show.filter((other) => other !== word) : [...show, word] });
        button.setAttribute("aria-pressed", String(!shown));
        update();
      },
    }, el("span", { class: word }, `${count} `), word === "notrun" ? "not run" : word);
    return button;
  });
  const sortable = Object.entries(SORTS).map(([name, sort]) => {
    const now = (readState().sort || "result") === name;
    const button = el("button", {
      type: "button",
      onclick: () => {
        replaceState({ sort: name === "result" ? "" : name });
        main.querySelectorAll("th[aria-sort]").forEach((th) => th.removeAttribute("aria-sort"));
        th.setAttribute("aria-sort", name === "result" ? "ascending" : "descending");
        update();
      },
    }, sort.title);
    const classes = [sort.number && "number", sort.wide && "wide"].filter((it) => it).join(" ");
    const th = el("th", { scope: "col", class: classes || null, "aria-sort": now && (name === "result" ? "ascending" : "descending") }, button);
    return th;
  });
  const [result, ...numbers] = sortable;
  main.replaceChildren(
    el("h2", { class: "hidden" }, "Tests"),
    el("div", { class: "bar" }, search),
    el("div", { class: "bar", role: "group", "aria-label": "Show only" }, buttons),
    status,
    el("table", null,
      el("thead", null, el("tr", null, result, el("th", { scope: "col" }, "Test"), numbers)),
      body),
    more);
  if (state.q.includes("path:")) report.readDetails().then(update);
  // Before the first key is pressed.
  setTimeout(() => report.texts());
  update();
}
