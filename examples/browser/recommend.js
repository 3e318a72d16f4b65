// What to recommend next, from one model file, inside this browser tab.

import * as ort from "./ort.wasm.bundle.min.mjs";

ort.env.wasm.numThreads = 1; // more would need two headers from the server, and gain nothing

/** Open a model file: its address, or its bytes. */
export const load = (file) => ort.InferenceSession.create(file);

/** The k best items for whoever had this history. A question holds inputs of the file by name. */
export async function recommend(model, question) {
  const { history = [], exclude = history } = question; // what was seen does not come back
  const unsaid = { candidates: [], k: 10, timestamps: [], user_tags: [], require_all: [],
    require_any: [], forbid: [], boost: [], boost_by: [] };
  const asked = { ...unsaid, ...question, history, exclude };
  const stray = Object.keys(question).find((name) => !model.inputNames.includes(name));
  if (stray) throw new TypeError(`no input ${stray} in this file: ${model.inputNames.join(", ")}`);
  const feeds = model.inputMetadata.map((input) => [input.name, tensor(input, asked[input.name])]);
  const { items, scores, n_known, n_allowed, titles } = await model.run(Object.fromEntries(feeds));
  const answer = Array.from(items.data, (id, i) => (
    { id, score: scores.data[i], title: titles?.data[i] } // past the last item: -Infinity
  )).filter(({ score }) => score > -Infinity);
  const nAllowed = n_allowed && Number(n_allowed.data[0]); // only where the file has rules
  return { items: answer, nKnown: Number(n_known.data[0]), nAllowed };
}

/** The first k of the items of an answer, with at most so many of each value: of a brand, say. */
export function capped(items, k, valueOf, most) {
  const counts = new Map();
  return items.filter((item) => {
    const value = valueOf(item), n = counts.get(value) ?? 0;
    if (n < most) counts.set(value, n + 1);
    return n < most;
  }).slice(0, k);
}

/** A list, or a single value, as an input of the graph. Nothing given: not known. */
function tensor({ name, type, shape }, given) {
  const nothing = { string: "", int64: -1, float32: Array(shape[1] > 0 ? shape[1] : 0).fill(null) };
  const values = [given ?? nothing[type]].flat();
  const wrong = values.findIndex((value) => !fits[type](value));
  if (wrong >= 0) throw new TypeError(`${name}: this file wants ${wanted[type]}, not ` +
    `the ${typeof values[wrong]} ${JSON.stringify(String(values[wrong]))}`);
  const data = type === "string" ? values
    : type === "float32" ? Float32Array.from(values, (value) => value ?? NaN) : BigInt64Array.from(values, BigInt);
  return new ort.Tensor(type, data, shape.length === 1 ? [data.length] : [1, data.length]);
}

const wanted = { string: "texts, without \\0", int64: "whole numbers of 64 bits, such as 85116n",
  float32: "numbers, null for none" };
const fits = {
  string: (value) => typeof value === "string" && !value.includes("\0"), // it would end there
  int64: (value) => Number.isSafeInteger(value) // a larger number may not be what was meant
    || (typeof value === "bigint" && BigInt.asIntN(64, value) === value),
  float32: (value) => value === null || typeof value === "number",
};
