// What is shown: it lives in the fragment of the address, so that a link shows the same and the browser's
// back button works.

/** @typedef {{ view: string, q: string, show: string[], sort: string, test: string, attempt: number }} State */

/** @returns {State} */
export function readState() {
  const from = new URLSearchParams(location.hash.slice(1));
  return {
    view: from.get("view") ?? "tests",
    q: from.get("q") ?? "",
    show: (from.get("show") ?? "").split(",").filter((word) => word),
    sort: from.get("sort") ?? "",
    test: from.get("test") ?? "",
    attempt: Number(from.get("attempt") ?? 0),
  };
}

/** Returns the address of a state that differs from the present one. @param {Partial<State>} change */
export function address(change) {
  const state = { ...readState(), ...change };
  const to = new URLSearchParams();
  if (state.view !== "tests") to.set("view", state.view);
  if (state.q) to.set("q", state.q);
  if (state.show.length) to.set("show", state.show.join(","));
  if (state.sort) to.set("sort", state.sort);
  if (state.test) to.set("test", state.test);
  if (state.test && state.attempt) to.set("attempt", String(state.attempt));
  return `#${to}`;
}

/** Changes the state without a step in the browser's history. @param {Partial<State>} change */
export function replaceState(change) {
  history.replaceState(null, "", address(change));
}
