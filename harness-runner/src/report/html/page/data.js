// The data in the page: an index, which is read at once, and the details of tests, which are read when
// they are asked for.

import { byId } from "./dom.js";

// What is true of a test; more than one of them may be.
export const FAILED = 1;
export const FLAKY = 2;
export const SLOW = 4;
export const LEAKY = 8;
export const INTERRUPTED = 16;
export const QUARANTINED = 32;
export const SKIPPED = 64;
export const NOT_RUN = 128;

/** Kinds of results, the worst first. */
export const KINDS = [
  { flag: FAILED, word: "failed" },
  { flag: FLAKY, word: "flaky" },
  { flag: QUARANTINED, word: "quarantined" },
  { flag: INTERRUPTED, word: "interrupted" },
  { flag: LEAKY, word: "leaky" },
  { flag: SLOW, word: "slow" },
  { flag: 0, word: "passed" },
  { flag: NOT_RUN, word: "notrun" },
  { flag: SKIPPED, word: "skipped" },
];

/**
 * Columns of rows. Times are milliseconds; `earlier` are the attempts before the last: row, slot, start, time.
 * @typedef {{ binary: number[], name: string[], status: number[], flags: number[], start: number[], ms: number[],
 *   slot: number[], attempts: number[], cpu: number[], memory: number[], processes: number[], disk: number[], file: number[],
 *   line: number[] }} Lists
 * @typedef {{ place: Record<number, string>, message: Record<number, string>, disturbed: Record<number, string>,
 *   elsewhere: Record<number, string> }} Reasons
 * @typedef {Lists & Reasons & { earlier: [number, number, number, number][] }} Columns
 *
 * @typedef {{ id: string, rerunOf: string | null, started: string, profile: string, command: string, root: string,
 *   slots: number, tests: number, skipped: number, program: string, trace: string, degraded: string | null,
 *   host: string | null, seed: string | null }} Run
 * @typedef {{ elapsed: number, cancelled: string | null, failedScripts: number, causes: string[],
 *   credentials: string | null }} Finished
 * @typedef {{ version: number, run: Run | null, finished: Finished | null, counts: [number, string][],
 *   elapsed: number, binaries: string[], statuses: string[], files: string[], rows: Columns, skipped: Columns }} Index
 *
 * A process: its id and its creator's (counted from the first), start, end, how it ended and its command as strings.
 * @typedef {[number, number | null, number, number | null, number, number]} Process
 * An operation, an address as a string, names, times, an error.
 * @typedef {[string, number, string[], number, string | null]} Peer
 * @typedef {{ level: string, backend: string, doubts: string[], processes: Process[], files: number, peers: number,
 *   failures: [number, number, string, number, string][], dropped: [number, number, number] }} Trace
 * @typedef {{ pid: number, command: string, killed: boolean, outlived: number, age: number | null, holds: unknown[] }} Survivor
 * @typedef {{ survivors: Survivor[], outputOpen: boolean, late: number, allowed: boolean }} Leak
 * The file of a stream that the page has only the ends of, or why there is none.
 * @typedef {{ file?: string, why?: string }} Whole
 * Where an attempt ran that did not run on the machine of the run, the times of its parts, and why earlier tries had no result.
 * @typedef {{ at: string, parts: [string, number][], earlier: string[] }} Elsewhere
 * @typedef {{ n: number, status: string, passed: boolean, ms: number, pid: number | null, user: number, system: number,
 *   memory: number, processes: number | null, switches: [number, number], written: [number, number], slot?: number,
 *   start: number, elsewhere?: Elsewhere, closing?: string, disturbed?: string, injected?: string[], policy?: string[], budget?: string[], slow?: string[], metrics?: [string, string][], measured?: [string, string][], treeMemory?: number, throttled?: number, message?: string,
 *   stdout?: string, stderr?: string, whole?: (Whole | null)[], traceFile?: Whole, leak?: Leak, stuck?: [number, number, string, string, string][],
 *   trace?: Trace }} Attempt
 * @typedef {{ attempts: Attempt[], total: number, quarantine: string | null }} Test
 * Of the only attempt of a test the index has some.
 * @typedef {"ms" | "start" | "slot" | "system" | "processes"} Indexed
 * @typedef {Omit<Attempt, Indexed> & Partial<Pick<Attempt, Indexed>>} KeptAttempt
 * @typedef {Omit<Test, "attempts"> & { attempts: KeptAttempt[] }} KeptTest
 *
 * Facts of two traces: the list that a fact is in, and its text as a string. Of traces of two levels only the level.
 * @typedef {{ new: [string, number][], gone: [string, number][], more: number, whole: [boolean, boolean] } |
 *   { level: string }} Traces
 * A result of an earlier run: the run, its status, whether it passed, time, attempts, message, traces.
 * @typedef {[number, number, boolean, number, number, string | null, Traces | null]} Earlier
 * @typedef {{ runs: { id: string, started: string }[], statuses: string[], results: Record<number, Earlier> }} Before
 *
 * Sets are of files (path and uses as strings) or of peers.
 * @typedef {{ strings: string[], sets: any[][], before: Before, tests: (KeptTest | null)[] }} Details
 */

/**
 * Unpacks what an element of the page holds.
 * @param {string} id
 * @returns {Promise<any>}
 */
