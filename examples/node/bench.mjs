// How fast a model file answers here: node bench.mjs FILE

import { load, recommend } from "./recommend.mjs";

const file = process.argv[2] ?? "model.onnx";
const begun = performance.now();
const model = await load(file);
const opened = performance.now() - begun;
const everything = await recommend(model, { k: Number.MAX_SAFE_INTEGER });
const ids = everything.items.map(({ id }) => id);

const times = [];
for (let asked = 0; asked < 2200; asked++) {
  const history = Array.from({ length: 50 }, () => ids[Math.floor(Math.random() * ids.length)]);
  const start = performance.now();
  await recommend(model, { history });
  if (asked >= 200) times.push(performance.now() - start); // the first ones warm up
}
times.sort((a, b) => a - b);
const at = (share) => times[Math.floor(share * times.length)].toFixed(2);
const memory = (process.memoryUsage().rss / 1e6).toFixed(0);
console.log(`${ids.length} items, opened in ${opened.toFixed(0)} ms`);
console.log(`a history of 50: median ${at(0.5)} ms, p10 ${at(0.1)}, p99 ${at(0.99)}; ${memory} MB`);
