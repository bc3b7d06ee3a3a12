// Rank requests in your own ids and units, in JavaScript: what example.py does, line by line.
//
//     npm install onnxruntime-node
//     node example.cjs requests.json > answers.json
//
// Numeric ids beyond 2 ** 53 must come as text. Users' ids as text are hashed in example.py alone
// (63 bits of BLAKE2); a policy on LightGBM boosters needs their trees as well.
"use strict";

const { readFileSync } = require("node:fs");
const { join } = require("node:path");
const ort = require("onnxruntime-node");

const MODEL = JSON.parse(readFileSync(join(__dirname, "model.json"), "utf8"));
const DAY_MS = 86_400_000;
const ROW = new Map(MODEL.items.map((item, row) => [String(item), row]));
if (MODEL.boosters.length) throw new Error("this policy stands on boosters: see example.py");

const floats = (values, shape) => new ort.Tensor("float32", Float32Array.from(values), shape);
const flags = (values, shape) => new ort.Tensor("bool", Uint8Array.from(values, Number), shape);
const wholes = (values, shape) =>
  new ort.Tensor("int64", BigInt64Array.from(values, (value) => BigInt(value)), shape);

// Columns as the log has them become features, which a request may name as well.
function featuresOf({ user_features, time }) {
  const { categories, gaps, clock } = MODEL.encoding;
  const given = { ...user_features };
  for (const [column, features] of Object.entries(categories)) {
    if (!(column in given)) continue; // a value that was rare in training has no feature
    const word = given[column] === null ? undefined : features[String(given[column])];
    delete given[column];
    for (const name of Object.values(features)) given[name] = Number(name === word);
  }
  for (const [name, { fill, missing }] of Object.entries(gaps)) {
    if (!(name in given)) continue;
    given[missing] ??= Number(given[name] === null);
    given[name] ??= fill;
  }
  if (clock && time !== undefined) {
    const angle = (2 * Math.PI * msOfDay(time, clock)) / DAY_MS;
    Object.assign(given, { hour_sin: Math.sin(angle), hour_cos: Math.cos(angle) });
  }
  return given;
}

// The time of day of ISO text or of milliseconds since 1970; text without a zone is local.
function msOfDay(time, timeZone) {
  const isText = typeof time === "string";
  if (isText && !/(Z|[+-]\d\d:?\d\d)$/.test(time)) {
    return Date.parse(time.includes(":") ? `${time}Z` : time) % DAY_MS;
  }
  const ms = isText ? Date.parse(time) : time;
  const clock = new Intl.DateTimeFormat("en-GB", { timeZone, timeStyle: "medium" }).format(ms);
  const [hour, minute, second] = clock.split(":").map(Number);
  return ((hour * 60 + minute) * 60 + second) * 1000 + (ms % 1000);
}

function inputsOf(request) {
  const length = MODEL.history_length;
  const limit = MODEL.limit ?? Infinity;
  const events = request.history.slice(-length); // oldest first
  const padding = Array(length - events.length).fill(0); // on the left
  const rows = events.map((event) => ROW.get(String(event.item_id)) ?? -1);
  const pool = request.item_ids.map((item) => ROW.get(String(item)) ?? -1);
  const features = featuresOf(request);
  const user = MODEL.features.map(({ name, mean, std }) =>
    Math.min(Math.max((features[name] - mean) / std, -limit), limit),
  );
  const none = padding.flatMap(() => MODEL.tasks.map(() => false));
  const done = events.flatMap((event) => MODEL.tasks.map((task) => event.feedback[task] ?? false));
  const inputs = {
    user_features: floats(user, [1, user.length]),
    history_item_id: wholes([...padding, ...rows.map((row) => Math.max(row, 0))], [1, length]),
    history_feedback: flags([...none, ...done], [1, length, MODEL.tasks.length]),
    history_dwell_s: floats([...padding, ...events.map((event) => event.dwell_s)], [1, length]),
    history_gap_s: floats([...padding, ...events.map((event) => event.gap_s)], [1, length]),
    history_mask: flags([...padding, ...rows.map((row) => row >= 0)], [1, length]),
    gap_s: floats([request.gap_s], [1]), // 0 where there is no history
    step: wholes([request.step], [1]),
    item_id: wholes(pool.map((row) => Math.max(row, 0)), [1, pool.length]),
    mask: flags(pool.map((row) => row >= 0), [1, pool.length]),
  };
  if (MODEL.takes_user_id) inputs.user_id = wholes([request.user_id], [1]);
  return { inputs, pool };
}

async function rank(session, request) {
  const { inputs, pool } = inputsOf(request);
  const taken = Object.fromEntries(session.inputNames.map((name) => [name, inputs[name]]));
  const { order, q } = await session.run(taken, ["order", "q"]);
  const slots = Array.from(order.data, Number).filter((slot) => pool[slot] >= 0);
  return {
    item_ids: slots.map((slot) => request.item_ids[slot]),
    scores: slots.map((slot) => q.data[slot]),
  };
}

async function main() {
  const session = await ort.InferenceSession.create(join(__dirname, "model.onnx"));
  const answers = [];
  for (const request of JSON.parse(readFileSync(process.argv[2], "utf8"))) {
    answers.push(await rank(session, request));
  }
  process.stdout.write(JSON.stringify(answers));
}

main();
