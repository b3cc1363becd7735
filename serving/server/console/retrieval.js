// The form that runs a retrieval, its results, and the picture of the walk.

import { add, drawWalk, readable } from "./charts.js";

const $ = (id) => document.getElementById(id);
// Inputs of a search that have a field of their own.
const SEARCH = ["level_topn", "exclude_ids", "filter"];
// How many items the picture asks for.
const PICTURE_ITEMS = 1500;

export class Retrieval {
  /** `onSignatures(model, signatures)` is called when a model is chosen. */
  constructor(onSignatures) {
    this.onSignatures = onSignatures;
    $("model").addEventListener("change", () => this.chooseModel());
    $("signature").addEventListener("change", () => this.showInputs());
    $("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.retrieve();
    });
  }

  /** Offers the available versions; the choice stays while its version is there. */
  setModels(models) {
    const available = models.flatMap((model) => model.versions
      .filter((version) => version.state === "AVAILABLE")
      .map((version) => ({ model: model.name, version: version.version })));
    const before = $("model").value;
    $("model").replaceChildren();
    for (const { model, version } of available) {
      add($("model"), "option", { value: JSON.stringify([model, version]) }, `${model}, version ${version}`);
    }
    $("model").value = before;
    if ($("model").selectedIndex < 0) $("model").selectedIndex = 0;
    if ($("model").value !== before) this.chooseModel();
  }

  async chooseModel() {
    if (!$("model").value) return;
    const [model, version] = JSON.parse($("model").value);
    this.path = `/v1/models/${encodeURIComponent(model)}/versions/${version}`;
    this.query = `model=${encodeURIComponent(model)}&version=${version}`;
    try {
      const [metadata, about] = await Promise.all([
        asked(`${this.path}/metadata`), asked(`/console/model?${this.query}`),
      ]);
      this.signatures = metadata.metadata.signature_def.signature_def;
      this.about = about;
    } catch (error) {
      showProblem(error.message);
      return;
    }
    this.onSignatures(`${model}, version ${version}`, this.signatures);
    const searches = Object.keys(this.signatures).sort()
      .filter((name) => this.signatures[name].inputs.exclude_ids && this.signatures[name].inputs.level_topn);
    $("signature").replaceChildren();
    for (const name of searches) add($("signature"), "option", { value: name }, name);
    $("signature").value = searches.find((name) => name.startsWith("retrieve_by_ids")) ?? searches[0] ?? "";
    showProblem(searches.length ? "" : "No signature of this model is a search that takes exclude_ids.");
    this.showInputs();
  }

  showInputs() {
    const name = $("signature").value;
    $("retrieve").disabled = !name;
    $("inputs").replaceChildren();
    if (!name) return;
    const inputs = this.signatures[name].inputs;
    const example = this.about.examples[name] ?? {};
    const user = Object.keys(inputs).sort().filter((input) => !SEARCH.includes(input) && !isLength(input, inputs));
    for (const input of user) this.addField(input, inputs[input], firstRow(example[input]), userHint(inputs, input));
    const beams = this.about.manifest.level_topn ?? firstRow(example.level_topn);
    this.addField("level_topn", inputs.level_topn, beams, "beams: entry points, each hop, and the number of results");
    this.addField("exclude_ids", inputs.exclude_ids, "", "items that are not returned");
    if (inputs.filter) this.addField("filter", inputs.filter, "", "such as: category IN (3, 7) AND price <= 20");
  }

  addField(name, spec, value, hint) {
    const label = add($("inputs"), "label");
    add(label, "b", {}, name);
    const text = Array.isArray(value) ? asText(value) : String(value ?? "");
    const isLong = !SEARCH.includes(name);
    const field = add(label, isLong ? "textarea" : "input", { name, spellcheck: "false", autocomplete: "off" });
    field.value = text;
    add(label, "div", { class: "hint" }, hint);
  }

  async retrieve() {
    showProblem("");
    $("retrieve").disabled = true;
    try {
      const inputs = this.inputs();
      const started = performance.now();
      const answer = await this.predict(inputs);
      const millis = performance.now() - started;
      this.showResults(answer, millis);
      $("curl").textContent = `curl ${location.origin}${this.path}:predict -d '${this.body(inputs).replaceAll("'", "'\\''")}'`;
      await this.showWalk(inputs, answer);
    } catch (error) {
      showProblem(error.message);
    }
    $("retrieve").disabled = false;
  }

  /** The inputs as JSON text by name, of one user each. */
  inputs() {
    const specs = this.signatures[$("signature").value].inputs;
    const inputs = {};
    for (const field of $("inputs").querySelectorAll("input, textarea")) {
      const values = parseValues(field.name, field.value, specs[field.name]);
      if (field.name === "exclude_ids" && !values.length) values.push("-1");
      const length = `${field.name}_length`;
      if (specs[length] && isLength(length, specs)) {
        inputs[length] = `[${values.length}]`;
        if (!values.length) values.push(isText(specs[field.name]) ? '""' : "0");
      }
      inputs[field.name] = rowText(field.name, values, specs[field.name]);
    }
    return inputs;
  }

  body(inputs) {
    const parts = Object.entries(inputs).map(([name, text]) => `${JSON.stringify(name)}: ${text}`);
    return `{"signature_name": ${JSON.stringify($("signature").value)}, "inputs": {${parts.join(", ")}}}`;
  }

  async predict(inputs) {
    const { outputs } = await asked(`${this.path}:predict`, this.body(inputs));
    const ids = outputs.top_k[0].map(String);
    const items = ids.map((id, index) => ({ id, score: outputs.scores[0][index] })).filter((item) => item.id !== "-1");
    return { items, scored: outputs.items_scored?.[0], segment: outputs.applied_segment };
  }

  nameOf(id) {
    return this.about.titles[id] ?? `item ${id}`;
  }

  showResults({ items, scored, segment }, millis) {
    const total = this.about.manifest.index?.num_items;
    const share = total ? ` of ${readable(total)} (${readable((100 * scored) / total)} %)` : "";
    const counted = scored === undefined ? "" : `; the model scored ${readable(scored)}${share}`;
    const applied = segment === undefined ? "" : `; segment ${[segment].flat()[0]} applied`;
    $("summary").textContent = `${items.length} items in ${readable(millis)} ms${counted}${applied}`;
    const hasTitles = items.some((item) => item.id in this.about.titles);
    $("results").tHead.rows[0].cells[2].hidden = !hasTitles;
    const body = $("results").tBodies[0];
    body.replaceChildren();
    const highest = items[0]?.score ?? 0, lowest = items.at(-1)?.score ?? 0;
    items.forEach((item, index) => {
      const row = add(body, "tr");
      add(row, "td", { class: "number" }, String(index + 1));
      add(row, "td", { class: "number" }, item.id);
      if (hasTitles) add(row, "td", {}, this.about.titles[item.id] ?? "");
      add(row, "td", { class: "number" }, item.score.toFixed(4));
      const bar = add(add(row, "td", { class: "bar" }), "div");
      bar.style.width = `${10 + 90 * ((item.score - lowest) / (highest - lowest || 1))}%`;
    });
    $("found").hidden = false;
  }

  /** Asks once more with a large k for more of what is scored, and draws it over the links of the index. */
  async showWalk(inputs, answer) {
    const beams = JSON.parse(inputs.level_topn)[0];
    const kept = Math.min(beams.slice(0, -1).reduce((sum, beam) => sum + beam, 0), PICTURE_ITEMS);
    const wide = [...beams.slice(0, -1), Math.max(kept, beams.at(-1))];
    const { items, scored } = await this.predict({ ...inputs, level_topn: JSON.stringify([wide]) });
    const graph = await asked(`/console/graph?${this.query}`, `[${items.map((item) => item.id).join(", ")}]`);
    $("walk-figure").hidden = !graph.entry_points.length;
    if (!graph.entry_points.length) return;
    // A proxy walk scores more items where more results are asked for: this picture is of a request of its own.
    const counted = scored === undefined ? "" : `, for which the model scored ${readable(scored)} items`;
    $("walk-caption").textContent =
      `The walk, asked once more for ${readable(wide.at(-1))} results${counted}: the ${readable(items.length)} best, ` +
      `by score and by the links from an entry point to them. Filled dots are the ${answer.items.length} results; blue lines are the ways to them.`;
    drawWalk($("walk"), items, graph, answer.items.map((item) => item.id), (id) => this.nameOf(id));
  }
}

