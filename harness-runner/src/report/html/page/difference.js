// The difference of the two values of a failed assertion.

import { el } from "./dom.js";
import { visible } from "./text.js";

/** More words than these are not compared one by one. */
const MOST = 1500;

/** Finds `left:` and `right:` in a message. @param {string} message @returns {[string, string] | null} */
export function sides(message) {
  const found = /^ *left: ([^]*?)\n *right: ([^]*?)(?:\n(?:stack backtrace:|note: )[^]*|\n\n[^]*|$)/m.exec(message);
  return found ? [found[1].trimEnd(), found[2].trimEnd()] : null;
}

/** @param {string} text */
function words(text) {
  return text.match(/[\p{L}\p{N}_]+|\s+|[^]/gu) ?? [];
}

/**
 * Marks the words of each side that the other one lacks: the longest common subsequence stays.
 * @param {string[]} left
 * @param {string[]} right
 * @returns {[boolean[], boolean[]]}
 */
function differing(left, right) {
  let start = 0;
  while (start < left.length && start < right.length && left[start] === right[start]) start += 1;
  let end = 0;
  while (end < Math.min(left.length, right.length) - start &&
    left[left.length - 1 - end] === right[right.length - 1 - end]) end += 1;
  const [rows, columns] = [left.length - start - end, right.length - start - end];
  const marks = [left, right].map((side) => side.map((_, at) => at >= start && at < side.length - end));
  if (rows > 0 && columns > 0 && rows <= MOST && columns <= MOST) {
    const width = columns + 1;
    const longest = new Uint16Array((rows + 1) * width);
    for (let row = rows - 1; row >= 0; row -= 1) {
      for (let column = columns - 1; column >= 0; column -= 1) {
        longest[row * width + column] = left[start + row] === right[start + column]
          ? longest[(row + 1) * width + column + 1] + 1
          : Math.max(longest[(row + 1) * width + column], longest[row * width + column + 1]);
      }
    }
    for (let row = 0, column = 0; row < rows && column < columns;) {
      if (left[start + row] === right[start + column]) {
        marks[0][start + row] = marks[1][start + column] = false;
        row += 1;
        column += 1;
      } else if (longest[(row + 1) * width + column] >= longest[row * width + column + 1]) row += 1;
      else column += 1;
    }
  }
  return [marks[0], marks[1]];
}

/** Returns both values with what differs marked. @param {[string, string]} values */
export function difference(values) {
  const parts = values.map(words);
  const marks = differing(parts[0], parts[1]);
  const side = (/** @type {number} */ number) => {
    const code = el("code", null);
    let at = 0;
    while (at < parts[number].length) {
      const marked = marks[number][at];
      let text = "";
      while (at < parts[number].length && marks[number][at] === marked) {
        text += parts[number][at];
        at += 1;
      }
      code.appendChild(marked ? el("mark", null, visible(text)) : document.createTextNode(visible(text)));
    }
    return el("div", null, el("span", { class: "side" }, ["left", "right"][number]), code);
  };
  return el("pre", { class: "difference", tabindex: 0, "aria-label": "left and right" }, side(0), side(1));
}
