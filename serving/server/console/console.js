// The page: asks the server for its state every second, and shows models, traffic and signatures.

import { add, drawLines } from "./charts.js";
import { Retrieval } from "./retrieval.js";

const SECONDS = 120;
const $ = (id) => document.getElementById(id);
const traffic = { rate: [], failed: [], mean: [], p99: [], scored: [] };
const retrieval = new Retrieval(showSignatures);
let last = null;
let shownModels = "";

async function poll() {
  try {
    const answer = await fetch("/console/state");
    const state = await answer.json();
    const now = performance.now();
    showServer(state);
    showModels(state.models);
    if (last !== null) count(last.state, state, (now - last.now) / 1000);
    last = { state, now };
  } catch (error) {
    $("server").textContent = "the server does not answer";
    $("server").className = "lost";
  }
  setTimeout(poll, 1000);
}

function showServer(state) {
  const seconds = Math.round(state.server.uptime_seconds);
  const parts = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  const time = parts.map((part) => String(part).padStart(2, "0")).join(":");
  $("server").textContent = `version ${state.server.version}, up ${time}`;
  $("server").className = "";
}

function showModels(models) {
  // Only changes are drawn, so that a selection of text stays.
  const key = JSON.stringify(models);
  if (key === shownModels) return;
  shownModels = key;
  const body = $("models").tBodies[0];
  body.replaceChildren();
  for (const model of models) {
    for (const version of model.versions) {
      const row = add(body, "tr");
      add(row, "td", {}, model.name);
      add(row, "td", { class: "number" }, version.version);
      const state = add(row, "td");
      add(state, "span", { class: `state ${version.state}` }, version.state);
      if (version.error) add(state, "div", { class: "error" }, version.error);
      const labels = Object.entries(model.labels).filter(([, number]) => String(number) === version.version);
      add(row, "td", {}, labels.map(([label]) => label).join(", "));
    }
    if (!model.versions.length) {
      const row = add(body, "tr");
      add(row, "td", {}, model.name);
      add(row, "td", { colspan: 3 }, "no version found yet");
    }
  }
  retrieval.setModels(models);
}

/** Totals over all requests: their number, the failed ones, microseconds, and numbers by latency. */
function totals(state) {
  const total = { requests: 0, failed: 0, micros: 0, counts: state.limits_micros.map(() => 0).concat(0) };
  for (const cell of state.requests) {
    const requests = cell.counts.reduce((sum, number) => sum + number, 0);
    total.requests += requests;
    if (cell.status !== "OK") total.failed += requests;
    total.micros += cell.micros;
    cell.counts.forEach((number, index) => { total.counts[index] += number; });
  }
  return total;
}

/** The latency in ms that a share of the requests does not exceed, between the limits of its bucket. */
function quantile(counts, limits, share) {
  const wanted = share * counts.reduce((sum, number) => sum + number, 0);
  let below = 0;
  for (let index = 0; index < counts.length; index++) {
    if (below + counts[index] >= wanted && counts[index] > 0) {
      const low = index === 0 ? 0 : limits[index - 1];
      const high = limits[index] ?? low;
      return (low + (high - low) * ((wanted - below) / counts[index])) / 1000;
    }
    below += counts[index];
  }
  return null;
}

function count(before, state, seconds) {
  const [old, now] = [totals(before), totals(state)];
  const requests = now.requests - old.requests;
  const searches = state.ops["/nann/searches"] - before.ops["/nann/searches"];
  const counts = now.counts.map((number, index) => number - old.counts[index]);
  push("rate", requests / seconds);
  push("failed", (now.failed - old.failed) / seconds);
  push("mean", requests ? (now.micros - old.micros) / requests / 1000 : null);
  push("p99", requests ? quantile(counts, state.limits_micros, 0.99) : null);
  push("scored", searches ? (state.ops["/nann/items_scored"] - before.ops["/nann/items_scored"]) / searches : null);
  drawTraffic();
}

function push(name, value) {
  traffic[name].push(value);
  if (traffic[name].length > SECONDS) traffic[name].shift();
}

function drawTraffic() {
  const line = (name, kind, key) => ({ name, kind, values: traffic[key] });
  drawLines($("rate"), [line("all", "a", "rate"), line("failed", "b", "failed")], SECONDS);
  drawLines($("latency"), [line("mean", "a", "mean"), line("p99", "b", "p99")], SECONDS);
  drawLines($("scored"), [line("mean", "a", "scored")], SECONDS);
}

/** Shows the inputs and outputs of a model's signatures: {name: {inputs, outputs}}. */
function showSignatures(model, signatures) {
  $("signatures-of").textContent = model;
  const body = $("signatures").tBodies[0];
  body.replaceChildren();
  for (const [name, signature] of Object.entries(signatures).sort()) {
    if (name.startsWith("__")) continue; // TensorFlow's own: how the model is initialized.
    const row = add(body, "tr");
    add(add(row, "td"), "code", {}, name);
    for (const tensors of [signature.inputs, signature.outputs]) {
      const cell = add(row, "td");
      for (const [tensor, spec] of Object.entries(tensors).sort()) {
        const line = add(cell, "div");
        add(line, "code", {}, tensor);
        add(line, "span", { class: "type" }, ` ${typeName(spec)}`);
      }
    }
  }
}

function typeName(spec) {
  const sizes = (spec.tensor_shape.dim ?? []).map((dim) => (dim.size === "-1" ? "?" : dim.size));
  const shape = spec.tensor_shape.unknown_rank ? "of any shape" : `[${sizes.join(", ")}]`;
  return `${spec.dtype.replace("DT_", "").toLowerCase()} ${shape}`;
}

drawTraffic();
addEventListener("resize", drawTraffic);
poll();