async function unpack(id) {
  const element = byId(id);
  const packed = atob(element.textContent);
  element.textContent = "";
  const bytes = Uint8Array.from(packed, (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).json();
}

/** The run and all tests. Rows of skipped tests come after the others. */
export class Report {
  /** @param {Index} index */
  constructor(index) {
    this.index = index;
    /** @type {Partial<Run>} */
    this.run = index.run ?? {};
    const { rows, skipped } = index;
    this.ran = rows.name.length;
    const { earlier, place, message, disturbed, elsewhere, ...lists } = rows;
    /** @type {Record<string, any[]>} */
    const columns = {};
    for (const [name, list] of Object.entries(lists)) columns[name] = [...list, .../** @type {any} */ (skipped)[name]];
    /** @type {Lists & Reasons} */
    this.rows = { .../** @type {any} */ (columns), place, disturbed, elsewhere, message: { ...message } };
    for (const [row, message] of Object.entries(skipped.message)) this.rows.message[this.ran + Number(row)] = message;
    this.earlier = earlier;
    this.length = this.rows.name.length;
    /** @type {string[] | null} */
    this.searched = null;
    /** Rows by the name of an order. @type {Map<string, number[]>} */
    this.orders = new Map();
    /** They are there when they have been read. @type {Details} */
    this.details = { strings: [], sets: [], before: { runs: [], statuses: [], results: {} }, tests: [] };
    /** @type {Promise<Details> | null} */
    this.reading = null;
  }

  static async read() {
    return new Report(await unpack("index"));
  }

  /** @param {number} row @returns {string} */
  binary(row) {
    return this.index.binaries[this.rows.binary[row]];
  }

  /** @param {number} row @returns {string} */
  name(row) {
    return this.rows.name[row];
  }

  /** @param {number} row @returns {string} */
  status(row) {
    return this.index.statuses[this.rows.status[row]];
  }

  /** Where a failure is, or else where the test is. @param {number} row @returns {string} */
  place(row) {
    const file = this.rows.file[row];
    return this.rows.place[row] ?? (file < 0 ? "" : `${this.index.files[file]}:${this.rows.line[row]}`);
  }

  /** @param {number} row @returns {string} */
  message(row) {
    return this.rows.message[row] ?? "";
  }

  /** Where the last attempt ran, if not on the machine of the run. @param {number} row @returns {string} */
  elsewhere(row) {
    return this.rows.elsewhere[row] ?? "";
  }

  /** Which other test disturbed it. @param {number} row @returns {string} */
  disturbed(row) {
    return this.rows.disturbed[row] ?? "";
  }

  /** The worst kind of a row, by its place in `KINDS`. @param {number} row */
  kind(row) {
    const flags = this.rows.flags[row];
    return KINDS.findIndex((kind) => (kind.flag ? flags & kind.flag : flags === 0));
  }

  /** The text of each row that is searched, in lower case. @returns {string[]} */
  texts() {
    if (!this.searched) {
      this.searched = Array.from({ length: this.length }, (_, row) =>
        `${this.binary(row)} ${this.name(row)}\n${this.message(row)}\n${this.place(row)}`.toLowerCase());
    }
    return this.searched;
  }

  /** Reads the details of all tests, once. */
  async readDetails() {
    this.reading ??= unpack("details");
    this.details = await this.reading;
    return this.details;
  }

  /** The details of a test, with what only the index has of them. @param {number} row @returns {Promise<Test | null>} */
  async detailsOf(row) {
    const details = (await this.readDetails()).tests[row];
    if (!details) return null;
    const { rows } = this;
    const attempts = details.attempts.map((attempt) => ({
      ms: rows.ms[row], start: rows.start[row], slot: rows.slot[row], processes: rows.processes[row] || null,
      system: Math.max(rows.cpu[row] - attempt.user, 0), ...attempt,
    }));
    return { ...details, attempts };
  }

  /**
   * The rows that used a file, an address or a command with this text.
   * @param {string} word in lower case
   * @returns {Set<number>}
   */
  using(word) {
    const found = new Set();
    const { strings, sets, tests } = this.details;
    const matches = strings.map((text) => text.toLowerCase().includes(word));
    const inSet = sets.map((set) =>
      set.some((entry) => matches[typeof entry[0] === "number" ? entry[0] : entry[1]]));
    tests.forEach((test, row) => {
      const uses = (/** @type {KeptAttempt} */ attempt) => attempt.trace && (inSet[attempt.trace.files] ||
        inSet[attempt.trace.peers] || attempt.trace.processes.some((process) => matches[process[5]]));
      if (test?.attempts.some(uses)) found.add(row);
    });
    return found;
  }
}

/** @param {number} ms */
export function time(ms) {
  if (ms >= 60000) return `${Math.floor(ms / 60000)}m ${((ms % 60000) / 1000).toFixed(1)}s`;
  if (ms >= 1000) return `${(ms / 1000).toFixed(2)} s`;
  return `${ms.toFixed(ms < 10 ? 2 : 0)} ms`;
}

/** @param {number} bytes */
export function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (bytes >= 1024 && unit < units.length - 1) {
    bytes /= 1024;
    unit += 1;
  }
  return `${bytes.toFixed(unit ? 1 : 0)} ${units[unit]}`;
}