/** The JSON answer to a GET or, with a body, a POST. An error has the server's message. */
async function asked(path, body) {
  const answer = await fetch(path, body === undefined ? {} : { method: "POST", body });
  const text = await answer.text();
  // The server writes -Infinity, and integers of any size: JSON.parse refuses the one and rounds the other.
  const parsed = JSON.parse(path.endsWith(":predict") && answer.ok
    ? text.replace(/-?\b(Infinity|NaN)\b/g, "null").replace(/(?<![\w.])(-?\d{16,})(?![\w.])/g, '"$1"')
    : text);
  if (!answer.ok) throw new Error(parsed.error ?? `${answer.status} ${answer.statusText}`);
  return parsed;
}

function showProblem(text) {
  $("problem").textContent = text;
  $("problem").hidden = !text;
}

const isText = (spec) => spec.dtype === "DT_STRING";
const isLength = (name, inputs) => name.endsWith("_length") && name.slice(0, -"_length".length) in inputs;
const firstRow = (values) => (Array.isArray(values) ? values[0] : values);
const sizesOf = (spec) => (spec.tensor_shape.dim ?? []).slice(1).map((dim) => Number(dim.size));

function asText(values) {
  // Zeros at the front are padding of a history that is shorter.
  const flat = values.flat(Infinity);
  const first = flat.findIndex((value) => String(value) !== "0");
  const isHistory = flat.every((value) => /^\d+$/.test(String(value)));
  return (isHistory && first > 0 ? flat.slice(first) : flat).join(", ");
}

