// Text of tests: colours of the terminal become spans, and what cannot be seen is shown as an escape.

import { el } from "./dom.js";

/** Control characters, and those that reorder or hide text. */
// eslint-disable-next-line no-control-regex
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g;
// eslint-disable-next-line no-control-regex
const SEQUENCE = /\u001b\[([0-9;:]*)m|\u001b\[[0-?]*[ -/]*[@-~]|\u001b\][^\u0007\u001b]*(?:\u0007|\u001b\\)|\u001b[@-_]/g;

/** Shows characters that cannot be seen as escapes. @param {string} text */
export function visible(text) {
  return text.replace(HIDDEN, (c) => `\\u{${c.charCodeAt(0).toString(16)}}`);
}

/** Appends text with its hidden characters as escapes. @param {Node} to @param {string} text */
function append(to, text) {
  let from = 0;
  for (const match of text.matchAll(HIDDEN)) {
    if (match.index > from) to.appendChild(document.createTextNode(text.slice(from, match.index)));
    to.appendChild(el("span", { class: "ctl" }, visible(match[0])));
    from = match.index + match[0].length;
  }
  if (from < text.length) to.appendChild(document.createTextNode(text.slice(from)));
}

/** @typedef {{ classes: Set<string>, color: string, ground: string }} Pen */

/** Changes the pen as a sequence says (ECMA-48, SGR). @param {Pen} pen @param {string} parameters */
function sgr(pen, parameters) {
  const codes = parameters.split(/[;:]/).map(Number);
  for (let at = 0; at < codes.length; at += 1) {
    const code = codes[at];
    if (code === 0) {
      pen.classes.clear();
      pen.color = pen.ground = "";
    } else if (code === 1) pen.classes.add("bold");
    else if (code === 2) pen.classes.add("faint");
    else if (code === 3) pen.classes.add("italic");
    else if (code === 4) pen.classes.add("under");
    else if (code === 7) pen.classes.add("reverse");
    else if (code === 22) ["bold", "faint"].forEach((name) => pen.classes.delete(name));
    else if (code === 23) pen.classes.delete("italic");
    else if (code === 24) pen.classes.delete("under");
    else if (code === 27) pen.classes.delete("reverse");
    else if ((code >= 30 && code <= 37) || (code >= 90 && code <= 97)) pen.color = `a${code % 10}`;
    else if (code === 39) pen.color = "";
    else if (code === 38 || code === 48) {
      const [color, used] = extended(codes.slice(at + 1));
      if (code === 38) pen.color = color;
      else pen.ground = color;
      at += used;
    } else if ((code >= 40 && code <= 47) || (code >= 100 && code <= 107)) pen.ground = `a${code % 10}`;
    else if (code === 49) pen.ground = "";
  }
}

/** Reads a colour of 256, or of red, green and blue. @param {number[]} codes @returns {[string, number]} */
function extended(codes) {
  if (codes[0] === 2) return [`rgb(${codes.slice(1, 4).map((code) => code & 255).join(" ")})`, 4];
  const code = codes[1] ?? 0;
  if (code < 16) return [`a${code % 8}`, 2];
  const level = (/** @type {number} */ step) => (step ? 55 + 40 * step : 0);
  const cube = code - 16;
  const rgb = code > 231 ? Array(3).fill(8 + 10 * (code - 232))
    : [level(Math.floor(cube / 36)), level(Math.floor(cube / 6) % 6), level(cube % 6)];
  return [`rgb(${rgb.join(" ")})`, 2];
}

/** @param {Pen} pen @param {string} text */
function painted(pen, text) {
  const classes = [...pen.classes];
  if (/^a\d$/.test(pen.color)) classes.push(pen.color);
  const span = el("span", classes.length ? { class: classes.join(" ") } : null);
  if (pen.color.startsWith("rgb")) span.style.color = pen.color;
  if (pen.ground) span.style.backgroundColor = pen.ground.startsWith("rgb") ? pen.ground : `var(--${pen.ground})`;
  if (/^a\d$/.test(pen.ground)) span.style.color = "var(--back)";
  append(span, text);
  return span;
}

/** Returns output with its colours. @param {string} text */
export function colored(text) {
  const fragment = document.createDocumentFragment();
  /** @type {Pen} */
  const pen = { classes: new Set(), color: "", ground: "" };
  text = text.replace(/\r\n/g, "\n").replace(/\r/g, "\n");
  let from = 0;
  const add = (/** @type {string} */ part) => {
    if (!part) return;
    if (pen.classes.size || pen.color || pen.ground) fragment.appendChild(painted(pen, part));
    else append(fragment, part);
  };
  for (const match of text.matchAll(SEQUENCE)) {
    add(text.slice(from, match.index));
    if (match[1] !== undefined) sgr(pen, match[1]);
    from = match.index + match[0].length;
  }
  add(text.slice(from));
  return fragment;
}
