// Put everything that a browser loads into one folder: node build.mjs [site], or npm run build.

import { copyFileSync, mkdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const here = fileURLToPath(new URL(".", import.meta.url));
const runtime = "node_modules/onnxruntime-web/dist/";
const files = ["index.html", "page.css", "page.js", "recommend.js",
  `${runtime}ort.wasm.bundle.min.mjs`, `${runtime}ort-wasm-simd-threaded.wasm`];

const site = process.argv[2] ?? join(here, "site");
mkdirSync(site, { recursive: true });
const sums = [0, 0];
const row = (name, sizes) => console.log(name.padEnd(28), ...sizes.map(
  (bytes) => bytes.toLocaleString("en").padStart(12)));
console.log("bytes".padEnd(28), "raw".padStart(12), "gzip".padStart(12));
for (const file of files) {
  const from = join(here, file);
  copyFileSync(from, join(site, basename(file)));
  const bytes = readFileSync(from);
  const sizes = [bytes.length, gzipSync(bytes, { level: 9 }).length];
  sizes.forEach((size, i) => (sums[i] += size));
  row(basename(file), sizes);
}
row("together", sums);
console.log(`Now copy your model file to ${join(site, "model.onnx")}`);