function userHint(inputs, name) {
  const sizes = sizesOf(inputs[name]);
  if (`${name}_length` in inputs) return "any number of values, oldest first";
  if (!sizes.length) return "one value";
  const count = sizes.reduce((product, size) => product * size, 1);
  if (count === 1) return "one value";
  return inputs[name].dtype.includes("INT") ? `up to ${count} values, oldest first` : `${count} values`;
}

/** The values of a field as JSON tokens. */
function parseValues(name, text, spec) {
  if (isText(spec)) {
    const values = name === "filter" ? [text] : text.split(",").map((value) => value.trim());
    return values.filter((value) => name === "filter" || value).map((value) => JSON.stringify(value));
  }
  const tokens = text.split(/[\s,;[\]]+/).filter(Boolean);
  const pattern = spec.dtype.includes("INT") ? /^-?\d+$/ : spec.dtype === "DT_BOOL" ? /^(true|false)$/ : /^-?[\d.]+(e[-+]?\d+)?$/i;
  const wrong = tokens.find((token) => !pattern.test(token));
  if (wrong !== undefined) throw new Error(`${name}: expected numbers, found ${wrong}`);
  return tokens;
}

/** The JSON text of an input with one row, filled up at the front as in training, and nested as its shape says. */
function rowText(name, values, spec) {
  const sizes = sizesOf(spec);
  if (!sizes.length) {
    if (values.length !== 1) throw new Error(`${name}: expected one value, found ${values.length}`);
    return `[${values[0]}]`;
  }
  if (sizes.includes(-1)) return `[[${values.join(", ")}]]`;
  const count = sizes.reduce((product, size) => product * size, 1);
  const missing = count - values.length;
  if (missing < 0 || (missing > 0 && !spec.dtype.includes("INT"))) {
    throw new Error(`${name}: expected ${count} values, found ${values.length}`);
  }
  let row = [...Array(missing).fill("0"), ...values];
  for (const size of sizes.slice(1).reverse()) {
    row = Array.from({ length: row.length / size }, (_, index) => `[${row.slice(index * size, (index + 1) * size).join(", ")}]`);
  }
  return `[[${row.join(", ")}]]`;
}
