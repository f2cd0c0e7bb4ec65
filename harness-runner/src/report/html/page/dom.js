// Elements. Whatever comes from a test becomes a text node or the value of an attribute, and never markup.

/**
 * Makes an element.
 * @param {string} tag
 * @param {Record<string, any> | null} attributes those that begin with `on` are listeners
 * @param {...(Node | string | number | null | undefined | false | (Node | string)[])} children
 * @returns {any}
 */
export function el(tag, attributes, ...children) {
  const element = document.createElement(tag);
  set(element, attributes);
  fill(element, children);
  return element;
}

/**
 * Makes an element of a drawing.
 * @param {string} tag
 * @param {Record<string, any> | null} attributes
 * @param {...(Node | string)} children
 * @returns {any}
 */
export function svg(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  set(element, attributes);
  fill(element, children);
  return element;
}

/** @param {Element} element @param {Record<string, any> | null} attributes */
function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
}

/** @param {Node} element @param {any[]} children */
function fill(element, children) {
  for (const child of children.flat()) {
    if (child === null || child === undefined || child === false) continue;
    element.appendChild(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/** @param {string} id @returns {any} */
export function byId(id) {
  return document.getElementById(id);
}

/**
 * A button that copies a text.
 * @param {string} text
 */
export function copyButton(text) {
  const button = el("button", { type: "button", onclick: () => copy(text, button) }, "Copy");
  return button;
}

/** @param {string} text @param {HTMLElement} button */
async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    // Not every browser lets a page from disk do that.
    const code = button.parentElement?.querySelector("code");
    if (code) getSelection()?.selectAllChildren(code);
    button.textContent = "Selected";
  }
}
