// The page as a whole: its head, its views, and keys.

import { el, byId } from "./dom.js";
import { Report, time } from "./data.js";
import { readState, address } from "./state.js";
import { visible } from "./text.js";
import { listView } from "./list.js";
import { timelineView } from "./timeline.js";
import { rankingsView } from "./rankings.js";
import { detailsView, neighbour } from "./details.js";

const VIEWS = { tests: "Tests", timeline: "Timeline", rankings: "Rankings" };

const KEYS = [["/", "search"], ["j, k", "next and previous test"], ["Enter", "open the marked test"],
  ["Escape", "back to the tests"], ["t, l, r", "tests, timeline, rankings"], ["?", "these keys"]];

/** @param {Report} report */
function head(report) {
  const { run, index } = report;
  const counts = index.counts.map((/** @type {[number, string]} */ [count, word]) => `${count} ${word}`).join(", ");
  const ended = index.finished;
  byId("title").textContent = counts || "The run did not come to its end";
  const facts = [
    run.root, `started ${run.started}`, ended && `took ${time(ended.elapsed)}`,
    ended?.cancelled && `cancelled due to ${ended.cancelled}`, `profile ${run.profile}`, `trace ${run.trace}`,
    run.degraded, run.host, run.program, `run ${run.id}`, run.rerunOf && `rerun of ${run.rerunOf}`, run.seed && `shuffled with seed ${run.seed}`,
    run.command && `$ ${run.command}`,
  ];
  byId("facts").textContent = visible(facts.filter((it) => it).join(" · "));
  const causes = (ended?.causes ?? []).map((cause) => `Common cause of ${cause}`);
  const credentials = ended?.credentials ? [`Credentials: ${ended.credentials}`] : [];
  byId("facts").after(...[...causes, ...credentials].map((line) => el("p", { class: "slow" }, visible(line))));
}

/** @param {Report} report */
async function show(report) {
  const state = readState();
  const main = byId("main");
  byId("views").replaceChildren(...Object.entries(VIEWS).map(([view, title]) => el("a", {
    href: address({ view, test: "", attempt: 0 }), "aria-current": state.view === view && !state.test ? "page" : null,
  }, title)));
  if (state.test) await detailsView(report, main, state.test);
  else if (state.view === "timeline") timelineView(report, main);
  else if (state.view === "rankings") rankingsView(report, main);
  else listView(report, main);
}

/** Moves the mark in the list. @param {number} by */
function mark(by) {
  const rows = [...document.querySelectorAll("tbody tr[data-row]")];
  const at = rows.findIndex((row) => row.classList.contains("at"));
  const next = rows[Math.min(Math.max(at + by, 0), rows.length - 1)];
  rows[at]?.classList.remove("at");
  next?.classList.add("at");
  next?.querySelector("a")?.focus();
}

/** @param {Report} report @param {KeyboardEvent} event */
function pressed(report, event) {
  const inText = event.target instanceof HTMLInputElement && event.target.type !== "range";
  if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
  const state = readState();
  if (event.key === "Escape") {
    if (inText) event.target.blur();
    else if (state.test) location.hash = address({ test: "", attempt: 0 });
    return;
  }
  if (inText) return;
  const by = { j: 1, k: -1 }[event.key];
  const view = { t: "tests", l: "timeline", r: "rankings" }[event.key];
  if (by && state.test) {
    const next = neighbour(report, state.test, by);
    if (next) location.hash = next;
  } else if (by) mark(by);
  else if (view) location.hash = address({ view, test: "", attempt: 0 });
  else if (event.key === "/" && byId("search")) {
    event.preventDefault();
    byId("search").focus();
  } else if (event.key === "?") byId("help").showModal();
}

function help() {
  byId("help").append(
    el("h2", { id: "help-title" }, "Keys"),
    el("dl", null, KEYS.map(([keys, what]) => [el("dt", null, el("kbd", null, keys)), el("dd", null, what)]).flat()),
    el("form", { method: "dialog" }, el("button", null, "Close")));
}

function theme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
}

async function start() {
  byId("theme").addEventListener("click", theme);
  help();
  try {
    const report = await Report.read();
    head(report);
    await show(report);
    addEventListener("hashchange", () => show(report));
    document.addEventListener("keydown", (event) => pressed(report, event));
    document.documentElement.dataset.ready = "true";
  } catch (error) {
    byId("main").replaceChildren(el("p", null, `The data of this report cannot be read: ${error}. A browser of 2023 or later is needed.`));
  }
}

start();
