// What to recommend next, from one model file: node recommend.mjs FILE [ID ...], oldest id first.

import { fileURLToPath } from "node:url";
import * as ort from "onnxruntime-node";

// Before the first file is opened: onnxruntime would report its use to its maker.
process.env.ORT_DISABLE_TELEMETRY ??= "1";

/** Open a model file. One thread is enough: an answer takes less than a millisecond. */
export const load = (file) => ort.InferenceSession.create(file, { intraOpNumThreads: 1 });

/** The k best items for whoever had this history. A question holds inputs of the file by name. */
export async function recommend(model, question) {
  const { history = [], exclude = history } = question; // what was seen does not come back
  const unsaid = { candidates: [], k: 10, timestamps: [], user_tags: [] };
  const asked = { ...unsaid, ...question, history, exclude };
  const stray = Object.keys(question).find((name) => !model.inputNames.includes(name));
  if (stray) throw new TypeError(`no input ${stray} in this file: ${model.inputNames.join(", ")}`);
  const feeds = model.inputMetadata.map((input) => [input.name, tensor(input, asked[input.name])]);
  const { items, scores, n_known, titles } = await model.run(Object.fromEntries(feeds));
  const answer = Array.from(items.data, (id, i) => (
    { id, score: scores.data[i], title: titles?.data[i] } // past the last item: -Infinity
  )).filter(({ score }) => score > -Infinity);
  return { items: answer, nKnown: Number(n_known.data[0]) };
}

/** A list, or a single value, as an input of the graph. Nothing given: not known. */
function tensor({ name, type, shape }, given) {
  const values = [given ?? (type === "string" ? "" : -1)].flat();
  const wrong = values.findIndex((value) => !fits[type](value));
  if (wrong >= 0) throw new TypeError(`${name}: this file wants ${wanted[type]}, not ` +
    `the ${typeof values[wrong]} ${JSON.stringify(String(values[wrong]))}`);
  const data = type === "string" ? values : BigInt64Array.from(values, BigInt);
  return new ort.Tensor(type, data, shape.length === 1 ? [data.length] : [1, data.length]);
}

const wanted = { string: "texts, without \\0", int64: "whole numbers of 64 bits, such as 85116n" };
const fits = {
  string: (value) => typeof value === "string" && !value.includes("\0"), // it would end there
  int64: (value) => Number.isSafeInteger(value) // a larger number may not be what was meant
    || (typeof value === "bigint" && BigInt.asIntN(64, value) === value),
};

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [file, ...ids] = process.argv.slice(2);
  try {
    const model = await load(file ?? "model.onnx");
    const whole = model.inputMetadata.find(({ name }) => name === "history").type === "int64";
    const { items, nKnown } = await recommend(model, { history: whole ? ids.map(BigInt) : ids });
    console.log(`${nKnown} of ${ids.length} ids are known. You may also like:`);
    for (const { id, score, title = "" } of items) console.log(`${score.toFixed(3)} ${id} ${title}`);
  } catch (error) {
    console.error(error.message);
    process.exitCode = 1;
  }
}
