// One test: its attempts in tabs, each with message, difference, output, resources and trace.

import { el, copyButton } from "./dom.js";
import { KINDS, time, size } from "./data.js";
import { readState, address, replaceState } from "./state.js";
import { visible, colored } from "./text.js";
import { sides, difference } from "./difference.js";
import { chosen, key } from "./list.js";
import { resultBefore } from "./before.js";

/**
 * @typedef {import("./data.js").Report} Report
 * @typedef {import("./data.js").Attempt} Attempt
 * @typedef {import("./data.js").Test} Test
 * @typedef {import("./data.js").Trace} Trace
 * @typedef {import("./data.js").Leak} Leak
 * @typedef {import("./data.js").Process} Process
 * @typedef {import("./data.js").Peer} Peer
 */

/** Lines of a table before the rest is asked for. */
const MANY = 100;

/** @param {string} text */
function quote(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** @param {string} text */
function command(text) {
  return el("div", { class: "command" }, el("code", null, visible(text)), copyButton(text));
}

/** @param {[string, any][]} entries */
function facts(entries) {
  const shown = entries.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return el("dl", null, shown.map(([name, value]) => [el("dt", null, name), el("dd", null, value)]).flat());
}

/** The numbers of an attempt that have names of budgets. @type {Record<string, string>} */
const MEASURES = {
  "disk.read": "Read from disks", "disk.written": "Written to disks", "files.opened": "Files opened",
  "calls.files": "System calls on files", "calls.network": "System calls on sockets",
};

/** @param {Attempt} attempt @returns {[string, string][]} */
function measured(attempt) {
  return (attempt.measured ?? []).map(([name, value]) =>
    [MEASURES[name] ?? name, name.startsWith("disk.") ? size(Number(value)) : value]);
}

/** The address of a file beside the page. @param {string} file */
function beside(file) {
  return file.split("/").map(encodeURIComponent).join("/");
}

/**
 * @param {string} title
 * @param {string | undefined} text
 * @param {number} written
 * @param {import("./data.js").Whole | null} [whole]
 */
function output(title, text, written, whole) {
  if (!text) return written ? el("p", { class: "dim" }, `${title}: ${size(written)}, not kept`) : null;
  return el("section", null, el("h3", null, title),
    whole?.file && el("p", null, el("a", { href: beside(whole.file) }, `The whole of it (${size(written)})`)),
    whole?.why && el("p", { class: "slow" }, `No file has the whole of it: ${visible(whole.why)}`),
    el("pre", { tabindex: 0, "aria-label": title }, colored(text)));
}

/**
 * A table, whose rows after the first hundred come when they are asked for.
 * @param {string} title
 * @param {string[]} columns
 * @param {any[][]} rows
 */
function table(title, columns, rows) {
  if (!rows.length) return null;
  const body = el("tbody", null);
  const draw = (/** @type {any[][]} */ part) => part.forEach((row) => body.appendChild(
    el("tr", null, row.map((cell) => el("td", { class: "name" }, cell)))));
  draw(rows.slice(0, MANY));
  const more = rows.length > MANY && el("button", {
    type: "button", class: "more",
    onclick: () => {
      draw(rows.slice(MANY));
      more.remove();
    },
  }, `Show ${rows.length - MANY} more`);
  return el("section", null, el("h3", null, `${title} (${rows.length})`),
    el("div", { class: "scroll" }, el("table", null,
      el("thead", null, el("tr", null, columns.map((name) => el("th", { scope: "col" }, name)))), body)), more);
}

/** The processes as a tree. @param {Report} report @param {Process[]} counted whose ids are counted from the first */
function tree(report, counted) {
  const { strings } = report.details;
  if (!counted.length) return null;
  const first = counted[0][0];
  const processes = counted.map(([pid, creator, ...rest], at) => /** @type {Process} */ (
    at === 0 ? [pid, creator, ...rest] : [pid + first, creator === null ? null : creator + first, ...rest]));
  /** @type {Map<number, Process[]>} */
  const children = new Map();
  const known = new Set(processes.map((process) => process[0]));
  const roots = [];
  for (const process of processes) {
    const creator = process[1];
    if (creator === null || !known.has(creator) || creator === process[0]) roots.push(process);
    else children.set(creator, [...(children.get(creator) ?? []), process]);
  }
  const shown = new Set();
  /** @type {(process: Process, depth: number) => any} */
  const item = (process, depth) => {
    if (shown.has(process) || depth > 200) return null;
    shown.add(process);
    const [pid, , from, to, end, args] = process;
    const lasted = to === null ? "alive at the end" : time(Math.max(to - from, 0));
    const below = (children.get(pid) ?? []).map((child) => item(child, depth + 1)).filter((it) => it);
    return el("li", null, el("code", null, visible(strings[args])), " ",
      el("span", { class: "dim" }, `pid ${pid}, from ${time(from)}, ${lasted}, ${strings[end]}`),
      below.length > 0 && el("ul", null, below));
  };
  return el("section", null, el("h3", null, `Processes (${processes.length})`),
    el("ul", { class: "tree" }, roots.map((root) => item(root, 0)).filter((it) => it)));
}

/** @param {Report} report @param {Trace} trace @param {import("./data.js").Whole} [file] */
function traced(report, trace, file) {
  const { strings, sets } = report.details;
  const [processes, files, peers] = trace.dropped;
  const left = [[processes, "processes"], [files, "files"], [peers, "addresses"]].filter(([count]) => count)
    .map(([count, word]) => `${count} ${word}`).join(", ");
  return [
    tree(report, trace.processes),
    table("Files", ["Path", "Use"], sets[trace.files].map((/** @type {number[]} */ file) =>
      [visible(strings[file[0]]), strings[file[1]]])),
    table("Network", ["Operation", "Address", "Names", "Times", "Error"], sets[trace.peers].map((/** @type {Peer} */ peer) =>
      [peer[0], visible(strings[peer[1]]), visible(peer[2].join(", ")), String(peer[3]), peer[4] ?? ""])),
    table("Last failed calls", ["After", "Process", "Call", "Of", "Error"], trace.failures.map((failure) =>
      [time(failure[0]), String(failure[1]), failure[2], visible(strings[failure[3]]), failure[4]])),
    el("p", { class: "dim" }, `Traced at level ${trace.level} by ${trace.backend}`,
      trace.doubts.length ? `; not complete: ${visible(trace.doubts.join("; "))}` : "; complete",
      left && `; ${left} did not fit`),
    file?.file && el("p", null, el("a", { href: beside(file.file) }, "Every event of the trace, a line each")),
    file?.why && el("p", { class: "slow" }, `No file has the events of the trace: ${visible(file.why)}`),
  ];
}

/** @param {Leak | undefined} leak */
function leaked(leak) {
  if (!leak) return null;
  const rows = leak.survivors.map((survivor) => [
    el("code", null, visible(survivor.command)), String(survivor.pid),
    `${survivor.killed ? "killed" : "ended by itself"} after ${time(survivor.outlived)}`,
    visible(survivor.holds.map((held) => (typeof held === "string" ? held : JSON.stringify(held))).join(", ")),
  ]);
  return [
    el("p", null, leak.outputOpen && "An output stream was still open. ", leak.late > 0 && `${size(leak.late)} of output came late. `,
      leak.allowed && "The profile allows that."),
    table("Left behind", ["Process", "Id", "End", "Held"], rows),
  ];
}

/** @param {Report} report @param {Attempt} attempt */
function panel(report, attempt) {
  // The backtrace is in the output below.
  const message = attempt.message?.replace(/\n+(?:stack backtrace:|note: run with `RUST_BACKTRACE)[^]*/, "");
  const values = message ? sides(message) : null;
  return [
    attempt.closing && el("p", null, el("strong", null, visible(attempt.closing))),
    attempt.disturbed && el("p", { class: "slow" }, visible(attempt.disturbed)),
    ...(attempt.injected ?? []).map((line) => el("p", { class: "slow" }, visible(line))),
    ...(attempt.policy ?? []).map((line) => el("p", { class: "slow" }, visible(line))),
    ...(attempt.slow ?? []).map((line) => el("p", { class: "slow" }, visible(line))),
    ...(attempt.budget ?? []).map((line) => el("p", { class: "slow" }, visible(line))),
    message && el("section", null, el("h3", null, "Message"), el("pre", { class: "message", tabindex: 0, "aria-label": "Message" }, visible(message))),
    values && el("section", null, el("h3", null, "Difference"), difference(values)),
    table("Metrics", ["Metric", "Value"], (attempt.metrics ?? []).map((metric) => [visible(metric[0]), visible(metric[1])])),
    output("Standard error", attempt.stderr, attempt.written[1], attempt.whole?.[1]),
    output("Standard output", attempt.stdout, attempt.written[0], attempt.whole?.[0]),
    leaked(attempt.leak),
    table("Tasks when its time was up", ["Process", "Task", "Command", "Thread", "State"], (attempt.stuck ?? []).map((task) =>
      [String(task[0]), String(task[1]), visible(task[2]), visible(task[3]), visible(task[4])])),
    el("section", null, el("h3", null, "Resources"), facts([
      ["Started", `${time(attempt.start)} after the run`], ["Time", time(attempt.ms)],
      ["Slot", attempt.slot === undefined ? null : String(attempt.slot)],
      ["Ran on", attempt.elsewhere ? visible(attempt.elsewhere.at) : null],
      ["There", attempt.elsewhere ? attempt.elsewhere.parts.map(([part, ms]) => `${part} ${time(ms)}`).join(", ") : null],
      ["Tries without a result", attempt.elsewhere?.earlier.length ? visible(attempt.elsewhere.earlier.join("; ")) : null],
      ["CPU time", `${time(attempt.user)} in user mode, ${time(attempt.system)} in the kernel`],
      ["Peak memory", attempt.memory ? `${size(attempt.memory)} of one process` : null],
      ["Peak of all together", attempt.treeMemory === undefined ? null : size(attempt.treeMemory)],
      ["Held back by cpu-max", attempt.throttled === undefined ? null : time(attempt.throttled)],
      ["Processes", attempt.processes === null ? null : String(attempt.processes)],
      ["Context switches", `${attempt.switches[0]} voluntary, ${attempt.switches[1]} involuntary`],
      ...measured(attempt),
      ["Output", `${size(attempt.written[0])} and ${size(attempt.written[1])}`],
      ["Process id", attempt.pid === null ? null : String(attempt.pid)],
    ])),
    attempt.trace && traced(report, attempt.trace, attempt.traceFile),
  ].flat();
}

/** The attempts of a test in tabs. @param {Report} report @param {Test} test */
function attempts(report, test) {
  if (test.attempts.length === 1) return [el("div", null, panel(report, test.attempts[0]))];
  const wanted = test.attempts.findIndex((attempt) => attempt.n === readState().attempt);
  const worst = test.attempts.findIndex((attempt) => !attempt.passed);
  const holder = el("div", { role: "tabpanel", id: "attempt", tabindex: 0 });
  /** @type {HTMLElement[]} */
  const tabs = [];
  const select = (/** @type {number} */ at) => {
    tabs.forEach((tab, other) => {
      tab.setAttribute("aria-selected", String(other === at));
      tab.tabIndex = other === at ? 0 : -1;
    });
    holder.setAttribute("aria-labelledby", tabs[at].id);
    holder.replaceChildren(...panel(report, test.attempts[at]).filter((/** @type {any} */ it) => it));
  };
  const go = (/** @type {number} */ at) => {
    replaceState({ attempt: test.attempts[at].n });
    select(at);
    tabs[at].focus();
  };
  test.attempts.forEach((attempt, at) => tabs.push(el("button", {
    type: "button", role: "tab", id: `attempt-${attempt.n}`, "aria-controls": "attempt", onclick: () => go(at),
    onkeydown: (/** @type {KeyboardEvent} */ event) => {
      const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (by) go((at + by + tabs.length) % tabs.length);
    },
  }, `Attempt ${attempt.n}: ${attempt.status}`)));
  select(wanted < 0 ? Math.max(worst, 0) : wanted);
  return [el("div", { class: "bar", role: "tablist", "aria-label": "Attempts" }, tabs), holder];
}

/** The row of a test by its identity, or -1. @param {Report} report @param {string} test */
export function find(report, test) {
  for (let row = 0; row < report.length; row += 1) if (key(report, row) === test) return row;
  return -1;
}

/** The neighbour of a test in the list. @param {Report} report @param {string} test @param {number} by */
export function neighbour(report, test, by) {
  const rows = chosen(report, readState());
  const at = rows.findIndex((row) => key(report, row) === test);
  const row = rows[at + by];
  return row === undefined ? null : address({ test: key(report, row), attempt: 0 });
}

/** The view. @param {Report} report @param {HTMLElement} main @param {string} test */
export async function detailsView(report, main, test) {
  const row = find(report, test);
  if (row < 0) {
    main.replaceChildren(el("h2", null, "There is no such test"), el("p", null, el("a", { href: address({ test: "" }) }, "All tests")));
    return;
  }
  const kind = KINDS[report.kind(row)].word;
  const [binary, name] = [report.binary(row), report.name(row)];
  const before = neighbour(report, test, -1);
  const after = neighbour(report, test, 1);
  const head = el("h2", { tabindex: -1 }, el("span", { class: "binary" }, visible(binary), " "), visible(name));
  const parts = [
    el("div", { class: "bar" }, el("a", { href: address({ test: "", attempt: 0 }) }, "← All tests"),
      before && el("a", { href: before }, "Previous"), after && el("a", { href: after }, "Next")),
    head,
    el("p", null, el("span", { class: `status ${kind}` }, report.status(row)), " ",
      el("span", { class: "dim" }, visible([report.place(row), report.message(row)].filter((part) => part).join(": ")))),
  ];
  main.replaceChildren(...parts);
  head.focus();
  const details = await report.detailsOf(row);
  if (readState().test !== test) return;
  // An iteration of a stress run is an instance of this test.
  const itself = binary.replace(/@stress-\d+$/, "");
  const filter = `binary_id(=${itself}) & test(=${name})`;
  const rest = [
    report.disturbed(row) && el("p", { class: "slow" }, visible(`The last attempt ${report.disturbed(row)}.`)),
    details?.quarantine && el("p", { class: "quarantined" }, visible(details.quarantine)),
    command(`cargo harness run -E ${quote(filter)}`),
    details?.attempts.some((attempt) => attempt.trace) && command(`cargo harness trace ${quote(binary)} ${quote(name)}`),
    details && resultBefore(report, row),
    ...(details ? attempts(report, details) : [el("p", { class: "dim" }, "It did not run to its end.")]),
  ];
  main.append(...rest.filter((it) => it));
}
