// Charts in SVG: lines over time, and the picture of a walk.

const SVG = "http://www.w3.org/2000/svg";

/** Adds an element to a parent and returns it. `text` is its text content. */
export function add(parent, name, attributes = {}, text = null) {
  const isSvg = parent.namespaceURI === SVG;
  const element = isSvg ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== null) element.textContent = text;
  parent.append(element);
  return element;
}

/** A number as people read it: 12,345, 12.3, 0.0123. */
export function readable(value) {
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : Math.abs(value) >= 1 ? 2 : 3;
  return value.toLocaleString("en", { maximumFractionDigits: digits });
}

/** The smallest of 1, 2, 5, 10, 20, ... that is at least `value`. */
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999999);
}

/**
 * Draws lines over time. `series` is a list of {name, kind, values}: `kind` is the colour's class, `values` has a
 * number or null for each of the last `length` seconds, the newest last.
 */
export function drawLines(svg, series, length) {
  const { width, height } = svg.getBoundingClientRect();
  const left = 44, right = 8, top = 16, bottom = 16;
  svg.replaceChildren();
  const largest = Math.max(0, ...series.flatMap((line) => line.values.filter((value) => value !== null)));
  const limit = largest > 0 ? roundUp(largest) : 1;
  const x = (index) => left + (index / (length - 1)) * (width - left - right);
  const y = (value) => height - bottom - (value / limit) * (height - top - bottom);
  for (const share of [0, 0.5, 1]) {
    add(svg, "line", { class: "grid", x1: left, x2: width - right, y1: y(share * limit), y2: y(share * limit) });
    add(svg, "text", { x: left - 6, y: y(share * limit) + 4, "text-anchor": "end" }, readable(share * limit));
  }
  add(svg, "text", { x: left, y: height - 3 }, `${length} s ago`);
  add(svg, "text", { x: width - right, y: height - 3, "text-anchor": "end" }, "now");
  let labelX = width - right;
  for (const line of [...series].reverse()) {
    const last = line.values.at(-1);
    const value = last === null || last === undefined ? "–" : readable(last);
    const text = add(svg, "text", { class: line.kind, x: labelX, y: 10, "text-anchor": "end" }, `${line.name} ${value}`);
    labelX -= text.getComputedTextLength() + 12;
    const start = length - line.values.length;
    let path = "";
    line.values.forEach((value, index) => {
      if (value === null) return;
      const isNew = index === 0 || line.values[index - 1] === null;
      path += `${isNew ? "M" : "L"}${x(start + index).toFixed(1)} ${y(value).toFixed(1)}`;
      // A single point has no length: a short dash shows it.
      if (isNew && (line.values[index + 1] ?? null) === null) path += "h2";
    });
    add(svg, "path", { class: `series ${line.kind}`, d: path });
  }
}

/** Steps from the entry points to each item over the links between the items, and the best item before each. */
export function layersOf(items, entryPoints, links) {
  const score = new Map(items.map((item) => [item.id, item.score]));
  const from = new Map();
  for (const [start, end] of links) {
    if (!from.has(start)) from.set(start, []);
    from.get(start).push(end);
  }
  const step = new Map(entryPoints.filter((id) => score.has(id)).map((id) => [id, 0]));
  const before = new Map();
  let frontier = [...step.keys()];
  for (let depth = 1; frontier.length; depth++) {
    const next = [];
    for (const start of frontier.sort((a, b) => score.get(b) - score.get(a))) {
      for (const end of from.get(start) ?? []) {
        if (step.has(end)) continue;
        step.set(end, depth);
        before.set(end, start);
        next.push(end);
      }
    }
    frontier = next;
  }
  return { step, before };
}

/** A number in [-0.5, 0.5) that depends on the id alone: the same item always stands at the same place. */
function spread(id) {
  let hash = 2166136261;
  for (const character of id) hash = Math.imul(hash ^ character.charCodeAt(0), 16777619);
  return ((hash >>> 8) % 1000) / 1000 - 0.5;
}

/** Draws items by steps and score. `results` are ids, best first; `nameOf` gives the label of an id. */
export function drawWalk(svg, items, graph, results, nameOf) {
  const { width, height } = svg.getBoundingClientRect();
  const left = 52, right = 150, top = 14, bottom = 24;
  svg.replaceChildren();
  const { step, before } = layersOf(items, graph.entry_points, graph.links);
  const steps = Math.max(0, ...step.values());
  const shown = items.filter((item) => step.has(item.id));
  const scores = shown.map((item) => item.score);
  const lowest = Math.min(...scores), highest = Math.max(...scores);
  const column = (width - left - right) / (steps + 1);
  const place = new Map(shown.map((item) => [item.id, {
    x: left + column * (step.get(item.id) + 0.5 + 0.7 * spread(item.id)),
    y: top + ((highest - item.score) / (highest - lowest || 1)) * (height - top - bottom),
  }]));
  for (const share of [0, 0.5, 1]) {
    const y = top + share * (height - top - bottom);
    add(svg, "line", { class: "grid", x1: left, x2: width - right, y1: y, y2: y });
    add(svg, "text", { x: left - 6, y: y + 4, "text-anchor": "end" }, readable(highest - share * (highest - lowest)));
  }
  for (let index = 0; index <= steps; index++) {
    const name = index === 0 ? "entry points" : index === 1 ? "1 step" : `${index} steps`;
    add(svg, "text", { x: left + column * (index + 0.5), y: height - 6, "text-anchor": "middle" }, name);
  }
  drawLinks(svg, before, place, results);
  const best = new Set(results);
  for (const item of shown) {
    const kind = best.has(item.id) ? "result" : step.get(item.id) === 0 ? "entry" : "kept";
    const { x, y } = place.get(item.id);
    const dot = add(svg, "circle", { class: kind, cx: x, cy: y, r: kind === "result" ? 4 : 2.5 });
    add(dot, "title", {}, `${nameOf(item.id)}: ${readable(item.score)}`);
  }
  drawNames(svg, results.filter((id) => place.has(id)), place, nameOf, height - bottom);
}

function drawLinks(svg, before, place, results) {
  const onTheWay = new Set();
  for (let id of results) {
    for (; before.has(id) && !onTheWay.has(id); id = before.get(id)) onTheWay.add(id);
  }
  const links = [...before].sort((a, b) => onTheWay.has(a[0]) - onTheWay.has(b[0]));
  for (const [id, start] of links) {
    const a = place.get(start), b = place.get(id);
    add(svg, "line", { class: onTheWay.has(id) ? "link to-result" : "link", x1: a.x, y1: a.y, x2: b.x, y2: b.y });
  }
}

/** Names the best results; a name that would cover another is left out. */
function drawNames(svg, results, place, nameOf, lowest) {
  const taken = [];
  for (const id of results.slice(0, 12)) {
    const { x, y } = place.get(id);
    const name = nameOf(id).slice(0, 28);
    const box = { x, y, end: x + 12 + name.length * 6.5 };
    const covers = (other) => Math.abs(other.y - y) < 13 && box.x < other.end && other.x < box.end;
    if (y > lowest || taken.some(covers)) continue;
    taken.push(box);
    add(svg, "text", { class: "title", x: x + 7, y: y + 4 }, name);
  }
}
